//! Upper bounds of the machine against which products are measured.

use super::blocks::PREFETCH_BYTES;
use super::lanes::{Simd, Wide};
use super::pack::Line;
use std::hint::black_box;

/// Only reads `lines`, in the order of a product.
#[inline(always)]
pub(super) fn read<S: Simd, const P: usize>(s: Wide<S, P>, lines: &[Line]) {
    let s = s.0;
    let mut seen = [s.splat_b(0); 4];
    for lines in bytemuck::cast_slice::<_, [u8; 64]>(lines).as_chunks::<4>().0 {
        for (seen, line) in seen.iter_mut().zip(lines) {
            s.prefetch(line, PREFETCH_BYTES);
            for part in 0..P {
                *seen = s.or(*seen, s.load_b(line, part));
            }
        }
    }
    black_box(seen);
}

/// Multiplies 4-bit codes in registers by activations in the first-level cache, `rounds` times. Returns the number of
/// operations, two for each product.
///
/// As many rows side by side as hide any latency: ten or more of a dot instruction, fewer where a product is several
/// instructions that need registers.
#[inline(always)]
pub(super) fn dot<S: Simd, const P: usize>(s: Wide<S, P>, rounds: usize) -> u64 {
    if S::OFFSET8 > 0 { dots::<S, 12>(s.0, rounds) } else { dots::<S, 8>(s.0, rounds) }
}

#[inline(always)]
fn dots<S: Simd, const N: usize>(s: S, rounds: usize) -> u64 {
    let codes = [s.splat_b(black_box(7)); 8];
    let rows = [[[1i8; 4]; 8]; N];
    let mut sums = [s.splat_i(0); N];
    for _ in 0..rounds {
        let rows = black_box(&rows);
        let mut y = [&rows[0]; N];
        for (y, row) in y.iter_mut().zip(rows) {
            *y = row;
        }
        sums = s.dots::<4, 8, N>(sums, &codes, y);
    }
    black_box(sums);
    (rounds * N * 32 * S::WIDTH * 2) as u64
}
