//! Cached keys and values that are quantised: 32 elements of a head at one position share a scale.
//!
//! The types are those with codes of `BITS` bits: `q8_0`, `q5_1` and `q4_0`. A group of a piece of `n` positions is
//!
//! ```text
//! scales    n half floats
//! minima    n half floats                              q5_1
//! codes     q8_0: (32, 16) or (2, CHUNK, 16) bytes     others: (16, 16) or (CHUNK, 16), element i of the
//!                                                      group in the low nibble, element i + 16 in the high one
//! high      (4, 16) or (CHUNK, 4): bit i of the        q5_1
//!           32 of a position belongs to element i
//! ```
//!
//! for keys or values. Codes of q8_0 are signed bytes. What a code means is said in [`order::cache_block`] and its
//! neighbours.

use super::piece::Half;
use super::view::CHUNK;
use crate::cpu::lanes::{LANES, Lanes, lanes, nth};
use crate::cpu::order;
use half::f16;

/// Elements of a head that share a scale.
pub(super) const GROUP: usize = 32;

/// Calls a function of `BITS` for a number of bits.
macro_rules! with_bits {
    ($bits:expr, $f:ident :: <$s:ident, BITS>($($arg:expr),*)) => {
        match $bits {
            8 => $f::<$s, 8>($($arg),*),
            5 => $f::<$s, 5>($($arg),*),
            4 => $f::<$s, 4>($($arg),*),
            bits => unreachable!("no cache type has codes of {bits} bits"),
        }
    };
}
pub(super) use with_bits;

/// Bytes of one position of a group.
pub(super) const fn row_bytes(bits: usize) -> usize {
    2 + 2 * has_min(bits) as usize + GROUP / 8 * bits
}

const fn has_min(bits: usize) -> bool {
    bits == 5
}

/// Numbers of bytes that hold the codes of a position, but for high bits.
const fn low_bytes(bits: usize) -> usize {
    if bits == 8 { GROUP } else { GROUP / 2 }
}

/// Where high byte `j` of position `p` stands.
const fn high_index(half: Half, j: usize, p: usize) -> usize {
    match half {
        Half::Keys => j * LANES + p,
        Half::Values => p * 4 + j,
    }
}

/// The parts of a group of `n` positions, each of which begins where the one before ends.
#[derive(Clone, Copy)]
struct Parts<T> {
    scales: T,
    mins: T,
    low: T,
    high: T,
}

/// Their offsets.
const fn offsets(bits: usize, n: usize) -> Parts<usize> {
    let mins = 2 * n;
    let low = mins + 2 * n * has_min(bits) as usize;
    Parts { scales: 0, mins, low, high: low + n * low_bytes(bits) }
}

/// Their bytes.
#[inline(always)]
fn parts<const BITS: usize>(group: &[u8], n: usize) -> Parts<&[u8]> {
    let at = const { [offsets(BITS, 1).mins, offsets(BITS, 1).low, offsets(BITS, 1).high] };
    let (rest, high) = group.split_at(at[2] * n);
    let (rest, low) = rest.split_at(at[1] * n);
    let (scales, mins) = rest.split_at(at[0] * n);
    Parts { scales, mins, low, high }
}

/// A position's scale, minimum and codes, which are signed if there is no minimum.
struct Row {
    d: f16,
    m: f16,
    codes: [i8; GROUP],
}

fn quantize(bits: usize, row: &[f32]) -> Row {
    let mut codes = [0; GROUP];
    let (d, m) = match bits {
        8 => (order::cache_block(row, &mut codes), f16::ZERO),
        5 => order::cache_block_5(row, &mut codes),
        _ => (order::cache_block_4(row, &mut codes), f16::ZERO),
    };
    Row { d, m, codes }
}

/// Quantises one position of a group, 32 elements.
pub(super) fn store(half: Half, bits: usize, group: &mut [u8], p: usize, row: &[f32]) {
    let Row { d, m, codes } = quantize(bits, row);
    let at = offsets(bits, half.positions());
    group[at.scales + 2 * p..][..2].copy_from_slice(&d.to_le_bytes());
    if has_min(bits) {
        group[at.mins + 2 * p..][..2].copy_from_slice(&m.to_le_bytes());
    }
    for i in 0..low_bytes(bits) {
        let low = match bits {
            8 => codes[i] as u8,
            // The fourth bit of a signed code turned round is that of the code plus 8.
            4 => (codes[i] as u8 & 15 | (codes[i + 16] as u8) << 4) ^ 0x88,
            _ => codes[i] as u8 & 15 | (codes[i + 16] as u8) << 4,
        };
        group[at.low + half.index(i, p)] = low;
    }
    if bits == 5 {
        for (j, codes) in codes.as_chunks::<8>().0.iter().enumerate() {
            let bits = codes.iter().rev().fold(0, |bits, code| bits << 1 | (*code as u8 >> 4));
            group[at.high + high_index(half, j, p)] = bits;
        }
    }
}

