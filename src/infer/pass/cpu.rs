//! Phases on the CPU, divided over the thread pool.

use super::buffers::CpuBuffers;
use super::panel::Panel;
use crate::model::Config;
use crate::model::block::{Linear, Norm};
use dovetail_kernels::cpu::{
    ActivationFormats, ActivationRows, Kernels, LANES, ProductScratch, ThreadPool, WeightMatrix,
    groups_per_chunk,
};

/// The CPU's kernels, threads and buffers.
pub(super) struct Cpu<'a> {
    pub c: &'a Config,
    pub kernels: &'static Kernels,
    pub pool: &'a mut ThreadPool,
    pub b: &'a mut CpuBuffers,
}

impl Cpu<'_> {
    /// Quantises the hidden states of `m` rows into the first `activations`, normed if there is a norm. The `i`-th is
    /// `row(i)`.
    pub fn norm(
        &mut self,
        hidden: &Panel,
        norm: Option<&Norm>,
        formats: ActivationFormats,
        m: usize,
        row: impl Fn(usize) -> usize + Sync,
    ) {
        let (c, kernels) = (self.c, self.kernels);
        let CpuBuffers { activations, scratch, .. } = &mut *self.b;
        let row_lines = activations.row_lines();
        self.pool.for_chunks(activations.rows_mut(m), row_lines, scratch, |i, activations, s| {
            let x = &mut s.row[..c.n_embd];
            hidden.row(row(i), 0, x);
            let x = match norm {
                Some(norm) => {
                    norm.apply(kernels, x, &mut s.normed);
                    &s.normed[..]
                }
                None => x,
            };
            (kernels.quantize)(x, formats, activations);
        });
    }

    /// Quantises `n` rows that are not hidden states into `activations`.
    pub fn quantize<'r>(
        &mut self,
        n: usize,
        row: impl Fn(usize) -> &'r [f32] + Sync,
        formats: ActivationFormats,
    ) {
        let kernels = self.kernels;
        let CpuBuffers { activations, scratch, .. } = &mut *self.b;
        let row_lines = activations.row_lines();
        self.pool.for_chunks(activations.rows_mut(n), row_lines, scratch, |r, activations, _| {
            (kernels.quantize)(row(r), formats, activations);
        });
    }

    /// Quantises `n` rows of the inner panel, (width) each, into `activations`.
    pub fn quantize_inner(&mut self, n: usize, width: usize, formats: ActivationFormats) {
        let kernels = self.kernels;
        let CpuBuffers { activations, inner, scratch, .. } = &mut *self.b;
        let (inner, row_lines) = (&*inner, activations.row_lines());
        self.pool.for_chunks(activations.rows_mut(n), row_lines, scratch, |r, activations, s| {
            let row = &mut s.row[..width];
            inner.row(r, 0, row);
            (kernels.quantize)(row, formats, activations);
        });
    }

    /// Multiplies the hidden state by `scale`.
    pub fn scale(&mut self, scale: f32, hidden: &mut Panel) {
        let (hidden, kernels) = (hidden.groups_mut(self.c.n_embd), self.kernels);
        let chunk = hidden.len().div_ceil(self.pool.members()).next_multiple_of(LANES);
        self.pool.for_chunks(hidden, chunk, &mut self.b.scratch, |_, hidden, _| {
            (kernels.scale)(hidden, scale);
        });
    }

    /// Multiplies the first `n` rows of activations; `out` becomes (n, n_out).
    pub fn multiply(&mut self, n: usize, w: &WeightMatrix, out: &mut [f32]) {
        let kernels = self.kernels;
        let CpuBuffers { activations, inner, scratch, .. } = &mut *self.b;
        let x = activations.rows(n, w.n_cols());
        let chunk = groups_per_chunk(w.n_groups(), n, self.pool.members());
        let panel = inner.groups_mut(w.n_rows());
        self.pool.for_chunks(panel, chunk * n * LANES, scratch, |i, out, s| {
            kernels.multiply(w, i * chunk, x, out, false, &mut s.products);
        });
        for (r, out) in out.chunks_exact_mut(w.n_rows()).take(n).enumerate() {
            inner.row(r, 0, out);
        }
    }

    /// Adds `scale · post_norm(w · activations)` to the hidden state.
    pub fn add(&mut self, w: &Linear, post_norm: Option<&Norm>, scale: f32, hidden: &mut Panel) {
        if let Some(post_norm) = post_norm {
            return self.add_normed(w, post_norm, scale, hidden);
        }
        let (c, n, kernels) = (self.c, hidden.n_rows(), self.kernels);
        let CpuBuffers { activations, scratch, .. } = &mut *self.b;
        let x = activations.rows(n, w.matrix.n_cols());
        let chunk = groups_per_chunk(w.matrix.n_groups(), n, self.pool.members());
        let as_it_is = w.bias().is_none() && scale == 1.0;
        let hidden = hidden.groups_mut(c.n_embd);
        self.pool.for_chunks(hidden, chunk * n * LANES, scratch, |i, out, s| {
            if as_it_is {
                return kernels.multiply(&w.matrix, i * chunk, x, out, true, &mut s.products);
            }
            let y = &mut s.up[..out.len()];
            product(kernels, w, i * chunk, x, y, &mut s.products);
            (kernels.add_scaled)(out, y, scale);
        });
    }

    /// [`Cpu::add`] with a post-norm, which needs whole rows.
    fn add_normed(&mut self, w: &Linear, post_norm: &Norm, scale: f32, hidden: &mut Panel) {
        let (c, n, kernels) = (self.c, hidden.n_rows(), self.kernels);
        let n_embd = c.n_embd;
        let CpuBuffers { activations, inner, normed, scratch, .. } = &mut *self.b;
        let x = activations.rows(n, w.matrix.n_cols());
        let chunk = groups_per_chunk(w.matrix.n_groups(), n, self.pool.members());
        let len = chunk * n * LANES;
        self.pool.for_chunks(inner.groups_mut(n_embd), len, scratch, |i, out, s| {
            product(kernels, w, i * chunk, x, out, &mut s.products);
        });
        let normed = &mut normed[..n * n_embd];
        self.pool.for_chunks(normed, n_embd, scratch, |r, normed, s| {
            let row = &mut s.row[..n_embd];
            inner.row(r, 0, row);
            post_norm.apply(kernels, row, normed);
        });
        let normed = &*normed;
        self.pool.for_chunks(hidden.groups_mut(n_embd), len, scratch, |i, out, s| {
            let y = &mut s.up[..out.len()];
            to_lanes(normed, n_embd, n, i * chunk, y);
            (kernels.add_scaled)(out, y, scale);
        });
    }
}

/// Copies groups `first..` of `n` rows, which begin `stride` numbers apart, to the layout of a panel. What fills up the
/// last group is unspecified.
pub(super) fn to_lanes(rows: &[f32], stride: usize, n: usize, first: usize, out: &mut [f32]) {
    for (tile, lanes) in out.chunks_exact_mut(LANES).enumerate() {
        let (group, row) = (first + tile / n, tile % n);
        let rest = &rows[row * stride + group * LANES..];
        let len = LANES.min(rest.len());
        lanes[..len].copy_from_slice(&rest[..len]);
    }
}

/// Multiplies groups `first..` of a matrix and adds their bias.
pub(super) fn product(
    kernels: &Kernels,
    w: &Linear,
    first: usize,
    x: ActivationRows,
    out: &mut [f32],
    scratch: &mut ProductScratch,
) {
    kernels.multiply(&w.matrix, first, x, out, false, scratch);
    if let Some(bias) = w.bias() {
        (kernels.add_bias)(out, x.n_rows(), &bias[first * LANES..]);
    }
}
