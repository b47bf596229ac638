//! Texts to tokens, tokens to texts, and conversations to the texts of their prompts.

use crate::body::Body;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::prompt::{self, Chat, SentMessage, blocking};
use crate::state::{Call, Ready};
use crate::tools::Tools;
use axum::Json;
use serde_json::{Value, json};

/// `POST /tokenize`.
pub async fn tokenize(call: Call, Body(fields): Body) -> Result<Json<Value>, ApiError> {
    let ready = call.ready;
    blocking(move || tokens(&ready, fields)).await.map(Json)
}

fn tokens(ready: &Ready, mut fields: Fields) -> Result<Value, ApiError> {
    let tokenizer = ready.tokenizer();
    let text: String = fields.take("content")?.unwrap_or_default();
    let special = fields.switch("add_special")?;
    let parse_special = fields.take("parse_special")?.unwrap_or(true);
    let tokens = tokenizer.encode(&text, special, parse_special)?;
    if !fields.switch("with_pieces")? {
        return Ok(json!({ "tokens": tokens }));
    }
    let piece = |token: u32| {
        let bytes = tokenizer.piece(token, true);
        std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text))
    };
    let pieces = tokens.iter().map(|token| json!({ "id": token, "piece": piece(*token) }));
    Ok(json!({ "tokens": pieces.collect::<Vec<_>>() }))
}

/// `POST /detokenize`.
pub async fn detokenize(call: Call, Body(mut fields): Body) -> Result<Json<Value>, ApiError> {
    let tokens: Vec<u32> = fields.take("tokens")?.unwrap_or_default();
    let text = call.ready.tokenizer().decode(&tokens, true);
    Ok(Json(json!({ "content": String::from_utf8_lossy(&text) })))
}

/// `POST /apply-template`: the prompt that a chat with these fields has.
pub async fn apply_template(call: Call, Body(mut fields): Body) -> Result<Json<Value>, ApiError> {
    let messages: Vec<SentMessage> = fields.require("messages")?;
    let variables = fields.take("chat_template_kwargs")?.unwrap_or_default();
    let tools = Tools::take(&mut fields)?.list;
    let ready = call.ready;
    let chat = Chat { messages, tools, variables, continues: true };
    let text = blocking(move || prompt::chat_text(&ready, chat)).await?;
    Ok(Json(json!({ "prompt": text })))
}
