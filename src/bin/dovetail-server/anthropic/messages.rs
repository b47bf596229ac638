//! Messages: requests and whole answers.

use super::answer::{Form, stop_reason, usage};
use super::stream;
use crate::answer::Whole;
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
use serde_json::{Value, json};

/// `POST /v1/messages`.
pub async fn messages(call: Call, Body(fields): Body) -> Result<Response, ApiError> {
    let ready = call.ready.clone();
    let (request, form) = blocking(move || read(&ready, fields)).await?;
    let answering = call.submit(vec![request])?.pop().expect("an answer for each request");
    if form.stream {
        return Ok(sse::response(move |sink| stream::stream(sink, form, answering)));
    }
    let Whole { pieces, end } = answering.whole().await?;
    let text = Deltas::whole(&pieces).content;
    let mut message = form.message();
    message["content"] = json!([{ "type": "text", "text": text }]);
    message["stop_reason"] = json!(stop_reason(end.stop));
    message["stop_sequence"] = json!(form.stop_sequence(&end));
    message["usage"] = usage(&end);
    Ok(Json(message).into_response())
}

/// `POST /v1/messages/count_tokens`.
pub async fn count_tokens(call: Call, Body(mut fields): Body) -> Result<Json<Value>, ApiError> {
    let ready = call.ready;
    let count = move || {
        let text = prompt::chat_text(&ready, conversation(&mut fields)?)?;
        if let Some(tools) = fields.take::<Value>("tools")? {
            unsupported::check("tools", &tools)?;
        }
        Ok(ready.tokenizer().encode_prompt(&text)?.len())
    };
    Ok(Json(json!({ "input_tokens": blocking(count).await? })))
}

fn read(ready: &Ready, mut fields: Fields) -> Result<(Request, Form), ApiError> {
    let messages = conversation(&mut fields)?;
    let stream = fields.switch("stream")?;
    fields.rename("stop_sequences", "stop");
    let generation = fields.generation(ready)?;
    let prompt = prompt::chat(ready, messages)?;
    let request = Request { prompt, generation, drafter: None };
    let form = Form::new(ready, &request, stream);
    Ok((request, form))
}

/// The messages, behind the system's text.
fn conversation(fields: &mut Fields) -> Result<Vec<SentMessage>, ApiError> {
    let messages: Vec<SentMessage> = fields.require("messages")?;
    let system = fields.take::<Content>("system")?.map(|text| SentMessage::new("system", text));
    Ok(system.into_iter().chain(messages).collect())
}
