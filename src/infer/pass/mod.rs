//! One pass over the weights serves all rows.
//!
//! Per layer: norm and quantise · queries, keys and values · rotate and store · attention · combine and
//! quantise · output projection · norm and quantise · gate, up and SwiGLU · quantise · down. Each is one
//! phase shared out over the thread pool; the two of attention are taken again where their buffer does not hold
//! all rows.
//!
//! Activations between phases are *panels*, `(width / 16, rows, 16)`: the shape in which products
//! leave the kernels. A row sees what its view says of the cache of its sequence, of which a pass has a
//! [`Span`] of rows each; its position is the last of those that it sees.

mod head;

use super::kv::KvCache;
use super::logits::LogitRows;
use crate::model::{Config, Layer, Model};
use dovetail_kernels::cpu::attention::Scratch as AttentionScratch;
use dovetail_kernels::cpu::attention::{MAX_SEQUENCES, Plan, Shape, View};
use dovetail_kernels::cpu::{
    ActivationFormats, ActivationRows, Activations, Angles, ChunkedSlice, Kernels, LANES,
    WeightMatrix,
};
use dovetail_kernels::cpu::{ProductScratch, ThreadPool, chunk_len, groups_per_chunk};
use smallvec::SmallVec;

/// What lives between phases.
pub(crate) struct Buffers {
    /// What each row sees: (rows).
    pub views: Vec<View>,
    /// What the head left of the last pass.
    pub logits: LogitRows,
    /// What the last pass handed out of its hidden states.
    pub features: Features,
    hidden: Vec<f32>,         // panel (n_embd)
    qkv: Vec<f32>,            // panel ((n_heads + 2 n_kv_heads) · head_dim)
    queries: Vec<f32>,        // (n_kv_heads, rows, group, head_dim), rotated and scaled
    parts: Vec<f32>,          // as `Plan` has it
    inner: Vec<f32>,          // panel (n_ff)
    more: Vec<f32>,           // (groups, rows, 16): logits on their way
    more_peaks: Vec<f32>,     // (groups, rows)
    activations: Activations, // (rows)
    angles: Vec<Angles>,      // (rows)
    scratch: Vec<Scratch>,
}

/// What one member of the thread pool needs for itself.
struct Scratch {
    row: Vec<f32>,
    normed: Vec<f32>,
    up: Vec<f32>,
    attention: AttentionScratch,
    products: ProductScratch,
}

/// Hidden states that passes hand out beside the logits, for those who learn from them.
#[derive(Default)]
pub struct Features {
    sets: Vec<TapSet>,
}

/// Hidden states of some layers.
struct TapSet {
    /// Which: those that enter these layers, one past the last layer being what enters the head.
    taps: Vec<usize>,
    rows: Vec<f32>, // (rows, taps, n_embd)
    width: usize,   // taps · n_embd
}

impl Features {
    /// Row `r` of the last pass, of the hidden states that one [tapped](crate::infer::Target::tap) as `taps`:
    /// (taps, n_embd).
    ///
    /// # Panics
    /// When they were not tapped.
    pub fn row(&self, taps: &[usize], r: usize) -> &[f32] {
        if taps.is_empty() {
            return &[];
        }
        let set = self.sets.iter().find(|set| set.taps == taps).expect("they were tapped");
        &set.rows[r * set.width..][..set.width]
    }
}

/// Room for passes.
pub(crate) struct Room {
    /// Most rows of a pass.
    pub rows: usize,
    /// Most positions that a row sees.
    pub positions: usize,
    /// Members of the thread pool.
    pub members: usize,
    /// Longest row that is multiplied, if that is none of a decoder block's.
    pub width: usize,
}

