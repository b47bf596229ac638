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

use super::acts::{ActRow, Block32, Block256};
use super::lanes::{LANES, Lanes, nth};
use super::pack::{Layout, Lines, Packed, Units, scale_at};
use crate::quant::Format;

/// How far ahead of their use codes are requested: about what memory delivers in its latency.
const PREFETCH_BYTES: usize = 4096;
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
        while let Some((codes, meta)) = units.next(&mut lines) {
            for (codes, meta) in blocks::<S, B>(s, codes, meta) {
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
        while let Some((codes, meta)) = units.next(&mut lines) {
            for (codes, meta) in blocks::<S, B>(s, codes, meta) {
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
        let k = self.w.n_cols();
        let (row, tile16) = scratch[..(LANES + 1) * k].split_at_mut(k);
        for (g, tile) in out.chunks_exact_mut(self.x.len() * LANES).enumerate() {
            let lines = self.w.group(self.first + g);
            let rows = (self.w.n_rows() - (self.first + g) * LANES).min(LANES);
            tile16.fill(0.0);
            for lane in 0..rows {
                self.w.ty.dequantize(&lines.as_flattened()[lane * row_bytes..][..row_bytes], row);
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

/// The blocks of one unit: lines of codes with bytes of scales.
#[inline(always)]
fn blocks<'a, S: Lanes, B: BlockKernel>(
    s: S,
    codes: Lines<'a>,
    meta: Lines<'a>,
) -> impl Iterator<Item = (Lines<'a>, &'a [u8])> {
    for line in meta {
        s.prefetch(line, PREFETCH_BYTES);
    }
    codes.chunks_exact(B::CODE_LINES).zip(meta.as_flattened().chunks_exact(B::META_BYTES))
}

/// One block of a group times the same block of some rows.
trait BlockKernel {
    type Acts;
    /// Lines of codes and bytes of scales of a block: see `pack.rs`.
    const CODE_LINES: usize;
    const META_BYTES: usize;
    /// The row in blocks of this kernel's length.
    fn acts(x: &ActRow) -> &[Self::Acts];
    /// Adds the share of block `b` to each row's sums.
    fn multiply<S: Lanes, const N: usize>(
        s: S,
        codes: Lines,
        meta: &[u8],
        x: &[&[Self::Acts]; N],
        b: usize,
        acc: &mut [S::F; N],
    );
}

/// Blocks of 32 weights with a scale, and a minimum if `MIN`.
struct Plain<const BITS: usize, const MIN: bool>;

impl<const BITS: usize, const MIN: bool> BlockKernel for Plain<BITS, MIN> {
    type Acts = Block32;
    const CODE_LINES: usize = BITS;
    const META_BYTES: usize = scale_at(MIN);

    #[inline(always)]
    fn acts(x: &ActRow) -> &[Block32] {
        x.by32()
    }

    #[inline(always)]
    fn multiply<S: Lanes, const N: usize>(
        s: S,
        codes: Lines,
        meta: &[u8],
        x: &[&[Block32]; N],
        b: usize,
        acc: &mut [S::F; N],
    ) {
        let [low, high] = unpack::<S, BITS>(s, nth::<_, BITS>(codes, 0));
        let d = s.load_f16(nth(meta, 0));
        for (x, acc) in x.iter().zip(acc) {
            let x = &x[b];
            let mut sum = s.splat_i(-offset::<S>(BITS, MIN) * x.sum);
            sum = s.dot::<BITS>(sum, &low, nth(&x.q, 0));
            sum = s.dot::<BITS>(sum, &high, nth(&x.q, 1));
            let scale = s.splat(x.d);
            *acc = s.fma(s.mul(d, scale), s.to_f(sum), *acc);
            if MIN {
                let m = s.load_f16(nth(meta, 1));
                *acc = s.fma(s.mul(m, scale), s.splat(x.sum_f), *acc);
            }
        }
    }
}

/// Superblocks of 256 weights in sub-blocks of `SUB` with integer scales, and minima if `MIN`.
struct Super<const BITS: usize, const SUB: usize, const MIN: bool>;

impl<const BITS: usize, const SUB: usize, const MIN: bool> BlockKernel for Super<BITS, SUB, MIN> {
    type Acts = Block256;
    const CODE_LINES: usize = 8 * BITS;
    const META_BYTES: usize = scale_at(MIN) + 256 / SUB * LANES * if MIN { 2 } else { 1 };

    #[inline(always)]
    fn acts(x: &ActRow) -> &[Block256] {
        x.by256()
    }

    #[inline(always)]
    fn multiply<S: Lanes, const N: usize>(
        s: S,
        codes: Lines,
        meta: &[u8],
        x: &[&[Block256]; N],
        b: usize,
        acc: &mut [S::F; N],
    ) {
        let offset = offset::<S>(BITS, MIN);
        let scales = &meta[scale_at(MIN)..];
        let mut sums = [s.splat_i(0); N];
        for c in 0..8 {
            let [low, high] = unpack::<S, BITS>(s, nth::<_, BITS>(codes, c));
            if SUB == 32 {
                let scale = s.load_i8(nth(scales, c));
                for (x, sum) in x.iter().zip(&mut sums) {
                    let x = &x[b];
                    let mut dot = s.splat_i(-offset * x.sum32[c] as i32);
                    dot = s.dot::<BITS>(dot, &low, nth(&x.q, 2 * c));
                    dot = s.dot::<BITS>(dot, &high, nth(&x.q, 2 * c + 1));
                    *sum = s.mul_add_i(scale, dot, *sum);
                }
            } else {
                for (half, codes) in [(2 * c, &low), (2 * c + 1, &high)] {
                    let scale = s.load_i8(nth(scales, half));
                    for (x, sum) in x.iter().zip(&mut sums) {
                        let x = &x[b];
                        let zero = s.splat_i(-offset * x.sum16[half] as i32);
                        let dot = s.dot::<BITS>(zero, codes, nth(&x.q, half));
                        *sum = s.mul_add_i(scale, dot, *sum);
                    }
                }
            }
        }
        let d = s.load_f16(nth(meta, 0));
        for ((x, acc), sum) in x.iter().zip(acc.iter_mut()).zip(sums) {
            *acc = s.fma(s.mul(d, s.splat(x[b].d)), s.to_f(sum), *acc);
        }
        if MIN {
            let m = s.load_f16(nth(meta, 1));
            let mins = &meta[min_offset::<SUB>()..];
            for (x, acc) in x.iter().zip(acc.iter_mut()) {
                let x = &x[b];
                let mut sum = s.splat_i(0);
                for pair in 0..256 / SUB / 2 {
                    let of = if SUB == 32 { &x.sum32[..] } else { &x.sum16[..] };
                    let min = s.load_u8_pairs(nth(mins, pair));
                    sum = s.dot_pairs(sum, min, *nth(of, pair));
                }
                *acc = s.fma(s.mul(m, s.splat(x.d)), s.to_f(sum), *acc);
            }
        }
    }
}

/// Where the minima lie in the scales of a superblock that has them.
const fn min_offset<const SUB: usize>() -> usize {
    scale_at(true) + 256 / SUB * LANES
}

/// What is subtracted from each code, less what the instruction set has subtracted already.
#[inline(always)]
fn offset<S: Lanes>(bits: usize, min: bool) -> i32 {
    match (bits, min) {
        (8, _) => S::OFFSET8,
        (_, true) => 0,
        (_, false) => 1 << (bits - 1),
    }
}

/// 32 weights of 16 rows from their planes, as two halves of 16 weights: see `pack.rs`.
///
/// Plain functions and loops here and below, not closures: a closure that the compiler keeps as a
/// function of its own is compiled without the instruction set.
#[inline(always)]
fn unpack<S: Lanes, const BITS: usize>(s: S, lines: &[[u8; 64]; BITS]) -> [[S::B; 4]; 2] {
    let mut planes = [s.splat_b(0); BITS];
    for (plane, line) in planes.iter_mut().zip(lines) {
        s.prefetch(line, PREFETCH_BYTES);
        *plane = s.load_b(line);
    }
    let mut halves = [[s.splat_b(0); 4]; 2];
    for (h, half) in halves.iter_mut().enumerate() {
        for (t, codes) in half.iter_mut().enumerate() {
            *codes = match BITS {
                8 => planes[4 * h + t],
                4..=6 => field::<S, 4>(s, planes[t], 4 * h, 0),
                _ => field::<S, 2>(s, planes[h], 2 * t, 0),
            };
            let high = match BITS {
                3 | 5 => field::<S, 1>(s, planes[BITS - 1], 4 * h + t, BITS - 1),
                6 => field::<S, 2>(s, planes[4 + h], 2 * t, 4),
                _ => continue,
            };
            *codes = s.or(*codes, high);
        }
    }
    halves
}

/// Moves the `WIDTH` bits at `from` of every byte to `to`, the others becoming zero.
#[inline(always)]
fn field<S: Lanes, const WIDTH: usize>(s: S, plane: S::B, from: usize, to: usize) -> S::B {
    let moved = if from > to {
        s.shr(plane, (from - to) as u32)
    } else if from < to {
        s.shl(plane, (to - from) as u32)
    } else {
        plane
    };
    s.and(moved, s.splat_b(((1 << WIDTH) - 1) << to))
}
