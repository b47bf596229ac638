//! Whole answers.

use crate::job::End;
use crate::openai::types::new_id;
use crate::state::unix_seconds;
use dovetail::Stop;
use serde_json::{Value, json};

/// The form of an answer: one message with one text.
pub struct Form {
    id: String,
    /// The message's name.
    pub item: String,
    model: String,
    created: u64,
}

impl Form {
    /// A new answer of a model.
    pub fn new(model: &str) -> Form {
        let (id, item) = (new_id("resp_"), new_id("msg_"));
        Form { id, item, model: model.to_owned(), created: unix_seconds() }
    }

    /// The answer before its first token.
    pub fn begun(&self) -> Value {
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": "in_progress",
            "model": self.model,
            "output": [],
            "error": null,
            "incomplete_details": null,
            "usage": null,
        })
    }

    /// The message with these parts.
    pub fn message(&self, status: &str, content: Value) -> Value {
        let (id, role) = (&self.item, "assistant");
        json!({ "id": id, "type": "message", "status": status, "role": role, "content": content })
    }
}

/// The part that has the text.
pub fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

/// Whether an answer is complete.
pub fn status(end: &End) -> &'static str {
    match end.stop {
        Stop::End(_) | Stop::Text => "completed",
        Stop::Length | Stop::Context | Stop::NotANumber | Stop::Constraint => "incomplete",
    }
}

/// A complete answer.
pub fn complete(form: &Form, text: &str, end: &End) -> Value {
    let (status, stats) = (status(end), &end.stats);
    let mut answer = form.begun();
    answer["status"] = json!(status);
    answer["output"] = json!([form.message(status, json!([part(text)]))]);
    if status == "incomplete" {
        answer["incomplete_details"] = json!({ "reason": "max_output_tokens" });
    }
    let input = stats.prompt_n + stats.cached_n;
    answer["usage"] = json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": stats.cached_n },
        "output_tokens": stats.predicted_n,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": input + stats.predicted_n,
    });
    answer
}
