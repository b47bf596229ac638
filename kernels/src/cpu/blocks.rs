//! One block of packed weights times the same block of some rows of activations.
//!
//! Plain functions and loops here, not closures: a closure that the compiler keeps as a function of its
//! own is compiled without the instruction set.

use super::acts::{ActRow, Block32, Block256};
use super::lanes::{Arith, LANES, Simd, nth};
use super::pack::{Lines, scale_at};

/// How far ahead of their use lines are requested: about what memory delivers in its latency.
const PREFETCH_BYTES: usize = 4096;

/// Lines of codes and bytes of scales of block `i` of a unit.
#[inline(always)]
pub(super) fn block<'a, B: BlockKernel>(
    codes: Lines<'a>,
    scales: Lines<'a>,
    i: usize,
) -> (Lines<'a>, &'a [u8]) {
    let scales = scales.as_flattened();
    (&codes[i * B::CODE_LINES..][..B::CODE_LINES], &scales[i * B::META_BYTES..][..B::META_BYTES])
}

/// Requests the scales that lie ahead of a unit's.
#[inline(always)]
pub(super) fn prefetch<S: Arith>(s: S, scales: Lines) {
    for line in scales {
        s.prefetch(line, PREFETCH_BYTES);
    }
}

/// Some rows of activations, and what is being added up for them over the blocks of a group.
pub(super) struct Columns<'a, S: Simd, A, const P: usize> {
    /// Each row in blocks.
    pub x: &'a [&'a [A]],
    /// Sums of each row.
    pub acc: &'a mut [[S::F; P]],
    /// Integer sums of a superblock: room for each row.
    pub sums: &'a mut [S::I],
}

/// Rows whose integer sums are formed side by side, so that one's latency hides behind the others'.
const STEP: usize = 4;

/// One block of a group times the same block of some rows.
///
/// The weights of a register's lanes are unpacked once and stay in registers while the rows pass by.
pub(super) trait BlockKernel {
    type Acts;
    /// Lines of codes and bytes of scales of a block: see `pack.rs`.
    const CODE_LINES: usize;
    const META_BYTES: usize;
    /// The row in blocks of this kernel's length.
    fn acts(x: &ActRow) -> &[Self::Acts];
    /// Adds the share of block `b` to each row's sums.
    fn multiply<S: Simd, const P: usize>(
        s: S,
        codes: Lines,
        meta: &[u8],
        b: usize,
        columns: &mut Columns<S, Self::Acts, P>,
    );
}

/// Blocks of 32 weights with a scale, and a minimum if `MIN`.
pub(super) struct Plain<const BITS: usize, const MIN: bool>;

impl<const BITS: usize, const MIN: bool> BlockKernel for Plain<BITS, MIN> {
    type Acts = Block32;
    const CODE_LINES: usize = BITS;
    const META_BYTES: usize = scale_at(MIN);

    #[inline(always)]
    fn acts(x: &ActRow) -> &[Block32] {
        x.by32()
    }

    #[inline(always)]
    fn multiply<S: Simd, const P: usize>(
        s: S,
        codes: Lines,
        meta: &[u8],
        b: usize,
        columns: &mut Columns<S, Block32, P>,
    ) {
        for part in 0..P {
            let w = PlainBlock::<S> {
                codes: unpack::<S, BITS>(s, nth::<_, BITS>(codes, 0), part),
                d: s.load_f16(nth(meta, 0), part),
                m: if MIN { s.load_f16(nth(meta, 1), part) } else { s.splat(0.0) },
            };
            let (x, x_rest) = columns.x.as_chunks::<STEP>();
            let (acc, acc_rest) = columns.acc.as_chunks_mut::<STEP>();
            for (x, acc) in x.iter().zip(acc) {
                w.multiply::<BITS, MIN, STEP, P>(s, part, x, b, acc);
            }
            for (x, acc) in x_rest.iter().zip(acc_rest) {
                w.multiply::<BITS, MIN, 1, P>(s, part, &[*x], b, std::array::from_mut(acc));
            }
        }
    }
}

/// One block's weights of the rows of a register.
struct PlainBlock<S: Simd> {
    codes: [S::B; 8],
    d: S::F,
    m: S::F,
}

