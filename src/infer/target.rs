//! The target: a model with the threads and buffers to run tokens of several sequences.
//!
//! A pass is given [`Work`] for each of up to [`MAX_SEQUENCES`] sequences: a run of tokens, which become part of a
//! [`Sequence`], or a [`Tree`]. The rows of a tree have position `len + depth` and lie in the cache behind the
//! sequence, in the order of the nodes; [`Target::keep`] moves the accepted ones to their positions. Every row has the
//! same bits as when its path is run alone as a plain sequence.

use super::kv::{CacheTypes, KvCache, KvSize};
use super::logits::Logits;
use super::pass::{BufferSizes, Buffers, Features, Pass, Row, Span};
use super::sequence::Sequence;
use super::work::{Outputs, Rows, Work, WorkRows};
use crate::error::{Error, Result};
use crate::machine;
use crate::model::block::Block;
use crate::model::{Config, Model};
use crate::tree::{MAX_NODES, Tree};
use dovetail_kernels::cpu::attention::MAX_SEQUENCES;
use dovetail_kernels::cpu::{Kernels, ThreadPool};
use smallvec::SmallVec;
use std::sync::Arc;

/// [`Target::largest_context`] does not go below this number of tokens.
const CONTEXT_MIN: usize = 512;

/// A model with the threads and buffers to run it.
///
/// A pass neither allocates nor locks, except for the first pass with a larger number of logit rows.
pub struct Target {
    model: Arc<Model>,
    kernels: &'static Kernels,
    pool: ThreadPool,
    buffers: Buffers,
    tokens: Vec<u32>,    // (rows)
    outputs: Vec<usize>, // rows that have logits
    max_rows: usize,
    n_ctx: usize,
}

impl Target {
    /// A target for sequences of up to `n_ctx` tokens, and passes of up to `max_rows` rows on `threads` threads.
    ///
    /// # Errors
    /// If `DOVETAIL_ISA` names an instruction set that this CPU lacks.
    pub fn new(model: Arc<Model>, n_ctx: usize, threads: usize, max_rows: usize) -> Result<Target> {
        let kernels = Kernels::choose().map_err(Error::Invalid)?;
        let (max_rows, pool) = (max_rows.max(1), ThreadPool::new(threads));
        let sizes =
            BufferSizes { rows: max_rows, positions: n_ctx, members: pool.members(), width: 0 };
        let weights = model.weights();
        let buffers = Buffers::new(model.config(), &weights.blocks, sizes, || weights.scratch());
        let (tokens, outputs) = (Vec::with_capacity(max_rows), Vec::with_capacity(max_rows));
        Ok(Target { model, kernels, pool, buffers, tokens, outputs, max_rows, n_ctx })
    }

    /// The model's context, halved until memory holds `sequences` sequences, the buffers for passes of `max_rows` rows,
    /// and what is reserved for something else with such a context, but at least 512 tokens.
    pub fn largest_context(
        model: &Model,
        types: CacheTypes,
        sequences: usize,
        max_rows: usize,
        reserved_bytes: impl Fn(usize) -> u64,
    ) -> usize {
        // A tenth stays free for everything else.
        let free = machine::available_memory().unwrap_or(u64::MAX) / 10 * 9;
        let mut n = model.config().n_ctx;
        let blocks = &model.weights().blocks;
        let needed = |n_ctx: usize| {
            let size = KvSize { n_ctx, rows: max_rows, types };
            bytes_for(model.config(), blocks, size, sequences).saturating_add(reserved_bytes(n_ctx))
        };
        while n / 2 >= CONTEXT_MIN && needed(n) > free {
            n /= 2;
        }
        n
    }

    /// Checks that there is memory for `sequences` sequences of `n_ctx` tokens and for passes of `max_rows` rows.
    ///
    /// # Errors
    /// If they need more than is free.
    pub fn check_memory(
        model: &Model,
        n_ctx: usize,
        types: CacheTypes,
        sequences: usize,
        max_rows: usize,
    ) -> Result<()> {
        let size = KvSize { n_ctx, rows: max_rows, types };
        let needed = bytes_for(model.config(), &model.weights().blocks, size, sequences);
        KvCache::check_bytes(needed, n_ctx, sequences)
    }

