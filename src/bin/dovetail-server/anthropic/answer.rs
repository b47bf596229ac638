//! What answers are made of.

use crate::job::End;
use crate::openai::types::new_id;
use crate::state::Ready;
use dovetail::{Request, Stop};
use serde_json::{Value, json};

/// The form of an answer.
pub struct Form {
    /// Whether it is sent as events.
    pub stream: bool,
    id: String,
    model: String,
    stop: Vec<String>,
    prompt_len: usize,
}

impl Form {
    /// The form of the answer to a request.
    pub fn new(ready: &Ready, request: &Request, stream: bool) -> Form {
        let (id, model) = (new_id("msg_"), ready.name.clone());
        let (stop, prompt_len) = (request.generation.stop.clone(), request.prompt.len());
        Form { stream, id, model, stop, prompt_len }
    }

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
        Stop::Length | Stop::Context | Stop::NotANumber | Stop::Constraint => "max_tokens",
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
