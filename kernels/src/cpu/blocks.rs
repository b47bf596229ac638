//! One block of packed weights times the same block of some rows of activations.
//!
//! Plain functions and loops here, not closures: a closure that the compiler keeps as a function of its
//! own is compiled without the instruction set.

use super::acts::{ActRow, Block32, Block256};
use super::lanes::{LANES, Lanes, nth};
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
pub(super) fn prefetch<S: Lanes>(s: S, scales: Lines) {
    for line in scales {
        s.prefetch(line, PREFETCH_BYTES);
    }
}

/// One block of a group times the same block of some rows.
pub(super) trait BlockKernel {
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
