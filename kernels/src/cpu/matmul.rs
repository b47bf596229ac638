//! `n` rows of activations by packed weights.
//!
//! # The order of operations
//! In each output, over the blocks of the weight row in order: the integer sum of the block is exact,
//! and enters the result in one fused step (two with a minimum):
//!
//! ```text
//! acc = fma(d · x.d, Σ scale[j] · Σ (code[i] − offset) · q[i], acc)
//! acc = fma(m, x.d · Σ min[j] · Σ q[i], acc)
//! ```
//!
//! Weights in floating point: one fused step after the other, in order of `k`.
//!
//! Outputs never share an operation, so neither the number of rows nor the split over threads shows.
//!
//! # Shape of the output
//! Tiles: `out[g][row][lane]` is output `16 g + lane` of activation row `row`, so that a thread that
//! takes consecutive groups writes consecutive memory. For one row this is the plain vector.

use super::acts::ActRow;
use super::blocks::{BlockKernel, Columns, Plain, Super, block, prefetch};
use super::lanes::{LANES, Simd, Wide, nth};
use super::pack::{Layout, Lines, Packed, Units, foreign_stride};
use crate::quant::Format;

/// Rows of activations that share one pass over a group of weights.
const PANEL: usize = 32;

/// Multiplies groups `first..` of `w` by the rows `x`; as many groups as `out` has tiles. With `add`
/// the products are added to what `out` holds.
///
/// `scratch` has [`Packed::scratch_len`] floats.
#[inline(always)]
pub(super) fn matmul<S: Simd, const P: usize>(
    s: Wide<S, P>,
    w: &Packed,
    first: usize,
    x: &[ActRow],
    out: &mut [f32], // (groups, x.len(), 16)
    add: bool,
    scratch: &mut [f32],
) {
    let groups = Groups { w, first, x, add };
    match w.layout {
        Layout::F32 => groups.floats::<S, P, Single>(s.0, out),
        Layout::F16 => groups.floats::<S, P, Half>(s.0, out),
        Layout::BF16 => groups.floats::<S, P, Brain>(s.0, out),
        Layout::Foreign { row_bytes } => groups.foreign::<S, P>(s.0, out, row_bytes, scratch),
        Layout::Blocks(f) => match (f.bits, f.scaled, f.min) {
            (4, false, false) => groups.blocks::<S, P, Plain<4, false>>(s.0, &f, out),
            (4, false, true) => groups.blocks::<S, P, Plain<4, true>>(s.0, &f, out),
            (5, false, false) => groups.blocks::<S, P, Plain<5, false>>(s.0, &f, out),
            (5, false, true) => groups.blocks::<S, P, Plain<5, true>>(s.0, &f, out),
            (8, false, false) => groups.blocks::<S, P, Plain<8, false>>(s.0, &f, out),
            (2, true, true) => groups.blocks::<S, P, Super<2, 16, true>>(s.0, &f, out),
            (3, true, false) => groups.blocks::<S, P, Super<3, 16, false>>(s.0, &f, out),
            (4, true, true) => groups.blocks::<S, P, Super<4, 32, true>>(s.0, &f, out),
            (5, true, true) => groups.blocks::<S, P, Super<5, 32, true>>(s.0, &f, out),
            (6, true, false) => groups.blocks::<S, P, Super<6, 16, false>>(s.0, &f, out),
            _ => unreachable!("the table of types has no such format"),
        },
    }
}

/// One call's arguments.
struct Groups<'a> {
    w: &'a Packed,
    first: usize,
    x: &'a [ActRow],
    add: bool,
}

