//! Product of one block of packed weights and the same block of some rows of activations.
//!
//! Functions and loops are used here instead of closures: a closure that the compiler does not inline is compiled
//! without the target features.

use super::activations::{ActivationRows, Block32, Block256};
use super::lanes::{Arith, LANES, Simd, nth};
use super::pack::{Lines, meta_len, scale_at};
use crate::quant::{Block, Scale, Values};
use std::marker::PhantomData;

/// Prefetch distance in bytes: more than memory delivers within its latency, since products of some rows come in bursts.
pub(super) const PREFETCH_BYTES: usize = 8192;

/// Lines of the codes and bytes of the scales of block `i` of a unit.
#[inline(always)]
pub(super) fn block<'a, B: BlockKernel>(
    codes: Lines<'a>,
    scales: Lines<'a>,
    i: usize,
) -> (Lines<'a>, &'a [u8]) {
    let scales = scales.as_flattened();
    (&codes[i * B::CODE_LINES..][..B::CODE_LINES], &scales[i * B::META_BYTES..][..B::META_BYTES])
}

/// The rows as blocks, at most `N` of them.
#[inline(always)]
pub(super) fn rows<'a, B: BlockKernel, const N: usize>(
    x: ActivationRows<'a>,
) -> [&'a [B::Activations]; N] {
    let mut rows: [&[B::Activations]; N] = [&[]; N];
    for (r, row) in rows[..x.n_rows()].iter_mut().enumerate() {
        *row = B::activations(x, r);
    }
    rows
}

/// Prefetches the scales of a later unit.
#[inline(always)]
pub(super) fn prefetch<S: Arith, const AHEAD: usize>(s: S, scales: Lines) {
    for line in scales {
        s.prefetch(line, AHEAD);
    }
}

/// How blocks of one format multiply: one block of a group times the same block of some rows.
///
/// The weights of a register's lanes are unpacked once and stay in registers for all rows.
pub(super) trait BlockKernel {
    /// A block of activations of this kernel's length.
    type Activations;
    /// The factors that convert a block's integer sums to its contribution.
    type Scales<S: Simd>;
    /// Lines of a block's codes and bytes of its scales: see `pack.rs`.
    const CODE_LINES: usize;
    const META_BYTES: usize;
    /// Groups of 32 weights in a block.
    const CHUNKS: usize;
    /// Number of weights that share an integer scale, 16 or 32; and whether there are integer scales.
    const SUB: usize;
    const SCALED: bool;
    /// What [`BlockKernel::codes`] has added to each value, but for values of 8 bits: [`Simd::OFFSET8`].
    const OFFSET: i32;

