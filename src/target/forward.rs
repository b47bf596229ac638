//! One pass over the weights serves all rows.
//!
//! Per layer: norm and quantise · queries, keys and values · rotate and store · attention · quantise ·
//! output projection · norm and quantise · gate, up and SwiGLU · quantise · down. Each is one phase
//! shared out over the team.
//!
//! Activations between phases are *panels*, `(width / 16, rows, 16)`: the shape in which products
//! leave the kernels. Tokens, rows and positions: row `r` of a pass is the token at position
//! `len + r`.

use super::kv::{self, KvCache};
use super::logits::{LogitRows, Logits, find_peaks};
use crate::error::{Error, Result};
use crate::model::{Config, Layer, Model};
use dovetail_kernels::cpu::{ActRows, Acts, Angles, Attention, Forms, Kernels, LANES, Packed};
use dovetail_kernels::cpu::{ProductScratch, Team};
use std::sync::Arc;

/// Rows that are attended together: they share the reading of keys and values.
const ATTENTION_ROWS: usize = 8;

/// A chunk of a product has at most so many (group, row) tiles, or so many groups of any size.
const CHUNK_ROWS: usize = 256;
const CHUNK_GROUPS: usize = 4;

/// Which rows of a pass the head is computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// No row: the pass only fills the cache.
    None,
    /// The last row.
    Last,
    /// Every row.
    All,
}

/// A model with the cache of one sequence and the threads and buffers to run it.
///
/// After construction a pass neither allocates nor locks.
pub struct Target {
    model: Arc<Model>,
    kernels: &'static Kernels,
    team: Team,
    kv: KvCache,
    buffers: Buffers,
    max_rows: usize,
}

struct Buffers {
    hidden: Vec<f32>,   // panel (n_embd)
    qkv: Vec<f32>,      // panel ((n_heads + 2 n_kv_heads) · head_dim)
    attended: Vec<f32>, // (row tiles, n_kv_heads, ATTENTION_ROWS, group, head_dim)
    inner: Vec<f32>,    // panel (n_ff)
    logits: LogitRows,
    acts: Acts,          // (rows)
    angles: Vec<Angles>, // (rows)
    scratch: Vec<Scratch>,
}

/// What one member of the team needs for itself.
struct Scratch {
    row: Vec<f32>,
    normed: Vec<f32>,
    up: Vec<f32>,
    queries: Vec<f32>,
    seen: Vec<usize>,
    products: ProductScratch,
}

impl Target {
    /// An empty sequence of up to `n_ctx` tokens, run `max_rows` at a time by `threads` threads.
    ///
    /// # Errors
    /// When `DOVETAIL_ISA` names what this CPU lacks.
    pub fn new(model: Arc<Model>, n_ctx: usize, threads: usize, max_rows: usize) -> Result<Target> {
        let kernels = Kernels::choose().map_err(Error::Invalid)?;
        let max_rows = max_rows.clamp(1, n_ctx.max(1));
        let c = model.config();
        let team = Team::new(threads);
        let (q_width, kv_width) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let panel = |width: usize| vec![0.0; width.next_multiple_of(LANES) * max_rows];
        let widest = c.n_embd.max(c.n_ff).max(q_width).max(2 * c.head_dim);
        let scratch = || Scratch {
            row: vec![0.0; widest],
            normed: vec![0.0; c.n_embd],
            up: vec![0.0; CHUNK_ROWS.max(CHUNK_GROUPS * max_rows) * LANES],
            queries: vec![0.0; ATTENTION_ROWS * (q_width / c.n_kv_heads)],
            seen: vec![0; ATTENTION_ROWS * (c.n_heads / c.n_kv_heads)],
            products: model.weights().scratch(),
        };
        let buffers = Buffers {
            hidden: panel(c.n_embd),
            qkv: panel(q_width + 2 * kv_width),
            attended: vec![0.0; max_rows.next_multiple_of(ATTENTION_ROWS) * q_width],
            inner: panel(c.n_ff),
            logits: LogitRows::new(c.n_vocab),
            acts: Acts::new(max_rows, widest),
            angles: vec![Angles::default(); max_rows],
            scratch: (0..team.members()).map(|_| scratch()).collect(),
        };
        let kv = KvCache::new(c, n_ctx);
        Ok(Target { model, kernels, team, kv, buffers, max_rows })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The instruction set in use.
    pub fn isa(&self) -> &'static str {
        self.kernels.name
    }

