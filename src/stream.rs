//! One sequence being written: its tokens, who guesses for it, and what was handed out of it.
//!
//! `round` runs one round for some of them in one pass over the weights. A session has one stream, an
//! engine many; the text of each depends on nothing but itself.

use crate::draft::{self, DraftJob};
use crate::error::{Error, Result};
use crate::infer::{CacheTypes, KvCache, MAX_SEQUENCES, Outputs, Sequence, Target};
use crate::model::Model;
use crate::planner::Planner;
use crate::planner::{RoundTimes, TreeEstimate};
use crate::sample::{Sampler, Sampling};
use crate::saved::{self, Loaded, Saved};
use crate::speculate::{RoundError, RoundStats, Speculation};
use crate::text::{Tokenizer, Utf8Stream};
use crate::tree::{MAX_NODES, Tree, TreeShape};
use smallvec::SmallVec;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sizes of a session, or of an engine and each of its sequences.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Most tokens of a sequence; 0 for as many as the model was made for.
    pub n_ctx: usize,
    /// Threads at work, at least 1.
    pub threads: usize,
    /// Most tokens of one pass over a prompt.
    pub n_ubatch: usize,
    /// How keys and values are stored.
    pub cache: CacheTypes,
}

impl Default for SessionOptions {
    /// The model's context, the machine's physical cores, passes of 512, a cache of half floats.
    fn default() -> Self {
        let (threads, cache) = (crate::machine::physical_cores(), CacheTypes::default());
        SessionOptions { n_ctx: 0, threads, n_ubatch: 512, cache }
    }
}

impl SessionOptions {
    /// A target for so many sequences, whose trees fit one pass.
    ///
    /// # Errors
    /// When the context is larger than memory allows, or `DOVETAIL_ISA` names what this CPU lacks.
    pub(crate) fn target(&self, model: Arc<Model>, sequences: usize) -> Result<Target> {
        let c = model.config();
        let n_ctx = if self.n_ctx == 0 { c.n_ctx } else { self.n_ctx };
        KvCache::check_memory(c, n_ctx, self.cache, sequences)?;
        // One for each of the sequences that may share a pass, at least.
        let rows =
            (MAX_NODES.min(n_ctx) * sequences).max(self.n_ubatch.min(n_ctx)).max(MAX_SEQUENCES);
        Target::new(model, n_ctx, self.threads, rows)
    }
}

/// A piece of generated text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The token; none where a character cut off at the very end becomes U+FFFD.
    pub token: Option<u32>,
    /// What it adds to the text: empty while a character is incomplete.
    pub text: String,
    /// Whether a drafter had guessed it.
    pub guessed: bool,
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
}

/// Counts and times of one prompt and its answer.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Prompt tokens that were run; those still in the cache were not.
    pub prompt_n: usize,
    /// Time for them.
    pub prompt_time: Duration,
    /// Prompt tokens found in the cache.
    pub cached_n: usize,
    /// Tokens generated, the end token not counted.
    pub predicted_n: usize,
    /// Time for them, in which other sequences may have got theirs.
    pub predicted_time: Duration,
}

/// The tree of who guesses nothing.
const NOTHING: TreeShape = TreeShape { depth: 0, width: 0, nodes: 1 };

/// One sequence of a target. See the module.
pub(crate) struct Stream {
    seq: Sequence,
    /// The sequence, and behind it what the target has chosen and nobody has taken yet.
    tokens: Vec<u32>,
    /// Length of the sequence.
    taken: usize,
    /// Whether the first row of the target's last pass continues the tokens.
    fresh: bool,
    /// What is verified where nobody guesses.
    root: Tree,
    speculation: Option<Speculation>,
    /// Length of the sequence that the drafter was told of.
    told: usize,
    /// The drafter that was given up since the last prompt, and why.
    given_up: Option<(RoundStats, Option<Error>)>,
    sampler: Sampler,
    utf8: Utf8Stream,
    /// Tokens that are still wanted.
    left: usize,
    ignore_end: bool,
    stats: Stats,
    stop: Option<Stop>,
}