    /// Row `r` in blocks.
    fn activations(x: ActivationRows<'_>, r: usize) -> &[Self::Activations];
    /// Activations of chunk `c`.
    fn q(x: &Self::Activations, c: usize) -> &[i8; 32];
    /// Codes of chunk `c`, or what they stand for if the format has a table, in the form of [`Simd::dots`].
    fn codes<S: Simd, const AHEAD: usize>(s: S, codes: Lines, c: usize, part: usize) -> [S::B; 8];
    /// Integer scale of sub-block `j`, as [`Simd::load_scale`] gives it.
    fn scale<S: Simd>(s: S, meta: &[u8], j: usize, part: usize) -> S::I;
    /// Reads a block's scales.
    fn scales<S: Simd>(s: S, meta: &[u8], part: usize) -> Self::Scales<S>;
    /// `acc` plus the block's contribution, where `sum` is `Σ scale · Σ value · q`.
    fn finish<S: Simd>(
        s: S,
        scales: &Self::Scales<S>,
        x: &Self::Activations,
        sum: S::I,
        acc: S::F,
    ) -> S::F;
    /// Adds the contribution of a part of block `b` to the sums of `N` rows, which stay in registers.
    fn multiply<S: Simd, const N: usize>(
        s: S,
        block: (Lines, &[u8], usize),
        part: usize,
        x: &[&[Self::Activations]; N],
        acc: &mut [S::F; N],
    );
}

/// Evaluates an expression with the [`BlockKernel`] of a format.
macro_rules! with_block_kernel {
    ($format:expr, $kernel:ident => $e:expr) => {{
        use crate::cpu::blocks::{Plain, Super};
        use crate::quant::*;
        macro_rules! run {
            ($kernel_type:ty) => {{
                let $kernel = <$kernel_type>::KERNEL;
                $e
            }};
        }
        match $format {
            q4_0::Q4_0::FORMAT => run!(Plain<q4_0::Q4_0, 4, false>),
            q4_1::Q4_1::FORMAT => run!(Plain<q4_1::Q4_1, 4, true>),
            q5_0::Q5_0::FORMAT => run!(Plain<q5_0::Q5_0, 5, false>),
            q5_1::Q5_1::FORMAT => run!(Plain<q5_1::Q5_1, 5, true>),
            q8_0::Q8_0::FORMAT => run!(Plain<q8_0::Q8_0, 8, false>),
            q2_k::Q2K::FORMAT => run!(Super<q2_k::Q2K, 2, 16, true>),
            q3_k::Q3K::FORMAT => run!(Super<q3_k::Q3K, 3, 16, false>),
            q4_k::Q4K::FORMAT => run!(Super<q4_k::Q4K, 4, 32, true>),
            q5_k::Q5K::FORMAT => run!(Super<q5_k::Q5K, 5, 32, true>),
            q6_k::Q6K::FORMAT => run!(Super<q6_k::Q6K, 6, 16, false>),
            iq4_nl::Iq4Nl::FORMAT => run!(Plain<iq4_nl::Iq4Nl, 8, false>),
            iq4_xs::Iq4Xs::FORMAT => run!(Super<iq4_xs::Iq4Xs, 8, 32, false>),
            iq3_xxs::Iq3Xxs::FORMAT => run!(Super<iq3_xxs::Iq3Xxs, 7, 32, false>),
            iq3_s::Iq3S::FORMAT => run!(Super<iq3_s::Iq3S, 5, 32, false>),
            iq2_xxs::Iq2Xxs::FORMAT => run!(Super<iq2_xxs::Iq2Xxs, 7, 32, false>),
            // IQ2_XS and IQ2_S.
            iq2_s::Iq2S::FORMAT => run!(Super<iq2_s::Iq2S, 7, 16, false>),
            iq1_s::Iq1S::FORMAT => run!(Super<iq1_s::Iq1S, 2, 32, true>),
            iq1_m::Iq1M::FORMAT => run!(Super<iq1_m::Iq1M, 5, 16, false>),
            // TQ1_0 and TQ2_0.
            tq2_0::Tq2_0::FORMAT => run!(Super<tq2_0::Tq2_0, 2, 32, false>),
            mxfp4::Mxfp4::FORMAT => run!(Plain<mxfp4::Mxfp4, 5, false>),
            _ => unreachable!("the table of types has no such format"),
        }
    }};
}
pub(super) use with_block_kernel;

/// Blocks `F` of 32 weights with a scale, and a minimum if `MIN`; values have `BITS` bits.
pub(super) struct Plain<F, const BITS: usize, const MIN: bool>(PhantomData<F>);

/// Scale and minimum of a block.
pub(super) struct PlainScales<S: Simd> {
    d: S::F,
    m: S::F,
}

impl<F: Block, const BITS: usize, const MIN: bool> BlockKernel for Plain<F, BITS, MIN> {
    type Activations = Block32;
    type Scales<S: Simd> = PlainScales<S>;
    const CODE_LINES: usize = F::FORMAT.bits as usize;
    const META_BYTES: usize = meta_len(&F::FORMAT);
    const CHUNKS: usize = 1;
    const SUB: usize = 32;
    const SCALED: bool = false;
    const OFFSET: i32 = F::FORMAT.offset();

