//! The KV cache of one sequence.
//!
//! One buffer for each layer. It holds, for each KV head in turn, blocks of keys and chunks of values in the layout
//! that [`dovetail_kernels::cpu::attention`] reads:
//!
//! ```text
//! (n_kv_heads) × [ keys (n_ctx / 16 blocks) | values (n_ctx / 256 chunks) ]
//! ```
//!
//! Positions `0..len` are the sequence. The positions behind are free: a pass writes its rows there, and
//! [`KvCache::keep`] or [`KvCache::grow`] makes them part of the sequence.

use crate::error::{Error, Result};
use crate::machine;
use crate::model::Config;
use crate::setting::{Advice, Setting};
use dovetail_kernels::cpu::attention::{CHUNK, Cells, Half};
use dovetail_kernels::cpu::{CacheType, ThreadPool};
use std::io::{self, Read, Write};

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
    layers: Vec<Vec<u8>>,
    layout: Layout,
    capacity: usize,
    len: usize,
}

impl KvCache {
    /// An empty cache for `n_ctx` positions.
    ///
    /// # Errors
    /// If the types do not fit heads of this length, or memory does not suffice.
    pub fn new(config: &Config, n_ctx: usize, types: CacheTypes) -> Result<KvCache> {
        let (layout, hd) = (Layout::new(config, n_ctx, types), config.padded_head_dim());
        let both = [(Setting::CacheTypeK, types.keys), (Setting::CacheTypeV, types.values)];
        if let Some((setting, ty)) = both.into_iter().find(|(_, ty)| !ty.fits(hd)) {
            let name = ty.name();
            let what = format!(
                "a cache of type {name} takes heads of a multiple of 32 elements, this model's have {hd}"
            );
            let refusal = setting.with(name).refuse_since(what);
            return Err(refusal.or(Advice::Do("use f16".into())).into());
        }
        let layer = layout.head_bytes() * config.n_kv_heads;
        // The memory itself comes later, but the system must grant the address space now.
        let layers = (0..config.n_layers).map(|_| bytemuck::allocation::try_zeroed_vec(layer));
        let layers = layers.collect::<std::result::Result<_, _>>().map_err(|()| {
            let needed_bytes = KvCache::bytes_for(config, n_ctx, types);
            Error::Memory { n_ctx, sequences: 1, needed_bytes, free_bytes: None }
        })?;
        Ok(KvCache { layers, layout, capacity: n_ctx, len: 0 })
    }

    /// Bytes of a full cache of `n_ctx` positions.
    pub fn bytes_for(config: &Config, n_ctx: usize, types: CacheTypes) -> u64 {
        let head = Layout::new(config, n_ctx, types).head_bytes();
        (head * config.n_kv_heads * config.n_layers) as u64
    }

    /// Checks that there is memory for the caches of `sequences` sequences.
    ///
    /// # Errors
    /// If they need more than is free.
    pub fn check_memory(
        config: &Config,
        n_ctx: usize,
        types: CacheTypes,
        sequences: usize,
    ) -> Result<()> {
        let needed = KvCache::bytes_for(config, n_ctx, types) * sequences as u64;
        KvCache::check_bytes(needed, n_ctx, sequences)
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
        self.capacity
    }

    /// Number of filled positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is filled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Fills `len` positions with meaningless values, to measure passes behind them. They are written, because memory
    /// that was never written is the system's one zero page, which is faster to read.
    pub(super) fn pretend(&mut self, len: usize) {
        let (layout, heads) = (self.layout, self.layers.iter_mut());
        for head in heads.flat_map(|layer| layer.chunks_exact_mut(layout.head_bytes())) {
            let (keys, values) = head.split_at_mut(layout.key_bytes);
            for bytes in [keys, values] {
                let used = bytes.len() / layout.positions * len.next_multiple_of(CHUNK);
                bytes[..used].fill(0x11);
            }
        }
        self.len = len;
    }

    /// Makes the next `n` positions part of the sequence.
    pub(super) fn grow(&mut self, n: usize) {
        debug_assert!(self.len + n <= self.capacity);
        self.len += n;
    }

    /// Makes the positions that `path` names part of the sequence, in this order. `path` counts from the sequence's end
    /// and is ascending. The bytes are far apart and no longer in any cache of the CPU, so each layer is one task of
    /// the thread pool and the members wait for memory in parallel.
    pub(super) fn keep(&mut self, path: &[usize], pool: &mut ThreadPool) {
        let (layout, len) = (self.layout, self.len);
        let moves = || path.iter().enumerate().filter(|(depth, node)| depth != *node);
        if moves().next().is_some() {
            let mut scratch = vec![(); pool.members()];
            pool.for_chunks(&mut self.layers, 1, &mut scratch, |_, layer, _| {
                for head in layer[0].chunks_exact_mut(layout.head_bytes()) {
                    // A node lies at or behind its destination, so nothing is overwritten before it is read.
                    for (depth, node) in moves() {
                        layout.copy(head, len + node, len + depth);
                    }
                }
            });
        }
        self.grow(path.len());
    }

