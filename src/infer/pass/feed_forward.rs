//! The feed-forward layer of a block: gate, up and activation · quantise · down.

use super::buffers::CpuBuffers;
use super::cpu::{Cpu, product};
use super::panel::Panel;
use crate::model::block::{Activation, Branch, Dense, FeedForward, formats};
use dovetail_kernels::cpu::{LANES, groups_per_chunk};

impl Cpu<'_> {
    /// Computes the feed-forward layer of `entry`, or of the hidden state, and adds it to the hidden state.
    pub fn feed_forward(
        &mut self,
        ffn: &Branch<FeedForward>,
        entry: Option<&Panel>,
        hidden: &mut Panel,
    ) {
        let Branch { norm, layer: FeedForward::Dense(dense), post_norm, scale } = ffn;
        let Dense { activation, gate, up, down } = dense;
        let (n, kernels) = (hidden.n_rows(), self.kernels);
        self.norm(entry.unwrap_or(hidden), norm.as_ref(), formats([gate, up]), n, |r| r);
        let activate = match activation {
            Activation::SwiGlu => kernels.swiglu,
            Activation::GeGlu => kernels.geglu,
        };
        let CpuBuffers { activations, inner, scratch, .. } = &mut *self.b;
        let x = activations.rows(n, gate.matrix.n_cols());
        let panel = inner.groups_mut(gate.matrix.n_rows());
        let chunk = groups_per_chunk(panel.len() / n / LANES, n, self.pool.members());
        self.pool.for_chunks(panel, chunk * n * LANES, scratch, |i, out, s| {
            let other = &mut s.up[..out.len()];
            product(kernels, gate, i * chunk, x, out, &mut s.products);
            product(kernels, up, i * chunk, x, other, &mut s.products);
            activate(out, other);
        });
        self.quantize_inner(n, down.matrix.n_cols(), down.matrix.formats());
        self.add(down, post_norm.as_ref(), *scale, hidden);
    }
}
