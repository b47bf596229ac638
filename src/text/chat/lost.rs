//! Finds what a template left out: no text of a message, no call and no tool is lost without a word.

use std::collections::HashMap;

use serde_json::Value;

use super::conversation::{texts, tool_function, tool_name, without_thought};

/// A text that a prompt has to contain.
struct Required<'a> {
    text: &'a str,
    role: &'a str,
    /// Whether it may be quoted as JSON.
    may_be_quoted: bool,
}

/// The role of a message of which a prompt does not contain a text as often as it was given. What an assistant thought may
/// be missing, as may white space around a text; what tools answer and get may be quoted as JSON.
pub fn lost_message<'a>(messages: &'a [Value], prompt: &str) -> Option<&'a str> {
    let mut all = Vec::new();
    messages.iter().for_each(|message| require(message, &mut all));
    let mut given: HashMap<&str, usize> = HashMap::new();
    all.iter().for_each(|required| *given.entry(required.text).or_default() += 1);
    // Most templates write messages in their order: one walk through the prompt finds them all.
    let mut search = Search { prompt, at: 0, spelling: 0 };
    let is_lost = |required: &&Required| {
        !search.next(required) && !is_anywhere(required, prompt, given[required.text])
    };
    all.iter().find(is_lost).map(|required| required.role)
}

/// The name of a tool that a prompt does not contain.
pub fn lost_tool<'a>(tools: &'a [Value], prompt: &str) -> Option<&'a str> {
    tools.iter().map(tool_name).find(|name| !prompt.contains(name.trim()))
}

fn require<'a>(message: &'a Value, out: &mut Vec<Required<'a>>) {
    let role = message["role"].as_str().unwrap_or_default();
    let mut add = |text: &'a str, may_be_quoted| {
        let text = text.trim();
        out.extend((!text.is_empty()).then_some(Required { text, role, may_be_quoted }));
    };
    for text in texts(&message["content"]) {
        add(if role == "assistant" { without_thought(text) } else { text }, role == "tool");
    }
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        add(tool_name(call), true);
        let mut values = vec![&tool_function(call)["arguments"]];
        while let Some(value) = values.pop() {
            match value {
                Value::String(text) => add(text, true),
                Value::Array(items) => values.extend(items.iter().rev()),
                Value::Object(entries) => {
                    entries.keys().for_each(|key| add(key, true));
                    values.extend(entries.values().rev());
                }
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
    }
}

/// A walk through a prompt.
struct Search<'a> {
    prompt: &'a str,
    at: usize,
    /// The spelling that was found last: it is looked for first.
    spelling: usize,
}

impl Search<'_> {
    /// Whether the text stands behind those that were found before.
    fn next(&mut self, required: &Required) -> bool {
        let spellings = spellings(required);
        let n = spellings.len();
        let order = (0..n).map(|i| (self.spelling.min(n - 1) + i) % n);
        let rest = &self.prompt[self.at..];
        let found = order
            .filter_map(|i| rest.find(&*spellings[i]).map(|at| (i, at + spellings[i].len())))
            .next();
        if let Some((spelling, end)) = found {
            self.at += end;
            self.spelling = if n > 1 { spelling } else { self.spelling };
        }
        found.is_some()
    }
}

fn is_anywhere(required: &Required, prompt: &str, given: usize) -> bool {
    spellings(required).iter().any(|spelling| prompt.matches(&**spelling).count() >= given)
}

/// The ways in which a text may be written: as it is, as JSON, and as JSON in ASCII.
fn spellings(required: &Required) -> Vec<String> {
    let text = required.text;
    if !required.may_be_quoted {
        return vec![text.to_owned()];
    }
    let quoted = serde_json::to_string(text).expect("a text is JSON");
    let quoted = quoted[1..quoted.len() - 1].to_owned();
    let escaped = |c: char| match c {
        '\0'..='~' => String::from(c),
        _ => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    let ascii: String = quoted.chars().map(escaped).collect();
    let mut all = vec![text.to_owned(), quoted, ascii];
    all.dedup();
    all
}