impl Stream {
    /// An empty one.
    ///
    /// # Errors
    /// When the types of the cache do not fit the model.
    pub fn new(target: &Target, types: CacheTypes) -> Result<Stream> {
        Ok(Stream {
            seq: target.sequence(types)?,
            tokens: Vec::with_capacity(target.n_ctx()),
            taken: 0,
            fresh: false,
            root: Tree::new(0),
            speculation: None,
            told: 0,
            given_up: None,
            sampler: Sampler::new(Sampling::default()),
            utf8: Utf8Stream::new(),
            left: 0,
            ignore_end: false,
            stats: Stats::default(),
            stop: None,
        })
    }

    /// Lets a drafter guess what comes next, or nobody; returns who did.
    pub fn speculate(&mut self, new: Option<Speculation>) -> Option<Speculation> {
        self.given_up = None;
        self.told = 0;
        std::mem::replace(&mut self.speculation, new)
    }

    /// Who guesses.
    pub fn speculation(&self) -> Option<&Speculation> {
        self.speculation.as_ref()
    }

    /// Counts and times of guessing since the last prompt.
    pub fn rounds(&self) -> Option<&RoundStats> {
        let given_up = self.given_up.as_ref().map(|(stats, _)| stats);
        self.speculation.as_ref().map(Speculation::stats).or(given_up)
    }

    /// Why the drafter was given up, once.
    pub fn take_drafter_error(&mut self) -> Option<Error> {
        self.given_up.as_mut().and_then(|(_, error)| error.take())
    }

    /// What people should know of the drafter, once.
    pub fn take_drafter_notice(&mut self) -> Option<String> {
        self.speculation.as_mut().and_then(Speculation::take_notice)
    }

