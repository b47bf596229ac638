//! What is generated, and how its tokens become pieces of text.

use super::speculation::Drafting;
use crate::error::Result;
use crate::infer::Logits;
use crate::sample::Sampling;
use crate::text::{Stops, Tokenizer, Utf8Stream};
use std::collections::VecDeque;

/// What is generated behind a prompt.
#[derive(Clone, Debug, Default)]
pub struct Generation {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens.
    pub n_predict: usize,
    /// Whether to go on past end tokens, which then become pieces without text.
    pub ignore_end: bool,
    /// Texts that end the answer and are not part of it, across tokens. One that is the text of a control token ends it
    /// at that token.
    pub stop: Vec<String>,
    /// Whether pieces say how likely their tokens are, and how many of the likeliest others.
    pub logprobs: Option<usize>,
    /// When the drafter is used.
    pub drafting: Drafting,
}

/// How likely the target holds a token to be, before anything is done to its logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// The logarithm of the token's probability.
    pub logprob: f32,
    /// The likeliest tokens with theirs, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

impl Logprobs {
    /// Of `token`, with the `n` likeliest.
    fn of(logits: Logits, token: u32, n: usize) -> Logprobs {
        let (mut row, mut top) = (Vec::new(), Vec::new());
        logits.copy_to(&mut row);
        logits.top(n, &mut top);
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| libm::exp(f64::from(x - largest))).sum();
        let norm = f64::from(largest) + libm::log(sum);
        let logprob = |logit: f32| (f64::from(logit) - norm) as f32;
        let top = top.iter().map(|best| (best.token, logprob(best.logit))).collect();
        Logprobs { logprob: logprob(row[token as usize]), top }
    }
}

/// A piece of generated text.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The token; `None` where a character cut off at the very end becomes U+FFFD, or text that could have been a stop
    /// string was held back.
    pub token: Option<u32>,
    /// What it adds to the text: empty while a character is incomplete or could begin a stop string.
    pub text: String,
    /// Whether a drafter had proposed it.
    pub guessed: bool,
    /// How likely the token was, if that was asked for.
    pub logprobs: Option<Logprobs>,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model ended its answer with this token, which is not part of the text.
    End(u32),
    /// As many tokens as were asked for.
    Length,
    /// The context is full.
    Context,
    /// A stop string came, which is not part of the text.
    Text,
}

/// Turns tokens into pieces, and finds the end.
pub(super) struct Output {
    utf8: Utf8Stream,
    stops: Stops,
    /// Control tokens that end the answer.
    stop_tokens: Vec<u32>,
    ignore_end: bool,
    logprobs: Option<usize>,
    /// Of the tokens that nobody has taken yet.
    waiting: VecDeque<Logprobs>,
}

impl Output {
    /// Of nothing yet.
    pub fn new() -> Output {
        Output {
            utf8: Utf8Stream::new(),
            stops: Stops::default(),
            stop_tokens: Vec::new(),
            ignore_end: false,
            logprobs: None,
            waiting: VecDeque::new(),
        }
    }

    /// Of what is generated now.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn begin(&mut self, what: &Generation, tokenizer: &Tokenizer) -> Result<()> {
        *self = Output::new();
        (self.ignore_end, self.logprobs) = (what.ignore_end, what.logprobs);
        let mut texts = Vec::new();
        for stop in &what.stop {
            match tokenizer.encode(stop, false, true)?[..] {
                [token] if tokenizer.is_control(token) => self.stop_tokens.push(token),
                _ => texts.push(stop.clone()),
            }
        }
        self.stops = Stops::new(texts);
        Ok(())
    }

    /// Goes on past end tokens, or not.
    pub fn ignore_end(&mut self, ignore: bool) {
        self.ignore_end = ignore;
    }

    /// Why the answer ends at this token, if it does.
    pub fn ends(&self, tokenizer: &Tokenizer, token: u32) -> Option<Stop> {
        if self.stop_tokens.contains(&token) {
            return Some(Stop::Text);
        }
        let ends = !self.ignore_end && tokenizer.is_end_of_generation(token);
        ends.then_some(Stop::End(token))
    }

    /// Takes note of how likely a token was that was chosen, if that was asked for.
    pub fn chosen(&mut self, token: u32, logits: Logits) {
        if let Some(n) = self.logprobs {
            self.waiting.push_back(Logprobs::of(logits, token, n));
        }
    }

    /// The piece of a token, and whether a stop string follows it.
    pub fn piece(&mut self, tokenizer: &Tokenizer, token: u32, guessed: bool) -> (Piece, bool) {
        let mut text = String::new();
        self.utf8.push(tokenizer.piece_bytes(token), &mut text);
        let stopped = self.stops.push(&mut text);
        let logprobs = self.waiting.pop_front();
        (Piece { token: Some(token), text, guessed, logprobs }, stopped)
    }

    /// What is left when the text ends: text that was held back, and a character cut off, which becomes U+FFFD.
    pub fn rest(&mut self) -> Option<Piece> {
        let mut text = String::new();
        self.utf8.finish(&mut text);
        if !self.stops.push(&mut text) {
            self.stops.finish(&mut text);
        }
        (!text.is_empty()).then_some(Piece { token: None, text, guessed: false, logprobs: None })
    }
}
