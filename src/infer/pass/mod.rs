//! One pass over the weights for all rows.
//!
//! ```text
//! rows.rs          position and view of each row
//! panel.rs         matrices of activations between phases
//! buffers.rs       all buffers that phases share
//! runner.rs        the interface between a pass and the place where decoder blocks run
//! cpu.rs           phases that blocks and the head share
//! attention.rs     a block's attention
//! feed_forward.rs  a block's feed-forward layer
//! per_layer.rs     embeddings of tokens for each block
//! head.rs          from hidden states to logits
//! ```
//!
//! A block is data ([`crate::model::block`]). Its phases are: norm and quantise · queries, keys and values · rotate and
//! store · attention · combine and quantise · output projection · norm and quantise · gate, up and activation ·
//! quantise · down. The thread pool divides each phase. The two phases of attention are repeated if their buffer does
//! not hold all rows. Biases, caps, scales and norms of heads are part of these phases; only a post-norm takes two
//! more, since it needs whole rows.
//!
//! A row has a position and a path through its sequence's cache; each sequence has a [`Span`] of a pass's rows. The
//! view along the path and the angles of the position are computed once for each *kind* of layer
//! ([`crate::model::LayerKind`]).

mod attention;
mod buffers;
mod cpu;
mod feed_forward;
mod head;
mod panel;
mod per_layer;
mod rows;
mod runner;

pub use buffers::Features;
use buffers::TapSet;
pub(crate) use buffers::{BufferSizes, Buffers};
pub(crate) use rows::{Row, Span};

use crate::model::block::{Block, Norm};
use crate::model::{Config, Model};
use cpu::Cpu;
use dovetail_kernels::cpu::{Kernels, ThreadPool, WeightMatrix};
use rows::{KindRows, PassRows};
use runner::{BlockRunner, CpuBlocks};

/// One pass over the rows of all spans, which stand in the buffers.
pub(crate) struct Pass<'a, 's> {
    pub c: &'a Config,
    pub kernels: &'static Kernels,
    pool: &'a mut ThreadPool,
    b: &'a mut Buffers,
    spans: &'a mut [Span<'s>],
}

impl<'a, 's> Pass<'a, 's> {
    /// Starts a pass.
    pub fn new(
        c: &'a Config,
        kernels: &'static Kernels,
        pool: &'a mut ThreadPool,
        b: &'a mut Buffers,
        spans: &'a mut [Span<'s>],
    ) -> Pass<'a, 's> {
        let n = b.rows.len();
        for panel in [&mut b.hidden, &mut b.cpu.qkv, &mut b.cpu.inner] {
            panel.set_rows(n);
        }
        Pass { c, kernels, pool, b, spans }
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.b.rows.len()
    }

    /// Runs `tokens`, one for each row, and computes logits for the rows `outputs`.
    pub fn run(&mut self, model: &Model, tokens: &[u32], outputs: &[usize]) {
        let weights = model.weights();
        let mut row = std::mem::take(&mut self.b.cpu.scratch[0].row);
        let embedding = &mut row[..self.c.n_embd];
        for (r, &token) in tokens.iter().enumerate() {
            model.embed(token, embedding);
            self.set_hidden(r, embedding);
        }
        self.b.cpu.scratch[0].row = row;
        if let Some(input) = &weights.per_layer {
            self.embed_per_layer(model, input, tokens);
        }
        self.blocks(&weights.blocks, None);
        self.hand_out(weights.blocks.len(), Some(&weights.output_norm));
        self.head(Some(&weights.output_norm), &weights.output, outputs.len(), |i| outputs[i]);
    }

    /// Sets the hidden state of row `r` to `x`: (n_embd).
    pub fn set_hidden(&mut self, r: usize, x: &[f32]) {
        self.b.hidden.set_row(r, x);
    }

    /// Runs decoder blocks on the hidden states. Attention of the first block reads `first_input`, if given, in place of
    /// the hidden state: (rows, input width of its matrices).
    pub fn blocks(&mut self, blocks: &[Block], first_input: Option<&[f32]>) {
        KindRows::set_all(&mut self.b.kinds, self.c, self.b.n_ctx, &self.b.rows);
        let mut next = 0;
        while next < blocks.len() {
            self.hand_out(next, None);
            let end = self.b.features.next_tap(next).unwrap_or(blocks.len()).min(blocks.len());
            let Pass { c, kernels, pool, b, spans } = &mut *self;
            let Buffers { hidden, entry, kinds, per_layer, cpu, .. } = &mut **b;
            let cpu = Cpu { c, kernels, pool, b: cpu };
            let runner: &mut dyn BlockRunner = &mut CpuBlocks { cpu, blocks, entry };
            runner.run(next..end, hidden, &mut PassRows { kinds, spans, per_layer, first_input });
            next = end;
        }
    }

    /// Copies the hidden states that enter `layer` to [`Features`], if they are tapped.
    fn hand_out(&mut self, layer: usize, norm: Option<&Norm>) {
        let (c, n, kernels) = (self.c, self.n_rows(), self.kernels);
        let b = &mut *self.b;
        for TapSet { taps, rows, width } in &mut b.features.sets {
            for (tap, _) in taps.iter().enumerate().filter(|(_, tap)| **tap == layer) {
                for (r, row) in rows.chunks_exact_mut(*width).take(n).enumerate() {
                    let out = &mut row[tap * c.n_embd..][..c.n_embd];
                    b.hidden.row(r, 0, out);
                    if let Some(norm) = norm {
                        let normed = &mut b.cpu.scratch[0].normed;
                        norm.apply(kernels, out, normed);
                        out.copy_from_slice(normed);
                    }
                }
            }
        }
    }

    /// Multiplies rows that are not hidden states. `row` gives each input, (n_in); `out` becomes (rows, n_out).
    pub fn multiply<'r>(
        &mut self,
        w: &WeightMatrix,
        row: impl Fn(usize) -> &'r [f32] + Sync,
        out: &mut [f32],
    ) {
        let n = self.n_rows();
        let mut cpu = self.cpu();
        cpu.quantize(n, row, w.formats());
        cpu.multiply(n, w, out);
    }

    fn cpu(&mut self) -> Cpu<'_> {
        Cpu { c: self.c, kernels: self.kernels, pool: self.pool, b: &mut self.b.cpu }
    }
}