    #[inline(always)]
    fn activations(x: ActivationRows<'_>, r: usize) -> &[Block32] {
        x.by32(r)
    }
    #[inline(always)]
    fn q(x: &Block32, _: usize) -> &[i8; 32] {
        &x.q
    }
    #[inline(always)]
    fn codes<S: Simd, const AHEAD: usize>(s: S, codes: Lines, _: usize, part: usize) -> [S::B; 8] {
        unpack::<S, F, BITS, AHEAD>(s, codes, 0, part)
    }
    #[inline(always)]
    fn scale<S: Simd>(_: S, _: &[u8], _: usize, _: usize) -> S::I {
        unreachable!("blocks of 32 have no integer scales")
    }
    #[inline(always)]
    fn scales<S: Simd>(s: S, meta: &[u8], part: usize) -> PlainScales<S> {
        PlainScales {
            d: block_scale::<S, F>(s, meta, 0, part),
            m: if MIN { block_scale::<S, F>(s, meta, 1, part) } else { s.splat(0.0) },
        }
    }
    #[inline(always)]
    fn finish<S: Simd>(s: S, scales: &PlainScales<S>, x: &Block32, sum: S::I, acc: S::F) -> S::F {
        let acc = s.fma(s.mul(scales.d, s.splat(x.d)), s.to_f(sum), acc);
        if MIN { s.fma(scales.m, s.splat(x.d_sum), acc) } else { acc }
    }

