//! What is asked.

use super::answer::{self, Form};
use super::stream;
use crate::body::Body;
use crate::deltas::Deltas;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::prompt::{self, Content, SentMessage, blocking};
use crate::sse;
use crate::state::{Call, Ready};
use crate::unsupported;
use axum::Json;
use axum::response::{IntoResponse, Response};
use dovetail::Request;
use serde::Deserialize;
use serde_json::Value;

/// `POST /v1/responses`.
pub async fn responses(call: Call, Body(fields): Body) -> Result<Response, ApiError> {
    let ready = call.ready.clone();
    let (request, streamed) = blocking(move || read(&ready, fields)).await?;
    let answering = call.submit(vec![request])?.pop().expect("an answer for each request");
    let form = Form::new(&call.ready.name);
    if streamed {
        return Ok(sse::response(move |sink| stream::stream(sink, form, answering)));
    }
    let whole = answering.whole().await?;
    let text = Deltas::whole(&whole.pieces).content;
    Ok(Json(answer::complete(&form, &text, &whole.end)).into_response())
}

/// A text, or the items of a conversation.
#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Items(Vec<Value>),
}

fn read(ready: &Ready, mut fields: Fields) -> Result<(Request, bool), ApiError> {
    let messages = conversation(&mut fields)?;
    let streamed = fields.switch("stream")?;
    if fields.take::<Value>("previous_response_id")?.is_some() {
        let what =
            "is not supported, since answers are not kept; send the conversation in \"input\"";
        return Err(ApiError::field("previous_response_id", what));
    }
    let of_functions = |tool: &Value| tool["type"] == "function";
    if let Some(mut tools) = fields.take::<Vec<Value>>("tools")? {
        // Tools of other kinds run where the model does: here there are none.
        tools.retain(of_functions);
        unsupported::check("tools", &Value::Array(tools))?;
    }
    if let Some(format) =
        fields.take::<Value>("text")?.and_then(|mut text| text.get_mut("format").map(Value::take))
    {
        fields.set("response_format", format);
    }
    fields.rename("max_output_tokens", "max_tokens");
    let generation = fields.generation(ready)?;
    let prompt = prompt::chat(ready, messages)?;
    Ok((Request { prompt, generation, drafter: None }, streamed))
}

/// The messages of the input, behind the instructions.
fn conversation(fields: &mut Fields) -> Result<Vec<SentMessage>, ApiError> {
    let instructions: Option<String> = fields.take("instructions")?;
    let instructions = instructions.map(|text| SentMessage::new("system", Content::Text(text)));
    let items = match fields.require("input")? {
        Input::Text(text) => vec![SentMessage::new("user", Content::Text(text))],
        Input::Items(items) => {
            let messages = items.into_iter().filter_map(|item| message(item).transpose());
            messages.collect::<Result<_, _>>()?
        }
    };
    Ok(instructions.into_iter().chain(items).collect())
}

/// The message that an item is; `None` for what the model thought, which its next turn does not need.
fn message(item: Value) -> Result<Option<SentMessage>, ApiError> {
    match item.get("type").and_then(Value::as_str) {
        None | Some("message") => {
            let wrong = |error| ApiError::field("input", &format!("has a wrong message: {error}"));
            serde_json::from_value(item).map(Some).map_err(wrong)
        }
        Some("reasoning") => Ok(None),
        Some(kind) => {
            let what =
                format!("has an item of type {kind:?}, which is not supported; leave it out");
            Err(ApiError::field("input", &what))
        }
    }
}
