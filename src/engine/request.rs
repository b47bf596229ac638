//! Requests, and the slots that work for them.

use crate::error::Error;
use crate::model::Model;
use crate::speculate::stream::Stream;
use crate::speculate::{Generation, PromptOutput, RoundStats, Stats, Stop};

/// A drafter of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrafterId(pub(super) usize);

/// A request of an engine; unique in that engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A prompt and how to continue it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The tokens to be continued; not empty.
    pub prompt: Vec<u32>,
    /// What is generated behind them.
    pub generation: Generation,
    /// The drafter; `None` for the engine's first one, if there is any.
    pub drafter: Option<DrafterId>,
}

impl Request {
    /// A request for up to `n_predict` tokens after a prompt, with defaults for the rest.
    pub fn new(prompt: Vec<u32>, n_predict: usize) -> Request {
        Request {
            prompt,
            generation: Generation { n_predict, ..Default::default() },
            drafter: None,
        }
    }
}

/// The result of a request.
pub struct Answer {
    /// The tokens handed out, without the prompt and without an end token.
    pub tokens: Vec<u32>,
    /// Why generation ended; `None` if the request was removed before its end.
    pub stop: Option<Stop>,
    /// Counts and times.
    pub stats: Stats,
    /// The embedding of the prompt, (n_embd), as [`Pooling`](crate::speculate::Pooling) defines it, if the request asked
    /// for one and the prompt was read. It is not scaled to any length. Its bits depend on model, prompt and the types of
    /// the cache alone.
    pub embedding: Option<Vec<f32>>,
    /// Counts and times of drafting, if there was a drafter.
    pub rounds: Option<RoundStats>,
    /// The error of a drafter that failed; the text went on without it.
    pub drafter_error: Option<Error>,
}

/// A place for a sequence.
pub(super) struct Slot {
    pub stream: Stream,
    /// The request that it works for.
    pub request: Option<ActiveRequest>,
    /// Number of the engine's last request that it was given.
    pub last_used: u64,
}

impl Slot {
    /// See [`crate::Engine::failure`].
    pub fn failure(&self, model: &Model) -> Option<Error> {
        (self.stream.stop() == Some(Stop::NotANumber)).then(|| Error::NotANumber {
            path: model.gguf().metadata().path().to_owned(),
            n_tokens: self.stream.tokens().len(),
        })
    }
}

/// A request in a slot.
pub(super) struct ActiveRequest {
    pub id: RequestId,
    pub prompt_len: usize,
    pub generation: Generation,
    pub output: PromptOutput,
    /// Whether its generation has started.
    pub begun: bool,
}
