//! What answers are made of.

use super::tools::Offered;
use crate::blocks::{Block, Blocks, Kind};
use crate::deltas::Reading;
use crate::error::{ApiError, Dialect};
use crate::fields::Fields;
use crate::job::End;
use crate::openai::types::new_id;
use crate::state::unix_seconds;
use dovetail::Stop;
use serde_json::{Map, Value, json};

/// Fields of a request that its answer repeats.
const ECHOED: [&str; 10] = [
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "reasoning",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
];

/// The form of an answer.
pub struct Form {
    /// How thoughts and calls are told from the rest.
    pub reading: Reading,
    /// The tools.
    pub offered: Offered,
    id: String,
    model: String,
    created: u64,
    asked: Map<String, Value>,
}

impl Form {
    /// A new answer of a model; `asked` is what it repeats of the request.
    pub fn new(model: &str, reading: Reading, offered: Offered, asked: Map<String, Value>) -> Form {
        let (id, created) = (new_id("resp_"), unix_seconds());
        Form { reading, offered, id, model: model.to_owned(), created, asked }
    }

    /// What an answer repeats of its request, with what holds where that says nothing.
    pub fn echo(fields: &Fields) -> Map<String, Value> {
        let value = |name: &str| match (fields.get(name), name) {
            (Some(given), _) => given.clone(),
            (None, "parallel_tool_calls") => json!(true),
            (None, "tool_choice") => json!("auto"),
            (None, "tools") => json!([]),
            (None, "metadata") => json!({}),
            (None, _) => Value::Null,
        };
        ECHOED.iter().map(|name| ((*name).to_owned(), value(name))).collect()
    }

    /// The answer before its first token.
    pub fn begun(&self) -> Value {
        let mut answer = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": "in_progress",
            "model": self.model,
            "output": [],
            "error": null,
            "incomplete_details": null,
            "previous_response_id": null,
            "store": false,
            "usage": null,
        });
        for (name, value) in &self.asked {
            answer[name] = value.clone();
        }
        answer
    }

    /// The item of a block that has begun, without its text, or has ended, with it.
    pub fn item(&self, id: &str, block: &Block, status: &str) -> Value {
        let Block { kind, text } = block;
        let content = |part| if status == "in_progress" { json!([]) } else { json!([part]) };
        let mut item = match kind {
            Kind::Thought => {
                let content = content(part(kind, text));
                json!({ "id": id, "type": "reasoning", "summary": [], "content": content })
            }
            Kind::Text => {
                let content = content(part(kind, text));
                json!({ "id": id, "type": "message", "role": "assistant", "content": content })
            }
            Kind::Call { id: call_id, function } => self.offered.call(id, call_id, function, text),
        };
        item["status"] = json!(status);
        item
    }

    /// The items of all blocks. The last one is as complete as the answer.
    pub fn output(&self, blocks: &[Block], end: &End) -> Vec<Value> {
        let item = |(i, block): (usize, &Block)| {
            let status = if i + 1 < blocks.len() { "completed" } else { status(end) };
            self.item(&self.new_item(&block.kind), block, status)
        };
        blocks.iter().enumerate().map(item).collect()
    }

    /// A name for an item.
    pub fn new_item(&self, kind: &Kind) -> String {
        new_id(match kind {
            Kind::Thought => "rs_",
            Kind::Text => "msg_",
            Kind::Call { function, .. } if self.offered.is_custom(function) => "ctc_",
            Kind::Call { .. } => "fc_",
        })
    }
}

/// The one part of a thought or a text.
pub fn part(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Thought => json!({ "type": "reasoning_text", "text": text }),
        _ => json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] }),
    }
}

/// Whether an answer is complete.
pub fn status(end: &End) -> &'static str {
    match end.stop {
        Stop::End(_) | Stop::Text(_) | Stop::Call => "completed",
        Stop::Length | Stop::Context | Stop::NotANumber | Stop::Constraint => "incomplete",
    }
}

/// An answer that failed. The code of its error is a text, which other errors of the interface need not have.
pub fn failed(form: &Form, error: &ApiError) -> Value {
    let error = &error.json(Dialect::OpenAi)["error"];
    let code = error["code"].as_str().unwrap_or("server_error");
    let mut answer = form.begun();
    answer["status"] = json!("failed");
    answer["error"] = json!({ "code": code, "message": error["message"] });
    answer
}

/// A complete answer of these items.
pub fn complete(form: &Form, output: Vec<Value>, blocks: &Blocks, end: &End) -> Value {
    let (status, stats) = (status(end), &end.stats);
    let mut answer = form.begun();
    answer["status"] = json!(status);
    answer["output"] = json!(output);
    if status == "incomplete" {
        answer["incomplete_details"] = json!({ "reason": "max_output_tokens" });
    }
    let input = stats.prompt_n + stats.cached_n;
    answer["usage"] = json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": stats.cached_n, "cache_write_tokens": 0 },
        "output_tokens": stats.predicted_n,
        "output_tokens_details": { "reasoning_tokens": blocks.thought_tokens() },
        "total_tokens": input + stats.predicted_n,
    });
    answer
}
