//! The parts of an answer.

use serde_json::Value;

use super::calls::Call;

/// A part of an answer, or a piece of one: pieces of the same kind that follow each other are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerPart {
    /// What the model thinks.
    Reasoning(String),
    /// What it says.
    Content(String),
    /// A call begins.
    ToolCall {
        /// Which one, from 0.
        index: usize,
        /// The function.
        name: String,
    },
    /// Arguments of a call; all pieces join to a JSON object.
    Arguments {
        /// Which call.
        index: usize,
        /// The text.
        text: String,
    },
}

/// The parts that were found.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    found: Vec<AnswerPart>,
    n_calls: usize,
    /// Whether only the first call is one.
    pub one_call: bool,
}

impl Parts {
    /// Appends to what the model says.
    pub fn content(&mut self, text: &str) {
        match self.found.last_mut() {
            _ if text.is_empty() => {}
            Some(AnswerPart::Content(last)) => last.push_str(text),
            _ => self.found.push(AnswerPart::Content(text.to_owned())),
        }
    }

    /// Appends to what the model thinks.
    pub fn reasoning(&mut self, text: &str) {
        match self.found.last_mut() {
            _ if text.is_empty() => {}
            Some(AnswerPart::Reasoning(last)) => last.push_str(text),
            _ => self.found.push(AnswerPart::Reasoning(text.to_owned())),
        }
    }

    /// Appends a call, unless it is one too many.
    pub fn call(&mut self, call: Call) {
        if self.one_call && self.n_calls > 0 {
            return;
        }
        let index = self.n_calls;
        self.n_calls += 1;
        self.found.push(AnswerPart::ToolCall { index, name: call.name });
        let text = Value::Object(call.arguments).to_string();
        self.found.push(AnswerPart::Arguments { index, text });
    }

    /// How many calls there were.
    pub fn n_calls(&self) -> usize {
        self.n_calls
    }

    /// Takes the parts that were found since the last time.
    pub fn take(&mut self) -> Vec<AnswerPart> {
        std::mem::take(&mut self.found)
    }
}
