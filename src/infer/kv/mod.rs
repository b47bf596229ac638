//! The KV cache of one sequence.
//!
//! One buffer for each layer. It holds, for each KV head in turn, blocks of keys and chunks of values in the layout
//! that [`dovetail_kernels::cpu::attention`] reads:
//!
//! ```text
//! (n_kv_heads) × [ keys (positions / 16 blocks) | values (positions / 256 chunks) ]
//! ```
//!
//! A layer with a window has room only for the positions that the rows of a pass see and write: a ring, in which later
//! positions replace those that no row sees any more. So a sequence can be truncated by a tree's path, but seldom by
//! more: [`KvCache::truncate`]. Window rows that were copied before bring such positions back (`rows.rs`).
//!
//! Positions `0..len` are the sequence. The positions behind are free: a pass writes its rows there, and
//! [`KvCache::keep`] or [`KvCache::grow`] makes them part of the sequence.

mod rows;

use crate::error::{Error, Result};
use crate::machine;
use crate::model::{Config, LayerKind};
use crate::tree::MAX_NODES;
use dovetail_kernels::cpu::attention::{CHUNK, Cells, Half};
use dovetail_kernels::cpu::{CacheType, ThreadPool};
use std::ops::Range;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheTypes {
    /// Type of the keys.
    pub keys: CacheType,
    /// Type of the values.
    pub values: CacheType,
}

/// The KV cache of one sequence. The system provides memory as positions are first written.
pub struct KvCache {
    layers: Vec<Layer>,
    size: KvSize,
    len: usize,
}

/// One layer's keys and values; no bytes where the layer reads another's.
struct Layer {
    bytes: Vec<u8>, // (n_kv_heads, head_bytes)
    layout: Layout,
    /// The first position that is still there.
    oldest: usize,
}

/// Sizes that caches are made for.
#[derive(Clone, Copy, Debug)]
pub struct KvSize {
    /// Largest number of positions.
    pub n_ctx: usize,
    /// Largest number of rows that a pass writes behind the sequence.
    pub rows: usize,
    /// How keys and values are stored.
    pub types: CacheTypes,
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Errors
    /// If memory does not suffice.
    pub fn new(config: &Config, size: KvSize) -> Result<KvCache> {
        // The memory itself comes later, but the system must grant the address space now.
        let layer = |i: usize| {
            let layout = Layout::new(config.kind(i), size);
            let bytes = bytemuck::allocation::try_zeroed_vec(layer_bytes(config, i, size))?;
            Ok(Layer { bytes, layout, oldest: 0 })
        };
        let layers = (0..config.n_layers).map(layer).collect::<std::result::Result<_, ()>>();
        let layers = layers.map_err(|()| {
            let needed_bytes = KvCache::bytes_for(config, size);
            Error::Memory { n_ctx: size.n_ctx, sequences: 1, needed_bytes, free_bytes: None }
        })?;
        Ok(KvCache { layers, size, len: 0 })
    }

    /// Bytes of a full cache.
    pub fn bytes_for(config: &Config, size: KvSize) -> u64 {
        let layers = (0..config.n_layers).map(|i| layer_bytes(config, i, size) as u64);
        layers.fold(0, u64::saturating_add)
    }

    /// Checks that there is memory for the caches of `sequences` sequences.
    ///
    /// # Errors
    /// If they need more than is free.
    pub fn check_memory(config: &Config, size: KvSize, sequences: usize) -> Result<()> {
        let needed = KvCache::bytes_for(config, size).saturating_mul(sequences as u64);
        KvCache::check_bytes(needed, size.n_ctx, sequences)
    }

    /// Checks that `needed_bytes` are free for the context of `sequences` sequences.
    ///
    /// # Errors
    /// If they are not.
    pub(super) fn check_bytes(needed_bytes: u64, n_ctx: usize, sequences: usize) -> Result<()> {
        match machine::available_memory().filter(|free| needed_bytes > *free) {
            None => Ok(()),
            free_bytes => Err(Error::Memory { n_ctx, sequences, needed_bytes, free_bytes }),
        }
    }

