//! The target: a model, the cache of one sequence, and what it takes to run tokens through both.
//!
//! A pass is given a run of tokens, which become part of the sequence, or a [`Tree`] of guesses that
//! continue it. The rows of a tree are at position `len + depth` and lie in the cache behind the
//! sequence, in the order of the nodes; [`Target::keep`] moves the accepted ones to their places. Every
//! row has the bits that it has when its path is run as a plain sequence.

use super::kv::{CacheTypes, KvCache};
use super::logits::Logits;
use super::pass::{Buffers, Features, Pass, Room};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tree::Tree;
use dovetail_kernels::cpu::attention::View;
use dovetail_kernels::cpu::{Kernels, Team};
use std::sync::Arc;

/// Which rows of a pass the head is computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// No row: the pass only fills the cache.
    None,
    /// The last row.
    Last,
    /// Every row.
    All,
}

/// A model with the cache of one sequence and the threads and buffers to run it.
///
/// A pass neither allocates nor locks, but for the first one of so many rows of logits.
pub struct Target {
    model: Arc<Model>,
    kernels: &'static Kernels,
    team: Team,
    kv: KvCache,
    buffers: Buffers,
    max_rows: usize,
    /// The last tree, and whether it is behind the sequence now.
    tree: Tree,
    has_tree: bool,
}

impl Target {
    /// An empty sequence of up to `n_ctx` tokens, run `max_rows` at a time by `threads` threads; keys
    /// and values are half floats.
    ///
    /// # Errors
    /// When `DOVETAIL_ISA` names what this CPU lacks.
    pub fn new(model: Arc<Model>, n_ctx: usize, threads: usize, max_rows: usize) -> Result<Target> {
        Target::with_cache(model, n_ctx, threads, max_rows, CacheTypes::default())
    }

    /// The same, with keys and values stored as `types` says.
    ///
    /// # Errors
    /// When `DOVETAIL_ISA` names what this CPU lacks, or the types do not fit the model's heads.
    pub fn with_cache(
        model: Arc<Model>,
        n_ctx: usize,
        threads: usize,
        max_rows: usize,
        types: CacheTypes,
    ) -> Result<Target> {
        let kernels = Kernels::choose().map_err(Error::Invalid)?;
        let max_rows = max_rows.clamp(1, n_ctx.max(1));
        let kv = KvCache::new(model.config(), n_ctx, types)?;
        let team = Team::new(threads);
        let room = Room { rows: max_rows, positions: n_ctx, members: team.members(), width: 0 };
        let buffers = Buffers::new(model.config(), room, || model.weights().scratch());
        let tree = Tree::new(0);
        Ok(Target { model, kernels, team, kv, buffers, max_rows, tree, has_tree: false })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The instruction set in use.
    pub fn isa(&self) -> &'static str {
        self.kernels.name
    }

    /// Threads at work.
    pub fn threads(&self) -> usize {
        self.team.members()
    }

    /// The sequence's cache.
    pub fn kv(&self) -> &KvCache {
        &self.kv
    }

    /// Most rows of one pass.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Forgets the tokens from position `len` on, and the last tree.
    pub fn truncate(&mut self, len: usize) {
        self.kv.truncate(len);
        self.has_tree = false;
    }

    /// Appends `tokens`, at most [`Target::max_rows`] of them, in one pass.
    ///
    /// # Errors
    /// When the context has no room for them, or a token is not in the vocabulary; the sequence is
    /// then as it was.
    pub fn append(&mut self, tokens: &[u32], outputs: Outputs) -> Result<()> {
        if tokens.is_empty() {
            return Ok(());
        }
        self.check(tokens)?;
        let first = self.kv.len();
        let views = &mut self.buffers.views[..tokens.len()];
        for (r, view) in views.iter_mut().enumerate() {
            *view = View::plain(first + r + 1);
        }
        self.has_tree = false;
        self.run(tokens, first, outputs);
        self.kv.grow(tokens.len());
        Ok(())
    }

    /// Runs a tree of guesses behind the sequence. Each node has a row of logits, in order; the sequence
    /// stays as it is until [`Target::keep`].
    ///
    /// # Errors
    /// When [`Target::append`] could not take as many tokens; sequence and last tree are then as they
    /// were.
    pub fn verify(&mut self, tree: &Tree) -> Result<()> {
        self.verify_more(tree, 0)
    }

