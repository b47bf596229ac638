//! Positions of a cache as bytes, independently of the cache's layout: for files, other caches, and later.
//!
//! They are (layers, n_kv_heads, positions), each the key and the value as
//! [`CacheType::read`](dovetail_kernels::cpu::CacheType::read) gives them. Of a layer with a window these are only the
//! last positions, which a row behind them sees. A ring loses them when the sequence goes on; the *window rows* of a
//! length, which are those of such layers alone, bring them back.

use super::{KvCache, Layer};
use std::io::{self, Read, Write};

impl Layer {
    /// Bytes of the first `n` positions, or of those that a row behind them sees.
    fn rows_bytes(&self, n: usize) -> Option<usize> {
        let row_bytes = self.bytes.len() / self.layout.head_bytes() * self.layout.row_bytes();
        self.layout.seen(n).len().checked_mul(row_bytes)
    }

    fn write_rows(&self, n: usize, out: &mut dyn Write) -> io::Result<()> {
        let mut row = vec![0; self.layout.row_bytes()];
        for head in self.bytes.chunks_exact(self.layout.head_bytes()) {
            for position in self.layout.seen(n) {
                self.layout.read(head, position, &mut row);
                out.write_all(&row)?;
            }
        }
        Ok(())
    }

    fn read_rows(&mut self, n: usize, from: &mut dyn Read) -> io::Result<()> {
        let Layer { bytes, layout, oldest } = self;
        let mut row = vec![0; layout.row_bytes()];
        for head in bytes.chunks_exact_mut(layout.head_bytes()) {
            for position in layout.seen(n) {
                from.read_exact(&mut row)?;
                layout.write(head, position, &row);
            }
        }
        *oldest = layout.seen(n).start;
        Ok(())
    }

    /// Whether it has a window.
    fn is_windowed(&self) -> bool {
        self.layout.window.is_some()
    }
}

impl KvCache {
    /// Bytes that [`KvCache::write_rows`] writes for `n` positions, if there can be so many.
    pub(crate) fn saved_bytes(&self, n: u64) -> Option<u64> {
        let n = usize::try_from(n).ok()?;
        let mut layers = self.layers.iter();
        let sum = layers.try_fold(0usize, |sum, layer| sum.checked_add(layer.rows_bytes(n)?))?;
        Some(sum as u64)
    }

    /// Writes the first `n` positions.
    pub(crate) fn write_rows(&self, n: usize, out: &mut dyn Write) -> io::Result<()> {
        self.layers.iter().try_for_each(|layer| layer.write_rows(n, out))
    }

    /// Replaces the sequence by `n` positions written by [`KvCache::write_rows`].
    pub(crate) fn read_rows(&mut self, n: usize, from: &mut dyn Read) -> io::Result<()> {
        assert!(n <= self.size.n_ctx, "the caller has looked");
        self.len = 0;
        self.layers.iter_mut().try_for_each(|layer| layer.read_rows(n, from))?;
        self.len = n;
        Ok(())
    }

    /// Whether what [`KvCache::write_rows`] writes of `n` positions lacks some.
    pub(crate) fn lacks_rows(&self, n: usize) -> bool {
        self.layers.iter().any(|layer| layer.layout.seen(n).start > 0)
    }

    /// Bytes of the window rows of `n` positions.
    pub(crate) fn window_bytes(&self, n: usize) -> usize {
        let windowed = self.layers.iter().filter(|layer| layer.is_windowed());
        windowed.map(|layer| layer.rows_bytes(n).expect("it was allocated")).sum()
    }

    /// The window rows of the first `n` positions; `None` unless the cache [holds](KvCache::holds) them.
    pub(crate) fn window_rows(&self, n: usize) -> Option<Vec<u8>> {
        if !self.holds(n) {
            return None;
        }
        let mut rows = Vec::with_capacity(self.window_bytes(n));
        for layer in self.layers.iter().filter(|layer| layer.is_windowed()) {
            layer.write_rows(n, &mut rows).expect("a vector takes what is written");
        }
        Some(rows)
    }

    /// Truncates the sequence to `n` positions, of which these are the window rows.
    pub(crate) fn truncate_to(&mut self, n: usize, mut window_rows: &[u8]) {
        assert!(n <= self.len && window_rows.len() == self.window_bytes(n), "they were of it");
        for layer in self.layers.iter_mut().filter(|layer| layer.is_windowed()) {
            layer.read_rows(n, &mut window_rows).expect("they are as long");
        }
        self.len = n;
    }

    /// Writes the first `n` positions as [`KvCache::write_rows`] does, with these window rows in place of those that
    /// it may have lost.
    pub(crate) fn write_rows_with(&self, n: usize, window_rows: &[u8], out: &mut Vec<u8>) {
        let mut left = window_rows;
        for layer in &self.layers {
            if layer.is_windowed() {
                let (rows, rest) = left.split_at(layer.rows_bytes(n).expect("it was allocated"));
                out.extend_from_slice(rows);
                left = rest;
            } else {
                layer.write_rows(n, out).expect("a vector takes what is written");
            }
        }
    }
}