    #[inline(always)]
    fn multiply<S: Simd, const N: usize>(
        s: S,
        (codes, meta, b): (Lines, &[u8], usize),
        part: usize,
        x: &[&[Block32]; N],
        acc: &mut [S::F; N],
    ) {
        let codes = Self::codes::<S, PREFETCH_BYTES>(s, codes, 0, part);
        let scales = Self::scales(s, meta, part);
        let mut sums = [s.splat_i(0); N];
        let mut y = [&[[0i8; 4]; 8]; N];
        for i in 0..N {
            let x = &x[i][b];
            y[i] = quads(&x.q);
            let left = if BITS == 8 { S::OFFSET8 } else { Self::OFFSET };
            if left > 0 {
                // Eight is the smallest offset; the others are multiples of it by powers of two.
                sums[i] = s.shl_i(s.splat_i(x.minus_8_sum), (left / 8).ilog2());
            }
        }
        let sums = s.dots::<BITS, 8, N>(sums, &codes, y);
        for ((acc, x), sum) in acc.iter_mut().zip(x).zip(sums) {
            *acc = Self::finish(s, &scales, &x[b], sum, *acc);
        }
    }
}

impl<F: Block, const BITS: usize, const MIN: bool> Plain<F, BITS, MIN> {
    /// The kernel, whose parameters are checked to be those of the format.
    pub(super) const KERNEL: Self = {
        assert!(BITS == F::FORMAT.value_bits() as usize && MIN == F::FORMAT.min);
        assert!(F::FORMAT.block_len == 32);
        Plain(PhantomData)
    };
}

/// Superblocks `F` of 256 weights in sub-blocks of `SUB` with integer scales, all 1 if none are stored, and minima if
/// `MIN`; values have `BITS` bits.
pub(super) struct Super<F, const BITS: usize, const SUB: usize, const MIN: bool>(PhantomData<F>);

/// Scale and minimum of a superblock, and the factors of its activations' sums: the integer minima, or otherwise the
/// integer scales, which correct the offset of the codes.
pub(super) struct SuperScales<S: Simd> {
    d: S::F,
    m: S::F,
    by_sums: [S::B; 8],
}

impl<S: Simd> SuperScales<S> {
    #[inline(always)]
    fn weigh_sums<const SUB: usize>(&self, s: S, x: &Block256) -> S::I {
        let mut sum = s.splat_i(0);
        for (pair, by) in self.by_sums[..256 / SUB / 2].iter().enumerate() {
            let sums = if SUB == 32 { &x.sum32[..] } else { &x.sum16[..] };
            sum = s.dot_pairs(sum, *by, *nth(sums, pair));
        }
        sum
    }
}

impl<F: Block, const BITS: usize, const SUB: usize, const MIN: bool> BlockKernel
    for Super<F, BITS, SUB, MIN>
{
    type Activations = Block256;
    type Scales<S: Simd> = SuperScales<S>;
    const CODE_LINES: usize = 8 * F::FORMAT.bits as usize;
    const META_BYTES: usize = meta_len(&F::FORMAT);
    const CHUNKS: usize = 8;
    const SUB: usize = SUB;
    const SCALED: bool = true;
    const OFFSET: i32 = F::FORMAT.offset();

    #[inline(always)]
    fn activations(x: ActivationRows<'_>, r: usize) -> &[Block256] {
        x.by256(r)
    }
    #[inline(always)]
    fn q(x: &Block256, c: usize) -> &[i8; 32] {
        nth(&x.q, c)
    }
    #[inline(always)]
    fn codes<S: Simd, const AHEAD: usize>(s: S, codes: Lines, c: usize, part: usize) -> [S::B; 8] {
        unpack::<S, F, BITS, AHEAD>(s, codes, c, part)
    }
    #[inline(always)]
    fn scale<S: Simd>(s: S, meta: &[u8], j: usize, part: usize) -> S::I {
        let scales = if F::FORMAT.scaled { nth(&meta[scale_at(MIN)..], j) } else { &[1; 16] };
        s.load_scale(scales, part)
    }
    #[inline(always)]
    fn scales<S: Simd>(s: S, meta: &[u8], part: usize) -> SuperScales<S> {
        let mut by_sums = [s.splat_b(0); 8];
        for (pair, out) in by_sums[..256 / SUB / 2].iter_mut().enumerate() {
            *out = if MIN {
                let mins = &meta[scale_at(true) + 256 / SUB * LANES..];
                s.load_u8_pairs(nth(mins, pair), part)
            } else {
                let a = Self::scale(s, meta, 2 * pair, part);
                s.scale_pairs(a, Self::scale(s, meta, 2 * pair + 1, part))
            };
        }
        let m = if MIN { block_scale::<S, F>(s, meta, 1, part) } else { s.splat(0.0) };
        SuperScales { d: block_scale::<S, F>(s, meta, 0, part), m, by_sums }
    }
    #[inline(always)]
    fn finish<S: Simd>(s: S, scales: &SuperScales<S>, x: &Block256, sum: S::I, acc: S::F) -> S::F {
        let acc = s.fma(s.mul(scales.d, s.splat(x.d)), s.to_f(sum), acc);
        if !MIN {
            return acc;
        }
        let minima = s.to_f(scales.weigh_sums::<SUB>(s, x));
        s.fma(scales.m, s.mul(minima, s.splat(x.d)), acc)
    }

    #[inline(always)]
    fn multiply<S: Simd, const N: usize>(
        s: S,
        (codes, meta, b): (Lines, &[u8], usize),
        part: usize,
        x: &[&[Block256]; N],
        acc: &mut [S::F; N],
    ) {
        let mut sums = [s.splat_i(0); N];
        for c in 0..8 {
            let codes = Self::codes::<S, PREFETCH_BYTES>(s, codes, c, part);
            let mut y = [&[[0i8; 4]; 8]; N];
            for i in 0..N {
                y[i] = quads(Self::q(&x[i][b], c));
            }
            sums = Self::chunk::<S, N>(s, &codes, meta, part, c, y, sums);
        }
        let scales = Self::scales(s, meta, part);
        for ((acc, x), mut sum) in acc.iter_mut().zip(x).zip(sums) {
            let x = &x[b];
            let left = if BITS == 8 { S::OFFSET8 } else { Self::OFFSET };
            if left > 0 {
                let excess = scales.weigh_sums::<SUB>(s, x);
                sum = s.sub_i(sum, s.shl_i(excess, left.ilog2()));
            }
            *acc = Self::finish(s, &scales, x, sum, *acc);
        }
    }
}

impl<F: Block, const BITS: usize, const SUB: usize, const MIN: bool> Super<F, BITS, SUB, MIN> {
    /// The kernel, whose parameters are checked to be those of the format.
    pub(super) const KERNEL: Self = {
        assert!(BITS == F::FORMAT.value_bits() as usize && MIN == F::FORMAT.min);
        assert!(F::FORMAT.block_len == 256 && SUB == F::FORMAT.sub_len);
        Super(PhantomData)
    };