    /// The same for a tree whose first `done` nodes are the last tree: the others alone are run and have
    /// rows of logits.
    ///
    /// # Errors
    /// Those of [`Target::verify`], and when the first nodes are not the last tree.
    pub fn verify_more(&mut self, tree: &Tree, done: usize) -> Result<()> {
        let same = |now: &[u64], then: &[u64]| now[..done] == then[..done];
        let grown = done <= tree.len().min(self.tree.len())
            && self.has_tree
            && tree.tokens()[..done] == self.tree.tokens()[..done]
            && same(tree.masks(), self.tree.masks());
        if done > 0 && !grown {
            return Err(Error::Invalid(format!("the last tree is not the first {done} nodes")));
        }
        self.check(tree.tokens())?;
        if done == tree.len() {
            return Ok(());
        }
        let first = self.kv.len();
        for (view, mask) in self.buffers.views.iter_mut().zip(&tree.masks()[done..]) {
            *view = View::tree(first, *mask);
        }
        self.tree = *tree;
        self.has_tree = true;
        self.run(&tree.tokens()[done..], first + done, Outputs::All);
        Ok(())
    }

    /// Makes a path of the last tree part of the sequence: the root, one of its children, and so on; an
    /// empty one drops the tree.
    ///
    /// # Errors
    /// When there is no such path; sequence and tree are then as they were.
    pub fn keep(&mut self, path: &[usize]) -> Result<()> {
        let is_path = self.has_tree && self.tree.is_path(path);
        if !(path.is_empty() || is_path) {
            return Err(Error::Invalid(format!("{path:?} is no path of the last tree")));
        }
        self.kv.keep(path, &mut self.team);
        self.has_tree = false;
        Ok(())
    }

    /// Whether the tokens can be run in one pass.
    fn check(&self, tokens: &[u32]) -> Result<()> {
        let (n, most) = (tokens.len(), self.max_rows);
        let (needed, available) = (self.kv.len() + n, self.kv.capacity());
        let n_vocab = self.model.config().n_vocab;
        if n > most {
            return Err(Error::Invalid(format!("{n} tokens in one pass; at most {most} fit")));
        }
        if needed > available {
            return Err(Error::Context { needed, available });
        }
        match tokens.iter().find(|token| **token as usize >= n_vocab) {
            Some(token) => Err(Error::Invalid(format!("token {token} is not one of {n_vocab}"))),
            None => Ok(()),
        }
    }

    /// Runs tokens whose views stand in the buffers and writes them to the cache from `first` on.
    fn run(&mut self, tokens: &[u32], first: usize, outputs: Outputs) {
        let n = tokens.len();
        let rows = match outputs {
            Outputs::None => n..n,
            Outputs::Last => n - 1..n,
            Outputs::All => 0..n,
        };
        let model = self.model.clone();
        let mut pass = Pass {
            c: model.config(),
            kernels: self.kernels,
            team: &mut self.team,
            kv: &mut self.kv,
            b: &mut self.buffers,
            n,
            first,
        };
        pass.run(&model, tokens, rows);
    }

    /// Lets passes hand out hidden states: those that enter the given layers, counted from 0, and for the
    /// number of layers what enters the head, after the last norm.
    ///
    /// # Errors
    /// When the model has not so many layers.
    pub fn tap(&mut self, taps: &[usize]) -> Result<()> {
        let c = self.model.config();
        if let Some(tap) = taps.iter().find(|tap| **tap > c.n_layers) {
            let n = c.n_layers;
            return Err(Error::Invalid(format!("hidden state {tap} of a model with {n} layers")));
        }
        self.buffers.tap(taps, c.n_embd);
        Ok(())
    }

    /// What [`Target::tap`] chose of the last pass, and the team, to be used between passes.
    pub(crate) fn features_and_team(&mut self) -> (&Features, &mut Team) {
        (&self.buffers.features, &mut self.team)
    }

    /// The team, to be used between passes.
    pub(crate) fn team(&mut self) -> &mut Team {
        &mut self.team
    }

    /// Logits of output row `i` of the last pass.
    pub fn logits(&self, i: usize) -> Logits<'_> {
        self.buffers.logits.row(i)
    }
}
