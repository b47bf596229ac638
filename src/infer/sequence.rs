//! One sequence: its KV cache, and the last tree behind it.

use super::kv::{KvCache, KvSize};
use super::pass::Span;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tree::Tree;
use std::sync::Arc;

/// Length of the common prefix of two runs of tokens.
pub(crate) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A target's state of one sequence; made by [`super::Target::sequence`].
pub struct Sequence {
    model: Arc<Model>,
    pub(super) kv: KvCache,
    /// The last tree, and whether it still lies behind the sequence.
    pub(super) tree: Tree,
    pub(super) has_tree: bool,
}

impl Sequence {
    /// An empty sequence.
    pub(super) fn new(model: &Arc<Model>, size: KvSize) -> Result<Sequence> {
        let kv = KvCache::new(model.config(), size)?;
        Ok(Sequence { model: model.clone(), kv, tree: Tree::new(0), has_tree: false })
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.kv.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.kv.is_empty()
    }

    /// Largest number of tokens.
    pub fn capacity(&self) -> usize {
        self.kv.capacity()
    }

    /// Fills `len` positions with meaningless values, to measure passes behind them.
    pub(crate) fn pretend(&mut self, len: usize) {
        self.kv.pretend(len.min(self.capacity()));
        self.has_tree = false;
    }

    /// Drops the tokens from position `len` on, and the last tree. Returns how many tokens remain: none if the next one
    /// would see tokens that the cache of a window no longer holds. [`MAX_NODES`](crate::tree::MAX_NODES) tokens of the
    /// last pass can always be dropped.
    pub fn truncate(&mut self, len: usize) -> usize {
        self.has_tree = false;
        self.kv.truncate(len)
    }

    /// Its KV cache.
    pub(crate) fn cache(&self) -> &KvCache {
        &self.kv
    }

    /// Its KV cache, to be filled with saved rows; drops the last tree.
    pub(crate) fn cache_mut(&mut self) -> &mut KvCache {
        self.has_tree = false;
        &mut self.kv
    }

    /// Checks that `model` can run these tokens behind the sequence; `n_ctx` is the target's limit.
    pub(super) fn check(&self, model: &Arc<Model>, n_ctx: usize, tokens: &[u32]) -> Result<()> {
        let (needed, available) = (self.len() + tokens.len(), self.capacity());
        if !Arc::ptr_eq(model, &self.model) || available > n_ctx {
            let what = "the sequence is another target's; make it with Target::sequence";
            return Err(Error::Invalid(what.into()));
        }
        if needed > available {
            return Err(Error::Context { needed, available });
        }
        model.config().check_tokens(tokens)
    }

    /// Checks that the first `done` nodes of `tree` are the last tree.
    pub(super) fn check_done(&self, tree: &Tree, done: usize) -> Result<()> {
        let grown = done <= tree.len().min(self.tree.len())
            && self.has_tree
            && tree.tokens()[..done] == self.tree.tokens()[..done]
            && tree.masks()[..done] == self.tree.masks()[..done];
        if done > 0 && !grown {
            return Err(Error::Invalid(format!("the last tree is not the first {done} nodes")));
        }
        Ok(())
    }

    /// The next `n` rows of a pass, behind the sequence and the first `done` nodes of its tree.
    pub(super) fn span(&mut self, done: usize, n: usize) -> Span<'_> {
        let first = self.kv.len() + done;
        self.kv.will_write(first + n);
        Span { first, n, kv: &mut self.kv }
    }
}