impl Buffers {
    /// For passes through decoder blocks of this configuration, whose matrices and head need `products`.
    pub fn new(c: &Config, room: Room, products: impl Fn() -> ProductScratch) -> Buffers {
        let shape = shape(c);
        let (q_width, kv_width) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let panel = |width: usize| vec![0.0; width.next_multiple_of(LANES) * room.rows];
        let widest = c.n_embd.max(c.n_ff).max(q_width).max(2 * c.head_dim).max(room.width);
        let scratch = || Scratch {
            row: vec![0.0; widest],
            normed: vec![0.0; c.n_embd],
            up: vec![0.0; chunk_len(room.rows)],
            attention: AttentionScratch::new(shape.unit_rows(), c.head_dim),
            products: products(),
        };
        Buffers {
            views: vec![View::default(); room.rows],
            hidden: panel(c.n_embd),
            qkv: panel(q_width + 2 * kv_width),
            queries: vec![0.0; room.rows * q_width],
            parts: vec![0.0; shape.room(room.rows, room.positions)],
            inner: panel(c.n_ff.max(c.n_embd)),
            more: Vec::new(),
            more_peaks: Vec::new(),
            logits: LogitRows::new(c.n_vocab),
            features: Features::default(),
            activations: Activations::new(room.rows, widest),
            angles: vec![Angles::default(); room.rows],
            scratch: (0..room.members).map(|_| scratch()).collect(),
        }
    }

    /// The hidden state of row `r` of `n` after the last pass: (n_embd).
    pub fn hidden(&self, n: usize, r: usize, out: &mut [f32]) {
        gather(&self.hidden, n, r, 0, out);
    }

    /// Chooses which hidden states are handed out: see [`Features`].
    pub fn tap<'a>(&mut self, all: impl Iterator<Item = &'a [usize]> + Clone, n_embd: usize) {
        self.features.sets.retain(|set| all.clone().any(|taps| taps == set.taps));
        for taps in all.filter(|taps| !taps.is_empty()) {
            if !self.features.sets.iter().any(|set| set.taps == taps) {
                let width = taps.len() * n_embd;
                let rows = vec![0.0; width * self.views.len()];
                self.features.sets.push(TapSet { taps: taps.to_vec(), rows, width });
            }
        }
    }
}

fn shape(c: &Config) -> Shape {
    Shape { kv_heads: c.n_kv_heads, group: c.n_heads / c.n_kv_heads, head_dim: c.head_dim }
}

/// Successive rows of a pass that belong to one sequence: `n` of them, written to its cache from `first`
/// on.
pub(crate) struct Span<'a> {
    pub kv: &'a mut KvCache,
    pub first: usize,
    pub n: usize,
}

/// One pass of `n` rows, those of all spans.
pub(crate) struct Pass<'a, 's> {
    pub c: &'a Config,
    pub kernels: &'static Kernels,
    pub pool: &'a mut ThreadPool,
    pub b: &'a mut Buffers,
    pub spans: &'a mut [Span<'s>],
    pub n: usize,
}

impl Pass<'_, '_> {
    /// Runs `tokens` and computes the head for these rows of them.
    pub fn run(&mut self, model: &Model, tokens: &[u32], outputs: &[usize]) {
        let weights = model.weights();
        let mut row = std::mem::take(&mut self.b.scratch[0].row);
        let embedding = &mut row[..self.c.n_embd];
        for (r, &token) in tokens.iter().enumerate() {
            model.embed(token, embedding);
            self.set_hidden(r, embedding);
        }
        self.b.scratch[0].row = row;
        self.blocks(&weights.layers, &[]);
        self.hand_out(weights.layers.len(), Some(&weights.output_norm));
        self.head(Some(&weights.output_norm), &weights.output, outputs.len(), |i| outputs[i]);
    }

    /// Makes `x` the hidden state of row `r`: (n_embd).
    pub fn set_hidden(&mut self, r: usize, x: &[f32]) {
        for (g, lanes) in x.chunks_exact(LANES).enumerate() {
            self.b.hidden[(g * self.n + r) * LANES..][..LANES].copy_from_slice(lanes);
        }
    }

