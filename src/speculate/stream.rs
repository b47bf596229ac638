//! One sequence being written: its tokens, its drafter's state, and the tokens taken so far.

use super::accept::{accept_matching, accept_rejecting};
use super::generation::{Generation, Output, Piece, Stop};
use super::speculation::{Draft, Drafting, SpecSampling, Speculation, drafter_of};
use super::stats::{LiveStats, RoundStats, Stats};
use crate::draft::constrained::{Constrained, MAX_FORCED};
use crate::draft::{CandidateSelector, DraftJob};
use crate::error::{Error, Result};
use crate::infer::{
    CacheTypes, Outputs, SavedLogits, Sequence, Target, Work, WorkRows, common_prefix,
};
use crate::planner::{Planner, TreeLimits};
use crate::sample::{Distribution, Purpose, Sampler, Sampling, uniform};
use crate::text::Tokenizer;
use crate::tree::{GrowingTree, MAX_NODES, TreeShape};
use std::time::{Duration, Instant};

/// Pending positions that a drafter keeps after a pause.
const KEPT: usize = 16;

/// The saved parts of a stream; `S` is its sequence.
pub(crate) struct SavedStream<S> {
    pub tokens: Vec<u32>,
    pub sequence: S,
    /// Valid positions of the sequence.
    pub cached: usize,
    /// Valid positions that the drafter was notified of.
    pub draft_len: usize,
    /// The drafter's saved state.
    pub draft: Vec<u8>,
}

/// One sequence of a target. See the module.
pub(crate) struct Stream {
    seq: Sequence,
    /// The sequence, followed by tokens that the target has chosen but that were not taken yet.
    tokens: Vec<u32>,
    /// Length of the sequence: the tokens taken so far.
    taken: usize,
    /// The prompt that is being read; empty once it was read.
    prompt: Vec<u32>,
    /// Number of its tokens that this round reads.
    chunk: usize,
    /// Logits of the token after a prompt that was read.
    pending: SavedLogits,
    /// The tree of this round, and its accepted path.
    tree: GrowingTree,
    path: Vec<usize>,
    draft: Option<Draft>,
    drafting: Drafting,
    /// Statistics of the drafter that failed since the last prompt, and its error until it is taken.
    failed_draft: Option<(RoundStats, Option<Error>)>,
    sampler: Sampler,
    output: Output,
    constrained: Option<Constrained>,
    /// Number of tokens still to be generated.
    n_left: usize,
    /// Why there can be no token behind those that were chosen.
    broken: Option<Stop>,
    stats: Stats,
    live: LiveStats,
    stop: Option<Stop>,
}

impl Stream {
    /// An empty stream.
    ///
    /// # Errors
    /// If the types of the cache do not fit the model.
    pub fn new(target: &Target, types: CacheTypes) -> Result<Stream> {
        Ok(Stream {
            seq: target.sequence(types)?,
            tokens: Vec::with_capacity(target.n_ctx()),
            taken: 0,
            prompt: Vec::new(),
            chunk: 0,
            pending: SavedLogits::default(),
            tree: GrowingTree::default(),
            path: Vec::with_capacity(MAX_NODES),
            draft: None,
            drafting: Drafting::Auto,
            failed_draft: None,
            sampler: Sampler::new(Sampling::default()),
            output: Output::new(),
            constrained: None,
            n_left: 0,
            broken: None,
            stats: Stats::default(),
            live: LiveStats::default(),
            stop: None,
        })
    }

    /// Sets or removes the drafter's state for the sequence.
    pub fn set_draft(&mut self, draft: Option<Draft>) {
        (self.draft, self.failed_draft) = (draft, None);
    }

    /// Whether a drafter has state for the sequence.
    pub fn has_draft(&self) -> bool {
        self.draft.is_some()
    }

    /// Whether this drafter has state for the sequence.
    pub fn is_drafted_by(&self, speculation: &Speculation) -> bool {
        self.draft.as_ref().is_some_and(|draft| speculation.made(draft))
    }

    /// Sets when the drafter is used.
    pub fn set_drafting(&mut self, drafting: Drafting) {
        self.drafting = drafting;
    }

    /// The drafter's state, if the drafter is used.
    fn active(&self) -> Option<&Draft> {
        self.draft.as_ref().filter(|_| self.drafting != Drafting::Off)
    }

