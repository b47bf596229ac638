//! From what a request gives to the tokens of its prompt.

use crate::error::ApiError;
use crate::state::Ready;
use dovetail::{ChatTemplate, Conversation, PromptEnd};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What a template is rendered for, as clients send it.
#[derive(Debug, Default)]
pub struct Chat {
    /// The messages.
    pub messages: Vec<SentMessage>,
    /// The tools in OpenAI's form.
    pub tools: Vec<Value>,
    /// Variables of the template.
    pub variables: Map<String, Value>,
    /// Whether a text that the assistant says last is the beginning of the answer.
    pub continues: bool,
}

/// A message as clients send it.
#[derive(Debug, Deserialize)]
pub struct SentMessage {
    /// Who says it.
    pub role: String,
    /// What is said.
    #[serde(default)]
    pub content: Option<Content>,
    /// All further fields, some of which would change the prompt.
    #[serde(flatten)]
    fields: Map<String, Value>,
}

/// A text, or parts.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "give a text or a list of parts")]
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
            ("text" | "input_text" | "output_text" | "reasoning_text", Some(text)) => Ok(text),
            (kind, _) => {
                let what = format!(
                    "has a part of type {kind:?}; only text is understood, so leave it out"
                );
                Err(ApiError::field("content", &what))
            }
        };
        parts.into_iter().map(text).collect()
    }
}

impl SentMessage {
    /// A message.
    pub fn new(role: &str, content: Content) -> SentMessage {
        SentMessage { role: role.into(), content: Some(content), fields: Map::new() }
    }

    /// The same message with another field.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> SentMessage {
        self.fields.insert(name.into(), value);
        self
    }

    /// The message in OpenAI's form, with one text.
    fn value(self) -> Result<Value, ApiError> {
        let SentMessage { role, content, mut fields } = self;
        let is_given = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => false,
            Some(value) => value.as_array().is_none_or(|calls| !calls.is_empty()),
        };
        if let Some(name) = ["function_call", "images"].into_iter().find(|name| is_given(name)) {
            return Err(ApiError::field(name, "is not supported; leave it out"));
        }
        fields.insert("role".into(), json!(role));
        fields.insert("content".into(), json!(content.map(Content::text).transpose()?));
        Ok(Value::Object(fields))
    }
}

/// The prompt of a conversation.
pub struct ChatPrompt {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// The text at its end that the answer continues; empty if the answer begins behind the prompt.
    pub begun: String,
}

/// The text of a conversation's prompt.
///
/// # Errors
/// If there is no template, or it refuses the messages.
pub fn chat_text(ready: &Ready, chat: Chat) -> Result<String, ApiError> {
    chat.read(|conversation| {
        Ok(template(ready)?.conversation_text(ready.tokenizer(), conversation)?)
    })
}

/// A conversation's prompt.
///
/// # Errors
/// Those of [`chat_text`], and if the prompt does not fit.
pub fn chat(ready: &Ready, chat: Chat) -> Result<ChatPrompt, ApiError> {
    chat.read(|conversation| {
        let (tokenizer, n_ctx) = (ready.tokenizer(), ready.n_ctx);
        // What cannot fit is not rendered: templates take their time.
        let texts = conversation.messages.iter().filter_map(|message| message["content"].as_str());
        for text in texts {
            tokenizer.check_fits(text, n_ctx)?;
        }
        let tokens = template(ready)?.conversation_prompt(tokenizer, conversation, n_ctx)?;
        ready.check_prompt(&tokens)?;
        Ok(ChatPrompt { tokens, begun: conversation.begun().to_owned() })
    })
}

/// How many tokens a conversation's prompt has, whether it fits or not.
///
/// # Errors
/// Those of [`chat_text`].
pub fn count(ready: &Ready, chat: Chat) -> Result<usize, ApiError> {
    chat.read(|conversation| {
        let tokenizer = ready.tokenizer();
        Ok(template(ready)?.conversation_prompt(tokenizer, conversation, usize::MAX)?.len())
    })
}

impl Chat {
    /// Calls `with` with the conversation that this is.
    fn read<T>(
        self,
        with: impl FnOnce(&Conversation) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let Chat { messages, tools, variables, continues } = self;
        if messages.is_empty() {
            return Err(ApiError::field("messages", "is empty; give a message"));
        }
        let messages: Vec<Value> =
            messages.into_iter().map(SentMessage::value).collect::<Result<_, _>>()?;
        let end = match continues {
            true => PromptEnd::continuing(&messages),
            false => PromptEnd::Answer,
        };
        with(&Conversation { messages: &messages, tools: &tools, variables: &variables, end })
    }
}

/// The template for chats.
///
/// # Errors
/// If there is none.
pub fn template(ready: &Ready) -> Result<&ChatTemplate, ApiError> {
    ready.template.as_ref().ok_or_else(|| {
        let what = "the model has no chat template, so it takes no chats; ask for completions";
        ApiError::not_supported(what)
    })
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