    /// `sums` plus 32 weights, one sub-block of 32 or two of 16, times their scales and the activations `y`.
    #[inline(always)]
    fn chunk<S: Simd, const N: usize>(
        s: S,
        codes: &[S::B; 8],
        meta: &[u8],
        part: usize,
        c: usize,
        y: [&[[i8; 4]; 8]; N],
        sums: [S::I; N],
    ) -> [S::I; N] {
        if SUB == 32 {
            return s.dots_scaled::<BITS, 8, N>(sums, codes, y, Self::scale(s, meta, c, part));
        }
        let mut halves = [[&[[0i8; 4]; 4]; N]; 2];
        for i in 0..N {
            halves[0][i] = nth(y[i], 0);
            halves[1][i] = nth(y[i], 1);
        }
        let scale = Self::scale(s, meta, 2 * c, part);
        let sums = s.dots_scaled::<BITS, 4, N>(sums, nth(codes, 0), halves[0], scale);
        let scale = Self::scale(s, meta, 2 * c + 1, part);
        s.dots_scaled::<BITS, 4, N>(sums, nth(codes, 1), halves[1], scale)
    }
}

/// Activations in groups of four.
#[inline(always)]
fn quads(q: &[i8; 32]) -> &[[i8; 4]; 8] {
    nth(q.as_chunks::<4>().0, 0)
}

/// Reads the scale of a block, the number 0 of `meta`, or that of its minima, the number 1.
#[inline(always)]
fn block_scale<S: Simd, F: Block>(s: S, meta: &[u8], i: usize, part: usize) -> S::F {
    let stored = match F::FORMAT.d {
        Scale::F16(_) => s.load_f16(nth(meta, i), part),
        Scale::E8M0(_) => s.load_e8m0(nth(meta, i), part),
    };
    let unit = const { F::FORMAT.unit() };
    if unit == 1.0 { stored } else { s.mul(stored, s.splat(unit)) }
}

/// Unpacks chunk `c` of each lane's row, 32 weights, from its planes: see `pack.rs`.
#[inline(always)]
fn unpack<S: Simd, F: Block, const BITS: usize, const AHEAD: usize>(
    s: S,
    lines: Lines,
    c: usize,
    part: usize,
) -> [S::B; 8] {
    let bits = const { F::FORMAT.bits as usize };
    let mut planes = [s.splat_b(0); 8];
    for (plane, line) in planes.iter_mut().zip(&lines[c * bits..][..bits]) {
        if part == 0 {
            s.prefetch(line, AHEAD);
        }
        *plane = s.load_b(line, part);
    }
    let mut out = [s.splat_b(0); 8];
    for (g, codes) in out.iter_mut().enumerate() {
        let (h, t) = (g / 4, g % 4);
        *codes = match bits {
            8 => s.codes8(planes[g]),
            4..=6 => field::<S, 4>(s, planes[t], 4 * h, 0),
            _ => field::<S, 2>(s, planes[h], 2 * t, 0),
        };
        let high = match bits {
            3 | 5 => field::<S, 1>(s, planes[bits - 1], g, bits - 1),
            6 => field::<S, 2>(s, planes[4 + h], 2 * t, 4),
            _ => continue,
        };
        *codes = s.or(*codes, high);
    }
    if let Values::Table(_) = F::FORMAT.values {
        let table = const { table::<F>(if BITS == 8 { S::OFFSET8 } else { F::FORMAT.offset() }) };
        for codes in &mut out {
            *codes = s.lookup(&table, *codes);
        }
    }
    out
}

/// The values of a format plus an offset, as bytes; for none, zeros.
const fn table<F: Block>(offset: i32) -> [u8; 16] {
    let mut out = [0; 16];
    if let Values::Table(values) = F::FORMAT.values {
        let mut i = 0;
        while i < out.len() {
            out[i] = (values[i] as i32 + offset) as u8;
            i += 1;
        }
    }
    out
}

/// Moves `WIDTH` bits of every byte from bit `from` to bit `to`, and clears the others.
#[inline(always)]
pub(super) fn field<S: Simd, const WIDTH: usize>(
    s: S,
    plane: S::B,
    from: usize,
    to: usize,
) -> S::B {
    let moved = if from > to {
        s.shr(plane, (from - to) as u32)
    } else if from < to {
        s.shl(plane, (to - from) as u32)
    } else {
        plane
    };
    s.and(moved, s.splat_b(((1 << WIDTH) - 1) << to))
}
