//! Embeddings that a token has for each block: how they come about before the first block, and how a block adds them.

use super::Pass;
use super::buffers::{Buffers, CpuBuffers};
use super::cpu::{Cpu, product, to_lanes};
use super::panel::Panel;
use crate::model::block::{Branch, PerLayer};
use crate::model::{Model, PerLayerInput};
use dovetail_kernels::cpu::{LANES, groups_per_chunk};

impl Pass<'_, '_> {
    /// Computes the embeddings for each block of `tokens`, one for each row, whose embeddings are the hidden states.
    pub(super) fn embed_per_layer(&mut self, model: &Model, input: &PerLayerInput, tokens: &[u32]) {
        let PerLayerInput { projection, norm } = input;
        let (c, n) = (self.c, self.n_rows());
        let Buffers { hidden, per_layer, cpu, .. } = &mut *self.b;
        let kernels = self.kernels;
        let mut cpu = Cpu { c, kernels, pool: self.pool, b: cpu };
        cpu.norm(hidden, None, projection.formats(), n, |r| r);
        cpu.multiply(n, projection, per_layer);
        let width = c.n_embd_per_layer;
        let down = 1.0 / (c.n_embd as f32).sqrt();
        let (up, mean) = ((width as f32).sqrt(), 1.0 / 2.0f32.sqrt());
        let rows = &mut per_layer[..n * c.n_layers * width];
        cpu.pool.for_chunks(rows, c.n_layers * width, &mut cpu.b.scratch, |r, row, s| {
            let (own, raw) = s.row[..(c.n_layers + 1) * width].split_at_mut(c.n_layers * width);
            model.embed_per_layer(tokens[r], own);
            for (projected, own) in row.chunks_exact_mut(width).zip(own.chunks_exact(width)) {
                raw.iter_mut().zip(&*projected).for_each(|(raw, x)| *raw = x * down);
                norm.apply(kernels, raw, projected);
                projected.iter_mut().zip(own).for_each(|(x, own)| *x = (*x + own * up) * mean);
            }
        });
    }
}

impl Cpu<'_> {
    /// Adds the embeddings for block `i`, which are among `inputs`: (rows, n_layers, n_embd_per_layer).
    pub fn per_layer(
        &mut self,
        i: usize,
        branch: &Branch<PerLayer>,
        inputs: &[f32],
        hidden: &mut Panel,
    ) {
        let Branch { norm, layer: PerLayer { gate, projection }, post_norm, scale } = branch;
        let (c, kernels, n) = (self.c, self.kernels, hidden.n_rows());
        let (width, stride) = (c.n_embd_per_layer, c.n_layers * c.n_embd_per_layer);
        self.norm(hidden, norm.as_ref(), gate.matrix.formats(), n, |r| r);
        let CpuBuffers { activations, inner, scratch, .. } = &mut *self.b;
        let x = activations.rows(n, gate.matrix.n_cols());
        let chunk = groups_per_chunk(gate.matrix.n_groups(), n, self.pool.members());
        let panel = inner.groups_mut(width);
        self.pool.for_chunks(panel, chunk * n * LANES, scratch, |j, out, s| {
            let embeddings = &mut s.up[..out.len()];
            product(kernels, gate, j * chunk, x, out, &mut s.products);
            to_lanes(&inputs[i * width..], stride, n, j * chunk, embeddings);
            (kernels.geglu)(out, embeddings);
        });
        self.quantize_inner(n, projection.matrix.n_cols(), projection.matrix.formats());
        self.add(projection, post_norm.as_ref(), *scale, hidden);
    }
}