    /// Threads at work.
    pub fn threads(&self) -> usize {
        self.team.members()
    }

    /// The sequence's cache.
    pub fn kv(&self) -> &KvCache {
        &self.kv
    }

    /// Most rows of one pass.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Forgets the tokens from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.kv.truncate(len);
    }

    /// Appends `tokens`, at most [`Target::max_rows`] of them, in one pass.
    ///
    /// # Errors
    /// When the context has no room for them, or a token is not in the vocabulary; the sequence is
    /// then as it was.
    pub fn append(&mut self, tokens: &[u32], outputs: Outputs) -> Result<()> {
        let n = tokens.len();
        if n == 0 {
            return Ok(());
        }
        let (first, capacity) = (self.kv.len(), self.kv.capacity());
        if n > self.max_rows {
            let most = self.max_rows;
            return Err(Error::Invalid(format!("{n} tokens in one pass; at most {most} fit")));
        }
        if first + n > capacity {
            return Err(Error::Context { needed: first + n, available: capacity });
        }
        let n_vocab = self.model.config().n_vocab;
        if let Some(token) = tokens.iter().find(|token| **token as usize >= n_vocab) {
            return Err(Error::Invalid(format!("token {token} is not one of {n_vocab}")));
        }
        let model = self.model.clone();
        let c = model.config();
        let mut pass = Pass {
            c,
            kernels: self.kernels,
            team: &mut self.team,
            kv: &mut self.kv,
            b: &mut self.buffers,
            n,
            first,
        };
        pass.embed(&model, tokens);
        for (i, layer) in model.weights().layers.iter().enumerate() {
            pass.attention_block(i, layer);
            pass.feed_forward_block(layer);
        }
        let rows = match outputs {
            Outputs::None => n..n,
            Outputs::Last => n - 1..n,
            Outputs::All => 0..n,
        };
        pass.head(&model, rows);
        self.kv.grow(n);
        Ok(())
    }

    /// Logits of output row `i` of the last pass.
    pub fn logits(&self, i: usize) -> Logits<'_> {
        self.buffers.logits.row(i)
    }
}

/// One pass of `n` rows, the first at position `first`.
struct Pass<'a> {
    c: &'a Config,
    kernels: &'static Kernels,
    team: &'a mut Team,
    kv: &'a mut KvCache,
    b: &'a mut Buffers,
    n: usize,
    first: usize,
}

