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
use crate::draft::DrafterContext;
use crate::error::{Error, Result};
use crate::infer::{CacheTypes, MAX_SEQUENCES, Target};
use crate::model::Model;
use crate::planner::Planner;
use crate::speculate::calibrate::{AcceptanceCounts, Calibrator};
use crate::speculate::stream::Stream;
use crate::speculate::{
    ConfiguredDrafter, Generation, LiveStats, Piece, RoundStats, Speculation, Stats, Stop, round,
};
use crate::tree::Tree;
use smallvec::SmallVec;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// A slot is preferred for a prompt if its sequence shares at least 1 / `COMMON_PART` of the prompt.
const COMMON_PART: usize = 10;

/// Fewer tokens are rather read again than copied.
const LEAST_COPIED: usize = 32;

/// A drafter of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrafterId(usize);

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
    /// Counts and times of drafting, if there was a drafter.
    pub rounds: Option<RoundStats>,
    /// The error of a drafter that failed; the text went on without it.
    pub drafter_error: Option<Error>,
}

/// A place for a sequence.
struct Slot {
    stream: Stream,
    /// The request that it works for.
    request: Option<ActiveRequest>,
    /// Number of the engine's last request that it was given.
    last_used: u64,
}

impl Slot {
    /// See [`Engine::failure`].
    fn failure(&self, model: &Model) -> Option<Error> {
        (self.stream.stop() == Some(Stop::NotANumber)).then(|| Error::NotANumber {
            path: model.gguf().metadata().path().to_owned(),
            n_tokens: self.stream.tokens().len(),
        })
    }
}

/// A request in a slot.
struct ActiveRequest {
    id: RequestId,
    prompt_len: usize,
    generation: Generation,
    /// Whether its generation has started.
    begun: bool,
}

/// Up to [`MAX_SEQUENCES`] sequences of one model. See the module.
///
/// The text of each is the text of a [`crate::Session`] for the same request, to the bit, whatever the other requests
/// are and whenever they come and go.
pub struct Engine {
    target: Target,
    n_ubatch: usize,
    cache: CacheTypes,
    planner: Planner,
    /// The place where acceptance rates are kept.
    counts: Option<AcceptanceCounts>,
    drafters: Vec<(DrafterId, Speculation)>,
    slots: Vec<Slot>,
    prefixes: PrefixCache,
    /// Numbers of requests and drafters so far.
    requests: u64,
    joined: usize,
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

    /// Attaches an opened drafter with a planner for all slots in a pass. Measures the costs of passes first if they
    /// are unknown; with `explained`, also if all trees have one shape. `progress` gets the fraction that is measured
    /// and ends the measurement with `false`. Returns the drafter's identifier.
    ///
    /// # Errors
    /// If a pass fails, the model lacks something the drafter needs, or `progress` ended the measurement.
    pub fn attach(
        &mut self,
        mut opened: ConfiguredDrafter,
        explained: bool,
        progress: &mut dyn FnMut(f64) -> bool,
    ) -> Result<DrafterId> {
        let batch = self.slots.len();
        let planned = opened.planner(explained, batch, self.calibrator(progress))?;
        let id = self.add_drafter(opened.speculation(planned.is_some()))?;
        self.plan_and_count(planned);
        Ok(id)
    }

    /// Sets the planner, and the place where acceptance rates are kept.
    pub(super) fn plan_and_count(&mut self, planned: Option<(Planner, AcceptanceCounts)>) {
        let (planner, counts) = planned.unzip();
        self.plan(planner.unwrap_or_default());
        self.counts = counts;
    }