    /// Takes the hidden states through decoder blocks; attention of those without a norm reads `given`,
    /// (n, as wide as its matrices).
    pub fn blocks(&mut self, layers: &[Layer], given: &[f32]) {
        let rope = &self.c.rope;
        for (angles, view) in self.b.angles.iter_mut().zip(&self.b.views[..self.n]) {
            angles.set(view.len() - 1, &rope.frequencies, rope.factor);
        }
        for (i, layer) in layers.iter().enumerate() {
            self.hand_out(i, None);
            self.attention_block(i, layer, given);
            self.feed_forward_block(layer);
        }
    }

    /// Copies the hidden states that enter `layer` to where drafters find them, if any asked for them.
    fn hand_out(&mut self, layer: usize, norm: Option<&[f32]>) {
        let (c, n, kernels) = (self.c, self.n, self.kernels);
        let b = &mut *self.b;
        for TapSet { taps, rows, width } in &mut b.features.sets {
            for (tap, _) in taps.iter().enumerate().filter(|(_, tap)| **tap == layer) {
                for (r, row) in rows.chunks_exact_mut(*width).take(n).enumerate() {
                    let out = &mut row[tap * c.n_embd..][..c.n_embd];
                    gather(&b.hidden, n, r, 0, out);
                    if let Some(weight) = norm {
                        let normed = &mut b.scratch[0].normed;
                        (kernels.rms_norm)(out, weight, c.rms_eps, normed);
                        out.copy_from_slice(normed);
                    }
                }
            }
        }
    }

