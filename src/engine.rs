//! Several sequences of one model, written side by side: one pass over the weights serves all.
//!
//! ```no_run
//! use dovetail::{Engine, LoadOptions, Model, Request, SessionOptions};
//! # fn main() -> dovetail::Result<()> {
//! let model = Model::load("model.gguf".as_ref(), LoadOptions::default())?;
//! let mut engine = Engine::new(model.into(), SessionOptions::default(), 2)?;
//! for text in ["Once upon a time", "In the beginning"] {
//!     let prompt = engine.model().tokenizer().encode(text, true, false)?;
//!     engine.add(Request::new(prompt, 100))?;
//! }
//! while engine.step(&mut |slot, piece| println!("{slot}: {:?}", piece.text))? {}
//! # Ok(())
//! # }
//! ```

use crate::draft::DrafterContext;
use crate::error::{Error, Result};
use crate::infer::{CacheTypes, MAX_SEQUENCES, Target};
use crate::model::Model;
use crate::planner::Planner;
use crate::sample::Sampling;
use crate::speculate::calibrate::Calibrator;
use crate::speculate::{RoundStats, Speculation};
use crate::stream::{Piece, SessionOptions, Stats, Stop, Stream, round};
use smallvec::SmallVec;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What is to be written.
pub struct Request {
    /// What is to be continued, not empty.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens that are generated.
    pub n_predict: usize,
    /// Whether to go on past end tokens, which then become pieces without text.
    pub ignore_end: bool,
    /// Who guesses, if anybody does.
    pub speculation: Option<Speculation>,
}

impl Request {
    /// Up to `n_predict` tokens after a prompt, without a drafter.
    pub fn new(prompt: Vec<u32>, n_predict: usize) -> Request {
        let sampling = Sampling::default();
        Request { prompt, sampling, n_predict, ignore_end: false, speculation: None }
    }
}

/// What became of a request.
pub struct Answer {
    /// The tokens that were handed out, without the prompt and without an end token.
    pub tokens: Vec<u32>,
    /// Why there are not more; none if it was taken out before its end.
    pub stop: Option<Stop>,
    /// Counts and times.
    pub stats: Stats,
    /// Counts and times of guessing, if somebody did.
    pub rounds: Option<RoundStats>,
    /// The drafter, for another request, unless it was given up.
    pub speculation: Option<Speculation>,
    /// Why it was given up: the text went on without it.
    pub drafter_error: Option<Error>,
}

/// What a place for a sequence is used for.
enum Slot {
    Free,
    /// Its prompt is still to be run.
    New(Box<Request>),
    /// Prompt tokens of the sequence in it, which may have ended.
    RoundTimes(usize),
}

/// Up to [`MAX_SEQUENCES`] sequences of one model. See the module.
///
/// The text of each is what a [`crate::Session`] gives for the same request, to the bit, whatever the others
/// are and whenever they come and go.
pub struct Engine {
    target: Target,
    n_ubatch: usize,
    cache: CacheTypes,
    planner: Option<Box<Planner>>,
    streams: Vec<Stream>, // (slots)
    slots: Vec<Slot>,
}

impl Engine {
    /// An engine with `slots` places, from 1 to [`MAX_SEQUENCES`]; each has a cache of its own.
    ///
    /// # Errors
    /// When there are too many of them or none, the caches are larger than memory allows, their types do
    /// not fit the model, or `DOVETAIL_ISA` names what this CPU lacks.
    pub fn new(model: Arc<Model>, options: SessionOptions, slots: usize) -> Result<Engine> {
        if !(1..=MAX_SEQUENCES).contains(&slots) {
            let what = format!("{slots} sequences at once; choose 1 to {MAX_SEQUENCES}");
            return Err(Error::Invalid(what));
        }
        let target = options.target(model, slots)?;
        let stream = |_| Stream::new(&target, options.cache);
        let streams = (0..slots).map(stream).collect::<Result<_>>()?;
        let slots = (0..slots).map(|_| Slot::Free).collect();
        let (n_ubatch, cache) = (options.n_ubatch.max(1), options.cache);
        Ok(Engine { target, n_ubatch, cache, planner: None, streams, slots })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.target.model()
    }

    /// Most tokens of each sequence.
    pub fn n_ctx(&self) -> usize {
        self.target.n_ctx()
    }

    /// Lets a planner choose how large the trees of all sequences are, or nobody: then all are as large as their
    /// speculation was made for. Returns who did.
    pub fn plan(&mut self, planner: Option<Planner>) -> Option<Planner> {
        std::mem::replace(&mut self.planner, planner.map(Box::new)).map(|planner| *planner)
    }

    /// What chooses how large trees are.
    pub fn planner(&self) -> Option<&Planner> {
        self.planner.as_deref()
    }