    /// Saves acceptance rates in the cache directory, where the next start finds them.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_acceptance(&self) -> std::io::Result<()> {
        self.counts.as_ref().map_or(Ok(()), |counts| counts.save(self.planner.stats()))
    }

    /// The context in which a drafter for this engine is opened; `path` is the drafter's file.
    pub fn setup<'a>(&'a self, path: Option<&'a Path>) -> DrafterContext<'a> {
        DrafterContext::new(&self.target, path)
    }

    /// The target, for measurements of single passes over other sequences.
    pub fn target(&mut self) -> &mut Target {
        &mut self.target
    }

    /// Adds a drafter. It drafts for requests that name it; the first one also drafts for requests that name none.
    ///
    /// # Errors
    /// If the model lacks something it needs.
    pub fn add_drafter(&mut self, speculation: Speculation) -> Result<DrafterId> {
        self.joined += 1;
        let id = DrafterId(self.joined);
        self.drafters.push((id, speculation));
        if let Err(error) = self.tap() {
            self.drafters.pop();
            return Err(error);
        }
        let nodes = self.drafters.iter().map(|(_, speculation)| speculation.most_nodes()).max();
        self.target.reserve(self.slots.len() * nodes.unwrap_or(1));
        Ok(id)
    }

    /// Removes a drafter; sequences that it drafted for go on without it.
    pub fn remove_drafter(&mut self, id: DrafterId) -> Option<Speculation> {
        let place = self.drafters.iter().position(|(other, _)| *other == id)?;
        let (_, speculation) = self.drafters.remove(place);
        for Slot { stream, .. } in &mut self.slots {
            if stream.is_drafted_by(&speculation) {
                stream.set_draft(None);
            }
        }
        Some(speculation)
    }

    /// A drafter and its options.
    pub fn drafter(&self, id: DrafterId) -> Option<&Speculation> {
        self.drafters.iter().find(|(other, _)| *other == id).map(|(_, speculation)| speculation)
    }

    /// A notice for users about a fault that a drafter recovered from; returned once.
    pub fn take_drafter_notice(&mut self) -> Option<String> {
        self.drafters.iter_mut().find_map(|(_, speculation)| speculation.take_notice())
    }

    /// Lets passes copy out the hidden states that the drafters read.
    fn tap(&mut self) -> Result<()> {
        let drafters = self.drafters.iter();
        self.target.tap(drafters.map(|(_, speculation)| speculation.drafter().taps()))
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
        let Some(place) = self.choose_slot(&request.prompt) else {
            let n = self.slots.len();
            return Err(Error::Invalid(format!("all {n} slots are taken; remove an answer first")));
        };
        request.generation.sampling.check()?;
        self.slots[place].stream.check_prompt(&request.prompt)?;
        self.target.model().config().check_tokens(&request.prompt)?;
        let Request { prompt, generation, drafter } = request;
        self.join(place, drafter)?;
        self.bring_prefix(place, &prompt);
        self.requests += 1;
        let id = RequestId(self.requests);
        let slot = &mut self.slots[place];
        slot.stream.set_drafting(generation.drafting);
        slot.stream.start_prompt(&prompt);
        let prompt_len = prompt.len();
        slot.request = Some(ActiveRequest { id, prompt_len, generation, begun: false });
        slot.last_used = self.requests;
        Ok(id)
    }

    /// The free slot for a prompt.
    fn choose_slot(&self, prompt: &[u32]) -> Option<usize> {
        let free = self.slots.iter().enumerate().filter(|(_, slot)| slot.request.is_none());
        let least = prompt.len().div_ceil(COMMON_PART);
        let worth = |slot: &Slot| {
            let common = slot.stream.common_with(prompt);
            let common = if common >= least { common } else { 0 };
            (common, std::cmp::Reverse(slot.last_used))
        };
        free.max_by_key(|(place, slot)| (worth(slot), std::cmp::Reverse(*place))).map(|(i, _)| i)
    }

    /// Sets how much memory may hold sequences that no slot holds any more; 0, the default, for none. A prompt that
    /// begins as one of them does is not read anew, unless the model has windows: of those sequences only the last
    /// positions are there, to which a prompt can be appended.
    pub fn set_prefix_cache(&mut self, bytes: usize) {
        self.prefixes.set_limit(bytes);
    }

    /// Keeps a free slot's sequence if a prompt is to replace much of it, and copies the prefix to it that another
    /// slot's sequence, or one that was kept, shares with the prompt.
    fn bring_prefix(&mut self, place: usize, prompt: &[u32]) {
        let mut drafters: SmallVec<[_; 4]> = speculations(&mut self.drafters).collect();
        let own = self.slots[place].stream.common_with(prompt);
        let others = self.slots.iter().enumerate().filter(|(other, _)| *other != place);
        let others = others.map(|(other, slot)| (slot.stream.cached_with(prompt), other));
        let (shared, other) = others.max_by_key(|(shared, _)| *shared).unwrap_or((0, place));
        let stream = &mut self.slots[place].stream;
        let replaced = stream.context().saturating_sub(own);
        if self.prefixes.is_on()
            && replaced >= LEAST_COPIED
            && let Some(saved) = stream.save_prefix(stream.context(), &mut drafters)
        {
            self.prefixes.insert(saved);
        }
        let kept = self.prefixes.find(prompt);
        let kept = kept.filter(|(_, common)| *common >= own + LEAST_COPIED);
        if let Some((i, common)) = kept
            && common >= shared
        {
            self.slots[place].stream.load_prefix(self.prefixes.get(i), &mut drafters);
        } else if shared >= own + LEAST_COPIED {
            let saved = self.slots[other].stream.save_prefix(shared, &mut drafters);
            if let Some(saved) = saved {
                self.slots[place].stream.load_prefix(&saved, &mut drafters);
            }
        }
    }

    /// Gives a slot's sequence a state of this drafter, unless it has one.
    fn join(&mut self, place: usize, drafter: Option<DrafterId>) -> Result<()> {
        let stream = &mut self.slots[place].stream;
        let named = |id: DrafterId| drafter.is_none_or(|named| named == id);
        match self.drafters.iter_mut().find(|(id, _)| named(*id)) {
            Some((_, speculation)) if stream.is_drafted_by(speculation) => {}
            Some((_, speculation)) => stream.set_draft(Some(speculation.join()?)),
            None if drafter.is_some() => {
                return Err(Error::Invalid("the drafter was removed; name another".into()));
            }
            None => stream.set_draft(None),
        }
        Ok(())
    }

    /// Runs one round for all sequences that are written, and a chunk of the prompts that are read. `take` gets the
    /// pieces of each request in order. Returns whether any request goes on.
    ///
    /// # Errors
    /// If a pass cannot be run; all sequences are then as they were.
    pub fn step(&mut self, take: &mut dyn FnMut(RequestId, Piece)) -> Result<bool> {
        step_together(&mut [self], &mut |_, id, piece| take(id, piece))
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
            rounds: stream.rounds().cloned(),
            drafter_error: stream.take_drafter_error(),
        };
        stream.end(Stop::Length);
        Some(answer)
    }

    /// The only sequence of a session.
    pub(super) fn stream(&self) -> &Stream {
        &self.slots[0].stream
    }

    /// [`Engine::failure`] of the only sequence of a session.
    pub(super) fn session_failure(&self) -> Option<Error> {
        self.slots[0].failure(self.model())
    }

    /// Reads a chunk of the prompt of a session.
    ///
    /// # Errors
    /// Those of the target.
    pub(super) fn read_chunk(&mut self) -> Result<()> {
        let Engine { target, drafters, planner, slots, n_ubatch, .. } = self;
        let mut drafters: SmallVec<[_; 4]> = speculations(drafters).collect();
        let stream = &mut slots[0].stream;
        stream.set_chunk(stream.unread().min(*n_ubatch));
        round(target, &mut drafters, &mut [stream], planner)
    }

    /// The only sequence of a session, the target, and the drafters.
    pub(super) fn parts(&mut self) -> (&mut Stream, &mut Target, SmallVec<[&mut Speculation; 4]>) {
        let drafters = speculations(&mut self.drafters).collect();
        (&mut self.slots[0].stream, &mut self.target, drafters)
    }

    /// Gives the only sequence of a session a new state of this drafter.
    pub(super) fn join_session(&mut self, drafter: DrafterId) -> Result<()> {
        self.slots[0].stream.set_draft(None);
        self.join(0, Some(drafter))
    }

    /// Starts a generation in the only sequence of a session, whose prompt was read.
    ///
    /// # Errors
    /// If a number of the sampling is out of range, or a stop string cannot be tokenized.
    pub(super) fn begin_session(&mut self, generation: Generation) -> Result<()> {
        self.requests += 1;
        let (id, slot) = (RequestId(self.requests), &mut self.slots[0]);
        slot.request = None;
        slot.stream.generate(&generation, self.target.model().tokenizer())?;
        let prompt_len = slot.stream.tokens().len();
        slot.request = Some(ActiveRequest { id, prompt_len, generation, begun: true });
        Ok(())
    }

    /// Ends the generation in the only sequence of a session, and starts to read `prompt`.
    pub(super) fn prompt_session(&mut self, prompt: &[u32]) {
        let Slot { stream, request, .. } = &mut self.slots[0];
        *request = None;
        stream.start_prompt(prompt);
    }

    /// One round of this engine's sequences.
    pub(super) fn round(&mut self) -> Result<()> {
        round_together(&mut [self])
    }

    pub(super) fn cache(&self) -> CacheTypes {
        self.cache
    }
}