impl<S: Simd> PlainBlock<S> {
    #[inline(always)]
    fn multiply<const BITS: usize, const MIN: bool, const N: usize, const P: usize>(
        &self,
        s: S,
        part: usize,
        x: &[&[Block32]; N],
        b: usize,
        acc: &mut [[S::F; P]; N],
    ) {
        let mut sums = [s.splat_i(0); N];
        let mut y = [&[[0i8; 4]; 8]; N];
        for i in 0..N {
            let x = &x[i][b];
            y[i] = quads(&x.q);
            // Eight is the smallest offset: the others are powers of two times it.
            let offset = offset::<S>(BITS, MIN);
            if offset > 0 {
                sums[i] = s.shl_i(s.splat_i(x.minus_8_sum), (offset / 8).ilog2());
            }
        }
        let sums = s.dots::<BITS, 8, N>(sums, &self.codes, y);
        for i in 0..N {
            let x = &x[i][b];
            let acc = &mut acc[i][part];
            *acc = s.fma(s.mul(self.d, s.splat(x.d)), s.to_f(sums[i]), *acc);
            if MIN {
                *acc = s.fma(self.m, s.splat(x.d_sum), *acc);
            }
        }
    }
}

/// Superblocks of 256 weights in sub-blocks of `SUB` with integer scales, and minima if `MIN`.
pub(super) struct Super<const BITS: usize, const SUB: usize, const MIN: bool>;

impl<const BITS: usize, const SUB: usize, const MIN: bool> BlockKernel for Super<BITS, SUB, MIN> {
    type Acts = Block256;
    const CODE_LINES: usize = 8 * BITS;
    const META_BYTES: usize = scale_at(MIN) + 256 / SUB * LANES * if MIN { 2 } else { 1 };

    #[inline(always)]
    fn acts(x: &ActRow) -> &[Block256] {
        x.by256()
    }

    #[inline(always)]
    fn multiply<S: Simd, const P: usize>(
        s: S,
        codes: Lines,
        meta: &[u8],
        b: usize,
        columns: &mut Columns<S, Block256, P>,
    ) {
        let scales = &meta[scale_at(MIN)..];
        let Columns { x, acc, sums } = columns;
        for part in 0..P {
            for c in 0..8 {
                let codes = unpack::<S, BITS>(s, nth::<_, BITS>(codes, c), part);
                let (x, x_rest) = x.as_chunks::<STEP>();
                let (sums, sums_rest) = sums.as_chunks_mut::<STEP>();
                for (x, sums) in x.iter().zip(sums) {
                    sub_blocks::<S, BITS, SUB, STEP>(s, &codes, scales, part, c, x, b, sums);
                }
                for (x, sum) in x_rest.iter().zip(sums_rest) {
                    let sum = std::array::from_mut(sum);
                    sub_blocks::<S, BITS, SUB, 1>(s, &codes, scales, part, c, &[*x], b, sum);
                }
            }
            let d = s.load_f16(nth(meta, 0), part);
            let m = if MIN { s.load_f16(nth(meta, 1), part) } else { s.splat(0.0) };
            // What multiplies the sums of activations: minima, or else the scales by which the offset
            // of each code is subtracted.
            let mut by_sums = [s.splat_b(0); 8];
            for (pair, out) in by_sums[..256 / SUB / 2].iter_mut().enumerate() {
                *out = if MIN {
                    s.load_u8_pairs(nth(&meta[min_offset::<SUB>()..], pair), part)
                } else {
                    let a = s.load_scale(nth(scales, 2 * pair), part);
                    s.scale_pairs(a, s.load_scale(nth(scales, 2 * pair + 1), part))
                };
            }
            for ((x, acc), &sum) in x.iter().zip(acc.iter_mut()).zip(sums.iter()) {
                let (x, acc) = (&x[b], &mut acc[part]);
                let mut weighed = s.splat_i(0);
                for (pair, by) in by_sums[..256 / SUB / 2].iter().enumerate() {
                    weighed = s.dot_pairs(weighed, *by, *nth(block_sums::<SUB>(x), pair));
                }
                let scale = s.mul(d, s.splat(x.d));
                if MIN {
                    *acc = s.fma(scale, s.to_f(sum), *acc);
                    *acc = s.fma(m, s.mul(s.to_f(weighed), s.splat(x.d)), *acc);
                } else {
                    let minus = s.shl_i(weighed, offset::<S>(BITS, MIN).ilog2());
                    *acc = s.fma(scale, s.to_f(s.sub_i(sum, minus)), *acc);
                }
            }
        }
    }
}

