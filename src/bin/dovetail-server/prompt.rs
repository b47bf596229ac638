//! From what a request gives to the tokens of its prompt.

use crate::error::ApiError;
use crate::state::Ready;
use dovetail::Message;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A message as clients send it.
#[derive(Debug, Deserialize)]
pub struct SentMessage {
    /// Who says it.
    pub role: String,
    /// What is said.
    #[serde(default)]
    pub content: Option<Content>,
    /// Other fields, some of which would change the prompt.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// A text, or parts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// A text.
    Text(String),
    /// Parts.
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Debug, Deserialize)]
pub struct Part {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its text.
    #[serde(default)]
    pub text: Option<String>,
}

impl Content {
    /// The text of all parts together.
    ///
    /// # Errors
    /// If a part is no text.
    pub fn text(self) -> Result<String, ApiError> {
        let parts = match self {
            Content::Text(text) => return Ok(text),
            Content::Parts(parts) => parts,
        };
        let text = |part: Part| match (&*part.kind, part.text) {
            ("text" | "input_text" | "output_text", Some(text)) => Ok(text),
            (kind, _) => {
                let what = format!("has a part of type {kind:?}; only text is understood");
                Err(ApiError::field("content", &what))
            }
        };
        parts.into_iter().map(text).collect()
    }
}

impl SentMessage {
    /// A message.
    pub fn new(role: &str, content: Content) -> SentMessage {
        SentMessage { role: role.into(), content: Some(content), others: Map::new() }
    }

    /// The message for the template.
    fn message(self) -> Result<Message, ApiError> {
        let SentMessage { role, content, others } = self;
        let is_given = |name: &str| match others.get(name) {
            None | Some(Value::Null) => false,
            Some(value) => value.as_array().is_none_or(|calls| !calls.is_empty()),
        };
        if let Some(name) =
            ["tool_calls", "function_call", "images"].into_iter().find(|name| is_given(name))
        {
            return Err(ApiError::field(name, "is not supported; leave it out"));
        }
        let text = content.map_or(Ok(String::new()), Content::text)?;
        Ok(Message { role, content: text })
    }
}

/// The text of a conversation's prompt.
///
/// # Errors
/// If there is no template, or it refuses the messages.
pub fn chat_text(ready: &Ready, messages: Vec<SentMessage>) -> Result<String, ApiError> {
    render(ready, &read(messages)?)
}

/// The tokens of a conversation's prompt.
///
/// # Errors
/// Those of [`chat_text`], and if the prompt does not fit.
pub fn chat(ready: &Ready, messages: Vec<SentMessage>) -> Result<Vec<u32>, ApiError> {
    let messages = read(messages)?;
    // What cannot fit is not rendered: templates take their time.
    for message in &messages {
        ready.tokenizer().check_fits(&message.content, ready.n_ctx)?;
    }
    text(ready, &render(ready, &messages)?)
}

fn read(messages: Vec<SentMessage>) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::field("messages", "is empty; give a message"));
    }
    messages.into_iter().map(SentMessage::message).collect()
}

fn render(ready: &Ready, messages: &[Message]) -> Result<String, ApiError> {
    let template = ready.template.as_ref().ok_or_else(|| {
        let what = "the model has no chat template, so it takes no chats; ask for completions";
        ApiError::not_supported(what)
    })?;
    Ok(template.text(ready.tokenizer(), messages, true)?)
}

/// The tokens of a text that is to be continued.
///
/// # Errors
/// If it does not fit, or the vocabulary cannot express it.
pub fn text(ready: &Ready, text: &str) -> Result<Vec<u32>, ApiError> {
    ready.tokenizer().check_fits(text, ready.n_ctx)?;
    let tokens = ready.tokenizer().encode_prompt(text)?;
    ready.check_prompt(&tokens)?;
    Ok(tokens)
}

/// Runs what takes long, such as templates and long texts, where it holds up nobody.
///
/// # Errors
/// Those of `work`, and if it panics.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(ApiError::internal("the prompt could not be read; see the log")))
}
