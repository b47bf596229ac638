//! A drafter's passes as lists of launches.
//!
//! ```text
//! round   entries and, without a tree behind them, a share of them:  receive · features · pass
//!         levels, as many as the tree is deep, less one:             pass
//! pass    fuse · products of the fusion
//!         each block: qkv · rope · attention · output · gate and up · down
//!         head · top k · grow
//! ```
//! Hidden states are normed by the products around them: the one that writes them multiplies by the norm's
//! weights, the one that reads them divides by their length.

use super::buffers::{Buffers, shape};
use super::network::{self, Fused, Network, Vocabulary};
use crate::draft::DrafterContext;
use crate::draft::trained::file::File;
use crate::error::Result;
use crate::gpu::device::{Buffer, Device, Launch};
use crate::gpu::launch::attention_tree::{AttentionTree, attention_tree, splits_for};
use crate::gpu::launch::fuse::{Sources, fuse};
use crate::gpu::launch::grow::{Grow, grow};
use crate::gpu::launch::matmul::{Epilogue, Squares, matmul};
use crate::gpu::launch::receive::{Features, receive};
use crate::gpu::launch::rope_kv::{RopeKv, rope_kv};
use crate::gpu::launch::topk::{TopK, topk};
use crate::gpu::launch::{MAX_ROWS, Slots};
use crate::model::{Config, Heads};
use crate::tree::{MAX_NODES, TreeShape};
use half::f16;

/// Rows that are taken in at once when no tree is grown behind them.
pub const SHARE: usize = 32;

/// A recorded piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedWork {
    /// The device's number for it.
    pub number: usize,
    /// Most rows of its message.
    pub rows: usize,
    /// Depth and width of the largest tree that it grows, if any.
    pub grows: Option<(usize, usize)>,
}

/// A drafter's network and what its passes work on.
pub struct Forward {
    network: Network,
    config: Config,
    /// Pairs of a head that turn.
    pairs: usize,
    taps: usize,
    verdicts: Slots,
    proposals: Slots,
    multiprocessors: usize,
    recorded: Vec<RecordedWork>,
    b: Buffers,
}

/// Which rows a pass has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowKind {
    /// Entries, and whether a tree is grown behind them.
    Entries { grows: bool },
    /// A level of a tree.
    Level { level: usize },
}

impl Forward {
    /// Uploads a drafter.
    ///
    /// # Errors
    /// Those of [`Network::upload`].
    pub fn new(
        device: &mut dyn Device,
        file: &File,
        setup: &DrafterContext,
        verdicts: Slots,
        proposals: Slots,
    ) -> Result<Forward> {
        let network = Network::upload(device, file, setup.target)?;
        let slots = (setup.n_ctx + MAX_NODES).next_multiple_of(16);
        let multiprocessors = device.multiprocessors();
        let rope = network::rope(&file.config)?;
        let (b, pairs) = (Buffers::new(device, file, &network, slots)?, rope.frequencies.len());
        let (config, taps) = (file.config.clone(), file.taps.len());
        let recorded = Vec::new();
        Ok(Forward {
            network,
            config,
            pairs,
            taps,
            verdicts,
            proposals,
            multiprocessors,
            recorded,
            b,
        })
    }

    /// Slots of a sequence's cache.
    pub fn slots(&self) -> usize {
        self.b.rotations.len() / self.pairs
    }

    /// Appends keys and values of the first `n` slots: (blocks, kv heads, n), of each slot key and value.
    ///
    /// # Errors
    /// When the device fails.
    pub fn save(&self, device: &mut dyn Device, n: usize, out: &mut Vec<u8>) -> Result<()> {
        let heads = self.config.heads(0);
        // As the CPU's caches write them.
        let filling = vec![f16::ZERO; heads.padded_dim() - heads.dim];
        for head in self.cache_heads(n) {
            let [keys, values] = head;
            let [keys, values] = [keys.read(device)?, values.read(device)?];
            for (key, value) in keys.chunks_exact(heads.dim).zip(values.chunks_exact(heads.dim)) {
                let rows = [key, &filling, value, &filling];
                rows.into_iter().for_each(|row| out.extend(bytemuck::cast_slice(row)));
            }
        }
        Ok(())
    }