/// What is read back of 32 elements that were stored.
pub(super) fn rounded(bits: usize, row: &[f32]) -> [f32; GROUP] {
    let Row { d, m, codes } = quantize(bits, row);
    let (d, m) = (d.to_f32(), m.to_f32());
    codes.map(|code| {
        let code = f32::from(code);
        if has_min(bits) { code.mul_add(d, m) } else { code * d }
    })
}

/// Names the bytes of a position in order: where those of the same place in all positions of the group begin, their
/// size, and which of them is that of a position.
pub(super) fn places(
    half: Half,
    bits: usize,
    mut place: impl FnMut(usize, usize, &dyn Fn(usize) -> usize),
) {
    let at = offsets(bits, half.positions());
    place(at.scales, 2, &|p| p);
    if has_min(bits) {
        place(at.mins, 2, &|p| p);
    }
    (0..low_bytes(bits)).for_each(|i| place(at.low, 1, &|p| half.index(i, p)));
    if bits == 5 {
        (0..4).for_each(|j| place(at.high, 1, &|p| high_index(half, j, p)));
    }
}

/// Sixteen numbers of their codes.
#[inline(always)]
fn numbers<S: Lanes, const BITS: usize>(s: S, codes: &[u8; LANES], d: S::F, m: S::F) -> S::F {
    let codes = s.to_f(s.load_i8(codes));
    if has_min(BITS) { s.fma(codes, d, m) } else { s.mul(codes, d) }
}

/// A group of the keys of 16 positions as floats: (32, 16).
#[inline(always)]
pub(super) fn keys<S: Lanes, const BITS: usize>(s: S, group: &[u8], out: &mut [[f32; LANES]]) {
    let parts = parts::<BITS>(group, LANES);
    let d = s.load_f16(nth(parts.scales, 0));
    let m = if has_min(BITS) { s.load_f16(nth(parts.mins, 0)) } else { d };
    for (i, out) in out.iter_mut().enumerate() {
        let mut codes = [0; LANES];
        if BITS == 8 {
            codes = *nth(parts.low, i);
        } else {
            let low: &[u8; LANES] = nth(parts.low, i % 16);
            nibbles::<BITS>(low, i / 16, &mut codes);
        }
        if BITS == 5 {
            let high: &[u8; LANES] = nth(parts.high, i / 8);
            for (code, high) in codes.iter_mut().zip(high) {
                *code |= (high >> (i % 8) & 1) << 4;
            }
        }
        s.store(numbers::<S, BITS>(s, &codes, d, m), out);
    }
}

/// Positions of strip `strip` of a group of values as floats, from `first` on, which is a multiple of 16: (positions,
/// 16).
#[inline(always)]
pub(super) fn values<S: Lanes, const BITS: usize>(
    s: S,
    group: &[u8],
    strip: usize,
    first: usize,
    out: &mut [[f32; LANES]],
) {
    let parts = parts::<BITS>(group, CHUNK);
    for (i, out) in (first / LANES..).zip(out.chunks_mut(LANES)) {
        let d = lanes(s, s.load_f16(nth(parts.scales, i)));
        let m = if has_min(BITS) { lanes(s, s.load_f16(nth(parts.mins, i))) } else { d };
        for (j, out) in out.iter_mut().enumerate() {
            let codes = value_codes::<BITS>(&parts, strip, i * LANES + j);
            s.store(numbers::<S, BITS>(s, &codes, s.splat(d[j]), s.splat(m[j])), out);
        }
    }
}

/// Position `p` of strip `strip` of a group of values.
#[inline(always)]
pub(super) fn value<S: Lanes, const BITS: usize>(
    s: S,
    group: &[u8],
    strip: usize,
    p: usize,
) -> S::F {
    let parts = parts::<BITS>(group, CHUNK);
    let d = half(nth(parts.scales, p));
    let m = if has_min(BITS) { half(nth(parts.mins, p)) } else { d };
    let codes = value_codes::<BITS>(&parts, strip, p);
    numbers::<S, BITS>(s, &codes, s.splat(d), s.splat(m))
}

#[inline(always)]
fn half(bytes: &[u8; 2]) -> f32 {
    f16::from_le_bytes(*bytes).to_f32()
}

#[inline(always)]
fn value_codes<const BITS: usize>(parts: &Parts<&[u8]>, strip: usize, p: usize) -> [u8; LANES] {
    let mut codes = [0; LANES];
    if BITS == 8 {
        return *nth(parts.low, strip * CHUNK + p);
    }
    nibbles::<BITS>(nth(parts.low, p), strip, &mut codes);
    if BITS == 5 {
        let high: &[u8; 4] = nth(parts.high, p);
        let high = u16::from_le_bytes(*nth(high, strip));
        for (i, code) in codes.iter_mut().enumerate() {
            *code |= ((high >> i & 1) as u8) << 4;
        }
    }
    codes
}

/// The low or the high nibbles, as signed bytes in q4_0.
#[inline(always)]
fn nibbles<const BITS: usize>(bytes: &[u8; LANES], which: usize, codes: &mut [u8; LANES]) {
    for (code, byte) in codes.iter_mut().zip(bytes) {
        let nibble = byte >> (4 * which) & 15;
        *code = if BITS == 4 { nibble.wrapping_sub(8) } else { nibble };
    }
}
