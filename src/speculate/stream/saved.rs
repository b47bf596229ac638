//! What is saved of a sequence, for a file or for prompts that begin as it does, and going back in it.
//!
//! A layer with a window keeps only what a row behind the sequence sees. So its rows are copied now and then while a
//! prompt is read: a *checkpoint*, to which the sequence can go back.

use super::Stream;
use super::checkpoints::{Checkpoint, Checkpoints};
use crate::infer::{Sequence, common_prefix};
use crate::speculate::generation::Output;
use crate::speculate::speculation::{Speculation, drafter_of};
use crate::speculate::stats::Stats;

/// Number of prompt tokens from one checkpoint to the next.
const INTERVAL: usize = 512;

/// Checkpoints at the ends of prompts and answers are at least so far from others.
const LEAST: usize = 16;

/// The saved parts of a stream; `S` is its sequence.
pub(crate) struct SavedStream<S> {
    pub tokens: Vec<u32>,
    pub sequence: S,
    /// Valid positions of the sequence.
    pub cached: usize,
    /// Whether it can go back to its checkpoints alone, since rows of layers with windows are missing.
    pub lacks_rows: bool,
    pub checkpoints: Checkpoints,
    /// Valid positions that the drafter was notified of.
    pub draft_len: usize,
    /// The drafter's saved state.
    pub draft: Vec<u8>,
}

impl<S> SavedStream<S> {
    /// Nothing but a sequence, with no position.
    pub fn of_rows(sequence: S) -> SavedStream<S> {
        SavedStream {
            tokens: Vec::new(),
            sequence,
            cached: 0,
            lacks_rows: false,
            checkpoints: Checkpoints::default(),
            draft_len: 0,
            draft: Vec::new(),
        }
    }
}

impl SavedStream<Vec<u8>> {
    /// The tokens whose keys and values are there.
    pub fn prefix(&self) -> &[u32] {
        &self.tokens[..self.cached]
    }

    /// Number of a prompt's first tokens that need not be run behind it.
    pub fn shared_with(&self, prompt: &[u32]) -> usize {
        match common_prefix(self.prefix(), prompt) {
            common if common < self.cached && self.lacks_rows => {
                self.checkpoints.last_within(common).map_or(0, |checkpoint| checkpoint.len)
            }
            common => common,
        }
    }

    /// Its size in memory.
    pub fn bytes(&self) -> usize {
        let SavedStream { tokens, sequence, checkpoints, draft, .. } = self;
        size_of_val(&tokens[..]) + sequence.len() + checkpoints.bytes() + draft.len()
    }
}

impl Stream {
    /// Whether the model has layers with windows.
    pub fn has_windows(&self) -> bool {
        self.seq.cache().window_bytes(1) > 0
    }

    /// Sets how many bytes checkpoints may have; 0, the default, for no checkpoints.
    pub fn set_checkpoint_bytes(&mut self, bytes: usize) {
        self.checkpoints = Checkpoints::within(bytes);
    }

    /// The largest length of at most `len` to which the sequence can go back without reading anything again.
    pub(super) fn reachable(&self, len: usize) -> usize {
        let len = len.min(self.seq.len());
        if self.seq.cache().holds(len) {
            return len;
        }
        self.checkpoints.last_within(len).map_or(0, |checkpoint| checkpoint.len)
    }

    /// Goes back to a [reachable](Stream::reachable) length.
    pub(super) fn go_back(&mut self, len: usize) {
        let checkpoint = self.checkpoints.last_within(len).filter(|one| one.len == len);
        match checkpoint {
            Some(checkpoint) if !self.seq.cache().holds(len) => {
                self.seq.cache_mut().truncate_to(len, &checkpoint.rows);
            }
            _ => assert_eq!(self.seq.truncate(len), len, "the caller has looked"),
        }
        self.checkpoints.truncate(len);
        if let Some(draft) = &mut self.draft {
            draft.len = draft.len.min(len);
        }
    }