    /// Takes up what was saved of `n` slots; whether it is as long.
    ///
    /// # Errors
    /// When the device fails.
    pub fn restore(&self, device: &mut dyn Device, n: usize, rows: &[u8]) -> Result<bool> {
        let Heads { dim, .. } = self.config.heads(0);
        let row_bytes = self.config.heads(0).padded_dim() * size_of::<f16>();
        let heads = self.cache_heads(n);
        if rows.len() != heads.len() * n * 2 * row_bytes {
            return Ok(false);
        }
        for (head, rows) in heads.iter().zip(rows.chunks_exact((n * 2 * row_bytes).max(1))) {
            for (i, half) in head.iter().enumerate() {
                let rows = rows.chunks_exact(row_bytes).skip(i).step_by(2);
                let rows = rows.flat_map(|row| &row[..dim * size_of::<f16>()]);
                let bytes: Vec<u8> = rows.copied().collect();
                half.write(device, 0, &bytemuck::pod_collect_to_vec(&bytes))?;
            }
        }
        Ok(true)
    }

    /// Keys and values of the first `n` slots of each head of each block.
    fn cache_heads(&self, n: usize) -> Vec<[Buffer<f16>; 2]> {
        let (Heads { n_kv, dim, .. }, slots) = (self.config.heads(0), self.slots());
        let head = |cache: &[Buffer<f16>; 2], head: usize| {
            let first = head * slots * dim;
            cache.each_ref().map(|half| half.part(first..first + n * dim))
        };
        let heads = self.b.caches.iter();
        heads.flat_map(|cache| (0..n_kv).map(move |i| head(cache, i))).collect()
    }

