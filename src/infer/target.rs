//! The target: a model, and what it takes to run tokens of some sequences through it.
//!
//! A pass is given a run of tokens, which become part of a [`Sequence`], or a [`Tree`] of guesses for each
//! of up to [`MAX_SEQUENCES`] sequences. The rows of a tree are at position `len + depth` and lie in the
//! cache behind the sequence, in the order of the nodes; [`Target::keep`] moves the accepted ones to their
//! places. Every row has the bits that it has when its path is run as a plain sequence, alone.

use super::kv::CacheTypes;
use super::logits::Logits;
use super::pass::{Buffers, Features, Pass, Room, Span};
use super::sequence::Sequence;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tree::Tree;
use dovetail_kernels::cpu::attention::{MAX_SEQUENCES, View};
use dovetail_kernels::cpu::{Kernels, ThreadPool};
use smallvec::SmallVec;
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

/// A model with the threads and buffers to run it.
///
/// A pass neither allocates nor locks, but for the first one of so many rows of logits.
pub struct Target {
    model: Arc<Model>,
    kernels: &'static Kernels,
    pool: ThreadPool,
    buffers: Buffers,
    tokens: Vec<u32>, // (rows)
    max_rows: usize,
    n_ctx: usize,
}

impl Target {
    /// For sequences of up to `n_ctx` tokens, run `max_rows` at a time by `threads` threads.
    ///
    /// # Errors
    /// When `DOVETAIL_ISA` names what this CPU lacks.
    pub fn new(model: Arc<Model>, n_ctx: usize, threads: usize, max_rows: usize) -> Result<Target> {
        let kernels = Kernels::choose().map_err(Error::Invalid)?;
        let (max_rows, pool) = (max_rows.max(1), ThreadPool::new(threads));
        let room = Room { rows: max_rows, positions: n_ctx, members: pool.members(), width: 0 };
        let buffers = Buffers::new(model.config(), room, || model.weights().scratch());
        let tokens = Vec::with_capacity(max_rows);
        Ok(Target { model, kernels, pool, buffers, tokens, max_rows, n_ctx })
    }

    /// An empty sequence, whose keys and values are stored as `types` says.
    ///
    /// # Errors
    /// When the types do not fit the model's heads.
    pub fn sequence(&self, types: CacheTypes) -> Result<Sequence> {
        Sequence::new(&self.model, self.n_ctx, types)
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
        self.pool.members()
    }

    /// Most tokens of a sequence.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Most rows of one pass.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Takes the memory for so many rows of logits now, so that no pass has to.
    pub fn reserve(&mut self, rows: usize) {
        self.buffers.logits.reserve(rows, self.model.config().n_vocab);
    }

    /// Appends `tokens`, at most [`Target::max_rows`] of them, in one pass.
    ///
    /// # Errors
    /// When the context has no room for them, or a token is not in the vocabulary; the sequence is
    /// then as it was.
    pub fn append(&mut self, seq: &mut Sequence, tokens: &[u32], outputs: Outputs) -> Result<()> {
        if tokens.is_empty() {
            return Ok(());
        }
        self.check_rows(tokens.len())?;
        seq.check(&self.model, self.n_ctx, tokens)?;
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
        for (view, r) in self.buffers.views.iter_mut().zip(0..tokens.len()) {
            *view = View::plain(seq.len() + r + 1);
        }
        seq.has_tree = false;
        self.run(&mut [seq.span(0, tokens.len())], outputs);
        seq.kv.grow(tokens.len());
        Ok(())
    }

    /// Runs a tree of guesses behind a sequence. Each node has a row of logits, in order; the sequence
    /// stays as it is until [`Target::keep`].
    ///
    /// # Errors
    /// When [`Target::append`] could not take as many tokens; sequence and last tree are then as they
    /// were.
    pub fn verify(&mut self, seq: &mut Sequence, tree: &Tree) -> Result<()> {
        self.verify_batch(&mut [(seq, tree, 0)])
    }

    /// The same for a tree whose first `done` nodes are the last tree: the others alone are run and have
    /// rows of logits.
    ///
    /// # Errors
    /// Those of [`Target::verify`], and when the first nodes are not the last tree.
    pub fn verify_more(&mut self, seq: &mut Sequence, tree: &Tree, done: usize) -> Result<()> {
        self.verify_batch(&mut [(seq, tree, done)])
    }

