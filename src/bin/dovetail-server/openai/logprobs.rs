//! Log probabilities of tokens, as chats and as completions have them.

use crate::error::ApiError;
use crate::fields::{Fields, LOGPROBS};
use dovetail::Piece;
use dovetail::text::Tokenizer;
use serde_json::{Map, Value, json};

/// Takes what a chat says about them: whether it wants them, and of how many other tokens.
///
/// # Errors
/// If a field has a wrong value.
pub fn of_chat(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.switch("logprobs")?;
    let top: Option<usize> = fields.take("top_logprobs")?;
    if top.is_some_and(|n| n > 0) && !wanted {
        return Err(ApiError::field("top_logprobs", "needs \"logprobs\": true"));
    }
    check("top_logprobs", wanted.then(|| top.unwrap_or(0)))
}

/// Takes what a completion says about them: of how many tokens.
///
/// # Errors
/// If a field has a wrong value.
pub fn of_completion(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    match fields.take::<Value>("logprobs")? {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(Some(0)),
        Some(n) => {
            let n = n.as_u64().and_then(|n| usize::try_from(n).ok());
            check("logprobs", Some(n.unwrap_or(usize::MAX)))
        }
    }
}

/// Refuses more tokens than are given.
///
/// # Errors
/// If there are more.
pub fn check(name: &str, n: Option<usize>) -> Result<Option<usize>, ApiError> {
    if n.is_some_and(|n| n > LOGPROBS) {
        return Err(ApiError::field(name, &format!("is no number from 0 to {LOGPROBS}")));
    }
    Ok(n)
}

/// The form of chats; `None` if no piece has any.
pub fn chat(tokenizer: &Tokenizer, pieces: &[Piece]) -> Option<Value> {
    let of_token = |token: u32, logprob: f32| {
        let bytes = tokenizer.piece(token, true);
        let mut object = Map::new();
        object.insert("id".into(), json!(token));
        object.insert("token".into(), json!(String::from_utf8_lossy(bytes)));
        object.insert("bytes".into(), json!(bytes));
        object.insert("logprob".into(), json!(finite(logprob)));
        object
    };
    let content = pieces.iter().filter_map(|piece| {
        let (token, logprobs) = (piece.token?, piece.logprobs.as_ref()?);
        let mut object = of_token(token, logprobs.logprob);
        let top = logprobs.top.iter().map(|&(token, logprob)| of_token(token, logprob));
        object.insert("top_logprobs".into(), top.collect::<Vec<_>>().into());
        Some(object)
    });
    let content: Vec<_> = content.collect();
    (!content.is_empty()).then(|| json!({ "content": content, "refusal": null }))
}

/// The form of completions; `offset` is the number of characters before the pieces.
pub fn completion(tokenizer: &Tokenizer, pieces: &[Piece], mut offset: usize) -> Option<Value> {
    let text = |token: u32| String::from_utf8_lossy(tokenizer.piece(token, true)).into_owned();
    let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
    let (mut top, mut offsets) = (Vec::new(), Vec::new());
    for piece in pieces {
        if let (Some(token), Some(of)) = (piece.token, &piece.logprobs) {
            tokens.push(text(token));
            logprobs.push(finite(of.logprob));
            let likeliest =
                of.top.iter().map(|(token, logprob)| (text(*token), json!(finite(*logprob))));
            top.push(likeliest.collect::<Map<_, _>>());
            offsets.push(offset);
        }
        offset += piece.text.chars().count();
    }
    (!tokens.is_empty()).then(|| {
        json!({
            "tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets,
        })
    })
}

/// JSON has no infinity.
fn finite(logprob: f32) -> f32 {
    logprob.max(f32::MIN)
}