    /// The draft tokens.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.network.vocabulary
    }

    /// The draft tokens, to change them.
    pub fn vocabulary_mut(&mut self) -> &mut Vocabulary {
        &mut self.network.vocabulary
    }

    /// Work that takes in up to [`SHARE`] rows.
    ///
    /// # Errors
    /// When the device fails.
    pub fn absorb(&mut self, device: &mut dyn Device) -> Result<RecordedWork> {
        if let Some(work) = self.recorded.iter().find(|work| work.grows.is_none()) {
            return Ok(*work);
        }
        let mut launches = Vec::new();
        self.pass(&mut launches, SHARE, RowKind::Entries { grows: false });
        self.record(device, &launches, SHARE, None)
    }

    /// Work that takes in what a round accepts and grows a tree of this size or a smaller one.
    ///
    /// # Errors
    /// When the device fails.
    pub fn round(&mut self, device: &mut dyn Device, growth: TreeShape) -> Result<RecordedWork> {
        let enough = |work: &&RecordedWork| {
            work.grows.is_some_and(|(depth, width)| depth >= growth.depth && width >= growth.width)
        };
        if let Some(work) = self.recorded.iter().find(enough) {
            return Ok(*work);
        }
        // A whole path and the token after it.
        let rows = (growth.depth + 1).next_multiple_of(8).min(MAX_ROWS);
        let mut launches = Vec::new();
        self.pass(&mut launches, rows, RowKind::Entries { grows: true });
        self.grow(&mut launches, 0, growth.depth <= 1);
        for level in 1..growth.depth {
            self.pass(&mut launches, growth.width, RowKind::Level { level });
            self.grow(&mut launches, level, level + 1 == growth.depth);
        }
        self.record(device, &launches, rows, Some((growth.depth, growth.width)))
    }

    fn record(
        &mut self,
        device: &mut dyn Device,
        launches: &[Launch],
        rows: usize,
        grows: Option<(usize, usize)>,
    ) -> Result<RecordedWork> {
        let work = RecordedWork { number: device.record(launches)?, rows, grows };
        self.recorded.push(work);
        Ok(work)
    }

    /// One pass of up to `rows` rows, with the head and the likeliest tokens if draft tokens follow.
    fn pass(&self, out: &mut Vec<Launch>, rows: usize, of: RowKind) {
        let Forward { network, config: c, b, .. } = self;
        let (h, eps) = (c.n_embd, c.norm_eps);
        // The count of rows is the first number of `Rows`.
        let n = &b.rows.as_words();
        if let RowKind::Entries { .. } = of {
            self.receive(out, rows, n);
        }
        self.fuse(out, rows, n);
        let normed = |normed: bool| normed.then(|| b.hidden.squares(h, eps));
        for (i, block) in network.blocks.iter().enumerate() {
            let product = |matrix, input, squares: Option<Squares>, epilogue| {
                matmul(rows, n, &[(matrix, input)], squares, None, epilogue)
            };
            let qkv = Epilogue::Store(&b.qkv);
            out.push(product(&block.qkv, &b.hidden.normed, normed(block.normed), qkv));
            self.attention(out, rows, &b.caches[i]);
            let add = Epilogue::Add { hidden: &b.hidden, norm: &block.ffn_norm };
            out.push(product(&block.attn_output, &b.heads, None, add));
            let swiglu = Epilogue::SwiGlu(&b.inner);
            out.push(product(&block.gate_up, &b.hidden.normed, normed(true), swiglu));
            let add = Epilogue::Add { hidden: &b.hidden, norm: network.norm_before(i + 1) };
            out.push(product(&block.down, &b.inner, None, add));
        }
        let (rows, n, first_row_only) = match of {
            RowKind::Entries { grows: false } => return,
            // Row 0 is the root.
            RowKind::Entries { grows: true } => (1, &b.one, true),
            RowKind::Level { .. } => (rows, n, false),
        };
        let head = &network.vocabulary.head;
        let n_draft = b.growth.as_words().part(4..5);
        out.push(matmul(
            rows,
            n,
            &[(head, &b.hidden.normed)],
            normed(network.output_normed),
            Some(&n_draft),
            Epilogue::Store(&b.logits),
        ));
        out.push(topk(&TopK {
            max_rows: rows,
            first_row_only,
            logits: &b.logits,
            stride: head.rows,
            rows: &b.rows,
            growth: &b.growth,
            candidates: &b.candidates,
            scratch: &b.topk,
        }));
    }

    /// Takes the message, and makes features of its rows.
    fn receive(&self, out: &mut Vec<Launch>, rows: usize, n: &Buffer<u32>) {
        let Forward { network, config: c, b, taps, verdicts, .. } = self;
        let (features, width) = match (&network.features, &b.states) {
            (Some((matrix, norms)), Some(states)) => {
                (Features::Rows(states, norms.as_ref()), matrix.columns)
            }
            _ => (Features::Plain(&b.feature), c.n_embd),
        };
        let sizes = [width, *taps, c.n_embd];
        out.push(receive(
            rows, verdicts, &b.taken, sizes, c.norm_eps, &b.rows, &b.growth, &b.sent, features,
        ));
        if let (Some((matrix, _)), Some(states)) = (&network.features, &b.states) {
            let store = Epilogue::Store(&b.feature);
            out.push(matmul(rows, n, &[(matrix, states)], None, None, store));
        }
    }

    /// Makes hidden states of embeddings and features.
    fn fuse(&self, out: &mut Vec<Launch>, rows: usize, n: &Buffer<u32>) {
        let Forward { network, config: c, b, .. } = self;
        let sources = Sources {
            table: &network.vocabulary.table,
            sent: &b.sent,
            feature: &b.feature,
            hidden: &b.hidden.states,
            norms: network.norms.as_ref(),
            width: c.n_embd,
            eps: c.norm_eps,
        };
        out.push(fuse(rows, &b.rows, sources, &b.fused, b.feature_at));
        let (hidden, norm) = (&b.hidden, network.norm_before(0));
        match &network.fusion {
            Fused::CpuDrafter { feature, token, gate } => {
                let features = b.fused.columns(b.feature_at);
                let jobs = [(feature, &features), (token, &b.fused)];
                out.push(matmul(rows, n, &jobs, None, None, Epilogue::Pair(&b.pair)));
                let fused = Epilogue::Gate { hidden, norm, pair: &b.pair };
                out.push(matmul(rows, n, &[(gate, &b.pair)], None, None, fused));
            }
            Fused::Fc { matrix, bias } => {
                let fused = Epilogue::Set { hidden, norm, bias: bias.as_ref() };
                out.push(matmul(rows, n, &[(matrix, &b.fused)], None, None, fused));
            }
        }
    }

    fn attention(&self, out: &mut Vec<Launch>, max_rows: usize, [keys, values]: &[Buffer<f16>; 2]) {
        let Forward { config: c, pairs, b, multiprocessors, .. } = self;
        let (shape, pairs) = (shape(c), *pairs);
        let Buffers { qkv, rotations, rows, queries, .. } = b;
        out.push(rope_kv(&RopeKv {
            shape,
            max_rows,
            qkv,
            rotations,
            pairs,
            rows,
            queries,
            keys,
            values,
        }));
        out.push(attention_tree(&AttentionTree {
            shape,
            max_rows,
            splits: splits_for(shape, max_rows, *multiprocessors),
            queries,
            keys,
            values,
            rows,
            out: &b.heads,
            scratch: &b.attention,
        }));
    }

    fn grow(&self, out: &mut Vec<Launch>, level: usize, last: bool) {
        let Forward { network, b, proposals, .. } = self;
        out.push(grow(&Grow {
            level,
            last,
            growth: &b.growth,
            rows: &b.rows,
            candidates: &b.candidates,
            target_tokens: Some(&network.vocabulary.tokens),
            sequence: &b.written,
            proposals,
        }));
    }
}
