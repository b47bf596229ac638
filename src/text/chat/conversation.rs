//! What templates are rendered for: messages and tools in OpenAI's form, checked, and written in the form that a template
//! takes.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::text::thoughts::THOUGHTS;

/// One message of a conversation that has only texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text of the message.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// The message in OpenAI's form.
    pub(super) fn value(&self) -> Value {
        json!({ "role": self.role, "content": self.content })
    }
}

/// What a template is rendered for.
#[derive(Clone, Copy, Debug)]
pub struct Conversation<'a> {
    /// Messages in OpenAI's form: `role`, `content` (a text, null, or a list of `{"type": "text", "text": …}`),
    /// `tool_calls`, `tool_call_id`, `name`, `reasoning_content`. Templates see other fields too.
    pub messages: &'a [Value],
    /// Tools in OpenAI's form; empty for none.
    pub tools: &'a [Value],
    /// Variables of the caller (`chat_template_kwargs`), such as `enable_thinking`.
    pub variables: &'a Map<String, Value>,
    /// Where the prompt ends.
    pub end: PromptEnd,
}

impl Conversation<'_> {
    /// The text that the answer continues, of a list of parts the last; empty if the answer begins behind the prompt.
    pub fn begun(&self) -> &str {
        match (self.end, self.messages.last()) {
            (PromptEnd::LastText, Some(last)) => last_text(last),
            _ => "",
        }
    }
}

/// Where the prompt of a conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptEnd {
    /// Where the assistant's answer begins.
    Answer,
    /// Behind the last message.
    LastMessage,
    /// Behind the last message's text, which the answer continues: what ends a message is left out.
    LastText,
}

impl PromptEnd {
    /// Behind the last message's text, if an assistant says something there and calls nothing; else where an answer begins.
    /// A thought alone is not continued.
    pub fn continuing(messages: &[Value]) -> Self {
        let is_begun = |last: &Value| {
            let has_calls = last["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
            last["role"] == "assistant" && !has_calls && !last_text(last).trim().is_empty()
        };
        if messages.last().is_some_and(is_begun) { Self::LastText } else { Self::Answer }
    }

    /// With or without the beginning of an answer.
    pub(super) fn of(add_generation_prompt: bool) -> Self {
        if add_generation_prompt { Self::Answer } else { Self::LastMessage }
    }
}

/// The roles of messages.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// Names of variables that the caller cannot set.
const OWN_VARIABLES: [&str; 6] =
    ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"];

/// A conversation whose fields were checked. Fields of messages that are null are left out; the content is a text, a list
/// of parts, or null where there is none; the arguments of a call are an object where they can be.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The messages.
    pub messages: Vec<Value>,
    /// The tools.
    pub tools: Vec<Value>,
    /// The caller's variables.
    pub variables: Map<String, Value>,
    /// Where the prompt ends.
    pub end: PromptEnd,
}

impl Checked {
    /// Checks a conversation.
    ///
    /// # Errors
    /// If a message has no known role, or a content that is no text; if a tool has no name; if a variable would hide one
    /// of the template's own.
    pub fn new(conversation: &Conversation) -> Result<Self> {
        let Conversation { messages, tools, variables, end } = *conversation;
        if let Some(name) = OWN_VARIABLES.iter().find(|name| variables.contains_key(**name)) {
            let what =
                format!("{name:?} is no variable of the caller; give it as a part of the request");
            return Err(Error::Invalid(what));
        }
        if let Some(tool) = tools.iter().find(|tool| tool_name(tool).is_empty()) {
            let tool: String = tool.to_string().chars().take(60).collect();
            return Err(Error::Invalid(format!("a tool needs a name: {tool}")));
        }
        Ok(Self {
            messages: messages.iter().map(checked_message).collect::<Result<_>>()?,
            tools: tools.to_vec(),
            variables: variables.clone(),
            end,
        })
    }
}

/// The function of a tool or a call; the tool or the call itself where its fields stand there.
pub fn tool_function(tool: &Value) -> &Value {
    tool.get("function").unwrap_or(tool)
}

/// The name of a tool, or of the function of a call; empty if there is none.
pub fn tool_name(tool: &Value) -> &str {
    tool_function(tool)["name"].as_str().unwrap_or_default()
}

fn checked_message(message: &Value) -> Result<Value> {
    let fields = message
        .as_object()
        .ok_or_else(|| Error::Invalid("a message needs fields such as \"role\"".into()))?;
    let role = fields.get("role").and_then(Value::as_str).ok_or_else(|| {
        Error::Invalid(format!("a message needs a \"role\"; there are {}", ROLES.join(", ")))
    })?;
    if !ROLES.contains(&role) {
        let what = format!("{role:?} is no role of a message; there are {}", ROLES.join(", "));
        return Err(Error::Invalid(what));
    }
    check_content(fields.get("content").unwrap_or(&Value::Null))?;
    let kept = fields.iter().filter(|(_, value)| !value.is_null());
    let mut kept: Map<_, _> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    kept.entry("content").or_insert(Value::Null);
    if let Some(calls) = kept.get_mut("tool_calls") {
        let wrong = || Error::Invalid("\"tool_calls\" of a message is no list of calls".into());
        let calls = calls.as_array_mut().ok_or_else(wrong)?;
        calls.iter_mut().try_for_each(|call| {
            parse_arguments(call).ok_or_else(|| Error::Invalid("a tool call needs a name".into()))
        })?;
        if calls.is_empty() {
            kept.shift_remove("tool_calls");
        }
    }
    Ok(Value::Object(kept))
}

