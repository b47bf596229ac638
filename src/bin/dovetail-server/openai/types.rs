//! What requests and answers are made of.

use crate::embedding::Input;
use crate::job::{End, Round, RoundNode};
use crate::timings;
use dovetail::speculate::RoundStats;
use dovetail::text::Tokenizer;
use dovetail::{Piece, Stats, Stop};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};

/// A text or its tokens, or several of either.
#[derive(Deserialize)]
#[serde(untagged, expecting = "give a text, tokens, or a list of either")]
pub enum Prompts {
    /// A text.
    Text(String),
    /// The tokens of a text.
    Tokens(Vec<u32>),
    /// Several texts.
    Texts(Vec<String>),
    /// The tokens of several texts.
    TokenLists(Vec<Vec<u32>>),
}

impl Prompts {
    /// All texts.
    pub fn all(self) -> Vec<Input> {
        match self {
            Prompts::Text(text) => vec![Input::Text(text)],
            Prompts::Tokens(tokens) => vec![Input::Tokens(tokens)],
            Prompts::Texts(texts) => texts.into_iter().map(Input::Text).collect(),
            Prompts::TokenLists(lists) => lists.into_iter().map(Input::Tokens).collect(),
        }
    }
}

/// `stream_options` of a request.
#[derive(Debug, Default, Deserialize)]
pub struct StreamOptions {
    /// Whether the last event tells how many tokens there were.
    #[serde(default)]
    pub include_usage: bool,
}

/// How many tokens there were.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct PromptDetails {
    cached_tokens: usize,
}

/// Adds up the answers of a request.
#[derive(Default)]
pub struct Totals {
    stats: Stats,
    rounds: RoundStats,
    /// Tokens of the prompts, each counted once, and how many of them were not read anew.
    prompt_tokens: usize,
    cached_tokens: usize,
}

impl Totals {
    /// Adds an answer, which may be the first one to its prompt.
    pub fn add(&mut self, end: &End, is_first: bool) {
        let Stats { prompt_n, prompt_time, cached_n, predicted_n, predicted_time, mask_time } =
            &end.stats;
        self.stats.prompt_n += prompt_n;
        self.stats.prompt_time += *prompt_time;
        self.stats.cached_n += cached_n;
        self.stats.predicted_n += predicted_n;
        self.stats.predicted_time += *predicted_time;
        self.stats.mask_time += *mask_time;
        self.rounds.add(&end.rounds);
        if is_first {
            self.prompt_tokens += prompt_n + cached_n;
            self.cached_tokens += cached_n;
        }
    }

    /// The number of tokens; a prompt counts once, however many answers it has.
    pub fn usage(&self) -> Usage {
        let Totals { prompt_tokens, cached_tokens, .. } = *self;
        let predicted_n = self.stats.predicted_n;
        Usage {
            prompt_tokens,
            completion_tokens: predicted_n,
            total_tokens: prompt_tokens + predicted_n,
            prompt_tokens_details: PromptDetails { cached_tokens },
        }
    }

    /// Counts and times, as llama.cpp's server adds them.
    pub fn timings(&self) -> Value {
        timings::timings(&self.stats, &self.rounds)
    }
}

/// Why an answer ended.
pub fn finish_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End(_) | Stop::Text(_) | Stop::Call => "stop",
        Stop::Length | Stop::Context | Stop::NotANumber | Stop::Constraint => "length",
    }
}

/// What the page shows of a round, and of the pieces that it brought.
pub fn round_of_page(tokenizer: &Tokenizer, round: Option<&Round>, pieces: &[Piece]) -> Value {
    let piece = |piece: &Piece| json!({ "text": piece.text, "drafted": piece.drafted });
    let mut out = json!({ "pieces": pieces.iter().map(piece).collect::<Vec<_>>() });
    if let Some(Round { n, time, nodes, accepted }) = round {
        let node = |node: &RoundNode| {
            let text = String::from_utf8_lossy(tokenizer.piece(node.token, true));
            json!({ "text": text, "parent": node.parent, "p": node.probability })
        };
        let nodes: Vec<Value> = nodes.iter().map(node).collect();
        let ms = time.as_secs_f64() * 1e3;
        out["round"] = json!({ "n": n, "ms": ms, "nodes": nodes, "accepted": accepted });
    }
    out
}

/// A name for an answer.
pub fn new_id(prefix: &str) -> String {
    let half = || RandomState::new().hash_one(prefix);
    format!("{prefix}{:016x}{:016x}", half(), half())
}

/// A name for a call of a tool: nine letters and digits, since the templates of Mistral's models take no other.
pub fn new_call_id() -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number = RandomState::new().hash_one("call");
    let mut digit = || {
        let digit = DIGITS[(number % 62) as usize];
        number /= 62;
        char::from(digit)
    };
    (0..9).map(|_| digit()).collect()
}

/// What answers say of the program that made them.
pub const FINGERPRINT: &str = concat!("dovetail-", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_of_calls_are_what_every_template_takes() {
        let all: HashSet<String> = (0..1000).map(|_| new_call_id()).collect();
        assert_eq!(all.len(), 1000, "no two are the same");
        assert!(
            all.iter().all(|id| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()))
        );
    }
}
