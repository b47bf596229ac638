//! What is asked.

use super::answer::{Form, complete};
use super::input;
use super::stream;
use super::tools::Offered;
use crate::blocks::Blocks;
use crate::body::Body;
use crate::chat_request::chat_request;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::prompt::{Chat, blocking};
use crate::sse;
use crate::state::{Call, Ready};
use axum::Json;
use axum::response::{IntoResponse, Response};
use dovetail::Request;
use serde_json::{Map, Value, json};

/// `POST /v1/responses`.
pub async fn responses(call: Call, Body(fields): Body) -> Result<Response, ApiError> {
    let ready = call.ready.clone();
    let Asked { request, form, stream } = blocking(move || read(&ready, fields)).await?;
    let answering = call.submit(vec![request])?.pop().expect("an answer for each request");
    if stream {
        return Ok(sse::response(move |sink| stream::stream(sink, form, answering)));
    }
    let whole = answering.whole().await?;
    let mut blocks = Blocks::new(&form.reading);
    let output = form.output(&blocks.all(&whole.pieces), &whole.end);
    Ok(Json(complete(&form, output, &blocks, &whole.end)).into_response())
}

struct Asked {
    request: Request,
    form: Form,
    stream: bool,
}

fn read(ready: &Ready, mut fields: Fields) -> Result<Asked, ApiError> {
    let asked = Form::echo(&fields);
    for name in ["previous_response_id", "conversation", "prompt"] {
        if fields.take::<Value>(name)?.is_some() {
            let what =
                "is not supported, since nothing is kept; send the conversation in \"input\"";
            return Err(ApiError::field(name, what));
        }
    }
    let mut offered = Offered::default();
    offered.add(&fields.take::<Vec<Value>>("tools")?.unwrap_or_default());
    let messages = input::messages(&mut fields, &mut offered)?;
    let tools = offered.take_choice(&mut fields)?;
    let variables = variables(&mut fields)?;
    let stream = fields.switch("stream")?;
    fields.lift("text", "format", "response_format");
    fields.rename("max_output_tokens", "max_tokens");
    let generation = fields.generation(ready)?;
    let chat = Chat { messages, variables, ..Chat::default() };
    let (request, reading) = chat_request(ready, chat, &tools, generation)?;
    let form = Form::new(&ready.name, reading, offered, asked);
    Ok(Asked { request, form, stream })
}

/// Takes the variables of the template; `reasoning.effort` sets those that templates have for it.
fn variables(fields: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    let mut variables: Map<String, Value> =
        fields.take("chat_template_kwargs")?.unwrap_or_default();
    let reasoning = fields.take::<Value>("reasoning")?.unwrap_or_default();
    let (name, value) = match reasoning["effort"].as_str() {
        Some("none") => ("enable_thinking", json!(false)),
        Some("minimal") => ("reasoning_effort", json!("low")),
        Some(effort @ ("low" | "medium" | "high")) => ("reasoning_effort", json!(effort)),
        Some("xhigh") => ("reasoning_effort", json!("high")),
        _ => return Ok(variables),
    };
    variables.entry(name).or_insert(value);
    Ok(variables)
}
