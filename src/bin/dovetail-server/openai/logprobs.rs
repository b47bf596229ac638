//! Log probabilities of tokens, as chats and as completions have them.

use crate::error::ApiError;
use crate::fields::{Fields, LOGPROBS};
use dovetail::text::{Tokenizer, Utf8Stream};
use dovetail::{Logprobs, Piece, PromptOutput};
use serde_json::{Map, Value, json};

/// Most tokens that log probabilities are given of at each token of a prompt: prompts are long.
const ECHO_LOGPROBS: usize = 20;

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

/// The log probabilities of a prompt that is repeated, of `n` tokens at each place.
///
/// # Errors
/// If there are more than are given.
pub fn of_echo(n: usize) -> Result<PromptOutput, ApiError> {
    if n > ECHO_LOGPROBS {
        let what = format!("is {n}; with \"echo\" give a number from 0 to {ECHO_LOGPROBS}");
        return Err(ApiError::field("logprobs", &what));
    }
    Ok(PromptOutput::Logprobs(n))
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

/// A prompt that is repeated before an answer.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    /// What is repeated; empty for nothing.
    pub text: String,
    tokens: Vec<u32>,
}

impl Echo {
    /// A prompt with its tokens.
    pub fn new(text: String, tokens: &[u32]) -> Echo {
        Echo { text, tokens: tokens.to_vec() }
    }

    /// The number of characters of the text before each token. What the tokenizer puts in front of a text is not part of
    /// it.
    fn offsets(&self, tokenizer: &Tokenizer) -> Vec<usize> {
        let (mut utf8, mut n, mut text) = (Utf8Stream::new(), 0, String::new());
        let end_of = |token: &u32| {
            text.clear();
            utf8.push(tokenizer.piece(*token, true), &mut text);
            n += text.chars().count();
            n
        };
        let ends: Vec<usize> = self.tokens.iter().map(end_of).collect();
        let in_front = ends.last().map_or(0, |end| end.saturating_sub(self.text.chars().count()));
        let starts = [0].into_iter().chain(ends).take(self.tokens.len());
        starts.map(|start| start.saturating_sub(in_front)).collect()
    }
}

/// The form of completions: lists with an entry for each token.
#[derive(Default)]
pub struct Completion {
    tokens: Vec<String>,
    logprobs: Vec<Option<f32>>,
    top: Vec<Option<Map<String, Value>>>,
    offsets: Vec<usize>,
}

impl Completion {
    /// Adds a token.
    pub fn push(
        &mut self,
        tokenizer: &Tokenizer,
        token: u32,
        of: Option<&Logprobs>,
        offset: usize,
    ) {
        let text = |token: u32| String::from_utf8_lossy(tokenizer.piece(token, true)).into_owned();
        let top = |of: &Logprobs| {
            // Of tokens with the same text the likeliest one counts.
            let likeliest = of.top.iter().rev().map(|(token, x)| (text(*token), json!(finite(*x))));
            likeliest.collect()
        };
        self.tokens.push(text(token));
        self.logprobs.push(of.map(|of| finite(of.logprob)));
        self.top.push(of.map(top));
        self.offsets.push(offset);
    }

    /// Adds the tokens of a prompt, of which the first one has no probability; none without log probabilities.
    pub fn add_echo(&mut self, tokenizer: &Tokenizer, echo: &Echo, of: Option<&Vec<Logprobs>>) {
        let Some(of) = of else { return };
        let of = [None].into_iter().chain(of.iter().map(Some));
        for ((token, of), offset) in echo.tokens.iter().zip(of).zip(echo.offsets(tokenizer)) {
            self.push(tokenizer, *token, of, offset);
        }
    }

    /// Adds the tokens of pieces that have log probabilities; `offset` is the number of characters before the pieces.
    pub fn add(&mut self, tokenizer: &Tokenizer, pieces: &[Piece], mut offset: usize) {
        for piece in pieces {
            if let (Some(token), Some(of)) = (piece.token, &piece.logprobs) {
                self.push(tokenizer, token, Some(of), offset);
            }
            offset += piece.text.chars().count();
        }
    }

    /// All of them; `None` if there is none.
    pub fn json(self) -> Option<Value> {
        let Completion { tokens, logprobs, top, offsets } = self;
        (!tokens.is_empty()).then(|| {
            json!({
                "tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets,
            })
        })
    }
}

/// JSON has no infinity.
fn finite(logprob: f32) -> f32 {
    logprob.max(f32::MIN)
}