    /// The sequence so far: prompt and answer.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens[..self.taken]
    }

    /// Counts and times since the last prompt.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Counts time of the answer.
    pub fn spent(&mut self, time: Duration) {
        self.stats.predicted_time += time;
    }

    /// Why the last generation ended.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Ends the generation.
    pub fn end(&mut self, stop: Stop) {
        self.stop = Some(stop);
    }

    /// The target has run something else since the prompt.
    pub fn lose_logits(&mut self) {
        self.fresh = false;
    }

    /// Whether a prompt of so many tokens fits.
    ///
    /// # Errors
    /// When there are none, or they leave no room in the context.
    pub fn check_prompt(&self, prompt: &[u32]) -> Result<()> {
        if prompt.is_empty() {
            return Err(Error::Prompt("the prompt is empty; give some text".into()));
        }
        let (needed, available) = (prompt.len() + 1, self.seq.capacity());
        if needed > available {
            return Err(Error::Context { needed, available });
        }
        Ok(())
    }

    /// Makes `prompt` the sequence, `n_ubatch` tokens a pass; see [`crate::Session::prompt`].
    ///
    /// # Errors
    /// When the prompt is empty or leaves no room in the context; the stream is then as it was.
    pub fn prompt(
        &mut self,
        target: &mut Target,
        n_ubatch: usize,
        prompt: &[u32],
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool> {
        self.check_prompt(prompt)?;
        let start = Instant::now();
        self.keep_common(prompt);
        let to_run = prompt.len() - self.taken;
        while self.tokens.len() < prompt.len() {
            let chunk = &prompt[self.tokens.len()..];
            let chunk = &chunk[..chunk.len().min(n_ubatch)];
            let last = self.tokens.len() + chunk.len() == prompt.len();
            let outputs = if last { Outputs::Last } else { Outputs::None };
            target.append(&mut self.seq, chunk, outputs)?;
            let first = self.tokens.len();
            self.tokens.extend_from_slice(chunk);
            self.taken = self.tokens.len();
            self.fresh = last;
            self.commit(target, first);
            self.stats.prompt_n += chunk.len();
            self.stats.prompt_time = start.elapsed();
            if !progress(self.stats.prompt_n, to_run) {
                return Ok(last);
            }
        }
        Ok(true)
    }

    /// Forgets all but what the sequence has in common with `prompt`, and what was counted.
    fn keep_common(&mut self, prompt: &[u32]) {
        let same = self.tokens().iter().zip(prompt).take_while(|(a, b)| a == b).count();
        // The last token is always run: its logits begin the answer.
        let mut kept = same.min(self.seq.len()).min(prompt.len() - 1);
        if self.speculation.as_ref().is_some_and(|s| !s.drafter().taps().is_empty()) {
            // What it learns from the target is not kept anywhere else.
            kept = kept.min(self.told);
        }
        self.truncate(kept);
        self.tokens.truncate(kept);
        self.taken = kept;
        if let Some(speculation) = &mut self.speculation {
            speculation.reset_stats();
        }
        (self.fresh, self.left, self.stop, self.given_up) = (false, 0, None, None);
        self.stats = Stats { cached_n: kept, ..Stats::default() };
    }

    /// Saves the sequence, but for what nobody has taken yet.
    ///
    /// # Errors
    /// Those of [`saved::save`].
    pub fn save(&mut self, path: &Path, model: &Model, types: CacheTypes) -> Result<()> {
        let (tokens, sequence) = (&self.tokens[..self.taken], &self.seq);
        let cached = sequence.len().min(tokens.len());
        let (told, speculation) = (self.told.min(cached), self.speculation.as_mut());
        saved::save(path, model, Saved { tokens, sequence, cached, types, speculation, told })
    }

    /// Makes what was saved the sequence. A drafter that did not save it has seen nothing of it.
    ///
    /// # Errors
    /// Those of [`saved::load`]; the stream is then as it was.
    pub fn load(&mut self, path: &Path, target: &Target, types: CacheTypes) -> Result<()> {
        let loaded = saved::load(path, target.model(), target.sequence(types)?, types)?;
        let Loaded { tokens, sequence, told, drafter } = loaded;
        (self.seq, self.tokens) = (sequence, tokens);
        (self.taken, self.fresh, self.left) = (self.tokens.len(), false, 0);
        (self.told, self.given_up, self.stop) = (0, None, None);
        self.utf8 = Utf8Stream::new();
        self.stats = Stats { cached_n: self.seq.len(), ..Stats::default() };
        if let Some(speculation) = &mut self.speculation {
            speculation.reset_stats();
            match speculation.restore(&self.tokens[..told], &drafter) {
                Ok(true) => self.told = told,
                Ok(false) => {}
                Err(error) => self.give_up(error),
            }
        }
        Ok(())
    }

    /// Begins to generate up to `n_predict` tokens.
    pub fn generate(&mut self, sampling: &Sampling, n_predict: usize, ignore_end: bool) {
        self.tokens.truncate(self.taken);
        self.sampler = Sampler::new(sampling.clone());
        self.utf8 = Utf8Stream::new();
        (self.left, self.ignore_end, self.stop) = (n_predict, ignore_end, None);
    }

    /// Goes on past end tokens, or not.
    pub fn ignore_end(&mut self, ignore: bool) {
        self.ignore_end = ignore;
    }

    /// The next piece. None where it takes a round, or the text has ended: [`Stream::stop`] says why then.
    pub fn take(&mut self, tokenizer: &Tokenizer) -> Option<Piece> {
        if self.stop.is_some() {
            return None;
        }
        let next = self.tokens.get(self.taken).copied();
        self.stop = match next {
            _ if self.left == 0 => Some(Stop::Length),
            _ if self.taken == self.seq.capacity() => Some(Stop::Context),
            Some(token) if self.ends(tokenizer, token) => Some(Stop::End(token)),
            _ => None,
        };
        let mut text = String::new();
        if self.stop.is_some() {
            // A character cut off at the end of the text becomes U+FFFD.
            self.utf8.finish(&mut text);
            return (!text.is_empty()).then_some(Piece { token: None, text, guessed: false });
        }
        let token = next?;
        self.utf8.push(tokenizer.piece_bytes(token), &mut text);
        self.taken += 1;
        self.left -= 1;
        self.stats.predicted_n += 1;
        // The last token of a round is the target's own.
        Some(Piece { token: Some(token), text, guessed: self.taken < self.tokens.len() })
    }

    fn ends(&self, tokenizer: &Tokenizer, token: u32) -> bool {
        !self.ignore_end && tokenizer.is_end_of_generation(token)
    }

    /// Whether the logits behind its last token are those of its target's last pass, and a token is to be chosen.
    pub fn is_fresh(&self) -> bool {
        self.fresh && self.needs_round()
    }

    /// Whether it takes a round to get the next piece.
    fn needs_round(&self) -> bool {
        self.left > 0 && self.stop.is_none() && self.taken == self.tokens.len()
    }

    /// Forgets what was run from position `len` on.
    fn truncate(&mut self, len: usize) {
        self.seq.truncate(len);
        self.told = self.told.min(len);
    }

    /// Begins a round, in which its tree may have `most_rows` nodes, or appends the next token where its logits
    /// are there.
    fn begin(&mut self, target: &Target, most_rows: usize, planner: &mut Option<Box<Planner>>) {
        if self.fresh {
            return self.sample(target, 0);
        }
        let last = self.tokens.len() - 1;
        self.truncate(last);
        self.root.reset(self.tokens[last]);
        let Some(speculation) = &mut self.speculation else { return };
        let room = self.seq.capacity() - last;
        let most = self.left.min(room - 1);
        let room = room.min(most_rows);
        speculation.begin(&self.sampler, &self.tokens, (most, room), planner);
    }

    /// The part in the guessing of this round, if there is one.
    fn part(&mut self) -> Option<DraftJob<'_>> {
        self.speculation.as_mut()?.part(&self.tokens)
    }

    /// Ends it after `time`.
    fn grown(&mut self, grown: Result<()>, time: Duration, n_vocab: usize) {
        let Some(speculation) = &mut self.speculation else { return };
        if let Err(error) = grown.and(speculation.grown(time, n_vocab)) {
            self.give_up(error);
        }
    }

    /// The tree of this round.
    fn tree(&self) -> &Tree {
        self.speculation.as_ref().map_or(&self.root, Speculation::tree)
    }

    /// The same, before it is verified.
    fn tree_mut(&mut self) -> &mut Tree {
        self.speculation.as_mut().map_or(&mut self.root, Speculation::tree_mut)
    }

    /// The sequence and the tree of this round.
    fn guessed(&mut self) -> (&mut Sequence, &Tree, usize) {
        let tree = self.speculation.as_ref().map_or(&self.root, Speculation::tree);
        (&mut self.seq, tree, 0)
    }

    /// Ends a round, whose rows begin at `row` of the target's last pass and took the time `pass`.
    fn settle(
        &mut self,
        target: &mut Target,
        row: usize,
        pass: Duration,
        planner: &mut Option<Box<Planner>>,
    ) -> Result<()> {
        let Some(speculation) = &mut self.speculation else {
            target.keep(&mut self.seq, &[0])?;
            self.sample(target, row);
            if let Some(planner) = planner {
                planner.accepted(0.0, &self.root, &[0]);
            }
            return Ok(());
        };
        let (model, ignore) = (target.model().clone(), self.ignore_end);
        let ends = |token| !ignore && model.tokenizer().is_end_of_generation(token);
        let (seq, tokens) = (&mut self.seq, &mut self.tokens);
        let settled = speculation.settle(target, seq, (row, pass), &mut self.sampler, tokens, ends);
        if let Some(planner) = planner {
            let temperature = self.sampler.sampling().temperature;
            planner.accepted(temperature, speculation.tree(), speculation.path());
        }
        match settled {
            Ok(()) => self.told = self.seq.len(),
            Err(RoundError::Target(error)) => return Err(error),
            Err(RoundError::Drafter(error)) => self.give_up(error),
        }
        Ok(())
    }

    /// Appends the token that this row of logits gives.
    fn sample(&mut self, target: &Target, row: usize) {
        self.fresh = false;
        self.tokens.push(self.sampler.sample(target.logits(row), &self.tokens));
    }

    /// Tells the drafter, if there is one, what the target has run since position `first`.
    fn commit(&mut self, target: &mut Target, first: usize) {
        let Some(speculation) = &mut self.speculation else { return };
        match speculation.commit(target, first, &self.tokens[first..]) {
            Ok(()) => self.told = self.tokens.len(),
            Err(error) => self.give_up(error),
        }
    }

    fn give_up(&mut self, error: Error) {
        let stats = self.speculation.take().map(|speculation| speculation.stats().clone());
        self.given_up = stats.map(|stats| (stats, Some(error)));
    }
}

