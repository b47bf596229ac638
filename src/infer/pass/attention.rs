//! Attention of a block: projections · rotate and store · attend · combine and quantise · output projection.

use super::buffers::{CpuBuffers, shape};
use super::cpu::{Cpu, product};
use super::panel::Panel;
use super::rows::{KindRows, PassRows};
use crate::model::block::{Attention, Branch, Linear, Mixer, Norm, QkNorm, QkNormPlace, formats};
use dovetail_kernels::cpu::attention::{Attention as Task, MAX_SEQUENCES, Parts, Plan};
use dovetail_kernels::cpu::{
    ActivationRows, ChunkedSlice, Kernels, LANES, ProductScratch, groups_per_chunk,
};
use smallvec::SmallVec;

impl Cpu<'_> {
    /// Computes attention of block `i` and adds it to the hidden state.
    pub fn mix(
        &mut self,
        i: usize,
        mixer: &Branch<Mixer>,
        hidden: &mut Panel,
        rows: &mut PassRows,
    ) {
        let Branch { norm, layer: Mixer::Attention(a), post_norm, scale: branch_scale } = mixer;
        // Exhaustive destructuring: a new field of `Attention` must be handled here.
        let Attention {
            qkv,
            gate: _,
            qk_norm: _,
            v_norm: _,
            scale: _,
            soft_cap: _,
            sinks: _,
            output,
        } = a;
        let (n, formats) = (hidden.n_rows(), formats(a.inputs()));
        let width = qkv[0].matrix.n_cols();
        match rows.given.filter(|_| i == 0) {
            Some(given) => self.quantize(n, |r| &given[r * width..][..width], formats),
            None => self.norm(hidden, norm.as_ref(), formats, n, |r| r),
        }
        self.project(a, n);
        if let Some(QkNorm { norms, place: QkNormPlace::WholeRow }) = &a.qk_norm {
            self.norm_rows(a, norms);
        }
        self.rotate_and_store(i, a, rows);
        let mut done = 0;
        while done < n {
            done += self.attend(i, a, rows, done);
        }
        self.add(output, post_norm.as_ref(), *branch_scale, hidden);
    }

    /// Computes queries, keys, values and the gate of `n` rows.
    fn project(&mut self, a: &Attention, n: usize) {
        let kernels = self.kernels;
        let CpuBuffers { activations, qkv, scratch, .. } = &mut *self.b;
        let x = activations.rows(n, a.qkv[0].matrix.n_cols());
        let qkv = qkv.groups_mut(a.inputs().map(|w| w.matrix.n_groups() * LANES).sum());
        let chunk = groups_per_chunk(qkv.len() / n / LANES, n, self.pool.members());
        self.pool.for_chunks(qkv, chunk * n * LANES, scratch, |i, out, s| {
            stacked_product(kernels, a.inputs(), i * chunk, x, out, &mut s.products);
        });
    }

    /// Norms the queries of each row together, and the keys.
    fn norm_rows(&mut self, a: &Attention, norms: &[Norm; 2]) {
        let (kernels, n) = (self.kernels, self.b.qkv.n_rows());
        let CpuBuffers { qkv, qk, scratch, .. } = &mut *self.b;
        let (qkv, columns) = (&*qkv, columns(a));
        let width = norms.iter().map(|norm| norm.weight.len()).sum();
        self.pool.for_chunks(&mut qk[..n * width], width, scratch, |r, out, s| {
            let (queries, keys) = out.split_at_mut(norms[0].weight.len());
            for (i, out) in [queries, keys].into_iter().enumerate() {
                let raw = &mut s.row[..out.len()];
                qkv.row(r, columns[i], raw);
                norms[i].apply(kernels, raw, out);
            }
        });
    }

    /// Norms and rotates queries and keys, and stores keys and values in layer `i` of the caches.
    fn rotate_and_store(&mut self, i: usize, a: &Attention, rows: &mut PassRows) {
        let Attention { qk_norm, v_norm, scale, .. } = a;
        let (c, kernels, n) = (self.c, self.kernels, self.b.qkv.n_rows());
        let (hd, padded, group) = (c.head_dim, c.padded_head_dim(), c.n_heads / c.n_kv_heads);
        let style = c.kind(i).rope.style;
        let KindRows { angles, query_scales, .. } = &rows.kinds[c.layer_kinds[i]];
        let CpuBuffers { qkv, queries, qk, scratch, .. } = &mut *self.b;
        let (qkv, qk, columns) = (&*qkv, &*qk, columns(a));
        let qk_norm = qk_norm.as_ref().map(|QkNorm { norms, place }| (norms, *place));
        let qk_width = (c.n_heads + c.n_kv_heads) * hd;
        // Reads head `h` of row `r`, of queries or of keys, normed and rotated.
        let embedded = |of: usize, r: usize, h: usize, raw: &mut [f32], out: &mut [f32]| {
            let (raw, (out, rest)) = (&mut raw[..hd], out.split_at_mut(hd));
            match qk_norm {
                Some((_, QkNormPlace::WholeRow)) => {
                    let from = r * qk_width + of * c.n_heads * hd + h * hd;
                    out.copy_from_slice(&qk[from..][..hd]);
                }
                Some((norms, QkNormPlace::HeadsBeforeRope)) => {
                    qkv.row(r, columns[of] + h * hd, raw);
                    norms[of].apply(kernels, raw, out);
                }
                None | Some((_, QkNormPlace::HeadsAfterRope)) => {
                    qkv.row(r, columns[of] + h * hd, out);
                }
            }
            (kernels.rope)(out, &angles[r], style);
            if let Some((norms, QkNormPlace::HeadsAfterRope)) = qk_norm {
                raw.copy_from_slice(out);
                norms[of].apply(kernels, raw, out);
            }
            rest.fill(0.0);
        };
        let mut places: SmallVec<[_; MAX_SEQUENCES]> = SmallVec::new();
        let mut caches: SmallVec<[_; MAX_SEQUENCES]> = SmallVec::new();
        for span in rows.spans.iter_mut() {
            let (cache, layout) = span.kv.layer_mut(i);
            caches.push(ChunkedSlice::new(cache, layout.head_bytes()));
            places.push((layout, span.first..span.first + span.n));
        }
        let queries = (&mut queries[..n * c.n_heads * padded], n * group * padded);
        self.pool.for_chunks_of_many(queries, &mut caches, scratch, |h, queries, caches, s| {
            let (raw, key_value) = s.row[..3 * padded].split_at_mut(padded);
            for (j, query) in queries.chunks_exact_mut(padded).enumerate() {
                let r = j / group;
                embedded(0, r, h * group + j % group, raw, query);
                let scale = scale * query_scales.get(r).unwrap_or(&1.0);
                query.iter_mut().for_each(|x| *x *= scale);
            }
            let (key, value) = key_value.split_at_mut(padded);
            value[hd..].fill(0.0);
            let mut rows = 0..n;
            for ((layout, positions), cache) in places.iter().zip(caches) {
                for (position, r) in positions.clone().zip(&mut rows) {
                    embedded(1, r, h, raw, key);
                    match v_norm {
                        Some(norm) => {
                            qkv.row(r, columns[2] + h * hd, &mut raw[..hd]);
                            norm.apply(kernels, &raw[..hd], &mut value[..hd]);
                        }
                        None => qkv.row(r, columns[2] + h * hd, &mut value[..hd]),
                    }
                    layout.store(cache, position, key, value);
                }
            }
        });
    }

    /// Computes attention of as many rows from `from` on as the buffer holds, quantised into `activations`; returns
    /// their number.
    fn attend(&mut self, i: usize, a: &Attention, rows: &PassRows, from: usize) -> usize {
        let Attention { soft_cap, sinks, gate, output, .. } = a;
        let (c, kernels) = (self.c, self.kernels);
        let (hd, padded, formats) = (c.head_dim, c.padded_head_dim(), output.matrix.formats());
        let gate_columns = columns(a)[3];
        let (views, spans) = (&rows.kinds[c.layer_kinds[i]].views[..], &*rows.spans);
        let CpuBuffers { qkv, queries, parts, activations, scratch, .. } = &mut *self.b;
        let lens = spans.iter().map(|span| span.n);
        let plan = Plan::new(shape(c), views, lens, from, parts.len(), self.pool.members());
        let used = &mut parts[..plan.len()];
        self.pool.for_chunks(used, plan.unit_len(), scratch, |unit, parts, s| {
            let cells = |sequence: usize, head| spans[sequence].kv.head(i, head);
            let task = plan.task(unit, queries, views, cells);
            (kernels.attention)(&Task { soft_cap: *soft_cap, ..task }, &mut s.attention, parts);
        });
        let row_lines = activations.row_lines();
        let activations = &mut activations.rows_mut(from + plan.tokens())[from * row_lines..];
        self.pool.for_chunks(activations, row_lines, scratch, |r, activations, s| {
            let (row, last) = s.row[..c.n_heads * hd + padded].split_at_mut(c.n_heads * hd);
            for (head, out) in row.chunks_exact_mut(hd).enumerate() {
                let found = plan.parts(parts, r, head, &views[from + r]);
                let sink = sinks.as_ref().map(|sinks| sinks[head]);
                let whole = if hd == padded { &mut *out } else { &mut last[..padded] };
                (kernels.combine)(&Parts { sink, ..found }, whole);
                if hd < padded {
                    out.copy_from_slice(&last[..hd]);
                }
            }
            if gate.is_some() {
                let [gate, zeros] = &mut s.gate;
                qkv.row(from + r, gate_columns, gate);
                (kernels.gate)(gate, row, zeros);
            }
            (kernels.quantize)(row, formats, activations);
        });
        plan.tokens()
    }
}

/// First columns of queries, keys, values and the gate: each takes whole groups.
fn columns(a: &Attention) -> [usize; 4] {
    let mut columns = [0; 4];
    for (i, w) in a.qkv.iter().enumerate() {
        columns[i + 1] = columns[i] + w.matrix.n_groups() * LANES;
    }
    columns
}

/// Multiplies groups `first..` of several stacked matrices.
fn stacked_product<'a>(
    kernels: &Kernels,
    stack: impl Iterator<Item = &'a Linear>,
    first: usize,
    x: ActivationRows,
    mut out: &mut [f32],
    scratch: &mut ProductScratch,
) {
    let mut base = 0;
    for w in stack {
        let end = base + w.matrix.n_groups();
        let at = first.max(base);
        if at < end && !out.is_empty() {
            let len = out.len().min((end - at) * x.n_rows() * LANES);
            let (mine, rest) = std::mem::take(&mut out).split_at_mut(len);
            product(kernels, w, at - base, x, mine, scratch);
            out = rest;
        }
        base = end;
    }
}
