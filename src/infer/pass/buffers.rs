//! Buffers that phases of a pass share. They are allocated before the first pass.

use super::panel::Panel;
use super::rows::{KindRows, Row};
use crate::infer::logits::LogitRows;
use crate::model::block::{
    Attention, Block, Branch, Dense, FeedForward, Mixer, PerLayer, QkNorm, QkNormPlace,
};
use crate::model::{Config, Heads};
use dovetail_kernels::cpu::attention::{Scratch as AttentionScratch, Shape};
use dovetail_kernels::cpu::{Activations, LANES, ProductScratch, chunk_len};

/// Buffers of a pass.
pub(crate) struct Buffers {
    /// The rows of the next pass, or of the last one.
    pub rows: Vec<Row>,
    /// Logits of the last pass.
    pub logits: LogitRows,
    /// Hidden states of the last pass that drafters asked for.
    pub features: Features,
    pub(super) kinds: Vec<KindRows>, // (kinds of layers)
    pub(super) n_ctx: usize,         // largest number of positions of a sequence
    pub(super) hidden: Panel,        // (n_embd)
    pub(super) entry: Panel,         // (n_embd): what enters a parallel block, if there is any
    pub(super) per_layer: Vec<f32>, // (rows, n_layers, n_embd_per_layer): embeddings for each block
    pub(super) more: Vec<f32>,      // (groups, rows, 16): logits before they are appended
    pub(super) more_peaks: Vec<f32>, // (groups, rows)
    pub(super) cpu: CpuBuffers,
}

/// Buffers of the phases on the CPU.
pub(super) struct CpuBuffers {
    pub qkv: Panel,        // queries, keys, values, and the gate, each in whole groups
    pub queries: Vec<f32>, // (n_kv_heads, rows, group, padded head_dim), rotated and scaled
    pub qk: Vec<f32>, // (rows, (n_heads + n_kv_heads) · head_dim), if any block norms them together
    pub parts: Vec<f32>, // partial results of attention, see `Plan`
    pub inner: Panel, // (n_ff or n_embd)
    pub normed: Vec<f32>, // (rows, n_embd) to be normed and added to the hidden state, if any block has a post-norm
    pub activations: Activations, // (rows)
    pub scratch: Vec<Scratch>,
}

/// Buffers of one member of the thread pool.
pub(super) struct Scratch {
    pub row: Vec<f32>,
    pub normed: Vec<f32>,
    pub up: Vec<f32>,
    /// A row of the gate and a row of zeros, if any block has a gate: (n_heads · head_dim) each.
    pub gate: [Vec<f32>; 2],
    pub attention: AttentionScratch,
    pub products: ProductScratch,
}

/// Hidden states that passes copy out for drafters that read them.
#[derive(Default)]
pub struct Features {
    pub(super) sets: Vec<TapSet>,
}

/// Hidden states that enter a set of layers.
pub(super) struct TapSet {
    /// These layers; the number of layers stands for the input of the head.
    pub taps: Vec<usize>,
    pub rows: Vec<f32>, // (rows, taps, n_embd)
    pub width: usize,   // taps · n_embd
}

impl Features {
    /// Hidden states of row `r` of the last pass, which were [tapped](crate::infer::Target::tap) as `taps`: (taps,
    /// n_embd).
    ///
    /// # Panics
    /// If they were not tapped.
    pub fn row(&self, taps: &[usize], r: usize) -> &[f32] {
        if taps.is_empty() {
            return &[];
        }
        let set = self.sets.iter().find(|set| set.taps == taps).expect("they were tapped");
        &set.rows[r * set.width..][..set.width]
    }

    /// The first tapped layer after `layer`.
    pub(super) fn next_tap(&self, layer: usize) -> Option<usize> {
        let taps = self.sets.iter().flat_map(|set| &set.taps).copied();
        taps.filter(|tap| *tap > layer).min()
    }
}

/// Sizes that buffers are allocated for.
pub(crate) struct BufferSizes {
    /// Largest number of rows of a pass.
    pub rows: usize,
    /// Largest number of positions that a row sees.
    pub positions: usize,
    /// Number of members of the thread pool.
    pub members: usize,
    /// Length of the longest input row of a product outside the decoder blocks.
    pub width: usize,
}

/// What the buffers need for these blocks.
#[derive(Default)]
struct BlockSizes {
    /// Largest inner width of a layer that works on each row alone.
    n_ff: usize,
    gate: bool,
    post_norm: bool,
    /// Whether queries and keys of whole rows are normed.
    qk: bool,
    parallel: bool,
}

impl BlockSizes {
    fn of(blocks: &[Block]) -> BlockSizes {
        let mut needs = BlockSizes::default();
        for Block { mixer, ffn, parallel, per_layer, output_scale: _ } in blocks {
            needs.parallel |= parallel;
            let Branch { norm: _, layer: Mixer::Attention(attention), post_norm, scale: _ } = mixer;
            let Attention {
                q: _,
                kv: _,
                qk_norm,
                scale: _,
                soft_cap: _,
                sinks: _,
                gate,
                output: _,
            } = attention;
            needs.gate |= gate.is_some();
            let place = qk_norm.as_ref().map(|QkNorm { q: _, k: _, place }| *place);
            needs.qk |= place == Some(QkNormPlace::WholeRow);
            needs.post_norm |= post_norm.is_some();
            let Branch { norm: _, layer: FeedForward::Dense(dense), post_norm, scale: _ } = ffn;
            let Dense { activation: _, gate, up: _, down: _ } = dense;
            needs.n_ff = needs.n_ff.max(gate.matrix.n_rows());
            needs.post_norm |= post_norm.is_some();
            if let Some(Branch { norm: _, layer, post_norm, scale: _ }) = per_layer {
                let PerLayer { gate, projection: _ } = layer;
                needs.n_ff = needs.n_ff.max(gate.matrix.n_rows());
                needs.post_norm |= post_norm.is_some();
            }
        }
        needs
    }
}

