//! Messages of a conversation whose client sends items or blocks: what an assistant thinks, says and calls in one turn is
//! one message, and so is what a user says in a row, since many templates want the two to take turns.

use crate::prompt::{Content, SentMessage};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The messages so far.
#[derive(Default)]
pub struct Turns {
    messages: Vec<SentMessage>,
    /// What a user says, while nothing else comes.
    user: Option<String>,
    assistant: Option<Assistant>,
    /// The functions of the calls so far.
    functions: HashMap<String, String>,
}

/// A turn of the assistant.
#[derive(Default)]
struct Assistant {
    thought: Option<String>,
    text: Option<String>,
    calls: Vec<Value>,
}

impl Turns {
    /// Adds a message that is no assistant's.
    pub fn message(&mut self, role: &str, text: String) {
        if role == "user" {
            self.end_assistant();
            append(&mut self.user, "\n\n", &text);
        } else {
            self.end_turn();
            self.messages.push(SentMessage::new(role, Content::Text(text)));
        }
    }

    /// Adds what the assistant thinks.
    pub fn think(&mut self, text: &str) {
        append(&mut self.assistant().thought, "\n", text);
    }

    /// Adds what the assistant says.
    pub fn say(&mut self, text: &str) {
        append(&mut self.assistant().text, "\n", text);
    }

    /// Adds a call of the assistant's.
    pub fn call(&mut self, id: &str, name: &str, arguments: &Value) {
        self.functions.insert(id.to_owned(), name.to_owned());
        let function = json!({ "name": name, "arguments": arguments });
        let call = json!({ "id": id, "type": "function", "function": function });
        self.assistant().calls.push(call);
    }

    /// Adds the result of a call; some templates want to know of which function.
    pub fn result(&mut self, id: &str, text: String) {
        self.end_turn();
        let message = SentMessage::new("tool", Content::Text(text)).with("tool_call_id", json!(id));
        let message = match self.functions.get(id) {
            Some(name) => message.with("name", json!(name)),
            None => message,
        };
        self.messages.push(message);
    }

    /// Whether the assistant has said or called something in a turn that has not ended.
    pub fn has_spoken(&self) -> bool {
        let spoken = |turn: &Assistant| turn.text.is_some() || !turn.calls.is_empty();
        self.assistant.as_ref().is_some_and(spoken)
    }

    /// Ends the turn of whoever speaks.
    pub fn end_turn(&mut self) {
        self.end_user();
        self.end_assistant();
    }

    /// All messages.
    pub fn messages(mut self) -> Vec<SentMessage> {
        self.end_turn();
        self.messages
    }

    fn assistant(&mut self) -> &mut Assistant {
        self.end_user();
        self.assistant.get_or_insert_default()
    }

    fn end_user(&mut self) {
        let message = |text| SentMessage::new("user", Content::Text(text));
        self.messages.extend(self.user.take().map(message));
    }

    fn end_assistant(&mut self) {
        let Some(Assistant { thought, text, calls }) = self.assistant.take() else { return };
        let mut message = SentMessage::new("assistant", Content::Text(text.unwrap_or_default()));
        if let Some(thought) = thought {
            message = message.with("reasoning_content", json!(thought));
        }
        if !calls.is_empty() {
            message = message.with("tool_calls", json!(calls));
        }
        self.messages.push(message);
    }
}

/// Appends a text to another, if there is one, behind a separator.
fn append(to: &mut Option<String>, separator: &str, text: &str) {
    match to {
        Some(all) => {
            all.push_str(separator);
            all.push_str(text);
        }
        None => *to = Some(text.to_owned()),
    }
}