    /// Largest number of positions.
    pub fn capacity(&self) -> usize {
        self.size.n_ctx
    }

    /// What it was made for.
    pub fn size(&self) -> KvSize {
        self.size
    }

    /// Number of filled positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is filled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it still holds all that a row behind the first `len` positions sees.
    pub fn holds(&self, len: usize) -> bool {
        let needed = |layer: &Layer| {
            layer.layout.window.map_or(0, |window| (len + 1).saturating_sub(window))
        };
        len <= self.len && self.layers.iter().all(|layer| layer.oldest <= needed(layer))
    }

    /// Drops all positions from `len` on, and returns how many remain. These are none if the next row would see
    /// positions that the cache of a window no longer holds.
    #[must_use]
    pub fn truncate(&mut self, len: usize) -> usize {
        let len = self.len.min(len);
        let len = if self.holds(len) { len } else { 0 };
        if len == 0 {
            self.layers.iter_mut().for_each(|layer| layer.oldest = 0);
        }
        self.len = len;
        len
    }

    /// Fills `len` positions with meaningless values, to measure passes behind them. They are written, because memory
    /// that was never written is the system's one zero page, which is faster to read.
    pub(super) fn pretend(&mut self, len: usize) {
        for Layer { bytes, layout, .. } in &mut self.layers {
            let used = layout.positions.min(len.next_multiple_of(CHUNK));
            for head in bytes.chunks_exact_mut(layout.head_bytes()) {
                let (keys, values) = head.split_at_mut(layout.key_bytes);
                for bytes in [keys, values] {
                    let used = bytes.len() / layout.positions * used;
                    bytes[..used].fill(0x11);
                }
            }
        }
        self.will_write(len);
        self.len = len;
    }

    /// Says that a pass writes positions up to `end`, which in a ring replace others.
    pub(super) fn will_write(&mut self, end: usize) {
        for layer in &mut self.layers {
            layer.oldest = layer.oldest.max(end.saturating_sub(layer.layout.positions));
        }
    }

    /// Makes the next `n` positions part of the sequence.
    pub(super) fn grow(&mut self, n: usize) {
        debug_assert!(self.len + n <= self.size.n_ctx);
        self.len += n;
    }

    /// Makes the positions that `path` names part of the sequence, in this order. `path` counts from the sequence's end
    /// and is ascending. The bytes are far apart and no longer in any cache of the CPU, so each layer is one task of
    /// the thread pool and the members wait for memory in parallel.
    pub(super) fn keep(&mut self, path: &[usize], pool: &mut ThreadPool) {
        let len = self.len;
        let moves = || path.iter().enumerate().filter(|(depth, node)| depth != *node);
        if moves().next().is_some() {
            let mut scratch = vec![(); pool.members()];
            pool.for_chunks(&mut self.layers, 1, &mut scratch, |_, layer, _| {
                let Layer { bytes, layout, .. } = &mut layer[0];
                for head in bytes.chunks_exact_mut(layout.head_bytes()) {
                    // A node lies at or behind its destination, so nothing is overwritten before it is read.
                    for (depth, node) in moves() {
                        layout.copy(head, len + node, len + depth);
                    }
                }
            });
        }
        self.grow(path.len());
    }

    /// One layer's buffer and its layout.
    pub(super) fn layer_mut(&mut self, layer: usize) -> (&mut [u8], Layout) {
        let Layer { bytes, layout, .. } = &mut self.layers[layer];
        (bytes, *layout)
    }