    /// An empty sequence, whose cache has these types.
    ///
    /// # Errors
    /// If memory does not suffice.
    pub fn sequence(&self, types: CacheTypes) -> Result<Sequence> {
        Sequence::new(&self.model, KvSize { n_ctx: self.n_ctx, rows: self.max_rows, types })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The instruction set in use.
    pub fn isa(&self) -> &'static str {
        self.kernels.name
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.members()
    }

    /// Largest number of tokens of a sequence.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Largest number of rows of a pass.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Allocates memory for `rows` rows of logits, so that no pass has to.
    pub fn reserve(&mut self, rows: usize) {
        self.buffers.logits.reserve(rows, self.model.config().n_vocab);
    }

    /// Does the work of up to [`MAX_SEQUENCES`] sequences in one pass over the weights. The result says where the rows
    /// of each are. Work without rows leaves its sequence as it was.
    ///
    /// # Errors
    /// If a sequence has no room for its tokens or belongs to another target, a token is not in the vocabulary, the
    /// first `done` nodes are not the sequence's last tree, or all rows together exceed [`Target::max_rows`]. All
    /// sequences and their last trees are then as they were.
    pub fn run(&mut self, batch: &mut [(&mut Sequence, Work)]) -> Result<Rows> {
        self.check(batch)?;
        let rows = self.lay_out(batch);
        if self.tokens.is_empty() {
            return Ok(rows);
        }
        let spans = batch.iter_mut().map(|(seq, work)| {
            let done = work.tree().map_or(0, |(_, done)| done);
            seq.span(done, work.tokens().len())
        });
        let mut spans: SmallVec<[Span; MAX_SEQUENCES]> = spans.collect();
        let (c, kernels) = (self.model.config(), self.kernels);
        let mut pass = Pass::new(c, kernels, &mut self.pool, &mut self.buffers, &mut spans);
        pass.run(&self.model, &self.tokens, &self.outputs);
        drop(spans);
        for (seq, work) in batch {
            match work.tree() {
                Some((tree, _)) => (seq.tree, seq.has_tree) = (*tree, true),
                None if work.tokens().is_empty() => {}
                None => {
                    seq.has_tree = false;
                    seq.kv.grow(work.tokens().len());
                }
            }
        }
        Ok(rows)
    }

    /// Appends `tokens`, at most [`Target::max_rows`] of them, in one pass.
    ///
    /// # Errors
    /// Those of [`Target::run`].
    pub fn append(&mut self, seq: &mut Sequence, tokens: &[u32], outputs: Outputs) -> Result<()> {
        if tokens.is_empty() {
            return Ok(());
        }
        self.run(&mut [(seq, Work::Run { tokens, outputs })]).map(drop)
    }

    /// Runs a tree behind a sequence. Each node has a row of logits, in order. The sequence stays as it is until
    /// [`Target::keep`].
    ///
    /// # Errors
    /// Those of [`Target::run`].
    pub fn verify(&mut self, seq: &mut Sequence, tree: &Tree) -> Result<()> {
        self.run(&mut [(seq, Work::Tree(tree))]).map(drop)
    }

    /// Extends the last tree: the first `done` nodes of `tree` are the last tree, and only the others are run and have
    /// rows of logits.
    ///
    /// # Errors
    /// Those of [`Target::run`].
    pub fn verify_more(&mut self, seq: &mut Sequence, tree: &Tree, done: usize) -> Result<()> {
        self.run(&mut [(seq, Work::More { tree, done })]).map(drop)
    }

    /// Runs trees of up to [`MAX_SEQUENCES`] sequences in one pass: (sequence, tree, number of its first nodes that are
    /// the sequence's last tree and are not run again). Rows of logits and of features stand in this order, one
    /// sequence after the other.
    ///
    /// # Errors
    /// Those of [`Target::run`].
    pub fn verify_batch(&mut self, batch: &mut [(&mut Sequence, &Tree, usize)]) -> Result<()> {
        let mut works: SmallVec<[(&mut Sequence, Work); MAX_SEQUENCES]> = SmallVec::new();
        for (seq, tree, done) in batch {
            works.push((seq, Work::More { tree, done: *done }));
        }
        self.run(&mut works).map(drop)
    }

