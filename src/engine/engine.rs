//! Several sequences of one model, written side by side: one pass over the weights serves them all.
//!
//! ```no_run
//! use dovetail::{Engine, LoadOptions, Model, Request, SessionOptions};
//! # fn main() -> dovetail::Result<()> {
//! let model = Model::load("model.gguf".as_ref(), LoadOptions::default())?;
//! let mut engine = Engine::new(model.into(), SessionOptions::default(), 2)?;
//! for text in ["Once upon a time", "In the beginning"] {
//!     let prompt = engine.model().tokenizer().encode_prompt(text)?;
//!     engine.add(Request::new(prompt, 100))?;
//! }
//! while engine.step(&mut |id, piece| println!("{id:?}: {:?}", piece.text))? {}
//! # Ok(())
//! # }
//! ```

use super::options::SessionOptions;
use super::prefix_cache::PrefixCache;
use super::request::{ActiveRequest, Answer, DrafterId, Request, RequestId, Slot};
use crate::error::{Error, Result};
use crate::infer::{CacheTypes, MAX_SEQUENCES, Target};
use crate::model::Model;
use crate::planner::Planner;
use crate::speculate::calibrate::{AcceptanceCounts, Calibrator};
use crate::speculate::stream::Stream;
use crate::speculate::{Drafting, LiveStats, Logprobs, PromptOutput, Speculation, Stats, Stop};
use crate::tree::Tree;
use std::sync::Arc;

/// Up to [`MAX_SEQUENCES`] sequences of one model. See the module.
///
/// The text of each is the text of a [`crate::Session`] for the same request, to the bit, whatever the other requests
/// are and whenever they come and go.
pub struct Engine {
    pub(super) target: Target,
    pub(super) n_ubatch: usize,
    cache: CacheTypes,
    pub(super) planner: Planner,
    /// The place where acceptance rates are kept.
    pub(super) counts: Option<AcceptanceCounts>,
    pub(super) drafters: Vec<(DrafterId, Speculation)>,
    pub(super) slots: Vec<Slot>,
    pub(super) prefixes: PrefixCache,
    /// Numbers of requests and drafters so far.
    pub(super) requests: u64,
    pub(super) joined: usize,
}

impl Engine {
    /// An engine with `slots` slots, 1 to [`MAX_SEQUENCES`]; each has a cache of its own.
    ///
    /// # Errors
    /// If the number of slots is out of range, memory does not hold the caches, their types do not fit the model, or
    /// `DOVETAIL_ISA` names an instruction set that this CPU lacks.
    pub fn new(model: Arc<Model>, options: SessionOptions, slots: usize) -> Result<Engine> {
        if !(1..=MAX_SEQUENCES).contains(&slots) {
            let what = format!("{slots} sequences at once; choose 1 to {MAX_SEQUENCES}");
            return Err(Error::Invalid(what));
        }
        let target = options.target(model, slots)?;
        let slot = |_| {
            let stream = Stream::new(&target, options.cache)?;
            Ok(Slot { stream, request: None, last_used: 0 })
        };
        let slots = (0..slots).map(slot).collect::<Result<_>>()?;
        let (n_ubatch, cache) = (options.n_ubatch.max(1), options.cache);
        Ok(Engine {
            target,
            n_ubatch,
            cache,
            planner: Planner::default(),
            counts: None,
            drafters: Vec::new(),
            slots,
            prefixes: PrefixCache::default(),
            requests: 0,
            joined: 0,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.target.model()
    }

    /// Largest number of tokens of each sequence.
    pub fn n_ctx(&self) -> usize {
        self.target.n_ctx()
    }

    /// Sets the planner that decides tree sizes, and returns the previous one.
    pub fn plan(&mut self, planner: Planner) -> Planner {
        std::mem::replace(&mut self.planner, planner)
    }

    /// The planner that decides tree sizes.
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    pub(super) fn planner_mut(&mut self) -> &mut Planner {
        &mut self.planner
    }

    /// Measures the costs of this engine's passes for a planner. `progress` gets the fraction that is done, and ends
    /// the measurement with `false`.
    pub fn calibrator<'a>(
        &'a mut self,
        progress: &'a mut dyn FnMut(f64) -> bool,
    ) -> Calibrator<'a> {
        Calibrator::new(&mut self.target, self.cache, progress)
    }

    /// The target, for measurements of single passes over other sequences.
    pub fn target(&mut self) -> &mut Target {
        &mut self.target
    }

    /// Whether another request can be added.
    pub fn has_room(&self) -> bool {
        self.slots.iter().any(|slot| slot.request.is_none())
    }

    /// Adds a request, whose prompt the next steps read. It gets the free slot whose sequence shares the longest prefix
    /// with its prompt, or the least recently used one.
    ///
    /// # Errors
    /// If no slot is free, a number of the sampling is out of range, the prompt is empty, does not fit or contains
    /// tokens outside the vocabulary, or its drafter does not exist or has no memory for it. Other requests are not
    /// affected.
    pub fn add(&mut self, request: Request) -> Result<RequestId> {
        self.add_with(request, PromptOutput::None)
    }