    /// Multiplies rows that are no hidden states: `row` gives each, (n_in); `out` becomes (n, n_out).
    pub fn multiply<'r>(
        &mut self,
        w: &WeightMatrix,
        row: impl Fn(usize) -> &'r [f32] + Sync,
        out: &mut [f32],
    ) {
        let (n, kernels) = (self.n, self.kernels);
        self.quantize(row, w.formats());
        let b = &mut *self.b;
        let activations = b.activations.rows(n, w.n_cols());
        let panel = &mut b.inner[..w.n_groups() * LANES * n];
        let chunk = groups_per_chunk(w.n_groups(), n, self.pool.members());
        self.pool.for_chunks(panel, chunk * n * LANES, &mut b.scratch, |i, out, s| {
            kernels.multiply(w, i * chunk, activations, out, false, &mut s.products);
        });
        for (r, out) in out.chunks_exact_mut(w.n_rows()).take(n).enumerate() {
            gather(&b.inner, n, r, 0, out);
        }
    }

    /// Quantises rows that are no hidden states into the `activations`.
    fn quantize<'r>(
        &mut self,
        row: impl Fn(usize) -> &'r [f32] + Sync,
        formats: ActivationFormats,
    ) {
        let (n, kernels) = (self.n, self.kernels);
        let b = &mut *self.b;
        let row_lines = b.activations.row_lines();
        self.pool.for_chunks(
            b.activations.rows_mut(n),
            row_lines,
            &mut b.scratch,
            |r, activations, _| {
                (kernels.quantize)(row(r), formats, activations);
            },
        );
    }

    fn attention_block(&mut self, i: usize, layer: &Layer, given: &[f32]) {
        let (c, n, kernels, formats) = (self.c, self.n, self.kernels, layer.qkv_formats());
        let [q, k, v] = &layer.qkv;
        let width = q.n_cols();
        match &layer.attn_norm {
            Some(norm) => self.norm(Some(norm), formats, n, |r| r),
            None => self.quantize(|r| &given[r * width..][..width], formats),
        }
        let b = &mut *self.b;
        let activations = b.activations.rows(n, width);
        let qkv = &mut b.qkv[..(c.n_heads + 2 * c.n_kv_heads) * c.head_dim * n];
        let chunk = groups_per_chunk(qkv.len() / n / LANES, n, self.pool.members());
        self.pool.for_chunks(qkv, chunk * n * LANES, &mut b.scratch, |i, out, s| {
            multiply_stacked(kernels, &[q, k, v], i * chunk, activations, out, &mut s.products);
        });
        self.rotate_and_store(i);
        let mut done = 0;
        while done < n {
            done += self.attend(i, done, layer.attn_output.formats());
        }
        self.add_product(&layer.attn_output);
    }

    /// Rotates queries and keys; keys and values go to layer `i` of the caches.
    fn rotate_and_store(&mut self, i: usize) {
        let (c, n, kernels) = (self.c, self.n, self.kernels);
        let (hd, group) = (c.head_dim, c.n_heads / c.n_kv_heads);
        let (q_width, kv_width) = (c.n_heads * hd, c.n_kv_heads * hd);
        let scale = 1.0 / (hd as f32).sqrt();
        let b = &mut *self.b;
        let (angles, qkv) = (&b.angles[..n], &b.qkv[..]);
        let queries = (&mut b.queries[..n * q_width], n * group * hd);
        let mut places: SmallVec<[_; MAX_SEQUENCES]> = SmallVec::new();
        let mut caches: SmallVec<[_; MAX_SEQUENCES]> = SmallVec::new();
        for span in self.spans.iter_mut() {
            let (cache, layout) = span.kv.layer_mut(i);
            caches.push(ChunkedSlice::new(cache, layout.head_bytes()));
            places.push((layout, span.first..span.first + span.n));
        }
        self.pool.for_chunks_of_many(
            queries,
            &mut caches,
            &mut b.scratch,
            |head, queries, caches, s| {
                for (j, query) in queries.chunks_exact_mut(hd).enumerate() {
                    let r = j / group;
                    gather(qkv, n, r, (head * group + j % group) * hd, query);
                    (kernels.rope)(query, &angles[r], c.rope.style);
                    query.iter_mut().for_each(|x| *x *= scale);
                }
                let (key, value) = s.row[..2 * hd].split_at_mut(hd);
                let mut rows = angles.iter().enumerate();
                for ((layout, positions), cache) in places.iter().zip(caches) {
                    for (position, (r, angles)) in positions.clone().zip(&mut rows) {
                        gather(qkv, n, r, q_width + head * hd, key);
                        gather(qkv, n, r, q_width + kv_width + head * hd, value);
                        (kernels.rope)(key, angles, c.rope.style);
                        layout.store(cache, position, key, value);
                    }
                }
            },
        );
    }

    /// Attention of as many rows from `from` on as there is room for, quantised into `activations`; returns how
    /// many.
    fn attend(&mut self, i: usize, from: usize, formats: ActivationFormats) -> usize {
        let (c, n, kernels) = (self.c, self.n, self.kernels);
        let hd = c.head_dim;
        let (b, spans) = (&mut *self.b, &*self.spans);
        let (views, queries) = (&b.views[..n], &b.queries[..]);
        let lens = spans.iter().map(|span| span.n);
        let plan = Plan::new(shape(c), views, lens, from, b.parts.len(), self.pool.members());
        let parts = &mut b.parts[..plan.len()];
        self.pool.for_chunks(parts, plan.unit_len(), &mut b.scratch, |unit, parts, s| {
            let cells = |sequence: usize, head| spans[sequence].kv.head(i, head);
            let task = plan.task(unit, queries, views, cells);
            (kernels.attention)(&task, &mut s.attention, parts);
        });
        let parts = &b.parts[..];
        let row_lines = b.activations.row_lines();
        let activations = &mut b.activations.rows_mut(from + plan.tokens())[from * row_lines..];
        self.pool.for_chunks(activations, row_lines, &mut b.scratch, |r, activations, s| {
            let row = &mut s.row[..c.n_heads * hd];
            for (head, out) in row.chunks_exact_mut(hd).enumerate() {
                (kernels.combine)(&plan.parts(parts, r, head, &views[from + r]), out);
            }
            (kernels.quantize)(row, formats, activations);
        });
        plan.tokens()
    }

    fn feed_forward_block(&mut self, layer: &Layer) {
        let (c, n, kernels) = (self.c, self.n, self.kernels);
        self.norm(Some(&layer.ffn_norm), layer.ffn_formats(), n, |r| r);
        let b = &mut *self.b;
        let activations = b.activations.rows(n, c.n_embd);
        let inner = &mut b.inner[..c.n_ff.next_multiple_of(LANES) * n];
        let chunk = groups_per_chunk(inner.len() / n / LANES, n, self.pool.members());
        self.pool.for_chunks(inner, chunk * n * LANES, &mut b.scratch, |i, gate, s| {
            let up = &mut s.up[..gate.len()];
            kernels.multiply(&layer.gate, i * chunk, activations, gate, false, &mut s.products);
            kernels.multiply(&layer.up, i * chunk, activations, up, false, &mut s.products);
            (kernels.swiglu)(gate, up);
        });
        let inner = &b.inner[..];
        let formats = layer.down.formats();
        let row_lines = b.activations.row_lines();
        self.pool.for_chunks(
            b.activations.rows_mut(n),
            row_lines,
            &mut b.scratch,
            |r, activations, s| {
                let row = &mut s.row[..c.n_ff];
                gather(inner, n, r, 0, row);
                (kernels.quantize)(row, formats, activations);
            },
        );
        self.add_product(&layer.down);
    }

    /// Normalises the hidden states of `m` rows, with a weight, and quantises them into the first `activations`.
    fn norm(
        &mut self,
        weight: Option<&[f32]>,
        formats: ActivationFormats,
        m: usize,
        row_of: impl Fn(usize) -> usize + Sync,
    ) {
        let (c, n, kernels) = (self.c, self.n, self.kernels);
        let b = &mut *self.b;
        let hidden = &b.hidden[..];
        let row_lines = b.activations.row_lines();
        self.pool.for_chunks(
            b.activations.rows_mut(m),
            row_lines,
            &mut b.scratch,
            |r, activations, s| {
                let row = &mut s.row[..c.n_embd];
                gather(hidden, n, row_of(r), 0, row);
                let row = match weight {
                    Some(weight) => {
                        (kernels.rms_norm)(row, weight, c.rms_eps, &mut s.normed);
                        &s.normed[..]
                    }
                    None => row,
                };
                (kernels.quantize)(row, formats, activations);
            },
        );
    }

    /// Adds `w · activations` to the hidden state.
    fn add_product(&mut self, w: &WeightMatrix) {
        let (n, kernels) = (self.n, self.kernels);
        let b = &mut *self.b;
        let activations = b.activations.rows(n, w.n_cols());
        let hidden = &mut b.hidden[..self.c.n_embd * n];
        let chunk = groups_per_chunk(w.n_groups(), n, self.pool.members());
        self.pool.for_chunks(hidden, chunk * n * LANES, &mut b.scratch, |i, out, s| {
            kernels.multiply(w, i * chunk, activations, out, true, &mut s.products);
        });
    }
}

