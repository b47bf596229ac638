//! Messages: requests and whole answers.

use super::stream;
use crate::answer::Whole;
use crate::body::Body;
use crate::deltas::Deltas;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::job::End;
use crate::openai::types::new_id;
use crate::prompt::{self, Content, SentMessage, blocking};
use crate::sse;
use crate::state::{Call, Ready};
use crate::unsupported;
use axum::Json;
use axum::response::{IntoResponse, Response};
use dovetail::{Request, Stop};
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
    let mut deltas = Deltas::default();
    let text = deltas.push(&pieces).content + &deltas.finish().content;
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

/// The form of an answer.
pub struct Form {
    stream: bool,
    id: String,
    model: String,
    stop: Vec<String>,
    /// Tokens of the prompt.
    pub prompt_len: usize,
}

fn read(ready: &Ready, mut fields: Fields) -> Result<(Request, Form), ApiError> {
    let messages = conversation(&mut fields)?;
    let stream = fields.switch("stream")?;
    fields.rename("stop_sequences", "stop");
    let generation = fields.generation(ready)?;
    let prompt = prompt::chat(ready, messages)?;
    let form = Form {
        stream,
        id: new_id("msg_"),
        model: ready.name.clone(),
        stop: generation.stop.clone(),
        prompt_len: prompt.len(),
    };
    Ok((Request { prompt, generation, drafter: None }, form))
}

/// The messages, behind the system's text.
fn conversation(fields: &mut Fields) -> Result<Vec<SentMessage>, ApiError> {
    let messages: Vec<SentMessage> = fields.require("messages")?;
    let system = fields.take::<Content>("system")?.map(|text| SentMessage::new("system", text));
    Ok(system.into_iter().chain(messages).collect())
}

impl Form {
    /// The message before its first token.
    pub fn message(&self) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": { "input_tokens": self.prompt_len, "output_tokens": 0 },
        })
    }

    /// The stop text that ended an answer, where there is only one that could have.
    pub fn stop_sequence(&self, end: &End) -> Option<&str> {
        match &self.stop[..] {
            [only] if end.stop == Stop::Text => Some(only),
            _ => None,
        }
    }
}

/// Why an answer ended.
pub fn stop_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End(_) => "end_turn",
        Stop::Text => "stop_sequence",
        Stop::Length | Stop::Context | Stop::NotANumber => "max_tokens",
    }
}

/// How many tokens there were.
pub fn usage(end: &End) -> Value {
    json!({
        "input_tokens": end.stats.prompt_n,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": end.stats.cached_n,
        "output_tokens": end.stats.predicted_n,
    })
}
