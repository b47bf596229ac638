//! A small language model with the target's vocabulary: it guesses what it would say itself.
//!
//! It runs as a second target, with a cache of its own, on the same thread pool of threads.

use super::{CandidateSelector, Drafter, DrafterContext, DrafterKind, FileFrom};
use crate::error::{Error, Result};
use crate::infer::{CacheTypes, KvCache, Outputs, Sequence, Target};
use crate::model::{LoadOptions, Model};
use crate::text::Tokenizer;
use crate::tree::{MAX_NODES, Tree, TreeShape};
use dovetail_kernels::cpu::{Kernels, ThreadPool};
use std::sync::Arc;

pub(super) const KIND: DrafterKind = DrafterKind {
    name: "lm",
    growth: TreeShape { depth: 3, width: 1, nodes: 4 },
    p_min: 0.0,
    file: FileFrom::User,
    open: |setup| Ok(Box::new(Lm::open(setup)?)),
};

/// Most tokens of one pass over what it has missed.
const ROWS: usize = 512;

/// The drafter. See the module.
pub struct Lm {
    small: Target,
    seq: Sequence,
    /// The sequence in its cache.
    tokens: Vec<u32>,
    kernels: &'static Kernels,
    /// Tokens that target and drafter both have.
    n_shared: usize,
}

impl Lm {
    fn open(setup: &DrafterContext) -> Result<Lm> {
        let path = setup.file(KIND.name)?;
        let options = LoadOptions { threads: setup.threads, ..LoadOptions::default() };
        let model = Model::load(path, options)?;
        let n_shared = shared_tokens(setup.target.tokenizer(), model.tokenizer())
            .map_err(|what| Error::gguf(path, what))?;
        Lm::of(Arc::new(model), setup.n_ctx + MAX_NODES, setup.threads, n_shared)
    }

    /// With a sequence of its own.
    fn of(model: Arc<Model>, n_ctx: usize, threads: usize, n_shared: usize) -> Result<Lm> {
        let types = CacheTypes::default();
        KvCache::check_memory(model.config(), n_ctx, types, 1)?;
        let small = Target::new(model, n_ctx, threads, ROWS)?;
        Ok(Lm {
            seq: small.sequence(types)?,
            small,
            tokens: Vec::with_capacity(n_ctx),
            kernels: Kernels::choose().map_err(Error::Invalid)?,
            n_shared,
        })
    }

    /// Works with this thread pool instead of its own: two would spin against each other.
    fn with<T>(&mut self, pool: &mut ThreadPool, work: impl FnOnce(&mut Lm) -> T) -> T {
        std::mem::swap(pool, self.small.pool());
        let done = work(self);
        std::mem::swap(pool, self.small.pool());
        done
    }

    /// Runs what it has not seen of `tokens`, but for the last one.
    fn follow(&mut self, tokens: &[u32]) -> Result<()> {
        let (_, seen) = tokens.split_last().expect("a sequence is not empty");
        let same = self.tokens.iter().zip(seen).take_while(|(a, b)| a == b).count();
        self.run(same, &seen[same..])
    }

    /// Runs tokens at positions `first..`, behind which there is nothing then.
    fn run(&mut self, first: usize, tokens: &[u32]) -> Result<()> {
        self.seq.truncate(first);
        self.tokens.truncate(first);
        for chunk in tokens.chunks(ROWS) {
            self.small.append(&mut self.seq, chunk, Outputs::None)?;
            self.tokens.extend_from_slice(chunk);
        }
        Ok(())
    }

    fn grow(
        &mut self,
        tokens: &[u32],
        guesser: &mut CandidateSelector,
        tree: &mut Tree,
    ) -> Result<()> {
        self.follow(tokens)?;
        let Lm { small, seq, kernels, n_shared, .. } = self;
        let n_shared = *n_shared as u32;
        guesser.grow(tree, |frontier, level, guesses| {
            small.verify_more(seq, frontier, level.start)?;
            for (r, parent) in level.enumerate() {
                let token = |token: u32| (token < n_shared).then_some(token);
                guesses.add(kernels, parent, small.logits(r), token)?;
            }
            Ok(())
        })
    }
}

impl Drafter for Lm {
    fn commit(
        &mut self,
        first: usize,
        tokens: &[u32],
        _: &mut dyn Iterator<Item = &[f32]>,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        let known = tokens.iter().all(|token| (*token as usize) < self.n_shared);
        if !known || first > self.tokens.len() {
            return Ok(()); // `expand` will catch up, or say nothing
        }
        self.with(pool, |lm| lm.run(first, tokens))
    }

    fn another(&self) -> Option<Result<Box<dyn Drafter>>> {
        let small = &self.small;
        let lm = Lm::of(small.model().clone(), small.n_ctx(), small.threads(), self.n_shared);
        Some(lm.map(|lm| Box::new(lm) as Box<dyn Drafter>))
    }

    fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let numbers = [self.small.model().gguf().content_fingerprint(), self.tokens.len() as u64];
        out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        let written = self.seq.cache().write_rows(self.tokens.len(), out);
        written.expect("a vector takes what is written");
        Ok(())
    }

    fn restore(&mut self, tokens: &[u32], state: &[u8]) -> Result<bool> {
        self.seq.truncate(0);
        self.tokens.clear();
        let Some((numbers, mut rows)) = state.split_at_checked(2 * size_of::<u64>()) else {
            return Ok(false);
        };
        let numbers: &[[u8; 8]] = numbers.as_chunks().0;
        let [found, n] = [0, 1].map(|i| u64::from_le_bytes(numbers[i]));
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        let ours = found == self.small.model().gguf().content_fingerprint();
        if !ours || n > self.seq.capacity() || rows.len() != n * self.seq.cache().row_bytes() {
            return Ok(false);
        }
        self.seq.cache_mut().read_rows(n, &mut rows).expect("they are as long");
        self.seq.truncate(tokens.len());
        self.tokens.extend_from_slice(&tokens[..self.seq.len()]);
        Ok(true)
    }

    fn expand(
        &mut self,
        tokens: &[u32],
        guesser: &mut CandidateSelector,
        tree: &mut Tree,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        if tokens.iter().any(|token| *token as usize >= self.n_shared) {
            return Ok(()); // a token at the end of the target's table: nothing to say after that
        }
        self.with(pool, |lm| lm.grow(tokens, guesser, tree))
    }
}

/// How many tokens the two have in common, from the first on: tables may be padded at the end.
fn shared_tokens(target: &Tokenizer, small: &Tokenizer) -> std::result::Result<usize, String> {
    let n = target.n_vocab().min(small.n_vocab());
    for id in 0..n as u32 {
        let [ours, theirs] = [target, small].map(|t| (t.token_text(id), t.is_control(id)));
        if ours != theirs {
            let [ours, theirs] = [ours, theirs].map(|(text, _)| text.unwrap_or_default());
            return Err(format!(
                "token {id} is {theirs:?} and the target's is {ours:?}; a drafter needs the target's vocabulary"
            ));
        }
    }
    Ok(n)
}
