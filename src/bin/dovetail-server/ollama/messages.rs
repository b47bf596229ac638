//! Messages and calls of tools in Ollama's form, from and to OpenAI's: arguments are objects, calls need no `id`, and a
//! message of a tool may name its tool instead of a call.

use crate::deltas::{CallDelta, Delta};
use crate::error::ApiError;
use crate::prompt::SentMessage;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;

/// Messages as the prompt's template knows them.
///
/// # Errors
/// If one has a field with a wrong value.
pub fn sent(messages: Vec<Map<String, Value>>) -> Result<Vec<SentMessage>, ApiError> {
    let (mut calls, mut n) = (VecDeque::new(), 0);
    let sent = |mut message: Map<String, Value>| {
        if let Some(thinking) = message.remove("thinking") {
            message.insert("reasoning_content".into(), thinking);
        }
        for call in
            message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten()
        {
            n += 1;
            calls.push_back(with_id(call, n));
        }
        if message.get("role").is_some_and(|role| role == "tool") {
            name_call(&mut message, &mut calls);
        }
        let wrong = |error| ApiError::field("messages", &format!("has a wrong message: {error}"));
        serde_json::from_value(Value::Object(message)).map_err(wrong)
    };
    messages.into_iter().map(sent).collect()
}

/// A call without an answer so far.
struct OpenCall {
    name: String,
    id: String,
}

/// Completes call number `n` of a conversation.
fn with_id(call: &mut Value, n: usize) -> OpenCall {
    let name = call["function"]["name"].as_str().unwrap_or_default().to_owned();
    // Templates of Mistral want nine letters or digits.
    let id = call["id"].as_str().map_or_else(|| format!("call{n:05}"), str::to_owned);
    if let Value::Object(call) = call {
        call.insert("id".into(), json!(id));
        call.entry("type").or_insert_with(|| json!("function"));
    }
    OpenCall { name, id }
}

/// Names the call that a message of a tool answers: of the tool that it names, or else the next one.
fn name_call(message: &mut Map<String, Value>, calls: &mut VecDeque<OpenCall>) {
    let text = |value: Value| value.as_str().map(str::to_owned);
    let name = message.remove("tool_name").and_then(text);
    let given = message.get("tool_call_id").cloned().and_then(text);
    let place = calls.iter().position(|call| match (&given, &name) {
        (Some(id), _) => call.id == *id,
        (None, Some(name)) => call.name == *name,
        (None, None) => true,
    });
    let call = place.and_then(|place| calls.remove(place));
    if let Some(name) = name.or_else(|| call.as_ref().map(|call| call.name.clone())) {
        message.entry("name").or_insert_with(|| json!(name));
    }
    if let Some(call) = call {
        message.entry("tool_call_id").or_insert_with(|| json!(call.id));
    }
}

/// Whole calls out of deltas. A call is whole when another one begins or the answer ends.
#[derive(Default)]
pub struct Calls {
    open: Option<(usize, String, String)>,
}

impl Calls {
    /// The calls that are whole with these deltas.
    pub fn push(&mut self, deltas: &[CallDelta]) -> Vec<Value> {
        let mut whole = Vec::new();
        for CallDelta { index, name, arguments } in deltas {
            if let Some(name) = name {
                whole.extend(self.finish());
                self.open = Some((*index, name.clone(), String::new()));
            }
            if let Some((_, _, all)) = &mut self.open {
                *all += arguments;
            }
        }
        whole
    }

    /// The last call, at the end of an answer. One that was cut off, as by a limit of tokens, is none.
    pub fn finish(&mut self) -> Option<Value> {
        let (index, name, arguments) = self.open.take()?;
        let arguments: Map<String, Value> = serde_json::from_str(&arguments).ok()?;
        let function = json!({ "index": index, "name": name, "arguments": arguments });
        Some(json!({ "function": function }))
    }
}

/// What a delta and calls add to a message.
pub fn message(delta: &Delta, calls: Vec<Value>) -> Value {
    let mut message = json!({ "role": "assistant", "content": delta.content });
    if !delta.reasoning.is_empty() {
        message["thinking"] = json!(delta.reasoning);
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(index: usize, name: Option<&str>, arguments: &str) -> CallDelta {
        CallDelta { index, name: name.map(str::to_owned), arguments: arguments.into() }
    }

    #[test]
    fn calls_are_given_once_they_are_whole() {
        let mut calls = Calls::default();
        assert!(calls.push(&[delta(0, Some("f"), "{\"x\":")]).is_empty());
        let first = calls.push(&[delta(0, None, " 1}"), delta(1, Some("g"), "{}")]);
        let expected =
            json!([{ "function": { "index": 0, "name": "f", "arguments": { "x": 1 } } }]);
        assert_eq!(Value::from(first), expected);
        assert_eq!(calls.finish().unwrap()["function"]["name"], "g");
        assert!(calls.finish().is_none());
        calls.push(&[delta(2, Some("h"), "{\"x\": \"cut")]);
        assert!(calls.finish().is_none(), "it was cut off");
    }

    #[test]
    fn a_tool_answers_the_call_that_it_names() {
        let call = |name: &str| json!({ "function": { "name": name, "arguments": {} } });
        let messages = json!([
            { "role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call("f"), call("g")] },
            { "role": "tool", "tool_name": "g", "content": "2" },
            { "role": "tool", "content": "1" },
        ]);
        let mut messages: Vec<Map<_, _>> = serde_json::from_value(messages).unwrap();
        let mut calls: VecDeque<_> = [("f", "a"), ("g", "b")]
            .map(|(name, id)| OpenCall { name: name.into(), id: id.into() })
            .into();
        for (i, name, id) in [(1, "g", "b"), (2, "f", "a")] {
            name_call(&mut messages[i], &mut calls);
            assert_eq!(
                (&messages[i]["name"], &messages[i]["tool_call_id"]),
                (&json!(name), &json!(id))
            );
        }
        assert!(sent(messages).is_ok());
    }
}
