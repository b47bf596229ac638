//! Messages, tools and thoughts of a request, in the form that templates take.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::prompt::SentMessage;
use crate::tools::Tools;
use crate::turns::Turns;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Claude Code begins its system text with a line for Anthropic's bookkeeping, which differs in every request: no prompt
/// would begin as the one before it does.
const BILLING: &str = "x-anthropic-billing-header:";

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Content,
}

/// A text, or blocks.
#[derive(Deserialize)]
#[serde(untagged, expecting = "give a text or a list of blocks")]
enum Content {
    Text(String),
    Blocks(Vec<Value>),
}

impl Content {
    fn blocks(self) -> Vec<Value> {
        match self {
            Content::Text(text) => vec![json!({ "type": "text", "text": text })],
            Content::Blocks(blocks) => blocks,
        }
    }

    /// The texts of blocks that are nothing else.
    fn texts(self) -> Result<Vec<String>, ApiError> {
        let text = |block: Value| match block["type"].as_str() {
            Some("text") => text(&block, "text").map(str::to_owned),
            _ => Err(no_text(&block)),
        };
        self.blocks().into_iter().map(text).collect()
    }
}

/// Takes the messages, behind the system's text.
///
/// # Errors
/// If there are none, or one is not understood.
pub fn messages(fields: &mut Fields) -> Result<Vec<SentMessage>, ApiError> {
    let mut turns = Turns::default();
    if let Some(system) = fields.take::<Content>("system")? {
        let mut texts = system.texts()?;
        texts.retain(|text| !text.starts_with(BILLING));
        if !texts.is_empty() {
            turns.message("system", texts.join("\n"));
        }
    }
    for message in fields.require::<Vec<Message>>("messages")? {
        add(message, &mut turns)?;
    }
    Ok(turns.messages())
}

/// Takes the tools, and which of them may or must be called. Those that Anthropic runs or knows are left out.
///
/// # Errors
/// If the choice is none that there is, or a tool that is not offered.
pub fn tools(fields: &mut Fields) -> Result<Tools, ApiError> {
    let mut list: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    list.retain(|tool| matches!(tool["type"].as_str(), None | Some("custom")));
    fields.set("tools", list.iter().map(function).collect());
    if let Some(choice) = fields.take::<Value>("tool_choice")? {
        let name = &choice["name"];
        let openai = match choice["type"].as_str() {
            Some("auto") => json!("auto"),
            Some("any") => json!("required"),
            Some("none") => json!("none"),
            Some("tool") if name.is_string() => json!({ "function": { "name": name } }),
            _ => {
                let what = "has no \"type\" of \"auto\", \"any\", \"none\" and \"tool\", which needs a \"name\"";
                return Err(ApiError::field("tool_choice", what));
            }
        };
        let is_alone = choice["disable_parallel_tool_use"] == true;
        fields.set("tool_choice", openai);
        fields.set("parallel_tool_calls", json!(!is_alone));
    }
    Tools::take(fields)
}

/// Takes the variables of the template; `thinking` sets the one that most templates have for it.
///
/// # Errors
/// If `thinking` is of no kind that there is.
pub fn variables(fields: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    let mut variables: Map<String, Value> =
        fields.take("chat_template_kwargs")?.unwrap_or_default();
    if let Some(thinking) = fields.take::<Value>("thinking")? {
        let thinks = match thinking["type"].as_str() {
            Some("enabled" | "adaptive") => true,
            Some("disabled") => false,
            _ => {
                let what = "has no \"type\" of \"enabled\", \"adaptive\" and \"disabled\"";
                return Err(ApiError::field("thinking", what));
            }
        };
        variables.entry("enable_thinking").or_insert(json!(thinks));
    }
    Ok(variables)
}

/// A tool in OpenAI's form.
fn function(tool: &Value) -> Value {
    let names = [("name", "name"), ("description", "description"), ("input_schema", "parameters")];
    let given = names.iter().filter_map(|(from, to)| Some((*to, tool.get(from)?.clone())));
    let function: Map<String, Value> =
        given.map(|(name, value)| (name.to_owned(), value)).collect();
    json!({ "type": "function", "function": function })
}

/// Adds a message. Results of tools come before what a user says beside them.
fn add(message: Message, turns: &mut Turns) -> Result<(), ApiError> {
    let mut said = Vec::new();
    let is_assistant = message.role == "assistant";
    for block in message.content.blocks() {
        match block["type"].as_str() {
            Some("text") if is_assistant => turns.say(text(&block, "text")?),
            Some("text") => said.push(text(&block, "text")?.to_owned()),
            Some("thinking") => turns.think(text(&block, "thinking")?),
            // It is encrypted, by another server.
            Some("redacted_thinking") => {}
            Some("tool_use") => {
                turns.call(text(&block, "id")?, text(&block, "name")?, &block["input"]);
            }
            Some("tool_result") => turns.result(text(&block, "tool_use_id")?, result(&block)?),
            _ => return Err(no_text(&block)),
        }
    }
    if !said.is_empty() {
        turns.message(&message.role, said.join("\n"));
    }
    Ok(())
}

/// What a tool answered; templates have no place for `is_error`, so the text says it.
fn result(block: &Value) -> Result<String, ApiError> {
    let wrong = |error| ApiError::field("messages", &format!("has a wrong tool_result: {error}"));
    let content: Option<Content> =
        serde_json::from_value(block["content"].clone()).map_err(wrong)?;
    let texts = content.map(Content::texts).transpose()?.unwrap_or_default();
    let prefix = if block["is_error"] == true { "Error: " } else { "" };
    Ok(format!("{prefix}{}", texts.join("\n")))
}

/// A text that a block must have.
fn text<'a>(block: &'a Value, name: &str) -> Result<&'a str, ApiError> {
    block[name].as_str().ok_or_else(|| {
        let what = format!("has a block of type {} without a text {name:?}", block["type"]);
        ApiError::field("messages", &what)
    })
}

fn no_text(block: &Value) -> ApiError {
    let kind = &block["type"];
    let what = format!("has a block of type {kind}; only text is understood, so leave it out");
    ApiError::field("messages", &what)
}
