//! Keys and values of one sequence.
//!
//! Half floats, one buffer a layer; in it, one after the other for each KV head, the keys in blocks of
//! 16 positions and the values row by row, as [`dovetail_kernels::cpu::attention`] reads them:
//!
//! ```text
//! (n_kv_heads) × [ keys (n_ctx / 16, head_dim, 16) | values (n_ctx, head_dim) ]
//! ```

use crate::model::Config;
use dovetail_kernels::cpu::LANES;
use half::f16;

/// The cache of one sequence; memory is taken from the system as positions are first written.
pub struct KvCache {
    layers: Vec<Vec<u16>>,
    head_dim: usize,
    capacity: usize,
    len: usize,
}

impl KvCache {
    /// An empty cache for `n_ctx` positions.
    pub fn new(config: &Config, n_ctx: usize) -> KvCache {
        let capacity = n_ctx.next_multiple_of(LANES);
        let layer = Self::head_len(config.head_dim, capacity) * config.n_kv_heads;
        let layers = (0..config.n_layers).map(|_| vec![0; layer]).collect();
        KvCache { layers, head_dim: config.head_dim, capacity: n_ctx, len: 0 }
    }

    /// Bytes of a full cache of `n_ctx` positions.
    pub fn bytes_for(config: &Config, n_ctx: usize) -> u64 {
        let head = Self::head_len(config.head_dim, n_ctx.next_multiple_of(LANES));
        2 * (head * config.n_kv_heads * config.n_layers) as u64
    }

    fn head_len(head_dim: usize, positions: usize) -> usize {
        2 * positions * head_dim
    }

    /// Positions that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Positions that are filled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is filled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    pub(super) fn grow(&mut self, n: usize) {
        debug_assert!(self.len + n <= self.capacity);
        self.len += n;
    }

    /// One layer's buffer and the length of one head's part.
    pub(super) fn layer_mut(&mut self, layer: usize) -> (&mut [u16], usize) {
        let head = Self::head_len(self.head_dim, self.capacity.next_multiple_of(LANES));
        (&mut self.layers[layer], head)
    }

    /// Keys and values of one head.
    pub(super) fn head(&self, layer: usize, head: usize) -> (&[u16], &[u16]) {
        let len = Self::head_len(self.head_dim, self.capacity.next_multiple_of(LANES));
        self.layers[layer][head * len..][..len].split_at(len / 2)
    }
}

/// Writes key and value of one position into one head's part of a layer.
pub(super) fn store(head: &mut [u16], position: usize, key: &[f32], value: &[f32]) {
    let (keys, values) = head.split_at_mut(head.len() / 2);
    let head_dim = key.len();
    let block = &mut keys[position / LANES * LANES * head_dim..][..LANES * head_dim];
    for (lanes, key) in block.chunks_exact_mut(LANES).zip(key) {
        lanes[position % LANES] = f16::from_f32(*key).to_bits();
    }
    for (out, value) in values[position * head_dim..].iter_mut().zip(value) {
        *out = f16::from_f32(*value).to_bits();
    }
}