    /// Adds a request of whose prompt more is wanted than an answer: log probabilities
    /// ([`Engine::take_prompt_logprobs`]) or an embedding ([`Answer::embedding`]). Where that needs every row of the prompt,
    /// none is taken from a cache. Nothing is drafted for a request with an embedding.
    ///
    /// # Errors
    /// Those of [`Engine::add`].
    pub fn add_with(&mut self, request: Request, output: PromptOutput) -> Result<RequestId> {
        let Request { prompt, mut generation, drafter } = request;
        let cached = if output.needs_all_rows() { &[][..] } else { &prompt };
        let Some(place) = self.choose_slot(cached) else {
            let n = self.slots.len();
            return Err(Error::Invalid(format!("all {n} slots are taken; remove an answer first")));
        };
        generation.sampling.check()?;
        self.slots[place].stream.check_prompt(&prompt)?;
        self.target.model().config().check_tokens(&prompt)?;
        self.join(place, drafter)?;
        self.bring_prefix(place, cached);
        if output.is_embedding() {
            generation.drafting = Drafting::Off;
        }
        self.requests += 1;
        let id = RequestId(self.requests);
        let slot = &mut self.slots[place];
        slot.stream.set_drafting(generation.drafting);
        slot.stream.start_prompt(&prompt, output);
        let prompt_len = prompt.len();
        slot.request = Some(ActiveRequest { id, prompt_len, generation, output, begun: false });
        slot.last_used = self.requests;
        self.tap_embeddings(output);
        Ok(id)
    }

    /// Why a request has ended; `None` if it has not ended or does not exist.
    pub fn stop(&self, id: RequestId) -> Option<Stop> {
        let slot = self.slot(id).filter(|slot| slot.request.as_ref().is_some_and(|r| r.begun));
        slot.and_then(|slot| slot.stream.stop())
    }

    /// The error of a request that ended with [`Stop::NotANumber`].
    pub fn failure(&self, id: RequestId) -> Option<Error> {
        self.slot(id).and_then(|slot| slot.failure(self.model()))
    }

    /// The tree of a request's last round, and the nodes that were accepted, the root first; `None` while its prompt is
    /// read.
    pub fn last_tree(&self, id: RequestId) -> Option<(&Tree, &[usize])> {
        let begun = |slot: &&Slot| slot.request.as_ref().is_some_and(|request| request.begun);
        let stream = &self.slot(id).filter(begun)?.stream;
        (!stream.path().is_empty()).then(|| (stream.tree().tree(), stream.path()))
    }

    /// Counts and times of a request so far.
    pub fn stats(&self, id: RequestId) -> Option<&Stats> {
        self.slot(id).map(|slot| slot.stream.stats())
    }

    /// Counts and times for other threads, updated while the engine steps.
    pub fn live_stats(&self, id: RequestId) -> Option<LiveStats> {
        self.slot(id).map(|slot| slot.stream.live_stats().clone())
    }

    fn slot(&self, id: RequestId) -> Option<&Slot> {
        let is_it = |slot: &&Slot| slot.request.as_ref().is_some_and(|request| request.id == id);
        self.slots.iter().find(is_it)
    }

    /// Removes a request, ended or not; `None` if there is none. Its sequence stays for prompts with the same prefix.
    pub fn remove(&mut self, id: RequestId) -> Option<Answer> {
        let is_it = |slot: &&mut Slot| slot.request.as_ref().is_some_and(|r| r.id == id);
        let slot = self.slots.iter_mut().find(is_it)?;
        let request = slot.request.take()?;
        let stream = &mut slot.stream;
        stream.stop_reading();
        let prompt_len = request.prompt_len.min(stream.tokens().len());
        let answer = Answer {
            tokens: stream.tokens()[prompt_len..].to_vec(),
            stop: stream.stop().filter(|_| request.begun),
            stats: stream.stats().clone(),
            embedding: stream.embedding().filter(|_| request.begun),
            rounds: stream.rounds().cloned(),
            drafter_error: stream.take_drafter_error(),
        };
        stream.end(Stop::Length);
        self.tap_embeddings(request.output);
        Some(answer)
    }

    /// Log probabilities of a request's prompt, in order of its tokens from the second on, if the request asked for them:
    /// those that were computed since the last call. They have the bits of [`Piece::logprobs`](crate::Piece::logprobs) of
    /// the same token behind the same tokens.
    pub fn take_prompt_logprobs(&mut self, id: RequestId) -> Vec<Logprobs> {
        let is_it = |slot: &&mut Slot| slot.request.as_ref().is_some_and(|r| r.id == id);
        let slot = self.slots.iter_mut().find(is_it);
        slot.map(|slot| slot.stream.take_prompt_logprobs()).unwrap_or_default()
    }

    pub(super) fn cache(&self) -> CacheTypes {
        self.cache
    }
}
