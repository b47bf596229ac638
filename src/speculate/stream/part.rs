//! The part of a stream in a round: its tree grows, the target runs its work, and it keeps what the target agrees with.

use super::Stream;
use super::writing::choose_token;
use crate::draft::constrained::{Constrained, MAX_FORCED};
use crate::draft::{CandidateSelector, DraftJob};
use crate::error::{Error, Result};
use crate::infer::{Sequence, Target, Work, WorkRows};
use crate::planner::{Planner, TreeLimits};
use crate::sample::{Distribution, Purpose, uniform};
use crate::speculate::accept::{accept_matching, accept_rejecting};
use crate::speculate::generation::Stop;
use crate::speculate::speculation::{Draft, Drafting, SpecSampling, Speculation, drafter_of};
use crate::tree::{GrowingTree, MAX_NODES, TreeShape};
use std::time::{Duration, Instant};

/// Pending positions that a drafter keeps after a pause.
const KEPT: usize = 16;

impl Stream {
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
        if self.constrained.as_ref().is_some_and(|constrained| !constrained.is_free()) {
            self.tree.constrain();
        }
        let pays = limits.always || planner.pays_behind(forced.len());
        self.tree.force(&forced, most_nodes.min(MAX_NODES), pays);
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
                let outputs = self.collector.outputs(n == self.unread());
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
        let ends = |token| output.ends(tokenizer, token).is_some();
        match draft.as_ref().filter(|_| tree.is_whole()) {
            None => {
                let choose = |node: usize, history: &[u32]| {
                    choose_token(sampler, constrained.as_mut(), target.logits(row + node), history)
                };
                accept_matching(tree.tree(), tokens, path, choose, ends);
            }
            Some(draft) => {
                let seed = sampler.sampling().seed;
                let distribution = |node: usize, history: &[u32]| {
                    let mask = constrained.as_mut().and_then(|c| c.mask(history));
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
            self.ended = Some(stop);
        }
        for (token, node) in self.tokens[first..].iter().zip(&self.path) {
            self.output.chosen(*token, target.logits(row + node));
        }
        if self.ended.is_none() {
            self.end_if_complete(tokenizer);
        }
    }

    /// Appends the chunk of the prompt; saves the logits behind the last chunk.
    fn append_chunk(&mut self, target: &Target, rows: &WorkRows) {
        let first = self.tokens.len();
        let chunk = first..first + self.chunk;
        self.tokens.extend_from_slice(&self.prompt[chunk.clone()]);
        self.taken = self.tokens.len();
        self.stats.prompt_n += self.chunk;
        self.collector.collect(target, &self.prompt, chunk, rows);
        if self.unread() == 0 {
            self.pending.set(target.logits(rows.outputs.end - 1));
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
            self.check_chunk();
            return Ok(());
        }
        target.keep(&mut self.seq, &self.path)?;
        let first = self.seq.len() - self.path.len();
        let path = std::mem::take(&mut self.path);
        if let Some(draft) = in_use(&mut self.draft, self.drafting) {
            draft.stats.count(&self.tree, &path);
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
