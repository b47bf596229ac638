//! The end of a pass: from hidden states to logits.

use super::{Pass, Scratch};
use crate::infer::logits::find_peaks;
use dovetail_kernels::cpu::{
    ActivationRows, Kernels, LANES, ThreadPool, WeightMatrix, groups_per_chunk,
};
use std::ops::Range;

impl Pass<'_, '_> {
    /// Computes the logits of `m` rows, the `i`-th of which is `row(i)`; their hidden states may be normed before.
    pub fn head(
        &mut self,
        norm: Option<&[f32]>,
        output: &WeightMatrix,
        m: usize,
        row: impl Fn(usize) -> usize + Sync,
    ) {
        if m == 0 {
            self.b.logits.resize(0, output.n_rows());
            return;
        }
        self.norm(norm, output.formats(), m, row);
        let b = &mut *self.b;
        let (activations, out) =
            (b.activations.rows(m, self.c.n_embd), b.logits.resize(m, output.n_rows()));
        multiply(self.kernels, self.pool, &mut b.scratch, output, activations, out);
    }

    /// Appends logits of more tokens, (rows of the logits, matrix) each, whose numbers begin behind those of
    /// the head, at the next multiple of [`LANES`]. What a row has none of is −∞ there.
    pub fn more_logits(&mut self, more: &[(Range<usize>, &WeightMatrix)]) {
        let b = &mut *self.b;
        let groups = more.iter().map(|(_, w)| w.n_groups()).max().unwrap_or(0);
        let (m, all, all_peaks) = b.logits.append(groups);
        for (rows, w) in more {
            let (n, activations) =
                (rows.len(), b.activations.rows(m, self.c.n_embd).range(rows.clone()));
            b.more.resize(w.n_groups() * n * LANES, 0.0);
            b.more_peaks.resize(w.n_groups() * n, 0.0);
            let out = (&mut b.more[..], &mut b.more_peaks[..]);
            multiply(self.kernels, self.pool, &mut b.scratch, w, activations, out);
            let tiles = b.more.chunks_exact(n * LANES).zip(b.more_peaks.chunks_exact(n));
            for (g, (tile, peaks)) in tiles.enumerate() {
                let first = g * m + rows.start;
                all[first * LANES..][..tile.len()].copy_from_slice(tile);
                all_peaks[first..][..n].copy_from_slice(peaks);
            }
        }
    }
}

/// Computes the panel of the logits of these rows and its peaks.
fn multiply(
    kernels: &Kernels,
    pool: &mut ThreadPool,
    scratch: &mut [Scratch],
    head: &WeightMatrix,
    activations: ActivationRows,
    (panel, peaks): (&mut [f32], &mut [f32]),
) {
    let n = activations.n_rows();
    let chunk = groups_per_chunk(head.n_groups(), n, pool.members());
    let (panel, peaks) = ((panel, chunk * n * LANES), (peaks, chunk * n));
    pool.for_chunks_of_two(panel, peaks, scratch, |i, out, peaks, s| {
        kernels.multiply(head, i * chunk, activations, out, false, &mut s.products);
        find_peaks(out, n, head.n_rows() - i * chunk * LANES, peaks);
    });
}