/// Appends at least one token to each stream that has none left to take, of up to [`MAX_SEQUENCES`]. One
/// whose prompt was run last has its logits still and must be alone. The `planner`, if there is one, chooses how
/// much of all trees is verified.
///
/// # Errors
/// Those of the target; the streams are then as they were.
pub(crate) fn round(
    target: &mut Target,
    streams: &mut [&mut Stream],
    planner: &mut Option<Box<Planner>>,
) -> Result<()> {
    let start = Instant::now();
    let mut nobody = None;
    let guess = waiting(streams).any(|stream| stream.speculation.is_some());
    // Guesses that were drawn may not be cut.
    let drawn = waiting(streams).filter_map(|s| s.speculation.as_ref()).any(Speculation::draws);
    let planner = if guess && !drawn { planner } else { &mut nobody };
    begin(streams, planner);
    let share = target.max_rows() / waiting(streams).count().max(1);
    for stream in waiting(streams) {
        stream.begin(target, share, planner);
    }
    grow(target, streams, planner);
    if let Some(planner) = planner {
        let trees = waiting(streams).map(Stream::tree_mut);
        planner.choose(&mut trees.collect::<SmallVec<[&mut Tree; MAX_SEQUENCES]>>());
    }
    let grown = start.elapsed();
    let node_time = verify(target, streams)?;
    let verified = start.elapsed();
    let mut row = 0;
    for stream in waiting(streams) {
        let n = stream.tree().len();
        stream.settle(target, row, node_time * n as u32, planner)?;
        row += n;
    }
    if let Some(planner) = planner.as_mut().filter(|_| row > 0) {
        let [draft, verify, whole] = [grown, verified - grown, start.elapsed()];
        let [draft, verify, whole] = [draft, verify, whole].map(|time| time.as_secs_f64());
        planner.end(RoundTimes { draft, verify, whole });
    }
    Ok(())
}