/// Refuses a content that is neither a text nor null nor a list of texts.
fn check_content(content: &Value) -> Result<()> {
    let refuse = |what: String| Err(Error::Invalid(what));
    let parts = match content {
        Value::Null | Value::String(_) => return Ok(()),
        Value::Array(parts) => parts,
        _ => return refuse("the content of a message is neither a text nor a list".into()),
    };
    for part in parts {
        match (part["type"].as_str(), &part["text"]) {
            (Some("text"), Value::String(_)) => {}
            (Some("text"), _) | (None, _) => {
                return refuse("a part of a message's content needs a \"type\" and a text".into());
            }
            (Some(other), _) => {
                return refuse(format!("content of type {other:?} is not supported; give text"));
            }
        }
    }
    Ok(())
}

/// Makes the arguments of a call an object, where they are the text of one. `None` if the call has no name.
fn parse_arguments(call: &mut Value) -> Option<()> {
    if tool_name(call).is_empty() {
        return None;
    }
    let function = if call.get("function").is_some() { &mut call["function"] } else { call };
    let arguments = function.as_object_mut()?.entry("arguments").or_insert_with(|| json!({}));
    if let Value::String(text) = arguments {
        let parsed = if text.trim().is_empty() { Some(json!({})) } else { text.parse().ok() };
        if let Some(parsed @ Value::Object(_)) = parsed {
            *arguments = parsed;
        }
    }
    Some(())
}

/// How a conversation is written for a template: templates differ in what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Contents are lists of parts, else texts.
    pub parts: bool,
    /// A content that is missing is null, else an empty text.
    pub null_content: bool,
    /// Arguments of calls are JSON as text, else objects.
    pub text_arguments: bool,
    /// The texts of system and developer messages stand before that of the first user message.
    pub system_in_user: bool,
}

impl Form {
    /// The forms in which these messages can be written, the usual one first.
    pub fn all(messages: &[Value]) -> Vec<Self> {
        let either = [false, true];
        let only = |is_possible: bool| &either[..1 + usize::from(is_possible)];
        let has_calls = messages.iter().any(|message| message.get("tool_calls").is_some());
        let has_null = messages.iter().any(|message| message["content"].is_null());
        let mut forms = Vec::new();
        for &system_in_user in only(has_system_and_user(messages)) {
            for &text_arguments in only(has_calls) {
                for &null_content in only(has_null) {
                    for parts in either {
                        forms.push(Self { parts, null_content, text_arguments, system_in_user });
                    }
                }
            }
        }
        forms
    }

    /// The messages in this form.
    pub fn messages(&self, messages: &[Value]) -> Vec<Value> {
        let merged = if self.system_in_user { with_system_in_user(messages) } else { None };
        let mut messages = merged.unwrap_or_else(|| messages.to_vec());
        for message in &mut messages {
            message["content"] = self.content(&message["content"]);
            if let (true, Some(calls)) = (self.text_arguments, message.get_mut("tool_calls")) {
                calls.as_array_mut().into_iter().flatten().for_each(write_arguments);
            }
        }
        messages
    }

    fn content(&self, content: &Value) -> Value {
        match content {
            Value::Null if self.null_content => Value::Null,
            Value::Array(_) if self.parts => content.clone(),
            _ if self.parts => json!([{ "type": "text", "text": text(content) }]),
            _ => Value::String(text(content)),
        }
    }
}

/// The text of a content: its parts on lines of their own.
fn text(content: &Value) -> String {
    texts(content).collect::<Vec<_>>().join("\n")
}

/// The texts of a content.
pub fn texts(content: &Value) -> impl Iterator<Item = &str> {
    let parts = content.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
    content.as_str().into_iter().chain(parts)
}

/// The text with which a message of an assistant ends; empty if it has none.
pub fn last_text(message: &Value) -> &str {
    without_thought(texts(&message["content"]).last().unwrap_or_default())
}

/// The part of an assistant's text that its prompt has to contain: what follows the last thought of any family.
pub fn without_thought(text: &str) -> &str {
    let ends = THOUGHTS.iter().filter_map(|(_, end)| Some(text.rfind(end)? + end.len()));
    &text[ends.max().unwrap_or_default()..]
}

fn write_arguments(call: &mut Value) {
    let function = if call.get("function").is_some() { &mut call["function"] } else { call };
    if function["arguments"].is_object() {
        function["arguments"] = Value::String(function["arguments"].to_string());
    }
}

fn is_system(message: &Value) -> bool {
    ["system", "developer"].contains(&message["role"].as_str().unwrap_or_default())
}

fn has_system_and_user(messages: &[Value]) -> bool {
    messages.iter().any(is_system) && messages.iter().any(|message| message["role"] == "user")
}

/// The same messages, with the texts of system and developer messages before that of the first user message; `None` where
/// there are none of either.
fn with_system_in_user(messages: &[Value]) -> Option<Vec<Value>> {
    let user = messages.iter().position(|message| message["role"] == "user")?;
    let mut all: Vec<String> =
        messages.iter().filter(|message| is_system(message)).map(|m| text(&m["content"])).collect();
    if all.is_empty() {
        return None;
    }
    all.push(text(&messages[user]["content"]));
    let mut merged = messages.to_vec();
    merged[user]["content"] = Value::String(all.join("\n\n"));
    merged.retain(|message| !is_system(message));
    Some(merged)
}
