//! One sequence being written: its tokens, its drafter's state, and the tokens taken so far.
//!
//! ```text
//! mod.rs          the stream, and reading its prompt
//! writing.rs      the answer behind it              part.rs   its part in a round
//! checkpoints.rs  lengths to which it can go back   saved.rs  what is saved of it
//! ```

mod checkpoints;
mod part;
mod saved;
mod writing;

pub(crate) use saved::SavedStream;

use super::generation::{Logprobs, Output, Stop};
use super::prompt_output::{PromptCollector, PromptOutput};
use super::speculation::{Draft, Drafting, Speculation};
use super::stats::{LiveStats, RoundStats, Stats};
use crate::draft::constrained::Constrained;
use crate::error::{Error, Result};
use crate::infer::{CacheTypes, SavedLogits, Sequence, Target, common_prefix};
use crate::sample::{Sampler, Sampling};
use crate::tree::{GrowingTree, MAX_NODES};
use checkpoints::Checkpoints;
use std::time::Duration;

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
    /// What is computed from the prompt's rows.
    collector: PromptCollector,
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
    checkpoints: Checkpoints,
    /// Why there can be no token behind those that were chosen.
    ended: Option<Stop>,
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
            collector: PromptCollector::default(),
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
            checkpoints: Checkpoints::default(),
            ended: None,
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
        self.constrained = None;
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

    /// Number of a prompt's first tokens that need not be run again.
    pub fn cached_with(&self, prompt: &[u32]) -> usize {
        self.reachable(self.common_with(prompt))
    }

    /// Starts to read `prompt`, which was [checked](Stream::check_prompt). Keeps the common prefix of the sequence and
    /// drops the rest, and resets the counts. An output that needs all rows of the prompt keeps nothing.
    pub fn start_prompt(&mut self, prompt: &[u32], output: PromptOutput) {
        self.collector = PromptCollector::new(output);
        let same = self.common_with(prompt);
        // The last token is always run, since the answer starts from its logits.
        let mut kept = same.min(self.seq.len()).min(prompt.len() - 1);
        if self.collector.needs_all_rows() {
            kept = 0;
        }
        if let Some(draft) = self.active()
            && !draft.taps.is_empty()
        {
            // Hidden states of the target are not stored, so a drafter that reads them must see the rows again.
            kept = kept.min(draft.len);
        }
        let kept = self.reachable(kept);
        self.go_back(kept);
        self.tokens.truncate(kept);
        self.taken = kept;
        self.check_start();
        self.prompt.clear();
        self.prompt.extend_from_slice(prompt);
        if let Some(draft) = &mut self.draft {
            draft.stats.reset();
            draft.paused = 0;
        }
        self.pending.clear();
        (self.chunk, self.n_left, self.stop, self.failed_draft) = (0, 0, None, None);
        self.ended = None;
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

    /// Lets the next round read up to `n` tokens of the prompt.
    pub fn set_chunk(&mut self, n: usize) {
        self.chunk = n.min(self.unread()).min(self.collector.most_rows());
    }

    /// Log probabilities of the prompt's tokens from the second on, if they are wanted: those that were computed since
    /// the last call.
    pub fn take_prompt_logprobs(&mut self) -> Vec<Logprobs> {
        self.collector.take_logprobs()
    }

    /// The embedding of the prompt, if it is wanted and the prompt was read.
    pub fn embedding(&self) -> Option<Vec<f32>> {
        self.collector.embedding().filter(|_| self.unread() == 0)
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

    fn give_up(&mut self, error: Error) {
        self.tree.stop();
        self.failed_draft = self.draft.take().map(|draft| (draft.stats, Some(error)));
    }
}
