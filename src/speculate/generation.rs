//! Limits of a generation, and how its tokens become pieces of text.

use super::speculation::Drafting;
use crate::error::Result;
use crate::infer::Logits;
use crate::sample::Sampling;
use crate::text::{AnswerParser, Constraint, Stops, Tokenizer, Utf8Stream};
use std::collections::VecDeque;

/// A generation behind a prompt.
#[derive(Clone, Debug, Default)]
pub struct Generation {
    /// How tokens are sampled.
    pub sampling: Sampling,
    /// Largest number of tokens.
    pub n_predict: usize,
    /// Whether end tokens are forbidden, as by a logit bias of −∞, so that the answer goes on.
    pub ignore_end: bool,
    /// Texts that end the answer and are not part of it; they may span tokens. One that is the text of a control token
    /// ends the answer at that token.
    pub stop: Vec<String>,
    /// Number of the likeliest tokens in [`Piece::logprobs`]; `None` if pieces have none.
    pub logprobs: Option<usize>,
    /// When the drafter is used.
    pub drafting: Drafting,
    /// What the answer may be.
    pub constraint: Option<Constraint>,
    /// What reads the calls of tools in the answer, if the first of them ends it.
    pub until_call: Option<AnswerParser>,
    /// Whether the texts of control tokens are part of the answer's text.
    pub special: bool,
}

/// The target's log probabilities at a token, before penalties and sampling change the logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// The natural logarithm of the token's probability.
    pub logprob: f32,
    /// The likeliest tokens with their log probabilities, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

impl Logprobs {
    /// Log probabilities of `token` and of the `n` likeliest tokens.
    pub(super) fn of(logits: Logits, token: u32, n: usize) -> Logprobs {
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
    /// The token; `None` for the U+FFFD of a character cut off at the end, and for text that was held back because it
    /// could have begun a stop string.
    pub token: Option<u32>,
    /// The text that it adds; empty while a character is incomplete or could begin a stop string.
    pub text: String,
    /// Whether it was an accepted drafted token.
    pub drafted: bool,
    /// Log probabilities, if the generation asked for them.
    pub logprobs: Option<Logprobs>,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model ended its answer with this token, which is not part of the text.
    End(u32),
    /// The requested number of tokens was generated.
    Length,
    /// The context is full.
    Context,
    /// The stop string of this index in [`Generation::stop`] was generated; it is not part of the text.
    Text(usize),
    /// The one call of a tool that the answer may have is complete.
    Call,
    /// The logits of the next token are NaN or infinite: the model is damaged.
    NotANumber,
    /// The limits of the constraint's parser are exceeded.
    Constraint,
}

/// Turns tokens into pieces, and finds the end of the text.
pub(super) struct Output {
    utf8: Utf8Stream,
    stops: Stops,
    /// Control tokens that end the answer, with their indices in [`Generation::stop`].
    stop_tokens: Vec<(u32, usize)>,
    until_call: Option<AnswerParser>,
    special: bool,
    logprobs: Option<usize>,
    /// Log probabilities of the tokens that have not been taken yet.
    waiting: VecDeque<Logprobs>,
}

impl Output {
    /// Without a generation.
    pub fn new() -> Output {
        Output {
            utf8: Utf8Stream::new(),
            stops: Stops::default(),
            stop_tokens: Vec::new(),
            until_call: None,
            special: false,
            logprobs: None,
            waiting: VecDeque::new(),
        }
    }

    /// Starts a generation.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn begin(&mut self, what: &Generation, tokenizer: &Tokenizer) -> Result<()> {
        *self = Output::new();
        (self.logprobs, self.special) = (what.logprobs, what.special);
        self.until_call = what.until_call.clone();
        let mut texts = Vec::new();
        for (i, stop) in what.stop.iter().enumerate() {
            match tokenizer.encode(stop, false, true)?[..] {
                [token] if tokenizer.is_control(token) => {
                    self.stop_tokens.push((token, i));
                    // It is no text, and those behind it keep their indices.
                    texts.push(String::new());
                }
                _ => texts.push(stop.clone()),
            }
        }
        self.stops = Stops::new(texts);
        Ok(())
    }

    /// The reason if the answer ends at this token.
    pub fn ends(&self, tokenizer: &Tokenizer, token: u32) -> Option<Stop> {
        if let Some((_, i)) = self.stop_tokens.iter().find(|(stop, _)| *stop == token) {
            return Some(Stop::Text(*i));
        }
        tokenizer.is_end_of_generation(token).then_some(Stop::End(token))
    }

    /// Records the log probabilities of a sampled token, if the generation asked for them.
    pub fn chosen(&mut self, token: u32, logits: Logits) {
        if let Some(n) = self.logprobs {
            self.waiting.push_back(Logprobs::of(logits, token, n));
        }
    }

    /// The piece of a token, and the reason if it ends the answer.
    pub fn piece(
        &mut self,
        tokenizer: &Tokenizer,
        token: u32,
        drafted: bool,
    ) -> (Piece, Option<Stop>) {
        let mut text = String::new();
        self.utf8.push(tokenizer.piece(token, self.special), &mut text);
        let stopped = self.stops.push(&mut text).map(Stop::Text).or_else(|| self.called(&text));
        let logprobs = self.waiting.pop_front();
        (Piece { token: Some(token), text, drafted, logprobs }, stopped)
    }

    /// The reason if this text completes the call that ends the answer.
    fn called(&mut self, text: &str) -> Option<Stop> {
        let reader = self.until_call.as_mut()?;
        reader.push(text);
        reader.has_call().then_some(Stop::Call)
    }

    /// The rest when the text ends: text that was held back, and U+FFFD for a character cut off.
    pub fn rest(&mut self) -> Option<Piece> {
        let mut text = String::new();
        self.utf8.finish(&mut text);
        if self.stops.push(&mut text).is_none() {
            self.stops.finish(&mut text);
        }
        (!text.is_empty()).then_some(Piece { token: None, text, drafted: false, logprobs: None })
    }
}