    /// Measures what a planner has to know of this engine's passes; `progress` is told the part that is done,
    /// `false` ends it.
    pub fn calibrator<'a>(
        &'a mut self,
        progress: &'a mut dyn FnMut(f64) -> bool,
    ) -> Calibrator<'a> {
        Calibrator::new(&mut self.target, self.cache, progress)
    }

    /// What a drafter for one of the sequences is opened with; `path` is its file.
    pub fn setup<'a>(&'a self, path: Option<&'a Path>) -> DrafterContext<'a> {
        DrafterContext::new(&self.target, path)
    }

    /// Whether another request can be added.
    pub fn has_room(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Free))
    }

    /// Takes a request; the next step runs its prompt. Returns its slot, which it has until it is removed.
    ///
    /// # Errors
    /// When no slot is free, the prompt is empty, does not fit or has tokens that the model has not, or the
    /// drafter learns from other hidden states than those that are here. All others go on as before.
    pub fn add(&mut self, mut request: Request) -> Result<usize> {
        let Some(slot) = self.slots.iter().position(|slot| matches!(slot, Slot::Free)) else {
            let n = self.slots.len();
            return Err(Error::Invalid(format!("all {n} slots are taken; remove an answer first")));
        };
        self.streams[slot].check_prompt(&request.prompt)?;
        self.target.model().config().check_tokens(&request.prompt)?;
        if let Some(speculation) = &request.speculation {
            self.tap(speculation.drafter().taps())?;
        }
        self.streams[slot].speculate(request.speculation.take());
        self.slots[slot] = Slot::New(request.into());
        let nodes = |stream: &Stream| stream.speculation().map_or(1, Speculation::most_nodes);
        self.target.reserve(self.streams.iter().map(nodes).sum());
        Ok(slot)
    }

    /// Lets passes hand out what a drafter asks for, which is the same for all drafters.
    fn tap(&mut self, taps: &[usize]) -> Result<()> {
        let speculations = self.streams.iter().filter_map(Stream::speculation);
        let mut others = speculations.map(|s| s.drafter().taps()).filter(|taps| !taps.is_empty());
        match others.next() {
            _ if taps.is_empty() => Ok(()),
            None => self.target.tap(taps),
            Some(others) if others == taps => Ok(()),
            Some(others) => Err(Error::Invalid(format!(
                "the drafter learns from the hidden states {taps:?} and those here from {others:?}; give \
                 all sequences drafters from one file"
            ))),
        }
    }

    /// Runs the prompts of new requests, and one round for all others in one pass; `take` gets the pieces of
    /// each slot, in order. Returns whether any sequence goes on.
    ///
    /// # Errors
    /// When a pass cannot be run; all sequences are then as they were.
    pub fn step(&mut self, take: &mut dyn FnMut(usize, Piece)) -> Result<bool> {
        let start = Instant::now();
        self.round()?;
        let time = start.elapsed();
        for (stream, slot) in self.streams.iter_mut().zip(&self.slots) {
            if matches!(slot, Slot::RoundTimes(_)) && stream.stop().is_none() {
                stream.spent(time);
            }
        }
        self.read_prompts()?;
        let tokenizer = self.target.model().tokenizer();
        let mut goes_on = false;
        for (i, stream) in self.streams.iter_mut().enumerate() {
            if let Slot::RoundTimes(_) = self.slots[i] {
                while let Some(piece) = stream.take(tokenizer) {
                    take(i, piece);
                }
                goes_on |= stream.stop().is_none();
            }
        }
        Ok(goes_on)
    }

    fn round(&mut self) -> Result<()> {
        let mut streams: SmallVec<[_; MAX_SEQUENCES]> = self.streams.iter_mut().collect();
        round(&mut self.target, &mut streams, &mut self.planner)
    }

    /// Runs the prompts of new requests, and chooses their first tokens.
    fn read_prompts(&mut self) -> Result<()> {
        for (stream, slot) in self.streams.iter_mut().zip(&mut self.slots) {
            if let Slot::New(r) = slot {
                stream.prompt(&mut self.target, self.n_ubatch, &r.prompt, &mut |_, _| true)?;
                stream.generate(&r.sampling, r.n_predict, r.ignore_end);
                round(&mut self.target, &mut [stream], &mut None)?;
                *slot = Slot::RoundTimes(r.prompt.len());
            }
        }
        Ok(())
    }

    /// Why the sequence of a slot has ended; `None` while it has not, or where there is none.
    pub fn stop(&self, slot: usize) -> Option<Stop> {
        let taken = matches!(self.slots.get(slot), Some(Slot::RoundTimes(_)));
        self.streams.get(slot).filter(|_| taken).and_then(Stream::stop)
    }

    /// Takes out what a slot has, ended or not; none if it is free.
    pub fn remove(&mut self, slot: usize) -> Option<Answer> {
        let was = std::mem::replace(self.slots.get_mut(slot)?, Slot::Free);
        let stream = &mut self.streams[slot];
        let mut answer = Answer {
            tokens: Vec::new(),
            stop: None,
            stats: Stats::default(),
            rounds: None,
            drafter_error: stream.take_drafter_error(),
            speculation: None,
        };
        match was {
            Slot::Free => return None,
            Slot::New(_) => {}
            Slot::RoundTimes(prompt) => {
                answer.tokens.extend_from_slice(&stream.tokens()[prompt..]);
                (answer.stop, answer.stats) = (stream.stop(), stream.stats().clone());
                answer.rounds = stream.rounds().cloned();
            }
        }
        answer.speculation = stream.speculate(None);
        stream.end(Stop::Length);
        Some(answer)
    }

    /// What people should know of the drafter of a slot, once: it goes on, though not as it was meant to.
    pub fn take_drafter_notice(&mut self, slot: usize) -> Option<String> {
        self.streams.get_mut(slot)?.take_drafter_notice()
    }
}