/// Begins a round of the planner.
fn begin(streams: &mut [&mut Stream], planner: &mut Option<Box<Planner>>) {
    let Some(planner) = planner else { return };
    let (mut batch, mut context) = (0, 0);
    for stream in waiting(streams).filter(|stream| !stream.fresh) {
        batch += 1;
        context += stream.seq.len();
    }
    if batch > 0 {
        planner.begin(batch, context / batch);
    }
}

/// Lets the drafters guess, whose round has begun.
fn grow(target: &mut Target, streams: &mut [&mut Stream], planner: &mut Option<Box<Planner>>) {
    let start = Instant::now();
    let n_vocab = target.model().config().n_vocab;
    let mut parts: SmallVec<[DraftJob; MAX_SEQUENCES]> =
        waiting(streams).filter_map(Stream::part).collect();
    draft::expand(&mut parts, planner, target.pool());
    let time = start.elapsed() / parts.len().max(1) as u32;
    let grown: SmallVec<[Result<()>; MAX_SEQUENCES]> =
        parts.into_iter().map(|part| part.grown).collect();
    let guessing = waiting(streams).filter_map(|stream| stream.part().is_some().then_some(stream));
    for (stream, grown) in guessing.zip(grown) {
        stream.grown(grown, time, n_vocab);
    }
    let Some(planner) = planner else { return };
    let nothing = TreeEstimate::new(NOTHING, 0.0);
    for stream in waiting(streams) {
        let growing = stream.speculation.as_ref().map_or(&nothing, Speculation::growing);
        planner.grown(stream.tree(), growing);
    }
}

/// Runs the trees of this round in one pass; returns the time that it took, for each node.
fn verify(target: &mut Target, streams: &mut [&mut Stream]) -> Result<Duration> {
    let start = Instant::now();
    let mut batch: SmallVec<[_; MAX_SEQUENCES]> = waiting(streams).map(Stream::guessed).collect();
    target.verify_batch(&mut batch)?;
    let nodes: usize = batch.iter().map(|(_, tree, _)| tree.len()).sum();
    Ok(start.elapsed() / nodes.max(1) as u32)
}

fn waiting<'a>(streams: &'a mut [&mut Stream]) -> impl Iterator<Item = &'a mut Stream> {
    streams.iter_mut().map(|stream| &mut **stream).filter(|stream| stream.needs_round())
}
