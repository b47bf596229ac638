//! Messages: requests and whole answers.

use super::answer::{Form, content_block, stop_reason, usage};
use super::conversation::{messages as take_messages, tools as take_tools, variables};
use super::stream;
use crate::answer::Whole;
use crate::blocks::Blocks;
use crate::body::Body;
use crate::chat_request::chat_request;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::prompt::{self, Chat, blocking};
use crate::sse;
use crate::state::{Call, Ready};
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
    let mut blocks = Blocks::new(&form.reading);
    let content = blocks.all(&pieces);
    let mut message = form.message();
    message["content"] =
        content.iter().map(|block| content_block(&block.kind, &block.text)).collect();
    message["stop_reason"] = json!(stop_reason(end.stop, blocks.has_calls()));
    message["stop_sequence"] = json!(form.stop_sequence(&end));
    message["usage"] = usage(&end);
    Ok(Json(message).into_response())
}

/// `POST /v1/messages/count_tokens`.
pub async fn count_tokens(call: Call, Body(mut fields): Body) -> Result<Json<Value>, ApiError> {
    let ready = call.ready;
    let count = move || {
        let (messages, variables) = (take_messages(&mut fields)?, variables(&mut fields)?);
        let tools = take_tools(&mut fields)?.list;
        let chat = Chat { messages, tools, variables, continues: true };
        prompt::count(&ready, chat)
    };
    Ok(Json(json!({ "input_tokens": blocking(count).await? })))
}

fn read(ready: &Ready, mut fields: Fields) -> Result<(Request, Form), ApiError> {
    let (messages, variables) = (take_messages(&mut fields)?, variables(&mut fields)?);
    let tools = take_tools(&mut fields)?;
    let stream = fields.switch("stream")?;
    fields.rename("stop_sequences", "stop");
    fields.rename("output_format", "response_format");
    fields.lift("output_config", "format", "response_format");
    let generation = fields.generation(ready)?;
    let chat = Chat { messages, variables, continues: true, ..Chat::default() };
    let (request, reading) = chat_request(ready, chat, &tools, generation)?;
    let form = Form::new(ready, &request, reading, stream);
    Ok((request, form))
}
