//! Attention of a block: projections · rotate and store · attend · combine and quantise · output projection.

use super::buffers::{CpuBuffers, shape};
use super::cpu::{Cpu, product};
use super::panel::Panel;
use super::rows::{KindRows, PassRows};
use crate::model::block::{
    Attention, Branch, KeysValues, Linear, Mixer, Norm, QkNorm, QkNormPlace, formats,
};
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
        let Attention { q, kv: _, gate: _, qk_norm: _, scale: _, soft_cap: _, sinks: _, output } =
            a;
        let (n, formats) = (hidden.n_rows(), formats(a.inputs()));
        let width = q.matrix.n_cols();
        match rows.first_input.filter(|_| i == 0) {
            Some(first_input) => self.quantize(n, |r| &first_input[r * width..][..width], formats),
            None => self.norm(hidden, norm.as_ref(), formats, n, |r| r),
        }
        self.project(a, n);
        if let Some(QkNorm { q, k, place: QkNormPlace::WholeRow }) = &a.qk_norm {
            self.norm_rows(a, q, k.as_ref());
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
        let x = activations.rows(n, a.q.matrix.n_cols());
        let qkv = qkv.groups_mut(a.inputs().map(|w| w.matrix.n_groups() * LANES).sum());
        let chunk = groups_per_chunk(qkv.len() / n / LANES, n, self.pool.members());
        self.pool.for_chunks(qkv, chunk * n * LANES, scratch, |i, out, s| {
            stacked_product(kernels, a.inputs(), i * chunk, x, out, &mut s.products);
        });
    }

    /// Norms the queries of each row together, and the keys.
    fn norm_rows(&mut self, a: &Attention, q: &Norm, k: Option<&Norm>) {
        let (kernels, n) = (self.kernels, self.b.qkv.n_rows());
        let CpuBuffers { qkv, qk, scratch, .. } = &mut *self.b;
        let (qkv, columns) = (&*qkv, Columns::of(a));
        let width = q.weight.len() + k.map_or(0, |k| k.weight.len());
        self.pool.for_chunks(&mut qk[..n * width], width, scratch, |r, out, s| {
            let (queries, keys) = out.split_at_mut(q.weight.len());
            let mut norm = |norm: &Norm, from, out: &mut [f32]| {
                let raw = &mut s.row[..out.len()];
                qkv.row(r, from, raw);
                norm.apply(kernels, raw, out);
            };
            norm(q, columns.q, queries);
            if let Some(k) = k {
                norm(k, columns.k, keys);
            }
        });
    }

    /// Norms and rotates queries and keys, and stores keys and values of layer `i` in the caches.
    fn rotate_and_store(&mut self, i: usize, a: &Attention, rows: &mut PassRows) {
        let (c, kernels, n) = (self.c, self.kernels, self.b.qkv.n_rows());
        let (heads, style) = (c.heads(i), c.kind(i).rope.style);
        let (hd, padded, group) = (heads.dim, heads.padded_dim(), heads.n / heads.n_kv);
        let KindRows { angles, query_scales, .. } = &rows.kinds[c.layer_kinds[i]];
        let CpuBuffers { qkv, queries, qk, scratch, .. } = &mut *self.b;
        let (qkv, qk, columns) = (&*qkv, &*qk, Columns::of(a));
        let qk_width = heads.q_width() + a.kv.as_ref().map_or(0, |_| heads.kv_width());
        // Reads a head of row `r`, normed and rotated.
        let embedded = |head: Head, r: usize, raw: &mut [f32], out: &mut [f32]| {
            let (raw, (out, rest)) = (&mut raw[..hd], out.split_at_mut(hd));
            match head.norm {
                Some((_, QkNormPlace::WholeRow)) => {
                    out.copy_from_slice(&qk[r * qk_width + head.qk_column..][..hd]);
                }
                Some((norm, QkNormPlace::HeadsBeforeRope)) => {
                    qkv.row(r, head.column, raw);
                    norm.apply(kernels, raw, out);
                }
                None | Some((_, QkNormPlace::HeadsAfterRope)) => qkv.row(r, head.column, out),
            }
            (kernels.rope)(out, &angles[r], style);
            if let Some((norm, QkNormPlace::HeadsAfterRope)) = head.norm {
                raw.copy_from_slice(out);
                norm.apply(kernels, raw, out);
            }
            rest.fill(0.0);
        };
        let (q_norm, k_norm) = match &a.qk_norm {
            Some(QkNorm { q, k, place }) => (Some((q, *place)), k.as_ref().zip(Some(*place))),
            None => (None, None),
        };
        let mut places: SmallVec<[_; MAX_SEQUENCES]> = SmallVec::new();
        let mut caches: SmallVec<[_; MAX_SEQUENCES]> = SmallVec::new();
        for span in rows.spans.iter_mut().filter(|_| a.kv.is_some()) {
            let (cache, layout) = span.kv.layer_mut(i);
            caches.push(ChunkedSlice::new(cache, layout.head_bytes()));
            places.push((layout, span.first..span.first + span.n));
        }
        let queries = (&mut queries[..n * heads.n * padded], n * group * padded);
        self.pool.for_chunks_of_many(queries, &mut caches, scratch, |h, queries, caches, s| {
            let (raw, key_value) = s.row[..3 * padded].split_at_mut(padded);
            for (j, query) in queries.chunks_exact_mut(padded).enumerate() {
                let (r, first) = (j / group, (h * group + j % group) * hd);
                let head = Head { norm: q_norm, column: columns.q + first, qk_column: first };
                embedded(head, r, raw, query);
                let scale = a.scale * query_scales.get(r).unwrap_or(&1.0);
                query.iter_mut().for_each(|x| *x *= scale);
            }
            let Some(KeysValues { v_norm, .. }) = &a.kv else { return };
            let (key, value) = key_value.split_at_mut(padded);
            value[hd..].fill(0.0);
            let mut rows = 0..n;
            for ((layout, positions), cache) in places.iter().zip(caches) {
                for (position, r) in positions.clone().zip(&mut rows) {
                    let first = h * hd;
                    let (column, qk_column) = (columns.k + first, heads.q_width() + first);
                    embedded(Head { norm: k_norm, column, qk_column }, r, raw, key);
                    match v_norm {
                        Some(norm) => {
                            qkv.row(r, columns.v + first, &mut raw[..hd]);
                            norm.apply(kernels, &raw[..hd], &mut value[..hd]);
                        }
                        None => qkv.row(r, columns.v + first, &mut value[..hd]),
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
        let (heads, formats) = (c.heads(i), output.matrix.formats());
        let (hd, padded, width) = (heads.dim, heads.padded_dim(), heads.q_width());
        let (gate_columns, cache) = (Columns::of(a).gate, c.kv_layers[i]);
        let (views, spans) = (&rows.kinds[c.layer_kinds[i]].views[..], &*rows.spans);
        let CpuBuffers { qkv, queries, parts, activations, scratch, .. } = &mut *self.b;
        let lens = spans.iter().map(|span| span.n);
        let plan = Plan::new(shape(heads), views, lens, from, parts.len(), self.pool.members());
        let used = &mut parts[..plan.len()];
        self.pool.for_chunks(used, plan.unit_len(), scratch, |unit, parts, s| {
            let cells = |sequence: usize, head| spans[sequence].kv.head(cache, head);
            let task = plan.task(unit, queries, views, cells);
            (kernels.attention)(&Task { soft_cap: *soft_cap, ..task }, &mut s.attention, parts);
        });
        let row_lines = activations.row_lines();
        let activations = &mut activations.rows_mut(from + plan.tokens())[from * row_lines..];
        self.pool.for_chunks(activations, row_lines, scratch, |r, activations, s| {
            let (row, last) = s.row[..width + padded].split_at_mut(width);
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
                let [gate, zeros] = s.gate.each_mut().map(|gate| &mut gate[..width]);
                qkv.row(from + r, gate_columns, gate);
                (kernels.gate)(gate, row, zeros);
            }
            (kernels.quantize)(row, formats, activations);
        });
        plan.tokens()
    }
}

/// A head of queries or keys of a row.
#[derive(Clone, Copy)]
struct Head<'a> {
    norm: Option<(&'a Norm, QkNormPlace)>,
    /// Its first column among all products.
    column: usize,
    /// Its first column among normed rows of queries and keys.
    qk_column: usize,
}

/// First columns of the products: each matrix takes whole groups.
struct Columns {
    q: usize,
    k: usize,
    v: usize,
    gate: usize,
}

impl Columns {
    fn of(a: &Attention) -> Columns {
        let after = |from, w: &Linear| from + w.matrix.n_groups() * LANES;
        let (q, k) = (0, after(0, &a.q));
        let Some(KeysValues { k: keys, v: values, v_norm: _ }) = &a.kv else {
            return Columns { q, k, v: k, gate: k };
        };
        match values {
            Some(values) => {
                let v = after(k, keys);
                Columns { q, k, v, gate: after(v, values) }
            }
            None => Columns { q, k, v: k, gate: after(k, keys) },
        }
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