/// Drafters without their numbers.
fn speculations(
    drafters: &mut [(DrafterId, Speculation)],
) -> impl Iterator<Item = &mut Speculation> {
    drafters.iter_mut().map(|(_, speculation)| speculation)
}

/// One step of several engines of one model, whose sequences share a pass. The pass belongs to the engine with the
/// longest context; tree sizes are decided by the planner of the engine with the longest context among those with
/// measured costs. `take` gets the pieces of each engine's requests, with the engine's index. Returns whether any
/// request goes on.
///
/// Each text is the one that its engine writes alone, to the bit.
///
/// # Errors
/// If there are too many sequences, the engines have different models, or a pass fails; all sequences are then as they
/// were.
pub fn step_together(
    engines: &mut [&mut Engine],
    take: &mut dyn FnMut(usize, RequestId, Piece),
) -> Result<bool> {
    let start = Instant::now();
    check_together(engines)?;
    round_together(engines)?;
    let (time, mut goes_on) = (start.elapsed(), false);
    for (e, engine) in engines.iter_mut().enumerate() {
        let tokenizer = engine.target.model().tokenizer();
        for Slot { stream, request, .. } in &mut engine.slots {
            let Some(request) = request else { continue };
            if !request.begun && stream.unread() > 0 {
                goes_on = true;
                continue;
            }
            match std::mem::replace(&mut request.begun, true) {
                false => stream.generate(&request.generation, tokenizer)?,
                true if stream.stop().is_none() => stream.spent(time),
                true => {}
            }
            stream.sample_pending();
            while let Some(piece) = stream.take(tokenizer) {
                take(e, request.id, piece);
            }
            goes_on |= stream.stop().is_none();
        }
    }
    Ok(goes_on)
}

