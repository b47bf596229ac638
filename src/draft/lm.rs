//! A small language model with the target's vocabulary as the drafter.
//!
//! It runs as a second target, with a cache of its own, on the same threads.

use super::shared::{file_key, shared};
use super::{DraftJob, DraftState, Drafter, DrafterContext, DrafterKind, FileFrom, RoundContext};
use crate::error::{Error, Result};
use crate::infer::{CacheTypes, KvCache, KvSize, Outputs, Sequence, Target, common_prefix};
use crate::model::{LoadOptions, Model};
use crate::text::Tokenizer;
use crate::tree::{MAX_NODES, TreeShape};
use dovetail_kernels::cpu::{Kernels, ThreadPool};

pub(super) const KIND: DrafterKind = DrafterKind {
    name: "lm",
    growth: TreeShape { depth: 3, width: 1, nodes: 4 },
    p_min: 0.0,
    file: FileFrom::User,
    open: |setup| Ok(Box::new(Lm::open(setup)?)),
};

/// Largest number of rows of a pass that catches up.
pub(super) const ROWS: usize = 512;

/// The drafter. See the module.
pub struct Lm {
    small: Target,
    kernels: &'static Kernels,
    /// Number of tokens that target and drafter share.
    n_shared: usize,
}

/// A sequence in the small model's cache.
struct CachedSequence {
    seq: Sequence,
    tokens: Vec<u32>,
}

impl CachedSequence {
    /// Drops the tokens from position `len` on, and returns how many remain: see [`Sequence::truncate`].
    fn truncate(&mut self, len: usize) -> usize {
        let kept = self.seq.truncate(len);
        self.tokens.truncate(kept);
        kept
    }
}

impl Lm {
    fn open(setup: &DrafterContext) -> Result<Lm> {
        let path = setup.file(KIND.name)?;
        let options = LoadOptions { threads: setup.threads, ..LoadOptions::default() };
        let key = format!("lm {}", file_key(path));
        let model = shared(key, || Model::load(path, options))?;
        let n_shared = shared_tokens(setup.target.tokenizer(), model.tokenizer())
            .map_err(|what| Error::gguf(path, what))?;
        let kernels = Kernels::choose().map_err(Error::Invalid)?;
        let small = Target::new(model, setup.n_ctx + MAX_NODES, setup.threads, ROWS)?;
        Ok(Lm { small, kernels, n_shared })
    }

    /// Works with this pool instead of its own: the threads of two pools would spin against each other.
    fn with<T>(&mut self, pool: &mut ThreadPool, work: impl FnOnce(&mut Lm) -> T) -> T {
        std::mem::swap(pool, self.small.pool());
        let done = work(self);
        std::mem::swap(pool, self.small.pool());
        done
    }

    /// Appends tokens.
    fn run(&mut self, cached: &mut CachedSequence, tokens: &[u32]) -> Result<()> {
        for chunk in tokens.chunks(ROWS) {
            self.small.append(&mut cached.seq, chunk, Outputs::None)?;
            cached.tokens.extend_from_slice(chunk);
        }
        Ok(())
    }

    /// Runs the level of a tree, and proposes candidates after its nodes.
    fn run_level(&mut self, job: &mut DraftJob) -> Result<()> {
        let (level, n_shared) = (job.tree.level(), self.n_shared as u32);
        let seq = &mut job.state.get::<CachedSequence>().seq;
        self.small.verify_more(seq, job.tree.frontier(), level.start)?;
        let n_forced = job.tree.n_forced();
        for (r, parent) in level.enumerate().filter(|(_, node)| *node >= n_forced) {
            let token = |token: u32| (token < n_shared).then_some(token);
            job.propose(self.kernels, parent, self.small.logits(r), token)?;
        }
        Ok(())
    }
}

impl Drafter for Lm {
    fn state(&mut self) -> Result<DraftState> {
        let (types, n_ctx) = (CacheTypes::default(), self.small.n_ctx());
        let size = KvSize { n_ctx, rows: ROWS, types };
        KvCache::check_memory(self.small.model().config(), size, 1)?;
        let tokens = Vec::with_capacity(n_ctx);
        Ok(DraftState::new(CachedSequence { seq: self.small.sequence(types)?, tokens }))
    }

    fn commit(
        &mut self,
        state: &mut DraftState,
        first: usize,
        tokens: &[u32],
        _: &mut dyn Iterator<Item = &[f32]>,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        let cached = state.get::<CachedSequence>();
        let known = tokens.iter().all(|token| (*token as usize) < self.n_shared);
        if !known || first > cached.tokens.len() || cached.truncate(first) < first {
            return Ok(()); // `expand` will catch up, or draft nothing
        }
        self.with(pool, |lm| lm.run(cached, tokens))
    }

    fn save(&mut self, state: &mut DraftState, out: &mut Vec<u8>) -> Result<()> {
        let CachedSequence { seq, tokens } = state.get();
        let numbers = [self.small.model().gguf().content_fingerprint(), tokens.len() as u64];
        out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        let written = seq.cache().write_rows(tokens.len(), out);
        written.expect("a vector takes what is written");
        Ok(())
    }

    fn restore(&mut self, state: &mut DraftState, tokens: &[u32], saved: &[u8]) -> Result<bool> {
        let cached = state.get::<CachedSequence>();
        cached.truncate(0);
        let Some((numbers, mut rows)) = saved.split_at_checked(2 * size_of::<u64>()) else {
            return Ok(false);
        };
        let numbers: &[[u8; 8]] = numbers.as_chunks().0;
        let [found, n] = [0, 1].map(|i| u64::from_le_bytes(numbers[i]));
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        let ours = found == self.small.model().gguf().content_fingerprint();
        let fits = n <= cached.seq.capacity();
        if !ours || !fits || cached.seq.cache().saved_bytes(n as u64) != Some(rows.len() as u64) {
            return Ok(false);
        }
        cached.seq.cache_mut().read_rows(n, &mut rows).expect("they are as long");
        let kept = cached.seq.truncate(tokens.len());
        cached.tokens.extend_from_slice(&tokens[..kept]);
        Ok(true)
    }

    fn expand_one(&mut self, job: &mut DraftJob, round: &mut RoundContext) -> Result<()> {
        let (_, seen) = job.tokens.split_last().expect("a sequence is not empty");
        if job.tokens.iter().any(|token| *token as usize >= self.n_shared) {
            return Ok(()); // a token at the end of the target's table, which the drafter lacks
        }
        let cached = job.state.get::<CachedSequence>();
        let same = common_prefix(&cached.tokens, seen);
        let same = cached.truncate(same);
        self.with(round.pool, |lm| lm.run(cached, &seen[same..]))?;
        while job.tree.is_growing() {
            self.with(round.pool, |lm| lm.run_level(job))?;
            round.next_level(std::slice::from_mut(job));
        }
        Ok(())
    }
}

/// Number of tokens that both share, from the first on; tables may be padded at the end.
fn shared_tokens(target: &Tokenizer, small: &Tokenizer) -> std::result::Result<usize, String> {
    let n = target.n_vocab().min(small.n_vocab());
    for id in 0..n as u32 {
        let [ours, theirs] = [target, small].map(|t| (t.token_text_bytes(id), t.is_control(id)));
        if ours != theirs {
            let text = |bytes: Option<_>| String::from_utf8_lossy(bytes.unwrap_or_default());
            let [ours, theirs] = [ours, theirs].map(|(bytes, _)| text(bytes));
            return Err(format!(
                "token {id} is {theirs:?} and the target's is {ours:?}; a drafter needs the target's vocabulary"
            ));
        }
    }
    Ok(n)
}
