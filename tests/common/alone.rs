//! A target with one sequence.

use dovetail::infer::{CacheTypes, Outputs, Sequence, Target};
use dovetail::tree::Tree;
use dovetail::{Model, Result};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The two.
pub struct Alone {
    pub target: Target,
    pub seq: Sequence,
}

impl Alone {
    /// An empty sequence of up to `n_ctx` tokens, run `rows` at a time by `threads` threads.
    pub fn new(model: Arc<Model>, n_ctx: usize, threads: usize, rows: usize) -> Alone {
        Alone::with_cache(model, n_ctx, threads, rows, CacheTypes::default())
    }

    /// The same, with a cache of these types.
    pub fn with_cache(
        model: Arc<Model>,
        n_ctx: usize,
        threads: usize,
        rows: usize,
        types: CacheTypes,
    ) -> Alone {
        let target = Target::new(model, n_ctx, threads, rows).unwrap();
        let seq = target.sequence(types).unwrap();
        Alone { target, seq }
    }

    pub fn append(&mut self, tokens: &[u32], outputs: Outputs) -> Result<()> {
        self.target.append(&mut self.seq, tokens, outputs)
    }

    pub fn verify(&mut self, tree: &Tree) -> Result<()> {
        self.target.verify(&mut self.seq, tree)
    }

    pub fn verify_more(&mut self, tree: &Tree, done: usize) -> Result<()> {
        self.target.verify_more(&mut self.seq, tree, done)
    }

    pub fn keep(&mut self, path: &[usize]) -> Result<()> {
        self.target.keep(&mut self.seq, path)
    }

    pub fn truncate(&mut self, len: usize) {
        assert_eq!(self.seq.truncate(len), len);
    }

    pub fn len(&self) -> usize {
        self.seq.len()
    }
}

impl Deref for Alone {
    type Target = Target;

    fn deref(&self) -> &Target {
        &self.target
    }
}

impl DerefMut for Alone {
    fn deref_mut(&mut self) -> &mut Target {
        &mut self.target
    }
}