    /// Adds a checkpoint at `len` tokens, unless the model has no windows or the last checkpoint is less than `distance`
    /// tokens away.
    fn add_checkpoint(&mut self, len: usize, distance: usize) {
        let (cache, checkpoints) = (self.seq.cache(), &mut self.checkpoints);
        let bytes = cache.window_bytes(len);
        if bytes == 0
            || bytes > checkpoints.limit_bytes()
            || !checkpoints.are_far_from(len, distance)
        {
            return;
        }
        if let Some(rows) = cache.window_rows(len) {
            checkpoints.add(Checkpoint { len, rows: rows.into() });
        }
    }

    /// Adds the checkpoint where a prompt goes on behind the sequence.
    pub(super) fn check_start(&mut self) {
        self.add_checkpoint(self.seq.len(), LEAST);
    }

    /// Adds checkpoints of a prompt whose last chunk was read, or one before. The last token of a prompt is always run
    /// again, so the last checkpoint comes before it.
    pub(super) fn check_chunk(&mut self) {
        match self.prompt.is_empty() {
            true => self.add_checkpoint(self.seq.len() - 1, LEAST),
            false => self.add_checkpoint(self.seq.len(), INTERVAL),
        }
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
        let lacks_rows = self.seq.cache().lacks_rows(cached);
        let checkpoints = self.checkpoints.clone();
        let saved = SavedStream { draft_len, draft, ..SavedStream::of_rows(&self.seq) };
        SavedStream { tokens, cached, lacks_rows, checkpoints, ..saved }
    }

    /// The bytes of what [`Stream::save_prefix`] returns, but for the drafter's state, which has to be saved to be known.
    pub fn prefix_bytes(&self, len: usize) -> usize {
        let reachable = self.reachable(len.min(self.taken));
        let rows = self.seq.cache().saved_bytes(reachable as u64);
        let beside = size_of_val(self.tokens()) + self.checkpoints.bytes_within(reachable);
        rows.map_or(usize::MAX, |rows| (rows as usize).saturating_add(beside))
    }

    /// The sequence with keys and values of up to `len` positions, as many as it can go back to, and the drafter's
    /// state, which may know more; `None` if there are none.
    pub fn save_prefix(
        &mut self,
        len: usize,
        drafters: &mut [&mut Speculation],
    ) -> Option<SavedStream<Vec<u8>>> {
        let reachable = self.reachable(len.min(self.taken));
        if reachable == 0 {
            return None;
        }
        let saved = self.saved(drafters);
        let SavedStream { tokens, sequence, mut checkpoints, draft_len, draft, .. } = saved;
        let cache = sequence.cache();
        let lacks_rows = cache.lacks_rows(reachable);
        let mut rows = Vec::with_capacity(cache.saved_bytes(reachable as u64)? as usize);
        match checkpoints.last_within(reachable) {
            Some(checkpoint) if !cache.holds(reachable) => {
                cache.write_rows_with(reachable, &checkpoint.rows, &mut rows);
            }
            _ => cache.write_rows(reachable, &mut rows).ok()?,
        }
        checkpoints.truncate(reachable);
        let saved = SavedStream { draft_len, draft, ..SavedStream::of_rows(rows) };
        Some(SavedStream { tokens, cached: reachable, lacks_rows, checkpoints, ..saved })
    }

    /// Restores the positions that [`Stream::save_prefix`] saved of a stream of the same target.
    pub fn load_prefix(&mut self, saved: &SavedStream<Vec<u8>>, drafters: &mut [&mut Speculation]) {
        let SavedStream { tokens, sequence: rows, cached, checkpoints, draft_len, draft, .. } =
            saved;
        self.tokens.clear();
        self.tokens.extend_from_slice(&tokens[..*cached]);
        let read = self.seq.cache_mut().read_rows(*cached, &mut &rows[..]);
        read.expect("a slice is read to its end");
        self.loaded(&tokens[..*draft_len], draft, drafters);
        self.checkpoints.replace(checkpoints);
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
        (self.failed_draft, self.stop, self.ended) = (None, None, None);
        self.prompt.clear();
        self.pending.clear();
        self.checkpoints.truncate(0);
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
}