impl Pass<'_> {
    fn embed(&mut self, model: &Model, tokens: &[u32]) {
        let (c, n) = (self.c, self.n);
        let row = &mut self.b.scratch[0].row[..c.n_embd];
        for (r, &token) in tokens.iter().enumerate() {
            model.embed(token, row);
            for (g, lanes) in row.chunks_exact(LANES).enumerate() {
                self.b.hidden[(g * n + r) * LANES..][..LANES].copy_from_slice(lanes);
            }
            let rope = &c.rope;
            self.b.angles[r].set(self.first + r, &rope.frequencies, rope.factor);
        }
    }

    fn attention_block(&mut self, i: usize, layer: &Layer) {
        let (c, n, first, kernels) = (self.c, self.n, self.first, self.kernels);
        let (hd, group) = (c.head_dim, c.n_heads / c.n_kv_heads);
        let (q_width, kv_width) = (c.n_heads * hd, c.n_kv_heads * hd);

        self.norm(&layer.attn_norm, layer.qkv_forms(), 0..n);
        let [q, k, v] = &layer.qkv;
        let b = &mut *self.b;
        let acts = b.acts.rows(n, c.n_embd);
        let qkv = &mut b.qkv[..(q_width + 2 * kv_width) * n];
        let chunk = groups_per_chunk(qkv.len() / n / LANES, n, self.team);
        self.team.share(qkv, chunk * n * LANES, &mut b.scratch, |i, out, s| {
            multiply_stacked(kernels, &[q, k, v], i * chunk, acts, out, &mut s.products);
        });

        let (angles, qkv) = (&b.angles[..n], &b.qkv[..]);
        let (cache, head_len) = self.kv.layer_mut(i);
        self.team.share(cache, head_len, &mut b.scratch, |head, cache, s| {
            let (key, value) = s.row[..2 * hd].split_at_mut(hd);
            for (r, angles) in angles.iter().enumerate() {
                gather(qkv, n, r, q_width + head * hd, key);
                gather(qkv, n, r, q_width + kv_width + head * hd, value);
                (kernels.rope)(key, angles, c.rope.style);
                kv::store(cache, first + r, key, value);
            }
        });

        let cache = &*self.kv;
        let scale = 1.0 / (hd as f32).sqrt();
        let tile_len = ATTENTION_ROWS.min(n) * group * hd;
        let tiles = n.div_ceil(ATTENTION_ROWS);
        let attended = &mut b.attended[..tiles * c.n_kv_heads * tile_len];
        self.team.share(attended, tile_len, &mut b.scratch, |unit, out, s| {
            let (tile, head) = (unit / c.n_kv_heads, unit % c.n_kv_heads);
            let rows = tile * ATTENTION_ROWS..n.min((tile + 1) * ATTENTION_ROWS);
            let len = rows.len() * group * hd;
            for (j, query) in s.queries[..len].chunks_exact_mut(hd).enumerate() {
                let r = rows.start + j / group;
                gather(qkv, n, r, (head * group + j % group) * hd, query);
                (kernels.rope)(query, &angles[r], c.rope.style);
                query.iter_mut().for_each(|x| *x *= scale);
                s.seen[j] = first + r + 1;
            }
            let (keys, values) = cache.head(i, head);
            let (queries, seen) = (&s.queries[..len], &s.seen[..rows.len() * group]);
            let task = Attention { queries, seen, keys, values, head_dim: hd };
            (kernels.attention)(&task, &mut out[..len]);
        });

        let attended = &b.attended[..];
        let forms = layer.attn_output.forms();
        let row_lines = b.acts.row_lines();
        self.team.share(b.acts.rows_mut(n), row_lines, &mut b.scratch, |r, acts, s| {
            let row = &mut s.row[..q_width];
            for (head, out) in row.chunks_exact_mut(group * hd).enumerate() {
                let unit = r / ATTENTION_ROWS * c.n_kv_heads + head;
                let at = unit * tile_len + r % ATTENTION_ROWS * group * hd;
                out.copy_from_slice(&attended[at..][..group * hd]);
            }
            (kernels.quantize)(row, forms, acts);
        });
        self.add_product(&layer.attn_output);
    }

    fn feed_forward_block(&mut self, layer: &Layer) {
        let (c, n, kernels) = (self.c, self.n, self.kernels);
        self.norm(&layer.ffn_norm, layer.ffn_forms(), 0..n);
        let b = &mut *self.b;
        let acts = b.acts.rows(n, c.n_embd);
        let inner = &mut b.inner[..c.n_ff.next_multiple_of(LANES) * n];
        let chunk = groups_per_chunk(inner.len() / n / LANES, n, self.team);
        self.team.share(inner, chunk * n * LANES, &mut b.scratch, |i, gate, s| {
            let up = &mut s.up[..gate.len()];
            kernels.multiply(&layer.gate, i * chunk, acts, gate, false, &mut s.products);
            kernels.multiply(&layer.up, i * chunk, acts, up, false, &mut s.products);
            (kernels.swiglu)(gate, up);
        });
        let inner = &b.inner[..];
        let forms = layer.down.forms();
        let row_lines = b.acts.row_lines();
        self.team.share(b.acts.rows_mut(n), row_lines, &mut b.scratch, |r, acts, s| {
            let row = &mut s.row[..c.n_ff];
            gather(inner, n, r, 0, row);
            (kernels.quantize)(row, forms, acts);
        });
        self.add_product(&layer.down);
    }

    fn head(&mut self, model: &Model, rows: std::ops::Range<usize>) {
        let m = rows.len();
        if m == 0 {
            self.b.logits.resize(0);
            return;
        }
        let (weights, kernels) = (model.weights(), self.kernels);
        let output = &weights.output;
        self.norm(&weights.output_norm, output.forms(), rows);
        let b = &mut *self.b;
        let (panel, peaks) = b.logits.resize(m);
        let n_vocab = self.c.n_vocab;
        let acts = b.acts.rows(m, self.c.n_embd);
        let chunk = groups_per_chunk(output.n_groups(), m, self.team);
        let (panel, peaks) = ((panel, chunk * m * LANES), (peaks, chunk * m));
        self.team.share_two(panel, peaks, &mut b.scratch, |i, out, peaks, s| {
            kernels.multiply(output, i * chunk, acts, out, false, &mut s.products);
            find_peaks(out, m, n_vocab - i * chunk * LANES, peaks);
        });
    }

    /// Normalises the given rows of the hidden state and quantises them into the first `acts`.
    fn norm(&mut self, weight: &[f32], forms: Forms, rows: std::ops::Range<usize>) {
        let (c, n, kernels) = (self.c, self.n, self.kernels);
        let b = &mut *self.b;
        let hidden = &b.hidden[..];
        let start = rows.start;
        let row_lines = b.acts.row_lines();
        self.team.share(b.acts.rows_mut(rows.len()), row_lines, &mut b.scratch, |r, acts, s| {
            let row = &mut s.row[..c.n_embd];
            gather(hidden, n, start + r, 0, row);
            (kernels.rms_norm)(row, weight, c.rms_eps, &mut s.normed);
            (kernels.quantize)(&s.normed, forms, acts);
        });
    }

    /// Adds `w · acts` to the hidden state.
    fn add_product(&mut self, w: &Packed) {
        let (n, kernels) = (self.n, self.kernels);
        let b = &mut *self.b;
        let acts = b.acts.rows(n, w.n_cols());
        let hidden = &mut b.hidden[..self.c.n_embd * n];
        let chunk = groups_per_chunk(w.n_groups(), n, self.team);
        self.team.share(hidden, chunk * n * LANES, &mut b.scratch, |i, out, s| {
            kernels.multiply(w, i * chunk, acts, out, true, &mut s.products);
        });
    }
}

/// How many groups one member takes at a time: small enough that a slow member is not waited for,
/// large enough that taking them costs nothing.
fn groups_per_chunk(groups: usize, rows: usize, team: &Team) -> usize {
    (groups / (4 * team.members())).clamp(1, (CHUNK_ROWS / rows).max(CHUNK_GROUPS))
}

/// Multiplies groups `first..` of several matrices stacked on each other.
fn multiply_stacked(
    kernels: &Kernels,
    stack: &[&Packed],
    first: usize,
    acts: ActRows,
    mut out: &mut [f32],
    scratch: &mut ProductScratch,
) {
    let mut base = 0;
    for w in stack {
        let end = base + w.n_groups();
        let at = first.max(base);
        if at < end && !out.is_empty() {
            let len = out.len().min((end - at) * acts.n_rows() * LANES);
            let (mine, rest) = std::mem::take(&mut out).split_at_mut(len);
            kernels.multiply(w, at - base, acts, mine, false, scratch);
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