impl Groups<'_> {
    /// Runs a block format over the groups: one or two rows with their sums in registers, or a panel of
    /// rows with its sums in the first-level cache.
    #[inline(always)]
    fn blocks<S: Simd, const P: usize, B: BlockKernel>(&self, s: S, f: &Format, out: &mut [f32]) {
        let units = Units::new(f, self.w.n_cols());
        // Panels outside, groups inside: a panel of activations stays in the nearest caches while the
        // groups of this call come from the second level.
        for (p, x) in self.x.chunks(PANEL).enumerate() {
            let mut rows: [&[B::Acts]; PANEL] = [&[]; PANEL];
            for (rows, x) in rows.iter_mut().zip(x) {
                *rows = B::acts(x);
            }
            for (g, tile) in out.chunks_exact_mut(self.x.len() * LANES).enumerate() {
                let lines = self.w.group(self.first + g);
                let tile = &mut tile[p * PANEL * LANES..][..x.len() * LANES];
                let zero = ([s.splat(0.0); P], s.splat_i(0));
                match x.len() {
                    1 => {
                        let (mut acc, mut sums) = ([zero.0; 1], [zero.1; 1]);
                        let x: &[_; 1] = nth(&rows, 0);
                        let columns = Columns { x, acc: &mut acc, sums: &mut sums };
                        self.group::<S, P, B>(s, units, lines, columns);
                        self.store(s, &acc, tile);
                    }
                    2 => {
                        let (mut acc, mut sums) = ([zero.0; 2], [zero.1; 2]);
                        let x: &[_; 2] = nth(&rows, 0);
                        let columns = Columns { x, acc: &mut acc, sums: &mut sums };
                        self.group::<S, P, B>(s, units, lines, columns);
                        self.store(s, &acc, tile);
                    }
                    n => {
                        let (mut acc, mut sums) = ([zero.0; PANEL], [zero.1; PANEL]);
                        let (acc, sums) = (&mut acc[..n], &mut sums[..n]);
                        let columns = Columns { x: &rows[..n], acc, sums };
                        self.group::<S, P, B>(s, units, lines, columns);
                        self.store(s, acc, tile);
                    }
                }
            }
        }
    }

    /// Multiplies one group by some rows.
    #[inline(always)]
    fn group<S: Simd, const P: usize, B: BlockKernel>(
        &self,
        s: S,
        mut units: Units,
        mut lines: Lines,
        mut columns: Columns<S, B::Acts, P>,
    ) {
        let mut b = 0;
        while let Some((codes, scales)) = units.next(&mut lines) {
            prefetch(s, scales);
            for i in 0..codes.len() / B::CODE_LINES {
                let (codes, meta) = block::<B>(codes, scales, i);
                B::multiply(s, codes, meta, b, &mut columns);
                b += 1;
            }
        }
    }

    /// Weights in floating point.
    #[inline(always)]
    fn floats<S: Simd, const P: usize, W: Weight>(&self, s: S, out: &mut [f32]) {
        for (g, tile) in out.chunks_exact_mut(self.x.len() * LANES).enumerate() {
            let lines = self.w.group(self.first + g);
            self.float_group::<S, P, W>(s, lines.as_flattened(), tile);
        }
    }

    /// Dequantises 16 rows at a time with ggml and multiplies them as floats.
    #[inline(always)]
    fn foreign<S: Simd, const P: usize>(
        &self,
        s: S,
        out: &mut [f32],
        row_bytes: usize,
        scratch: &mut [f32],
    ) {
        let (k, stride) = (self.w.n_cols(), foreign_stride(row_bytes));
        let (row, tile16) = scratch[..(LANES + 1) * k].split_at_mut(k);
        for (g, tile) in out.chunks_exact_mut(self.x.len() * LANES).enumerate() {
            let lines = self.w.group(self.first + g);
            let rows = (self.w.n_rows() - (self.first + g) * LANES).min(LANES);
            tile16.fill(0.0);
            for lane in 0..rows {
                self.w.ty.dequantize(&lines.as_flattened()[lane * stride..][..row_bytes], row);
                for (w, tile) in row.iter().zip(tile16.chunks_exact_mut(LANES)) {
                    tile[lane] = *w;
                }
            }
            self.float_group::<S, P, Single>(s, bytemuck::cast_slice(tile16), tile);
        }
    }

    /// As many rows at once as keep enough sums in registers to hide the latency of a fused step.
    #[inline(always)]
    fn float_group<S: Simd, const P: usize, W: Weight>(
        &self,
        s: S,
        weights: &[u8],
        tile: &mut [f32],
    ) {
        let step = if P == 1 { 12 } else { 6 };
        let (x, rest) = self.x.split_at(self.x.len() / step * step);
        let (tile, tile_rest) = tile.split_at_mut(x.len() * LANES);
        for (x, out) in x.chunks_exact(step).zip(tile.chunks_exact_mut(step * LANES)) {
            if P == 1 {
                self.float_rows::<S, P, W, 12>(s, weights, nth(x, 0), out);
            } else {
                self.float_rows::<S, P, W, 6>(s, weights, nth(x, 0), out);
            }
        }
        let mut at = 0;
        while at < rest.len() {
            let out = &mut tile_rest[at * LANES..];
            at += match rest.len() - at {
                4.. => self.float_rows::<S, P, W, 4>(s, weights, nth(&rest[at..], 0), out),
                2.. => self.float_rows::<S, P, W, 2>(s, weights, nth(&rest[at..], 0), out),
                _ => self.float_rows::<S, P, W, 1>(s, weights, nth(&rest[at..], 0), out),
            };
        }
    }

    /// Multiplies `N` rows; returns `N`.
    #[inline(always)]
    fn float_rows<S: Simd, const P: usize, W: Weight, const N: usize>(
        &self,
        s: S,
        weights: &[u8],
        x: &[ActRow; N],
        tile: &mut [f32],
    ) -> usize {
        let k = self.w.n_cols();
        let mut rows: [&[f32]; N] = [&[]; N];
        for (row, x) in rows.iter_mut().zip(x) {
            *row = &x.float()[..k];
        }
        let mut acc = [[s.splat(0.0); P]; N];
        for i in 0..k {
            let mut w = [s.splat(0.0); P];
            for (part, w) in w.iter_mut().enumerate() {
                *w = W::load(s, weights, i, part);
            }
            for (acc, x) in acc.iter_mut().zip(rows) {
                let x = s.splat(x[i]);
                for (acc, w) in acc.iter_mut().zip(w) {
                    *acc = s.fma(w, x, *acc);
                }
            }
        }
        self.store(s, &acc, tile);
        N
    }

    /// Writes the sums of some rows, or adds them to what is there.
    #[inline(always)]
    fn store<S: Simd, const P: usize>(&self, s: S, acc: &[[S::F; P]], out: &mut [f32]) {
        for (acc, out) in acc.iter().zip(out.as_chunks_mut::<LANES>().0) {
            for (part, &acc) in acc.iter().enumerate() {
                let sum = if self.add { s.add(s.load(out, part), acc) } else { acc };
                s.store(sum, out, part);
            }
        }
    }
}

/// A floating-point type of weights, interleaved `(k, 16)`.
trait Weight {
    /// The weights of a register's rows at `k`.
    fn load<S: Simd>(s: S, weights: &[u8], k: usize, part: usize) -> S::F;
}

struct Single;
struct Half;
struct Brain;

impl Weight for Single {
    #[inline(always)]
    fn load<S: Simd>(s: S, weights: &[u8], k: usize, part: usize) -> S::F {
        s.load_f32(nth(weights, k), part)
    }
}

impl Weight for Half {
    #[inline(always)]
    fn load<S: Simd>(s: S, weights: &[u8], k: usize, part: usize) -> S::F {
        s.load_f16(nth(weights, k), part)
    }
}

impl Weight for Brain {
    #[inline(always)]
    fn load<S: Simd>(s: S, weights: &[u8], k: usize, part: usize) -> S::F {
        s.load_bf16(nth(weights, k), part)
    }
}