impl Buffers {
    /// Buffers for passes through these decoder blocks; `products` are the matrices of the blocks and the head.
    pub fn new(
        c: &Config,
        blocks: &[Block],
        sizes: BufferSizes,
        products: impl Fn() -> ProductScratch,
    ) -> Buffers {
        let BufferSizes { rows, positions, members, width } = sizes;
        let (needs, per_layer) = (BlockSizes::of(blocks), c.n_layers * c.n_embd_per_layer);
        let most = |of: &dyn Fn(Heads) -> usize| most(c, of);
        let [q_width, kv_width] = [most(&|heads| heads.q_width()), most(&|heads| heads.kv_width())];
        let [q_columns, kv_columns] = [q_width, kv_width].map(|n| n.next_multiple_of(LANES));
        let gate_width = if needs.gate { q_width } else { 0 };
        let head_dim = most(&|heads| heads.padded_dim());
        let inner = needs.n_ff.max(c.n_embd).max(per_layer + c.n_embd_per_layer);
        let widest = inner.max(q_width + head_dim).max(3 * head_dim).max(width);
        let scratch = || Scratch {
            row: vec![0.0; widest],
            normed: vec![0.0; c.n_embd],
            up: vec![0.0; chunk_len(rows)],
            gate: [vec![0.0; gate_width], vec![0.0; gate_width]],
            attention: AttentionScratch::new(most(&|heads| shape(heads).unit_rows()), head_dim),
            products: products(),
        };
        Buffers {
            rows: Vec::with_capacity(rows),
            logits: LogitRows::new(c.n_vocab),
            features: Features::default(),
            n_ctx: positions,
            kinds: c.kinds.iter().map(|_| KindRows::with_capacity(rows)).collect(),
            hidden: Panel::new(c.n_embd, rows),
            entry: Panel::new(c.n_embd, if needs.parallel { rows } else { 0 }),
            per_layer: vec![0.0; rows * per_layer],
            more: Vec::new(),
            more_peaks: Vec::new(),
            cpu: CpuBuffers {
                qkv: Panel::new(q_columns + 2 * kv_columns + gate_width, rows),
                queries: vec![0.0; rows * most(&|heads| heads.n * heads.padded_dim())],
                qk: vec![0.0; if needs.qk { rows * (q_width + kv_width) } else { 0 }],
                parts: vec![0.0; most(&|heads| shape(heads).room(rows, positions))],
                inner: Panel::new(inner, rows),
                normed: vec![0.0; if needs.post_norm { rows * c.n_embd } else { 0 }],
                activations: Activations::new(rows, widest),
                scratch: (0..members).map(|_| scratch()).collect(),
            },
        }
    }

    /// Approximate bytes of buffers for passes of `rows` rows, of which `logit_rows` have logits, over `positions`
    /// positions. Where the blocks are not known, the configuration says what is needed.
    pub fn bytes_for(
        c: &Config,
        blocks: &[Block],
        rows: usize,
        logit_rows: usize,
        positions: usize,
    ) -> u64 {
        let [q_width, kv_width] =
            [most(c, &|heads| heads.q_width()), most(c, &|heads| heads.kv_width())];
        let per_layer = c.n_layers * c.n_embd_per_layer;
        let n_ff = c.n_ff.iter().copied().fold(BlockSizes::of(blocks).n_ff, usize::max);
        let inner = n_ff.max(c.n_embd).max(per_layer);
        // Activations are stored as floats and in two quantised formats.
        let activations = 2 * inner.max(q_width);
        let queries = most(c, &|heads| heads.n * heads.padded_dim());
        let row = c.n_embd + q_width + 2 * kv_width + queries + inner + activations + per_layer;
        let of_rows = (row as u64).saturating_mul(rows as u64);
        let logits = (c.n_vocab as u64).saturating_mul(logit_rows as u64);
        let parts = most(c, &|heads| shape(heads).room(rows, positions)) as u64;
        let floats = of_rows.saturating_add(logits).saturating_add(parts);
        floats.saturating_mul(size_of::<f32>() as u64)
    }

    /// The hidden state of row `r` after the last pass: (n_embd).
    pub fn hidden(&self, r: usize, out: &mut [f32]) {
        self.hidden.row(r, 0, out);
    }

    /// Sets which hidden states are copied out: see [`Features`].
    pub fn tap<'a>(&mut self, all: impl Iterator<Item = &'a [usize]> + Clone, n_embd: usize) {
        self.features.sets.retain(|set| all.clone().any(|taps| taps == set.taps));
        for taps in all.filter(|taps| !taps.is_empty()) {
            if !self.features.sets.iter().any(|set| set.taps == taps) {
                let width = taps.len() * n_embd;
                let rows = vec![0.0; width * self.rows.capacity()];
                self.features.sets.push(TapSet { taps: taps.to_vec(), rows, width });
            }
        }
    }
}

pub(super) fn shape(heads: Heads) -> Shape {
    Shape { kv_heads: heads.n_kv, group: heads.n / heads.n_kv, head_dim: heads.padded_dim() }
}

/// The largest of a size among all kinds of layers.
fn most(c: &Config, size: &dyn Fn(Heads) -> usize) -> usize {
    c.kinds.iter().map(|kind| size(kind.heads)).fold(0, usize::max)
}