    /// Keys and values of one head.
    pub(super) fn head(&self, layer: usize, head: usize) -> (Cells<'_>, Cells<'_>) {
        let Layer { bytes, layout, .. } = &self.layers[layer];
        let Layout { types, head_dim, key_bytes, .. } = *layout;
        let len = layout.head_bytes();
        let (keys, values) = bytes[head * len..][..len].split_at(key_bytes);
        let keys = Cells::new(types.keys, Half::Keys, head_dim, keys);
        (keys, Cells::new(types.values, Half::Values, head_dim, values))
    }
}

/// Bytes of a layer.
fn layer_bytes(config: &Config, layer: usize, size: KvSize) -> usize {
    let kind = config.kind(layer);
    match config.has_kv(layer) {
        true => Layout::new(kind, size).head_bytes().saturating_mul(kind.heads.n_kv),
        false => 0,
    }
}

/// Layout of one head's part of a layer.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    types: CacheTypes,
    head_dim: usize,
    /// Positions that a row sees; none if these are all.
    window: Option<usize>,
    /// Positions that there is room for: position `p` lies at `p` modulo this number.
    positions: usize,
    key_bytes: usize,
    value_bytes: usize,
}

impl Layout {
    fn new(kind: &LayerKind, size: KvSize) -> Layout {
        let KvSize { n_ctx, rows, types } = size;
        let (head_dim, window) = (kind.heads.padded_dim(), kind.window);
        // A ring holds what the first row of a pass sees and the pass writes, after a tree's path was dropped.
        let ring =
            window.map_or(n_ctx, |window| window.saturating_add(rows.max(MAX_NODES) + MAX_NODES));
        let positions = n_ctx.min(ring).next_multiple_of(CHUNK);
        let [key_bytes, value_bytes] =
            [types.keys, types.values].map(|ty| positions * ty.row_bytes(head_dim));
        Layout { types, head_dim, window, positions, key_bytes, value_bytes }
    }

    /// Bytes of one head.
    pub fn head_bytes(&self) -> usize {
        self.key_bytes + self.value_bytes
    }

    /// The positions before `n` that later rows see.
    fn seen(&self, n: usize) -> Range<usize> {
        self.window.map_or(0, |window| n.saturating_add(1).saturating_sub(window)).min(n)..n
    }

    /// Writes the key and the value of one position.
    pub fn store(&self, head: &mut [u8], position: usize, key: &[f32], value: &[f32]) {
        let slot = position % self.positions;
        let (keys, values) = head.split_at_mut(self.key_bytes);
        self.types.keys.store(Half::Keys, keys, slot, key);
        self.types.values.store(Half::Values, values, slot, value);
    }

    /// Bytes of one position's key and value, independent of the layout.
    fn row_bytes(&self) -> usize {
        self.types.keys.row_bytes(self.head_dim) + self.types.values.row_bytes(self.head_dim)
    }

    fn read(&self, head: &[u8], position: usize, row: &mut [u8]) {
        let (slot, head_dim) = (position % self.positions, self.head_dim);
        let (keys, values) = head.split_at(self.key_bytes);
        let (key, value) = row.split_at_mut(self.types.keys.row_bytes(head_dim));
        self.types.keys.read(Half::Keys, keys, head_dim, slot, key);
        self.types.values.read(Half::Values, values, head_dim, slot, value);
    }

    fn write(&self, head: &mut [u8], position: usize, row: &[u8]) {
        let (slot, head_dim) = (position % self.positions, self.head_dim);
        let (keys, values) = head.split_at_mut(self.key_bytes);
        let (key, value) = row.split_at(self.types.keys.row_bytes(head_dim));
        self.types.keys.write(Half::Keys, keys, head_dim, slot, key);
        self.types.values.write(Half::Values, values, head_dim, slot, value);
    }

    fn copy(&self, head: &mut [u8], from: usize, to: usize) {
        let [from, to] = [from, to].map(|position| position % self.positions);
        let (keys, values) = head.split_at_mut(self.key_bytes);
        self.types.keys.copy(Half::Keys, keys, self.head_dim, from, to);
        self.types.values.copy(Half::Values, values, self.head_dim, from, to);
    }
}
