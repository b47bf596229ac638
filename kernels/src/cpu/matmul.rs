//! `n` rows of activations by packed weights.
//!
//! # The order of operations
//! In each output, over the blocks of the weight row in order: the integer sum of the block is exact,
//! and enters the result in one fused step (two with a minimum):
//!
//! ```text
//! acc = fma(d · x.d, Σ scale[j] · Σ (code[i] − offset) · q[i], acc)
//! acc = fma(m · x.d, Σ min[j] · Σ q[i], acc)
//! ```
//!
//! Weights in floating point: four chains over `k mod 4`, each fused in order of `k`, added as
//! `(c0 + c1) + (c2 + c3)`.
//!
//! Outputs never share an operation, so neither the number of rows nor the split over threads shows.
//!
//! # Shape of the output
//! Tiles: `out[g][row][lane]` is output `16 g + lane` of activation row `row`, so that a thread that
//! takes consecutive groups writes consecutive memory. For one row this is the plain vector.

use super::acts::ActRow;
use super::blocks::{BlockKernel, Plain, Super, block, prefetch};
use super::lanes::{LANES, Lanes, nth};
use super::pack::{Layout, Lines, Packed, Units, foreign_stride};
use crate::quant::Format;

/// Rows of activations that share one pass over a group of weights.
const PANEL: usize = 32;

