//! Attention of a block: projections · rotate and store · attend · combine and quantise · output projection.

use super::buffers::{CpuBuffers, shape};
use super::cpu::{Cpu, product};
use super::panel::Panel;
use super::rows::PassRows;
use crate::model::block::{Attention, Branch, Linear, Mixer, formats};
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
            kind: _,
            head_norms: _,
            scale: _,
            soft_cap: _,
            sinks: _,
            output,
        } = a;
        let (n, formats) = (hidden.n_rows(), formats(a.inputs()));
        let width = qkv[0].matrix.n_cols();
        match rows.given.filter(|_| i == 0) {
            Some(given) => self.quantize(n, |r| &given[r * width..][..width], formats),
            None => self.norm(hidden, norm.as_deref(), formats, n, |r| r),
        }
        self.project(a, n);
        self.rotate_and_store(i, a, rows);
        let mut done = 0;
        while done < n {
            done += self.attend(i, a, rows, done);
        }
        self.add(output, post_norm.as_deref(), *branch_scale, hidden);
    }

    /// Computes queries, keys, values and the gate of `n` rows.
    fn project(&mut self, a: &Attention, n: usize) {
        let kernels = self.kernels;
        let CpuBuffers { activations, qkv, scratch, .. } = &mut *self.b;
        let x = activations.rows(n, a.qkv[0].matrix.n_cols());
        let qkv = qkv.groups_mut(a.inputs().map(|w| w.matrix.n_rows()).sum());
        let chunk = groups_per_chunk(qkv.len() / n / LANES, n, self.pool.members());
        self.pool.for_chunks(qkv, chunk * n * LANES, scratch, |i, out, s| {
            stacked_product(kernels, a.inputs(), i * chunk, x, out, &mut s.products);
        });
    }

    /// Norms and rotates queries and keys, and stores keys and values in layer `i` of the caches.
    fn rotate_and_store(&mut self, i: usize, a: &Attention, rows: &mut PassRows) {
        let Attention { kind, head_norms: [q_norm, k_norm, v_norm], scale, .. } = a;
        let (c, kernels, n) = (self.c, self.kernels, self.b.qkv.n_rows());
        let (hd, group) = (c.head_dim, c.n_heads / c.n_kv_heads);
        let (q_width, kv_width) = (c.n_heads * hd, c.n_kv_heads * hd);
        let style = c.kinds[*kind].rope.style;
        let angles = &rows.kinds[*kind].angles[..n];
        let CpuBuffers { qkv, queries, scratch, .. } = &mut *self.b;
        let qkv = &*qkv;
        // Reads one head of a row, normed if there are weights.
        let head =
            |r: usize, from: usize, norm: &Option<Vec<f32>>, raw: &mut [f32], out: &mut [f32]| {
                let Some(norm) = norm else { return qkv.row(r, from, out) };
                qkv.row(r, from, raw);
                (kernels.rms_norm)(raw, norm, c.rms_eps, out);
            };
        let mut places: SmallVec<[_; MAX_SEQUENCES]> = SmallVec::new();
        let mut caches: SmallVec<[_; MAX_SEQUENCES]> = SmallVec::new();
        for span in rows.spans.iter_mut() {
            let (cache, layout) = span.kv.layer_mut(i);
            caches.push(ChunkedSlice::new(cache, layout.head_bytes()));
            places.push((layout, span.first..span.first + span.n));
        }
        let queries = (&mut queries[..n * q_width], n * group * hd);
        self.pool.for_chunks_of_many(queries, &mut caches, scratch, |h, queries, caches, s| {
            let (raw, key_value) = s.row[..3 * hd].split_at_mut(hd);
            for (j, query) in queries.chunks_exact_mut(hd).enumerate() {
                let r = j / group;
                head(r, (h * group + j % group) * hd, q_norm, raw, query);
                (kernels.rope)(query, &angles[r], style);
                query.iter_mut().for_each(|x| *x *= scale);
            }
            let (key, value) = key_value.split_at_mut(hd);
            let mut rows = angles.iter().enumerate();
            for ((layout, positions), cache) in places.iter().zip(caches) {
                for (position, (r, angles)) in positions.clone().zip(&mut rows) {
                    head(r, q_width + h * hd, k_norm, raw, key);
                    head(r, q_width + kv_width + h * hd, v_norm, raw, value);
                    (kernels.rope)(key, angles, style);
                    layout.store(cache, position, key, value);
                }
            }
        });
    }

    /// Computes attention of as many rows from `from` on as the buffer holds, quantised into `activations`; returns
    /// their number.
    fn attend(&mut self, i: usize, a: &Attention, rows: &PassRows, from: usize) -> usize {
        let Attention { kind, soft_cap, sinks, gate, output, .. } = a;
        let (c, kernels) = (self.c, self.kernels);
        let (hd, formats) = (c.head_dim, output.matrix.formats());
        let (views, spans) = (&rows.kinds[*kind].views[..], &*rows.spans);
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
            let row = &mut s.row[..c.n_heads * hd];
            for (head, out) in row.chunks_exact_mut(hd).enumerate() {
                let found = plan.parts(parts, r, head, &views[from + r]);
                let sink = sinks.as_ref().map(|sinks| sinks[head]);
                (kernels.combine)(&Parts { sink, ..found }, out);
            }
            if gate.is_some() {
                let [gate, zeros] = &mut s.gate;
                qkv.row(from + r, (c.n_heads + 2 * c.n_kv_heads) * hd, gate);
                (kernels.gate)(gate, row, zeros);
            }
            (kernels.quantize)(row, formats, activations);
        });
        plan.tokens()
    }
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