    /// Bytes of a position in [`KvCache::write_rows`].
    pub(crate) fn row_bytes(&self) -> usize {
        let heads = self.layers.len() * self.layers.first().map_or(0, Vec::len);
        heads / self.layout.head_bytes().max(1) * self.layout.row_bytes()
    }

    /// Writes the first `n` positions independently of the cache's layout: (layers, n_kv_heads, n), each the key and
    /// the value as [`CacheType::read`](dovetail_kernels::cpu::CacheType::read) gives them.
    pub(crate) fn write_rows(&self, n: usize, out: &mut dyn Write) -> io::Result<()> {
        let mut row = vec![0; self.layout.row_bytes()];
        for head in self.layers.iter().flat_map(|l| l.chunks_exact(self.layout.head_bytes())) {
            for position in 0..n {
                self.layout.read(head, position, &mut row);
                out.write_all(&row)?;
            }
        }
        Ok(())
    }

    /// Replaces the sequence by `n` positions written by [`KvCache::write_rows`].
    pub(crate) fn read_rows(&mut self, n: usize, from: &mut dyn Read) -> io::Result<()> {
        assert!(n <= self.capacity, "the caller has looked");
        let layout = self.layout;
        let mut row = vec![0; layout.row_bytes()];
        self.len = 0;
        for head in self.layers.iter_mut().flat_map(|l| l.chunks_exact_mut(layout.head_bytes())) {
            for position in 0..n {
                from.read_exact(&mut row)?;
                layout.write(head, position, &row);
            }
        }
        self.len = n;
        Ok(())
    }

    /// One layer's buffer and its layout.
    pub(super) fn layer_mut(&mut self, layer: usize) -> (&mut [u8], Layout) {
        (&mut self.layers[layer], self.layout)
    }

    /// Keys and values of one head.
    pub(super) fn head(&self, layer: usize, head: usize) -> (Cells<'_>, Cells<'_>) {
        let Layout { types, key_bytes, .. } = self.layout;
        let len = self.layout.head_bytes();
        let (keys, values) = self.layers[layer][head * len..][..len].split_at(key_bytes);
        (Cells { ty: types.keys, bytes: keys }, Cells { ty: types.values, bytes: values })
    }
}

/// Layout of one head's part of a layer.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    types: CacheTypes,
    head_dim: usize,
    positions: usize,
    key_bytes: usize,
    value_bytes: usize,
}

impl Layout {
    fn new(config: &Config, n_ctx: usize, types: CacheTypes) -> Layout {
        let (positions, head_dim) = (n_ctx.next_multiple_of(CHUNK), config.padded_head_dim());
        let [key_bytes, value_bytes] =
            [types.keys, types.values].map(|ty| positions * ty.row_bytes(head_dim));
        Layout { types, head_dim, positions, key_bytes, value_bytes }
    }

    /// Bytes of one head.
    pub fn head_bytes(&self) -> usize {
        self.key_bytes + self.value_bytes
    }

    /// Writes the key and the value of one position.
    pub fn store(&self, head: &mut [u8], position: usize, key: &[f32], value: &[f32]) {
        let (keys, values) = head.split_at_mut(self.key_bytes);
        self.types.keys.store(Half::Keys, keys, position, key);
        self.types.values.store(Half::Values, values, position, value);
    }

    /// Bytes of one position's key and value, independent of the layout.
    fn row_bytes(&self) -> usize {
        self.types.keys.row_bytes(self.head_dim) + self.types.values.row_bytes(self.head_dim)
    }

    fn read(&self, head: &[u8], position: usize, row: &mut [u8]) {
        let (keys, values) = head.split_at(self.key_bytes);
        let (key, value) = row.split_at_mut(self.types.keys.row_bytes(self.head_dim));
        self.types.keys.read(Half::Keys, keys, self.head_dim, position, key);
        self.types.values.read(Half::Values, values, self.head_dim, position, value);
    }

    fn write(&self, head: &mut [u8], position: usize, row: &[u8]) {
        let (keys, values) = head.split_at_mut(self.key_bytes);
        let (key, value) = row.split_at(self.types.keys.row_bytes(self.head_dim));
        self.types.keys.write(Half::Keys, keys, self.head_dim, position, key);
        self.types.values.write(Half::Values, values, self.head_dim, position, value);
    }

    fn copy(&self, head: &mut [u8], from: usize, to: usize) {
        let (keys, values) = head.split_at_mut(self.key_bytes);
        self.types.keys.copy(Half::Keys, keys, self.head_dim, from, to);
        self.types.values.copy(Half::Values, values, self.head_dim, from, to);
    }
}
