//! The items of a conversation.

use super::tools::{Offered, custom_arguments, function_name};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::prompt::{Content, SentMessage};
use crate::turns::Turns;
use serde::Deserialize;
use serde_json::Value;

/// A text, or items.
#[derive(Deserialize)]
#[serde(untagged, expecting = "give a text or a list of items")]
enum Input {
    Text(String),
    Items(Vec<Value>),
}

/// Takes the messages of the input, behind the instructions. Adds tools that the input offers.
///
/// # Errors
/// If there is no input, or an item is not understood.
pub fn messages(fields: &mut Fields, offered: &mut Offered) -> Result<Vec<SentMessage>, ApiError> {
    let mut turns = Turns::default();
    if let Some(instructions) = fields.take("instructions")? {
        turns.message("system", instructions);
    }
    match fields.require("input")? {
        Input::Text(text) => turns.message("user", text),
        Input::Items(items) => {
            for item in items {
                add(&item, &mut turns, offered)?;
            }
        }
    }
    Ok(turns.messages())
}

fn add(item: &Value, turns: &mut Turns, offered: &mut Offered) -> Result<(), ApiError> {
    match item["type"].as_str() {
        None | Some("message") => match text(item, "role")? {
            "assistant" => {
                end_spoken_turn(turns);
                turns.say(&content(&item["content"])?);
            }
            role => turns.message(role, content(&item["content"])?),
        },
        Some("reasoning") => {
            // What other servers thought is encrypted, and its summary is no thought.
            if item["content"].is_array() {
                end_spoken_turn(turns);
                turns.think(&content(&item["content"])?);
            }
        }
        Some("function_call") => {
            turns.call(text(item, "call_id")?, &function_name(item), &item["arguments"]);
        }
        Some("custom_tool_call") => {
            let arguments = custom_arguments(&item["input"]);
            turns.call(text(item, "call_id")?, &function_name(item), &arguments);
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            turns.result(text(item, "call_id")?, content(&item["output"])?);
        }
        Some("additional_tools") => {
            offered.add(item["tools"].as_array().map(Vec::as_slice).unwrap_or_default());
        }
        Some(kind) => {
            let what =
                format!("has an item of type {kind:?}, which is not supported; leave it out");
            return Err(ApiError::field("input", &what));
        }
    }
    Ok(())
}

/// A turn begins with what the assistant thinks, or with what it says.
fn end_spoken_turn(turns: &mut Turns) {
    if turns.has_spoken() {
        turns.end_turn();
    }
}

/// A text, or the texts of parts.
fn content(value: &Value) -> Result<String, ApiError> {
    let wrong = |error| ApiError::field("input", &format!("has a wrong content: {error}"));
    let content: Option<Content> = serde_json::from_value(value.clone()).map_err(wrong)?;
    content.map_or_else(|| Ok(String::new()), Content::text)
}

/// A text that an item must have.
fn text<'a>(item: &'a Value, name: &str) -> Result<&'a str, ApiError> {
    item[name].as_str().ok_or_else(|| {
        let what = format!("has an item without a text {name:?}");
        ApiError::field("input", &what)
    })
}