    /// Runs trees of up to [`MAX_SEQUENCES`] sequences in one pass: of each the nodes behind the first
    /// `done`, which are its last tree. Rows of logits and of features stand in this order, one sequence's
    /// nodes after the other's.
    ///
    /// # Errors
    /// Those of [`Target::verify_more`] for any of them, and when all nodes together are more than
    /// [`Target::max_rows`]; all sequences are then as they were.
    pub fn verify_batch(&mut self, batch: &mut [(&mut Sequence, &Tree, usize)]) -> Result<()> {
        if batch.len() > MAX_SEQUENCES {
            let n = batch.len();
            let what = format!("{n} sequences in one pass; at most {MAX_SEQUENCES} fit");
            return Err(Error::Invalid(what));
        }
        for (seq, tree, done) in batch.iter() {
            seq.check_done(tree, *done)?;
            seq.check(&self.model, self.n_ctx, tree.tokens())?;
        }
        let rows = batch.iter().map(|(_, tree, done)| tree.len() - done).sum();
        self.check_rows(rows)?;
        if rows == 0 {
            return Ok(());
        }
        self.tokens.clear();
        for (seq, tree, done) in batch.iter_mut() {
            let views = &mut self.buffers.views[self.tokens.len()..];
            for (view, mask) in views.iter_mut().zip(&tree.masks()[*done..]) {
                *view = View::tree(seq.len(), *mask);
            }
            self.tokens.extend_from_slice(&tree.tokens()[*done..]);
            (seq.tree, seq.has_tree) = (**tree, true);
        }
        let spans = batch.iter_mut().map(|(seq, tree, done)| seq.span(*done, tree.len() - *done));
        let mut spans: SmallVec<[Span; MAX_SEQUENCES]> = spans.collect();
        self.run(&mut spans, Outputs::All);
        Ok(())
    }

    /// Makes a path of the sequence's last tree part of it: the root, one of its children, and so on; an
    /// empty one drops the tree.
    ///
    /// # Errors
    /// When there is no such path; sequence and tree are then as they were.
    pub fn keep(&mut self, seq: &mut Sequence, path: &[usize]) -> Result<()> {
        let is_path = seq.has_tree && seq.tree.is_path(path);
        if !(path.is_empty() || is_path) {
            return Err(Error::Invalid(format!("{path:?} is no path of the last tree")));
        }
        seq.kv.keep(path, &mut self.pool);
        seq.has_tree = false;
        Ok(())
    }

    fn check_rows(&self, n: usize) -> Result<()> {
        let most = self.max_rows;
        if n > most {
            return Err(Error::Invalid(format!("{n} tokens in one pass; at most {most} fit")));
        }
        Ok(())
    }

    /// Runs the tokens, whose views stand in the buffers.
    fn run(&mut self, spans: &mut [Span], outputs: Outputs) {
        let n = self.tokens.len();
        let rows = match outputs {
            Outputs::None => n..n,
            Outputs::Last => n - 1..n,
            Outputs::All => 0..n,
        };
        let mut pass = Pass {
            c: self.model.config(),
            kernels: self.kernels,
            pool: &mut self.pool,
            b: &mut self.buffers,
            spans,
            n,
        };
        pass.run(&self.model, &self.tokens, rows);
    }

    /// Lets passes hand out hidden states: those that enter the given layers, counted from 0, and for the
    /// number of layers what enters the head, after the last norm. Each set of layers is handed out by itself.
    ///
    /// # Errors
    /// When the model has not so many layers.
    pub fn tap<'a>(
        &mut self,
        sets: impl IntoIterator<Item = &'a [usize], IntoIter: Clone>,
    ) -> Result<()> {
        let (c, sets) = (self.model.config(), sets.into_iter());
        if let Some(tap) = sets.clone().flatten().find(|tap| **tap > c.n_layers) {
            let n = c.n_layers;
            return Err(Error::Invalid(format!("hidden state {tap} of a model with {n} layers")));
        }
        self.buffers.tap(sets, c.n_embd);
        Ok(())
    }

    /// What [`Target::tap`] chose of the last pass, and the thread pool, to be used between passes.
    pub(crate) fn features_and_pool(&mut self) -> (&Features, &mut ThreadPool) {
        (&self.buffers.features, &mut self.pool)
    }

    /// The thread pool, to be used between passes.
    pub(crate) fn pool(&mut self) -> &mut ThreadPool {
        &mut self.pool
    }

    /// Logits of output row `i` of the last pass.
    pub fn logits(&self, i: usize) -> Logits<'_> {
        self.buffers.logits.row(i)
    }
}
