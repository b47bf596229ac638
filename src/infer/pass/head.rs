//! The end of a pass: from hidden states to logits.

use super::Pass;
use super::buffers::{Buffers, CpuBuffers, Scratch};
use super::cpu::Cpu;
use crate::infer::logits::find_peaks;
use crate::model::Config;
use crate::model::block::Norm;
use dovetail_kernels::cpu::{
    ActivationRows, Kernels, LANES, ThreadPool, WeightMatrix, groups_per_chunk,
};
use std::ops::Range;

impl Pass<'_, '_> {
    /// Computes the logits of `m` rows. The `i`-th is `row(i)`; its hidden state is normed first if the model has a
    /// last norm.
    pub fn head(
        &mut self,
        norm: Option<&Norm>,
        output: &WeightMatrix,
        m: usize,
        row: impl Fn(usize) -> usize + Sync,
    ) {
        let Pass { c, kernels, pool, b, .. } = self;
        let Buffers { hidden, logits, cpu, .. } = &mut **b;
        let out = logits.resize(m, output.n_rows());
        if m == 0 {
            return;
        }
        Cpu { c, kernels, pool, b: cpu }.norm(hidden, norm, output.formats(), m, row);
        let CpuBuffers { activations, scratch, .. } = cpu;
        let mut head = Head { c, kernels, pool, scratch };
        head.multiply(output, activations.rows(m, c.n_embd), out);
    }

    /// Appends logits of more tokens: for each (rows of the logits, matrix). Their numbers start at the next multiple
    /// of [`LANES`] behind those of the head. Rows outside a range get −∞.
    pub fn more_logits(&mut self, more: &[(Range<usize>, &WeightMatrix)]) {
        let Pass { c, kernels, pool, b, .. } = self;
        let Buffers { logits, cpu, more: panel, more_peaks, .. } = &mut **b;
        let CpuBuffers { activations, scratch, .. } = cpu;
        let groups = more.iter().map(|(_, w)| w.n_groups()).max().unwrap_or(0);
        let (m, all, all_peaks) = logits.append(groups);
        let mut head = Head { c, kernels, pool, scratch };
        for (rows, w) in more {
            let n = rows.len();
            panel.resize(w.n_groups() * n * LANES, 0.0);
            more_peaks.resize(w.n_groups() * n, 0.0);
            let x = activations.rows(m, c.n_embd).range(rows.clone());
            head.multiply(w, x, (&mut panel[..], &mut more_peaks[..]));
            let tiles = panel.chunks_exact(n * LANES).zip(more_peaks.chunks_exact(n));
            for (g, (tile, peaks)) in tiles.enumerate() {
                let first = g * m + rows.start;
                all[first * LANES..][..tile.len()].copy_from_slice(tile);
                all_peaks[first..][..n].copy_from_slice(peaks);
            }
        }
    }
}

/// Parameters of a product with a head.
struct Head<'a> {
    c: &'a Config,
    kernels: &'static Kernels,
    pool: &'a mut ThreadPool,
    scratch: &'a mut [Scratch],
}

impl Head<'_> {
    /// Computes the panel of these rows' logits, scaled and capped, and its peaks.
    fn multiply(
        &mut self,
        head: &WeightMatrix,
        x: ActivationRows,
        (panel, peaks): (&mut [f32], &mut [f32]),
    ) {
        let (kernels, n) = (self.kernels, x.n_rows());
        let (scale, cap) = (self.c.logit_scale, self.c.logit_soft_cap);
        let chunk = groups_per_chunk(head.n_groups(), n, self.pool.members());
        let (panel, peaks) = ((panel, chunk * n * LANES), (peaks, chunk * n));
        self.pool.for_chunks_of_two(panel, peaks, self.scratch, |i, out, peaks, s| {
            kernels.multiply(head, i * chunk, x, out, false, &mut s.products);
            if scale != 1.0 {
                (kernels.scale)(out, scale);
            }
            if let Some(cap) = cap {
                (kernels.soft_cap)(out, cap);
            }
            find_peaks(out, n, head.n_rows() - i * chunk * LANES, peaks);
        });
    }
}