/// Checks that these engines can share a pass.
fn check_together(engines: &[&mut Engine]) -> Result<()> {
    let running = |engine: &Engine| engine.slots.iter().filter(|s| s.request.is_some()).count();
    let n: usize = engines.iter().map(|engine| running(engine)).sum();
    if n > MAX_SEQUENCES {
        let what = format!("{n} sequences in one step; at most {MAX_SEQUENCES} fit");
        return Err(Error::Invalid(what));
    }
    let same = |engine: &&mut Engine| Arc::ptr_eq(engine.model(), engines[0].model());
    if !engines.iter().all(same) {
        let what = "the sequences are of different models; step those of one";
        return Err(Error::Invalid(what.into()));
    }
    Ok(())
}

/// One round of all sequences that are written.
fn round_together(engines: &mut [&mut Engine]) -> Result<()> {
    let by_context = engines.iter().enumerate().rev();
    let Some((lead, _)) = by_context.max_by_key(|(_, engine)| engine.n_ctx()) else {
        return Ok(());
    };
    let planning = planning(engines).unwrap_or(lead);
    if engines.len() > 1 {
        let drafters = engines.iter().flat_map(|engine| engine.drafters.iter());
        let taps: Vec<Vec<usize>> = drafters.map(|(_, s)| s.drafter().taps().to_vec()).collect();
        engines[lead].target.tap(taps.iter().map(Vec::as_slice))?;
    }
    let (mut target, mut planner) = (None, None);
    let mut drafters: SmallVec<[&mut Speculation; MAX_SEQUENCES]> = SmallVec::new();
    let mut streams: SmallVec<[&mut Stream; MAX_SEQUENCES]> = SmallVec::new();
    let mut reading: SmallVec<[(u64, &mut Stream); MAX_SEQUENCES]> = SmallVec::new();
    let mut unread = engines[lead].n_ubatch;
    for (e, engine) in engines.iter_mut().enumerate() {
        let running = engine.slots.iter_mut().filter(|slot| slot.request.is_some());
        for Slot { stream, last_used, .. } in running {
            stream.sample_pending();
            if stream.unread() > 0 {
                reading.push((*last_used, stream));
            } else if stream.needs_round() {
                streams.push(stream);
            }
        }
        drafters.extend(speculations(&mut engine.drafters));
        if e == lead {
            target = Some(&mut engine.target);
        }
        if e == planning {
            planner = Some(&mut engine.planner);
        }
    }
    // Prompts are read in order of their requests; all chunks of a pass together have at most one chunk's length.
    reading.sort_unstable_by_key(|(last_used, _)| *last_used);
    for (_, stream) in reading {
        stream.set_chunk(stream.unread().min(unread));
        unread -= stream.chunk();
        if stream.is_reading() {
            streams.push(stream);
        }
    }
    let (Some(target), Some(planner)) = (target, planner) else { return Ok(()) };
    if streams.is_empty() { Ok(()) } else { round(target, &mut drafters, &mut streams, planner) }
}

/// Index of the engine whose planner decides in [`step_together`] and learns from it.
pub fn planning(engines: &[&mut Engine]) -> Option<usize> {
    let planned = engines.iter().enumerate().filter(|(_, engine)| engine.planner.costs().is_some());
    planned.rev().max_by_key(|(_, engine)| engine.n_ctx()).map(|(e, _)| e)
}
