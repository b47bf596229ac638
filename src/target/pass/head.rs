//! The end of a pass: from hidden states to logits.

use super::Pass;
use crate::target::logits::find_peaks;
use dovetail_kernels::cpu::{LANES, Packed, groups_per_chunk};
use std::ops::Range;

impl Pass<'_, '_> {
    /// Computes the logits of `m` rows, the `i`-th of which is `row(i)`; their hidden states may be normed before.
    pub fn head(
        &mut self,
        norm: Option<&[f32]>,
        output: &Packed,
        m: usize,
        row: impl Fn(usize) -> usize + Sync,
    ) {
        if m == 0 {
            self.b.logits.resize(0, output.n_rows());
            return;
        }
        let kernels = self.kernels;
        self.norm(norm, output.forms(), m, row);
        let b = &mut *self.b;
        let (panel, peaks) = b.logits.resize(m, output.n_rows());
        let n_vocab = output.n_rows();
        let acts = b.acts.rows(m, self.c.n_embd);
        let chunk = groups_per_chunk(output.n_groups(), m, self.team.members());
        let (panel, peaks) = ((panel, chunk * m * LANES), (peaks, chunk * m));
        self.team.share_two(panel, peaks, &mut b.scratch, |i, out, peaks, s| {
            kernels.multiply(output, i * chunk, acts, out, false, &mut s.products);
            find_peaks(out, m, n_vocab - i * chunk * LANES, peaks);
        });
    }

    /// Appends logits of more tokens, (rows of the logits, matrix) each, whose numbers begin behind those of
    /// the head, at the next multiple of [`LANES`]. What a row has none of is −∞ there.
    pub fn more_logits(&mut self, more: &[(Range<usize>, &Packed)]) {
        let kernels = self.kernels;
        let b = &mut *self.b;
        let groups = more.iter().map(|(_, w)| w.n_groups()).max().unwrap_or(0);
        let (m, all, all_peaks) = b.logits.append(groups);
        for (rows, w) in more {
            let (n, acts) = (rows.len(), b.acts.rows(m, self.c.n_embd).range(rows.clone()));
            b.more.resize(w.n_groups() * n * LANES, 0.0);
            b.more_peaks.resize(w.n_groups() * n, 0.0);
            let chunk = groups_per_chunk(w.n_groups(), n, self.team.members());
            let (panel, peaks) =
                ((&mut b.more[..], chunk * n * LANES), (&mut b.more_peaks[..], chunk * n));
            self.team.share_two(panel, peaks, &mut b.scratch, |i, out, peaks, s| {
                kernels.multiply(w, i * chunk, acts, out, false, &mut s.products);
                find_peaks(out, n, w.n_rows() - i * chunk * LANES, peaks);
            });
            let tiles = b.more.chunks_exact(n * LANES).zip(b.more_peaks.chunks_exact(n));
            for (g, (tile, peaks)) in tiles.enumerate() {
                let first = g * m + rows.start;
                all[first * LANES..][..tile.len()].copy_from_slice(tile);
                all_peaks[first..][..n].copy_from_slice(peaks);
            }
        }
    }
}