    /// Counts and times of drafting since the last prompt.
    pub fn rounds(&self) -> Option<&RoundStats> {
        let failed_draft = self.failed_draft.as_ref().map(|(stats, _)| stats);
        self.draft.as_ref().map(|draft| &draft.stats).or(failed_draft)
    }

    /// The error of a failed drafter; returned once.
    pub fn take_drafter_error(&mut self) -> Option<Error> {
        self.failed_draft.as_mut().and_then(|(_, error)| error.take())
    }

    /// The sequence so far: prompt and answer.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens[..self.taken]
    }

    /// Counts and times since the last prompt.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Counts and times for other threads.
    pub fn live_stats(&self) -> &LiveStats {
        &self.live
    }

    /// Publishes the counts for other threads.
    fn show_stats(&self) {
        self.live.set(&self.stats, self.rounds());
    }

    /// Adds to the time of the answer.
    pub fn spent(&mut self, time: Duration) {
        self.stats.predicted_time += time;
        self.show_stats();
    }

    /// The reason why the last generation ended.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Ends the generation, unless it has ended for another reason.
    pub fn end(&mut self, stop: Stop) {
        self.stop.get_or_insert(stop);
    }

    /// Checks that a prompt fits.
    ///
    /// # Errors
    /// If it is empty or leaves no room in the context.
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

    /// Length of the common prefix of the sequence and a prompt.
    pub fn common_with(&self, prompt: &[u32]) -> usize {
        common_prefix(self.tokens(), prompt)
    }

    /// The same, of what the cache holds.
    pub fn cached_with(&self, prompt: &[u32]) -> usize {
        self.common_with(prompt).min(self.seq.len())
    }

    /// Starts to read `prompt`, which was [checked](Stream::check_prompt). Keeps the common prefix of the sequence and
    /// drops the rest, and resets the counts.
    pub fn start_prompt(&mut self, prompt: &[u32]) {
        let same = self.common_with(prompt);
        // The last token is always run, since the answer starts from its logits.
        let mut kept = same.min(self.seq.len()).min(prompt.len() - 1);
        if let Some(draft) = self.active()
            && !draft.taps.is_empty()
        {
            // Hidden states of the target are not stored, so a drafter that reads them must see the rows again.
            kept = kept.min(draft.len);
        }
        let kept = self.truncate(kept);
        self.tokens.truncate(kept);
        self.taken = kept;
        self.prompt.clear();
        self.prompt.extend_from_slice(prompt);
        if let Some(draft) = &mut self.draft {
            draft.stats.reset();
            draft.paused = 0;
        }
        self.pending.clear();
        (self.chunk, self.n_left, self.stop, self.failed_draft) = (0, 0, None, None);
        self.broken = None;
        self.path.clear();
        self.stats = Stats { cached_n: kept, ..Stats::default() };
        self.show_stats();
    }

    /// Number of prompt tokens still to be read.
    pub fn unread(&self) -> usize {
        self.prompt.len().saturating_sub(self.tokens.len())
    }

    /// Stops reading: the tokens read so far become the sequence.
    pub fn stop_reading(&mut self) {
        self.chunk = 0;
        self.prompt.clear();
    }

    /// Lets the next round read `n` tokens of the prompt.
    pub fn set_chunk(&mut self, n: usize) {
        self.chunk = n;
    }

    /// Number of prompt tokens that this round reads.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Whether this round reads its prompt.
    pub fn is_reading(&self) -> bool {
        self.chunk > 0
    }

    /// Ends the round.
    pub fn end_round(&mut self) {
        self.chunk = 0;
        let time = self.constrained.as_mut().map(Constrained::take_time);
        self.stats.mask_time += time.unwrap_or_default();
        self.show_stats();
    }

    /// The parts to be saved, without tokens that were not taken.
    pub fn saved(&mut self, drafters: &mut [&mut Speculation]) -> SavedStream<&Sequence> {
        let tokens = self.tokens().to_vec();
        let cached = self.seq.len().min(tokens.len());
        let (mut draft, mut draft_len) = (Vec::new(), 0);
        if let Some(drafted) = &mut self.draft
            && let Some(drafter) = drafter_of(drafters, drafted)
        {
            // A drafter that fails to save is notified of everything again after loading.
            match drafter.save(&mut drafted.state, &mut draft) {
                Ok(()) => draft_len = drafted.len.min(cached),
                Err(_) => draft.clear(),
            }
        }
        SavedStream { tokens, sequence: &self.seq, cached, draft_len, draft }
    }

    /// The sequence with keys and values of up to `len` positions, and the drafter's state, which may know more.
    /// `None` if the cache of a window no longer holds what a row behind them sees.
    pub fn save_prefix(
        &mut self,
        len: usize,
        drafters: &mut [&mut Speculation],
    ) -> Option<SavedStream<Vec<u8>>> {
        let SavedStream { tokens, sequence, cached, draft_len, draft } = self.saved(drafters);
        let cached = cached.min(len);
        let cache = sequence.cache();
        if !cache.holds(cached) {
            return None;
        }
        let mut rows = Vec::with_capacity(cache.saved_bytes(cached as u64)? as usize);
        cache.write_rows(cached, &mut rows).ok()?;
        Some(SavedStream { tokens, sequence: rows, cached, draft_len, draft })
    }

    /// Restores the positions that [`Stream::save_prefix`] saved of a stream of the same target.
    pub fn load_prefix(&mut self, saved: &SavedStream<Vec<u8>>, drafters: &mut [&mut Speculation]) {
        let SavedStream { tokens, sequence: rows, cached, draft_len, draft } = saved;
        self.tokens.clear();
        self.tokens.extend_from_slice(&tokens[..*cached]);
        let read = self.seq.cache_mut().read_rows(*cached, &mut &rows[..]);
        read.expect("a slice is read to its end");
        self.loaded(&tokens[..*draft_len], draft, drafters);
    }

    /// Restores what was saved. A drafter that did not save its state is notified of everything again.
    pub fn load(&mut self, kept: SavedStream<Sequence>, drafters: &mut [&mut Speculation]) {
        let SavedStream { tokens, sequence, draft_len, draft: saved, .. } = kept;
        let known = tokens[..draft_len].to_vec();
        (self.seq, self.tokens) = (sequence, tokens);
        self.loaded(&known, &saved, drafters);
    }

    /// Resets everything else after the sequence was loaded; `saved` is the state of a drafter that knew the tokens
    /// `known`, which begin as the sequence does.
    fn loaded(&mut self, known: &[u32], saved: &[u8], drafters: &mut [&mut Speculation]) {
        (self.taken, self.n_left) = (self.tokens.len(), 0);
        (self.failed_draft, self.stop, self.broken) = (None, None, None);
        self.prompt.clear();
        self.pending.clear();
        self.output = Output::new();
        self.stats = Stats { cached_n: self.seq.len(), ..Stats::default() };
        let Some(draft) = &mut self.draft else { return };
        draft.stats.reset();
        (draft.len, draft.paused) = (0, 0);
        let Some(drafter) = drafter_of(drafters, draft) else { return };
        match drafter.restore(&mut draft.state, known, saved) {
            Ok(true) => draft.len = known.len().min(self.seq.len()),
            Ok(false) => {}
            Err(error) => self.give_up(error),
        }
    }

    /// Starts a generation.
    ///
    /// # Errors
    /// If a number of the sampling is out of range, or a stop string cannot be tokenized.
    pub fn generate(&mut self, what: &Generation, tokenizer: &Tokenizer) -> Result<()> {
        what.sampling.check()?;
        self.output.begin(what, tokenizer)?;
        self.tokens.truncate(self.taken);
        let mut sampling = what.sampling.clone();
        if what.ignore_end {
            forbid_ends(&mut sampling, tokenizer);
        }
        self.sampler = Sampler::new(sampling);
        let constraint = what.constraint.clone();
        self.constrained = constraint.map(|constraint| Constrained::new(constraint, self.taken));
        (self.n_left, self.stop, self.broken) = (what.n_predict, None, None);
        self.drafting = what.drafting;
        Ok(())
    }

    /// Forbids end tokens for the rest of the generation.
    pub fn ignore_end(&mut self, tokenizer: &Tokenizer) {
        let mut sampling = self.sampler.sampling().clone();
        forbid_ends(&mut sampling, tokenizer);
        self.sampler = Sampler::new(sampling);
    }

    /// The next piece. `None` if it needs a round, or if the text has ended; then [`Stream::stop`] gives the reason.
    pub fn take(&mut self, tokenizer: &Tokenizer) -> Option<Piece> {
        if self.stop.is_some() {
            return None;
        }
        let next = self.tokens.get(self.taken).copied();
        self.stop = match next {
            _ if self.n_left == 0 => Some(Stop::Length),
            _ if self.taken == self.seq.capacity() => Some(Stop::Context),
            Some(token) => self.output.ends(tokenizer, token),
            None => self.broken,
        };
        if self.stop.is_some() {
            return self.output.rest();
        }
        let token = next?;
        self.taken += 1;
        self.n_left -= 1;
        self.stats.predicted_n += 1;
        // The last token of a round is the target's own, not a drafted one.
        let drafted = self.taken < self.tokens.len();
        self.show_stats();
        let (piece, stopped) = self.output.piece(tokenizer, token, drafted);
        self.stop = stopped.then_some(Stop::Text);
        Some(piece)
    }

    /// Whether the next piece needs a round.
    pub fn needs_round(&self) -> bool {
        self.n_left > 0
            && self.stop.is_none()
            && self.broken.is_none()
            && self.taken == self.tokens.len()
            && self.unread() == 0
    }

    /// Samples the first token behind a prompt that was read; its logits are there already.
    pub fn sample_pending(&mut self) {
        if self.needs_round()
            && let Some(logits) = self.pending.get()
        {
            if !logits.are_numbers() {
                self.broken = Some(Stop::NotANumber);
                return;
            }
            let mask = self.constrained.as_mut().and_then(|c| c.mask(&self.tokens));
            if self.constrained.as_ref().is_some_and(|c| c.exhausted_at().is_some()) {
                self.broken = Some(Stop::Constraint);
                return;
            }
            let token = self.sampler.sample_from(logits, &self.tokens, mask.as_ref());
            self.output.chosen(token, logits);
            self.tokens.push(token);
            self.pending.clear();
        }
    }

    /// Drops positions from `len` on, and returns how many remain: see [`Sequence::truncate`].
    fn truncate(&mut self, len: usize) -> usize {
        let kept = self.seq.truncate(len);
        if let Some(draft) = &mut self.draft {
            draft.len = draft.len.min(kept);
        }
        kept
    }

    /// Number of positions in the cache.
    pub fn context(&self) -> usize {
        self.seq.len()
    }

    /// Whether it has a drafter in use.
    pub fn is_drafted(&self) -> bool {
        self.active().is_some()
    }

    /// Starts a round, whose tree may have `most_rows` nodes.
    pub fn start_round(&mut self, planner: &mut Planner, most_rows: usize) {
        let last = self.tokens.len() - 1;
        let kept = self.truncate(last);
        debug_assert_eq!(kept, last, "at most a tree's path is dropped");
        let room = self.seq.capacity() - last;
        let (most, most_nodes) = (self.n_left.min(room - 1), room.min(most_rows));
        let forced = match &mut self.constrained {
            Some(constrained) => {
                let most = most.min(most_nodes).saturating_sub(1).min(MAX_FORCED);
                constrained.forced(&self.tokens, most)
            }
            None => Vec::new(),
        };
        let mut limits = TreeLimits::of(TreeShape::ROOT);
        limits.always = self.drafting == Drafting::On;
        limits.temperature = self.sampler.sampling().temperature;
        if let Some(draft) = self.active() {
            let depth = most.saturating_sub(1 + forced.len());
            limits.shape = draft.shape.within(depth, most_nodes);
            limits.floor = draft.floor;
            limits.whole = draft.sampling == SpecSampling::Rejection;
        }
        planner.start(&mut self.tree, self.tokens[last], &limits);
        self.tree.force(&forced, most_nodes.min(MAX_NODES), planner.pays_behind(forced.len()));
        let (drafts, position) = (self.tree.is_growing(), self.tokens.len());
        let Some(draft) = in_use(&mut self.draft, self.drafting) else { return };
        if drafts {
            draft.skips = std::mem::take(&mut draft.paused) > 0;
            if limits.whole {
                draft.selector.draw(self.sampler.sampling(), position);
            }
        } else {
            draft.paused = if planner.pauses() { draft.paused + 1 } else { 0 };
            // In a long pause the drafter regularly drops positions that it would not need.
            draft.skips = draft.paused > 0 && draft.paused.is_multiple_of(KEPT);
        }
    }

    /// Lets its drafter drop pending positions that it need not run, if drafting was paused.
    pub fn skip(&mut self, drafters: &mut [&mut Speculation]) {
        if let Some(draft) = &mut self.draft
            && std::mem::take(&mut draft.skips)
            && let Some(drafter) = drafter_of(drafters, draft)
        {
            drafter.skip_to_last(&mut draft.state, KEPT);
        }
    }

    /// The job for this drafter, if the tree grows and the drafter accepts the state.
    pub fn job(&mut self, speculation: &Speculation) -> Option<DraftJob<'_>> {
        let Stream { tokens, tree, draft, constrained, .. } = self;
        let draft = draft.as_mut().filter(|draft| speculation.serves(draft))?;
        let Draft { state, selector, failure, .. } = draft;
        tree.is_growing().then(|| {
            let job = DraftJob::new(tokens, state, tree, selector, failure);
            job.constrain(constrained.as_mut())
        })
    }

    /// Accounts for the grown tree, which took `time`; the target has `n_vocab` tokens.
    pub fn grown(&mut self, time: Duration, n_vocab: usize) {
        let Some(draft) = self.draft.as_mut().filter(|_| !self.tree.shape().is_root()) else {
            return;
        };
        draft.stats.draft_time += time;
        let tokens = self.tree.tree().tokens();
        let foreign = tokens.iter().find(|token| **token as usize >= n_vocab).map(|token| {
            let what = format!("it drafts token {token}, and the target has {n_vocab}");
            Error::Invalid(what)
        });
        if let Some(error) = draft.failure.take().or(foreign) {
            self.give_up(error);
        }
    }

    /// The tree of this round.
    pub fn tree(&self) -> &GrowingTree {
        &self.tree
    }

    /// The tree of this round, to be pruned.
    pub fn tree_mut(&mut self) -> &mut GrowingTree {
        &mut self.tree
    }

    /// The work of the target's pass for this stream.
    pub fn work(&mut self) -> (&mut Sequence, Work<'_>) {
        let first = self.tokens.len();
        let work = match self.chunk {
            0 => Work::Tree(self.tree.tree()),
            n => {
                let outputs = if n == self.unread() { Outputs::Last } else { Outputs::None };
                Work::Run { tokens: &self.prompt[first..first + n], outputs }
            }
        };
        (&mut self.seq, work)
    }

    /// Appends the drafted tokens that the target agrees with, and one of its own: by rule A the tokens of plain
    /// decoding, by rule B tokens with the same distribution. Nothing follows a token that ends the text. If the round
    /// reads the prompt, appends the chunk. Nothing follows a node whose logits are no numbers. `rows` are this
    /// stream's rows of the last pass.
    pub fn accept(&mut self, target: &Target, rows: &WorkRows) {
        if self.chunk > 0 {
            return self.append_chunk(target, rows);
        }
        let row = rows.outputs.start;
        let (tokenizer, first) = (target.model().tokenizer(), self.tokens.len());
        let Stream { tokens, tree, path, sampler, draft, output, constrained, .. } = self;
        let mut mask = |history: &[u32]| constrained.as_mut().and_then(|c| c.mask(history));
        let ends = |token| output.ends(tokenizer, token).is_some();
        match draft.as_ref().filter(|_| tree.is_whole()) {
            None => {
                let choose = |node: usize, history: &[u32]| {
                    let mask = mask(history);
                    sampler.sample_from(target.logits(row + node), history, mask.as_ref())
                };
                accept_matching(tree.tree(), tokens, path, choose, ends);
            }
            Some(draft) => {
                let seed = sampler.sampling().seed;
                let distribution = |node: usize, history: &[u32]| {
                    let mask = mask(history);
                    sampler.distribution_over(target.logits(row + node), history, mask.as_ref())
                };
                accept_drawn((tree, &draft.selector), tokens, path, distribution, seed, ends);
            }
        }
        let numbers = |node: &usize| target.logits(row + node).are_numbers();
        let not_a_number = path.iter().position(|node| !numbers(node));
        let not_a_number = not_a_number.map(|at| (first + at, Stop::NotANumber));
        let exhausted = constrained.as_ref().and_then(Constrained::exhausted_at);
        let exhausted = exhausted.map(|at| (at, Stop::Constraint));
        if let Some((at, stop)) =
            not_a_number.into_iter().chain(exhausted).min_by_key(|(at, _)| *at)
        {
            tokens.truncate(at);
            path.truncate(at - first + 1);
            self.broken = Some(stop);
        }
        for (token, node) in self.tokens[first..].iter().zip(&self.path) {
            self.output.chosen(*token, target.logits(row + node));
        }
    }

    /// Appends the chunk of the prompt; saves the logits behind the last chunk.
    fn append_chunk(&mut self, target: &Target, rows: &WorkRows) {
        let first = self.tokens.len();
        self.tokens.extend_from_slice(&self.prompt[first..first + self.chunk]);
        self.taken = self.tokens.len();
        self.stats.prompt_n += self.chunk;
        if self.unread() == 0 {
            self.pending.set(target.logits(rows.outputs.start));
            self.prompt.clear();
        }
    }

    /// Keeps the accepted rows in the cache, and notifies the drafter.
    ///
    /// # Errors
    /// Those of the target.
    pub fn keep(
        &mut self,
        target: &mut Target,
        drafters: &mut [&mut Speculation],
        rows: &WorkRows,
    ) -> Result<()> {
        if self.chunk > 0 {
            let first = self.tokens.len() - self.chunk;
            self.commit(target, drafters, first, rows.rows.clone());
            return Ok(());
        }
        target.keep(&mut self.seq, &self.path)?;
        let first = self.seq.len() - self.path.len();
        let path = std::mem::take(&mut self.path);
        if let Some(draft) = in_use(&mut self.draft, self.drafting) {
            draft.stats.count(self.tree.tree(), &path);
        }
        let kept = path.iter().map(|node| rows.rows.start + node);
        self.commit(target, drafters, first, kept);
        self.path = path;
        Ok(())
    }

    /// The nodes of the tree that were accepted, the root first.
    pub fn path(&self) -> &[usize] {
        &self.path
    }

    /// Adds to the time of the target's passes.
    pub fn count_time(&mut self, time: Duration) {
        if self.chunk > 0 {
            self.stats.prompt_time += time;
        } else if let Some(draft) = &mut self.draft {
            draft.stats.verify_time += time;
        }
    }

    /// Notifies the drafter, if it is used, of the tokens run from position `first` on; `rows` are their rows of the
    /// last pass.
    fn commit(
        &mut self,
        target: &mut Target,
        drafters: &mut [&mut Speculation],
        first: usize,
        rows: impl Iterator<Item = usize>,
    ) {
        let (start, end) = (Instant::now(), self.seq.len());
        let Some(draft) = in_use(&mut self.draft, self.drafting) else { return };
        let Some(drafter) = drafter_of(drafters, draft) else { return };
        let Draft { state, taps, .. } = draft;
        let (features, pool) = target.features_and_pool();
        let mut features = rows.map(|row| features.row(taps, row));
        let tokens = &self.tokens[first..end];
        let committed = drafter.commit(state, first, tokens, &mut features, pool);
        match self.chunk {
            0 => draft.stats.draft_time += start.elapsed(),
            _ => self.stats.prompt_time += start.elapsed(),
        }
        match committed {
            Ok(()) => draft.len = end,
            Err(error) => self.give_up(error),
        }
    }

    fn give_up(&mut self, error: Error) {
        self.tree.stop();
        self.failed_draft = self.draft.take().map(|draft| (draft.stats, Some(error)));
    }
}

