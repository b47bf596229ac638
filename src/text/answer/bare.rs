//! Answers that are nothing but calls without the markers that the template asks for.
//!
//! `{"name": "f", "arguments": {…}}`, once or several times, also in a block of code that is marked as JSON. A text with
//! anything beside them, or with a function that is no tool of the request, is content.

use serde_json::Value;

use super::calls::{Call, bare_call};
use super::markers::JsonEnd;
use crate::text::chat::tool_function;

/// What begins and ends a block of code.
const FENCE: (&str, &str) = ("```json", "```");
/// The most white space between the parts of a call's beginning, and between calls.
const SPACE_BYTES: usize = 256;

/// A reader of such an answer.
#[derive(Clone, Debug)]
pub struct Bare {
    /// The names of the tools, in quotes.
    names: Vec<String>,
    /// The calls that are complete.
    calls: Vec<Call>,
    /// The bytes that were read.
    read: usize,
    /// The object that begins behind them, once it is sure to be a call of a tool.
    object: Option<JsonEnd>,
    fence: Fence,
    /// Whether the answer began with too much white space, which may have been said.
    is_late: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fence {
    None,
    Open,
    Closed,
}

/// What a text is that may become something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    Yes,
    No,
    Perhaps,
}

impl Bare {
    /// A reader of calls of these tools.
    pub fn new(tools: &[Value]) -> Self {
        let names = tools.iter().map(|tool| &tool_function(tool)["name"]);
        Self {
            names: names.filter(|name| name.is_string()).map(Value::to_string).collect(),
            calls: Vec::new(),
            read: 0,
            object: None,
            fence: Fence::None,
            is_late: false,
        }
    }

    /// Whether an answer that begins with `text` may still be nothing but calls; if it may have `one_call`, that is sure
    /// once this is complete. Each text begins with the one before.
    pub fn may_be(&mut self, text: &str, one_call: bool) -> bool {
        while !one_call || self.calls.is_empty() {
            if let Some(object) = &mut self.object {
                let Some(length) = object.find(&text[self.read..]) else { return true };
                let call = bare_call(&text[self.read..self.read + length]);
                let Some(call) = call.filter(|call| self.is_tool(&call.name)) else { return false };
                self.calls.push(call);
                self.read += length;
                self.object = None;
                continue;
            }
            let rest = text[self.read..].trim_start();
            let space = text.len() - self.read - rest.len();
            let is_first = self.calls.is_empty() && self.fence == Fence::None;
            let marker = match self.fence {
                Fence::None if is_first => FENCE.0,
                Fence::Open if !self.calls.is_empty() => FENCE.1,
                _ => "",
            };
            self.is_late |= space > SPACE_BYTES;
            if self.is_late {
                return false;
            } else if rest.is_empty() {
                return true;
            } else if !marker.is_empty() && rest.starts_with(marker) {
                self.fence = if is_first { Fence::Open } else { Fence::Closed };
                self.read += space + marker.len();
            } else if marker.starts_with(rest) {
                return true;
            } else if self.fence == Fence::Closed {
                return false;
            } else {
                match self.begins_call(rest) {
                    Begins::Yes => self.object = Some(JsonEnd::default()),
                    Begins::No => return false,
                    Begins::Perhaps => return true,
                }
                self.read += space;
            }
        }
        true
    }

    /// Takes the first call, if it is complete.
    pub fn take_first(&mut self) -> Option<Call> {
        (!self.calls.is_empty()).then(|| self.calls.remove(0))
    }

    /// The calls of an answer that [may be](Self::may_be) nothing else and ends here; none if it ends within one.
    pub fn finish(&mut self) -> Vec<Call> {
        match self.object {
            Some(_) => Vec::new(),
            None => std::mem::take(&mut self.calls),
        }
    }

    fn is_tool(&self, name: &str) -> bool {
        self.names.contains(&Value::from(name).to_string())
    }

    /// Whether a text begins with an object whose first entry is the name of a tool.
    fn begins_call(&self, text: &str) -> Begins {
        let mut rest = text;
        for part in ["{", "\"name\"", ":"] {
            let (space, found) = begins(rest, part);
            match found {
                Begins::Yes => rest = &rest[space + part.len()..],
                other => return other,
            }
        }
        let found: Vec<Begins> = self.names.iter().map(|name| begins(rest, name).1).collect();
        let is = |wanted: Begins| found.contains(&wanted).then_some(wanted);
        is(Begins::Yes).or_else(|| is(Begins::Perhaps)).unwrap_or(Begins::No)
    }
}

/// Whether a text begins with a part, behind white space of this length.
fn begins(text: &str, part: &str) -> (usize, Begins) {
    let rest = text.trim_start();
    let space = text.len() - rest.len();
    let found = match () {
        () if space > SPACE_BYTES => Begins::No,
        () if rest.starts_with(part) => Begins::Yes,
        () if part.starts_with(rest) => Begins::Perhaps,
        () => Begins::No,
    };
    (space, found)
}