/// Multiplies groups `first..` of several matrices stacked on each other.
fn multiply_stacked(
    kernels: &Kernels,
    stack: &[&WeightMatrix],
    first: usize,
    activations: ActivationRows,
    mut out: &mut [f32],
    scratch: &mut ProductScratch,
) {
    let mut base = 0;
    for w in stack {
        let end = base + w.n_groups();
        let at = first.max(base);
        if at < end && !out.is_empty() {
            let len = out.len().min((end - at) * activations.n_rows() * LANES);
            let (mine, rest) = std::mem::take(&mut out).split_at_mut(len);
            kernels.multiply(w, at - base, activations, mine, false, scratch);
            out = rest;
        }
        base = end;
    }
}

/// Copies elements `from..from + out.len()` of row `r` out of a panel of `n` rows.
fn gather(panel: &[f32], n: usize, r: usize, from: usize, out: &mut [f32]) {
    if n == 1 {
        return out.copy_from_slice(&panel[from..][..out.len()]);
    }
    let mut done = 0;
    while done < out.len() {
        let (group, lane) = ((from + done) / LANES, (from + done) % LANES);
        let len = (LANES - lane).min(out.len() - done);
        let lanes = &panel[(group * n + r) * LANES + lane..][..len];
        out[done..done + len].copy_from_slice(lanes);
        done += len;
    }
}