    /// Appends a path of the sequence's last tree to the sequence: the root, one of its children, and so on. An empty
    /// path drops the tree.
    ///
    /// # Errors
    /// If there is no such path; sequence and tree are then as they were.
    pub fn keep(&mut self, seq: &mut Sequence, path: &[usize]) -> Result<()> {
        let is_path = seq.has_tree && seq.tree.is_path(path);
        if !(path.is_empty() || is_path) {
            return Err(Error::Invalid(format!("{path:?} is no path of the last tree")));
        }
        seq.kv.keep(path, &mut self.pool);
        seq.has_tree = false;
        Ok(())
    }

    /// Checks that the work can be done.
    fn check(&self, batch: &[(&mut Sequence, Work)]) -> Result<()> {
        if batch.len() > MAX_SEQUENCES {
            let n = batch.len();
            let what = format!("{n} sequences in one pass; at most {MAX_SEQUENCES} fit");
            return Err(Error::Invalid(what));
        }
        let mut rows = 0;
        for (seq, work) in batch {
            if let Some((tree, done)) = work.tree() {
                seq.check_done(tree, done)?;
            }
            let all = work.tree().map_or(work.tokens(), |(tree, _)| tree.tokens());
            seq.check(&self.model, self.n_ctx, all)?;
            rows += work.tokens().len();
        }
        let most = self.max_rows;
        if rows > most {
            return Err(Error::Invalid(format!("{rows} tokens in one pass; at most {most} fit")));
        }
        Ok(())
    }

    /// Fills in the tokens and views of all rows, and which have logits.
    fn lay_out(&mut self, batch: &[(&mut Sequence, Work)]) -> Rows {
        self.tokens.clear();
        self.outputs.clear();
        let all_rows = &mut self.buffers.rows;
        all_rows.clear();
        let mut all = Rows::default();
        for (seq, work) in batch {
            let (first, first_output) = (self.tokens.len(), self.outputs.len());
            self.tokens.extend_from_slice(work.tokens());
            let rows = first..self.tokens.len();
            match work.tree() {
                Some((tree, done)) => {
                    let masks = tree.masks()[done..].iter();
                    all_rows.extend(masks.map(|mask| Row::node(seq.len(), *mask)));
                }
                None => all_rows.extend((seq.len()..).take(rows.len()).map(Row::plain)),
            }
            self.outputs.extend(work.outputs(rows.len()).map(|row| first + row));
            all.0.push(WorkRows { rows, outputs: first_output..self.outputs.len() });
        }
        all
    }

    /// Sets which hidden states passes copy out: those that enter the given layers, counted from 0; the number of
    /// layers stands for the input of the head, after the last norm. Each set of layers is stored separately.
    ///
    /// # Errors
    /// If the model has fewer layers.
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

    /// Hidden states of the last pass that [`Target::tap`] chose.
    pub fn features(&self) -> &Features {
        &self.buffers.features
    }

    /// These hidden states and the thread pool, for use between passes.
    pub(crate) fn features_and_pool(&mut self) -> (&Features, &mut ThreadPool) {
        (&self.buffers.features, &mut self.pool)
    }

    /// The thread pool, for use between passes.
    pub(crate) fn pool(&mut self) -> &mut ThreadPool {
        &mut self.pool
    }

    /// Logits of output row `i` of the last pass.
    pub fn logits(&self, i: usize) -> Logits<'_> {
        self.buffers.logits.row(i)
    }
}

/// Bytes of so many sequences of this size, and of the buffers for passes of these blocks.
fn bytes_for(config: &Config, blocks: &[Block], size: KvSize, sequences: usize) -> u64 {
    let logit_rows = size.rows.min(MAX_NODES * sequences);
    let buffers = Buffers::bytes_for(config, blocks, size.rows, logit_rows, size.n_ctx);
    sequence_bytes(config, size).saturating_mul(sequences as u64).saturating_add(buffers)
}

/// Bytes of a sequence of this size.
pub(crate) fn sequence_bytes(config: &Config, size: KvSize) -> u64 {
    let tokens = (size_of::<u32>() as u64).saturating_mul(size.n_ctx as u64);
    KvCache::bytes_for(config, size).saturating_add(tokens)
}