/// Adds 32 weights, one sub-block of 32 or two of 16, times their scales, to the rows' integer sums;
/// at the first of a superblock sets them.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn sub_blocks<S: Simd, const BITS: usize, const SUB: usize, const N: usize>(
    s: S,
    codes: &[S::B; 8],
    scales: &[u8],
    part: usize,
    c: usize,
    x: &[&[Block256]; N],
    b: usize,
    sums: &mut [S::I; N],
) {
    let mut y = [&[[0i8; 4]; 8]; N];
    for i in 0..N {
        y[i] = quads(nth(&x[i][b].q, c));
    }
    let acc = if c == 0 { [s.splat_i(0); N] } else { *sums };
    *sums = if SUB == 32 {
        s.dots_scaled::<BITS, 8, N>(acc, codes, y, s.load_scale(nth(scales, c), part))
    } else {
        let mut halves = [[&[[0i8; 4]; 4]; N]; 2];
        for i in 0..N {
            halves[0][i] = nth(y[i], 0);
            halves[1][i] = nth(y[i], 1);
        }
        let scale = s.load_scale(nth(scales, 2 * c), part);
        let acc = s.dots_scaled::<BITS, 4, N>(acc, nth(codes, 0), halves[0], scale);
        let scale = s.load_scale(nth(scales, 2 * c + 1), part);
        s.dots_scaled::<BITS, 4, N>(acc, nth(codes, 1), halves[1], scale)
    };
}

/// Σ q over each sub-block.
#[inline(always)]
fn block_sums<const SUB: usize>(x: &Block256) -> &[i16] {
    if SUB == 32 { &x.sum32 } else { &x.sum16 }
}

/// Activations in fours.
#[inline(always)]
fn quads(q: &[i8; 32]) -> &[[i8; 4]; 8] {
    nth(q.as_chunks::<4>().0, 0)
}

/// Where the minima lie in the scales of a superblock that has them.
const fn min_offset<const SUB: usize>() -> usize {
    scale_at(true) + 256 / SUB * LANES
}

/// What is subtracted from each code, less what the instruction set has subtracted already.
#[inline(always)]
fn offset<S: Simd>(bits: usize, min: bool) -> i32 {
    match (bits, min) {
        (8, _) => S::OFFSET8,
        (_, true) => 0,
        (_, false) => 1 << (bits - 1),
    }
}

/// 32 weights of each lane's row from their planes: see `pack.rs`.
#[inline(always)]
fn unpack<S: Simd, const BITS: usize>(s: S, lines: &[[u8; 64]; BITS], part: usize) -> [S::B; 8] {
    let mut planes = [s.splat_b(0); BITS];
    for (plane, line) in planes.iter_mut().zip(lines) {
        if part == 0 {
            s.prefetch(line, PREFETCH_BYTES);
        }
        *plane = s.load_b(line, part);
    }
    let mut out = [s.splat_b(0); 8];
    for (g, codes) in out.iter_mut().enumerate() {
        let (h, t) = (g / 4, g % 4);
        *codes = match BITS {
            8 => s.codes8(planes[g]),
            4..=6 => field::<S, 4>(s, planes[t], 4 * h, 0),
            _ => field::<S, 2>(s, planes[h], 2 * t, 0),
        };
        let high = match BITS {
            3 | 5 => field::<S, 1>(s, planes[BITS - 1], g, BITS - 1),
            6 => field::<S, 2>(s, planes[4 + h], 2 * t, 4),
            _ => continue,
        };
        *codes = s.or(*codes, high);
    }
    out
}

/// Moves the `WIDTH` bits at `from` of every byte to `to`, the others becoming zero.
#[inline(always)]
fn field<S: Simd, const WIDTH: usize>(s: S, plane: S::B, from: usize, to: usize) -> S::B {
    let moved = if from > to {
        s.shr(plane, (from - to) as u32)
    } else if from < to {
        s.shl(plane, (to - from) as u32)
    } else {
        plane
    };
    s.and(moved, s.splat_b(((1 << WIDTH) - 1) << to))
}