/// Adds biases that forbid end tokens. Of two biases of a token the first counts.
fn forbid_ends(sampling: &mut Sampling, tokenizer: &Tokenizer) {
    let ends = tokenizer.ends_of_generation().map(|token| (token, f32::NEG_INFINITY));
    sampling.logit_bias.splice(0..0, ends);
}

/// [`Stream::active`], to be changed.
fn in_use(draft: &mut Option<Draft>, drafting: Drafting) -> Option<&mut Draft> {
    draft.as_mut().filter(|_| drafting != Drafting::Off)
}

/// Rule B for a tree whose candidates were sampled: see [`accept_rejecting`].
fn accept_drawn(
    (tree, selector): (&GrowingTree, &CandidateSelector),
    tokens: &mut Vec<u32>,
    path: &mut Vec<usize>,
    distribution: impl FnMut(usize, &[u32]) -> Distribution,
    seed: u64,
    ends: impl Fn(u32) -> bool,
) {
    let draw = |position: usize, nth: Option<usize>| match nth {
        Some(nth) => uniform(seed, Purpose::Accept, (position * MAX_NODES + nth) as u64),
        None => uniform(seed, Purpose::Token, position as u64),
    };
    let drawn_from = |node: usize| selector.drawn_from(tree, node);
    accept_rejecting(tree.tree(), tokens, path, distribution, drawn_from, draw, ends);
}