/// Multiplies groups `first..` of `w` by the rows `x`; as many groups as `out` has tiles. With `add`
/// the products are added to what `out` holds.
///
/// `scratch` has [`Packed::scratch_len`] floats.
#[inline(always)]
pub(super) fn matmul<S: Lanes>(
    s: S,
    w: &Packed,
    first: usize,
    x: &[ActRow],
    out: &mut [f32], // (groups, x.len(), 16)
    add: bool,
    scratch: &mut [f32],
) {
    let groups = Groups { w, first, x, add };
    match w.layout {
        Layout::F32 => groups.floats::<S, Wide>(s, out),
        Layout::F16 => groups.floats::<S, Half>(s, out),
        Layout::BF16 => groups.floats::<S, Brain>(s, out),
        Layout::Foreign { row_bytes } => groups.foreign(s, out, row_bytes, scratch),
        Layout::Blocks(f) => match (f.bits, f.scaled, f.min) {
            (4, false, false) => groups.blocks::<S, Plain<4, false>>(s, &f, out),
            (4, false, true) => groups.blocks::<S, Plain<4, true>>(s, &f, out),
            (5, false, false) => groups.blocks::<S, Plain<5, false>>(s, &f, out),
            (5, false, true) => groups.blocks::<S, Plain<5, true>>(s, &f, out),
            (8, false, false) => groups.blocks::<S, Plain<8, false>>(s, &f, out),
            (2, true, true) => groups.blocks::<S, Super<2, 16, true>>(s, &f, out),
            (3, true, false) => groups.blocks::<S, Super<3, 16, false>>(s, &f, out),
            (4, true, true) => groups.blocks::<S, Super<4, 32, true>>(s, &f, out),
            (5, true, true) => groups.blocks::<S, Super<5, 32, true>>(s, &f, out),
            (6, true, false) => groups.blocks::<S, Super<6, 16, false>>(s, &f, out),
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
    /// Runs a block format over the groups: a few rows at a time with their sums in registers, or a
    /// panel of rows with its sums in the first-level cache.
    #[inline(always)]
    fn blocks<S: Lanes, B: BlockKernel>(&self, s: S, f: &Format, out: &mut [f32]) {
        let units = Units::new(f, self.w.n_cols());
        // Panels outside, groups inside: a panel of activations stays in the first-level cache while
        // the groups of this call come from the second.
        for (p, x) in self.x.chunks(PANEL).enumerate() {
            for (g, tile) in out.chunks_exact_mut(self.x.len() * LANES).enumerate() {
                let lines = self.w.group(self.first + g);
                let tile = &mut tile[p * PANEL * LANES..][..x.len() * LANES];
                match x {
                    [a] => self.few::<S, B, 1>(s, units, lines, [a], tile),
                    [a, b] => self.few::<S, B, 2>(s, units, lines, [a, b], tile),
                    _ => self.panel::<S, B>(s, units, lines, x, tile),
                }
            }
        }
    }

    #[inline(always)]
    fn few<S: Lanes, B: BlockKernel, const N: usize>(
        &self,
        s: S,
        mut units: Units,
        mut lines: Lines,
        x: [&ActRow; N],
        tile: &mut [f32],
    ) {
        let mut acc = [s.splat(0.0); N];
        let mut rows: [&[B::Acts]; N] = [&[]; N];
        for (row, x) in rows.iter_mut().zip(x) {
            *row = B::acts(x);
        }
        let mut b = 0;
        while let Some((codes, scales)) = units.next(&mut lines) {
            prefetch(s, scales);
            for i in 0..codes.len() / B::CODE_LINES {
                let (codes, meta) = block::<B>(codes, scales, i);
                B::multiply(s, codes, meta, &rows, b, &mut acc);
                b += 1;
            }
        }
        for (acc, out) in acc.into_iter().zip(tile.chunks_exact_mut(LANES)) {
            self.store(s, acc, out);
        }
    }

    #[inline(always)]
    fn panel<S: Lanes, B: BlockKernel>(
        &self,
        s: S,
        mut units: Units,
        mut lines: Lines,
        x: &[ActRow],
        tile: &mut [f32],
    ) {
        const STEP: usize = 4;
        let mut acc = [s.splat(0.0); PANEL];
        let mut rows: [&[B::Acts]; PANEL] = [&[]; PANEL];
        for (rows, x) in rows.iter_mut().zip(x) {
            *rows = B::acts(x);
        }
        let (rows, acc) = (&rows[..x.len()], &mut acc[..x.len()]);
        let (rows, rest) = rows.as_chunks::<STEP>();
        let (acc, acc_rest) = acc.as_chunks_mut::<STEP>();
        let mut b = 0;
        while let Some((codes, scales)) = units.next(&mut lines) {
            prefetch(s, scales);
            for i in 0..codes.len() / B::CODE_LINES {
                let (codes, meta) = block::<B>(codes, scales, i);
                for (rows, acc) in rows.iter().zip(&mut *acc) {
                    B::multiply(s, codes, meta, rows, b, acc);
                }
                for (row, acc) in rest.iter().zip(&mut *acc_rest) {
                    B::multiply(s, codes, meta, &[*row], b, std::array::from_mut(acc));
                }
                b += 1;
            }
        }
        let acc = acc.as_flattened().iter().chain(&*acc_rest);
        for (&acc, out) in acc.zip(tile.chunks_exact_mut(LANES)) {
            self.store(s, acc, out);
        }
    }

    /// Weights in floating point.
    #[inline(always)]
    fn floats<S: Lanes, W: Weight>(&self, s: S, out: &mut [f32]) {
        for (g, tile) in out.chunks_exact_mut(self.x.len() * LANES).enumerate() {
            let lines = self.w.group(self.first + g);
            self.float_group::<S, W>(s, lines.as_flattened(), tile);
        }
    }

    /// Dequantises 16 rows at a time with ggml and multiplies them as floats.
    #[inline(always)]
    fn foreign<S: Lanes>(&self, s: S, out: &mut [f32], row_bytes: usize, scratch: &mut [f32]) {
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
            self.float_group::<S, Wide>(s, bytemuck::cast_slice(tile16), tile);
        }
    }

    #[inline(always)]
    fn float_group<S: Lanes, W: Weight>(&self, s: S, weights: &[u8], tile: &mut [f32]) {
        for (x, out) in self.x.chunks(4).zip(tile.chunks_mut(4 * LANES)) {
            match x {
                [a, b, c, d] => self.float_rows::<S, W, 4>(s, weights, [a, b, c, d], out),
                _ => {
                    for (x, out) in x.iter().zip(out.chunks_mut(LANES)) {
                        self.float_rows::<S, W, 1>(s, weights, [x], out);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn float_rows<S: Lanes, W: Weight, const N: usize>(
        &self,
        s: S,
        weights: &[u8],
        x: [&ActRow; N],
        tile: &mut [f32],
    ) {
        let k = self.w.n_cols();
        let mut rows: [&[f32]; N] = [&[]; N];
        for (row, x) in rows.iter_mut().zip(x) {
            *row = &x.float()[..k];
        }
        let mut chains = [[s.splat(0.0); 4]; N];
        for i in (0..k).step_by(4) {
            for c in 0..4 {
                let w = W::load(s, weights, i + c);
                for (chains, x) in chains.iter_mut().zip(rows) {
                    chains[c] = s.fma(w, s.splat(x[i + c]), chains[c]);
                }
            }
        }
        for (c, out) in chains.into_iter().zip(tile.chunks_exact_mut(LANES)) {
            self.store(s, s.add(s.add(c[0], c[1]), s.add(c[2], c[3])), out);
        }
    }

    #[inline(always)]
    fn store<S: Lanes>(&self, s: S, acc: S::F, out: &mut [f32]) {
        let out: &mut [f32; 16] = out.try_into().expect("tiles are 16 wide");
        let acc = if self.add { s.add(s.load(out), acc) } else { acc };
        s.store(acc, out);
    }
}

/// A floating-point type of weights, interleaved `(k, 16)`.
trait Weight {
    /// The weights of 16 rows at `k`.
    fn load<S: Lanes>(s: S, weights: &[u8], k: usize) -> S::F;
}

struct Wide;
struct Half;
struct Brain;

impl Weight for Wide {
    #[inline(always)]
    fn load<S: Lanes>(s: S, weights: &[u8], k: usize) -> S::F {
        s.load_f32(nth(weights, k))
    }
}

impl Weight for Half {
    #[inline(always)]
    fn load<S: Lanes>(s: S, weights: &[u8], k: usize) -> S::F {
        s.load_f16(nth(weights, k))
    }
}

impl Weight for Brain {
    #[inline(always)]
    fn load<S: Lanes>(s: S, weights: &[u8], k: usize) -> S::F {
        s.load_bf16(nth(weights, k))
    }
}
