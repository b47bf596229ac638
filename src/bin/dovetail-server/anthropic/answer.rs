//! What answers are made of.

use crate::blocks::Kind;
use crate::deltas::Reading;
use crate::job::End;
use crate::openai::types::new_id;
use crate::state::Ready;
use dovetail::{Request, Stop};
use serde_json::{Value, json};

/// The form of an answer.
pub struct Form {
    /// Whether it is sent as events.
    pub stream: bool,
    /// How thoughts and calls are told from the rest.
    pub reading: Reading,
    id: String,
    model: String,
    stop: Vec<String>,
    prompt_len: usize,
}

impl Form {
    /// The form of the answer to a request.
    pub fn new(ready: &Ready, request: &Request, reading: Reading, stream: bool) -> Form {
        let (id, model) = (new_id("msg_"), ready.name.clone());
        let (stop, prompt_len) = (request.generation.stop.clone(), request.prompt.len());
        Form { stream, reading, id, model, stop, prompt_len }
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

    /// The stop text that ended an answer.
    pub fn stop_sequence(&self, end: &End) -> Option<&str> {
        match end.stop {
            Stop::Text(i) => self.stop.get(i).map(|stop| &**stop),
            _ => None,
        }
    }
}

/// A block with a text; without one, the block that begins. Thoughts are not signed.
pub fn content_block(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Thought => json!({ "type": "thinking", "thinking": text, "signature": "" }),
        Kind::Text => json!({ "type": "text", "text": text }),
        Kind::Call { id, function } => {
            let input: Value = serde_json::from_str(text).unwrap_or_else(|_| json!({}));
            json!({ "type": "tool_use", "id": id, "name": function, "input": input })
        }
    }
}

/// More text of a block.
pub fn content_delta(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Thought => json!({ "type": "thinking_delta", "thinking": text }),
        Kind::Text => json!({ "type": "text_delta", "text": text }),
        Kind::Call { .. } => json!({ "type": "input_json_delta", "partial_json": text }),
    }
}

/// Why an answer ended; one that calls tools ends for them.
pub fn stop_reason(stop: Stop, has_calls: bool) -> &'static str {
    match stop {
        Stop::End(_) | Stop::Call if has_calls => "tool_use",
        Stop::End(_) | Stop::Call => "end_turn",
        Stop::Text(_) => "stop_sequence",
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
