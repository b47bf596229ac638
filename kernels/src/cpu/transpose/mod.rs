//! Packs whole groups in registers, for the types whose blocks lie in the file nearly as they are packed.
//!
//! A packed line has the same four weights' bits of sixteen rows. For most of a block that is a transpose of 16 rows of
//! 32-bit words, which [`Simd::load_rows`] does; what shares a byte in the file but not in a line is then exchanged for
//! all rows at once. `interleave.rs` is the specification, and packs what is not packed here.
//!
//! ```text
//! superblocks.rs   the types of 256 weights a block
//! ```
//!
//! A type needs nothing here. To pack it faster: implement [`Transpose`] and give it an arm in [`interleave`]; the test
//! of `interleave.rs` compares both ways by bytes.

mod superblocks;

use super::interleave;
use super::lanes::{LANES, Simd, Wide, nth_row};
use super::pack::{Shape, Units};
use crate::quant::q2_k::Q2K;
use crate::quant::q3_k::Q3K;
use crate::quant::q4_0::Q4_0;
use crate::quant::q4_1::Q4_1;
use crate::quant::q4_k::Q4K;
use crate::quant::q5_0::Q5_0;
use crate::quant::q5_1::Q5_1;
use crate::quant::q5_k::Q5K;
use crate::quant::q6_k::Q6K;
use crate::quant::q8_0::Q8_0;
use crate::quant::{Block, Kind};

/// Packs up to 16 rows into one group.
#[inline(always)]
pub(super) fn interleave<S: Simd, const P: usize>(
    s: Wide<S, P>,
    shape: &Shape,
    rows: &[u8], // (up to 16 rows, row_bytes)
    out: &mut [u8],
) {
    let s = s.0;
    if rows.len() == shape.row_bytes * LANES {
        let is_whole = shape.row_bytes.is_multiple_of(16);
        match shape.ty.kind {
            Kind::F32 if is_whole => return words::<S, P>(s, shape, rows, out),
            Kind::F16 | Kind::BF16 if is_whole => return halves::<S, P>(s, shape, rows, out),
            _ => {}
        }
        match shape.ty.id {
            2 => return blocks::<S, P, Q4_0>(s, shape, rows, out),
            3 => return blocks::<S, P, Q4_1>(s, shape, rows, out),
            6 => return blocks::<S, P, Q5_0>(s, shape, rows, out),
            7 => return blocks::<S, P, Q5_1>(s, shape, rows, out),
            8 => return blocks::<S, P, Q8_0>(s, shape, rows, out),
            10 => return blocks::<S, P, Q2K>(s, shape, rows, out),
            11 => return blocks::<S, P, Q3K>(s, shape, rows, out),
            12 => return blocks::<S, P, Q4K>(s, shape, rows, out),
            13 => return blocks::<S, P, Q5K>(s, shape, rows, out),
            14 => return blocks::<S, P, Q6K>(s, shape, rows, out),
            _ => {}
        }
    }
    interleave::interleave(&shape.ty, shape.n_cols, rows, shape.row_bytes, out);
}

/// The same block of sixteen rows.
#[derive(Clone, Copy)]
struct Rows<'a> {
    /// From the block of the first row on.
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Bytes `at…at+15` of each row, as words.
    #[inline(always)]
    fn words<S: Simd>(self, s: S, at: usize, part: usize) -> [S::B; 4] {
        s.load_rows(&self.bytes[at..], self.stride, part)
    }

    /// Bytes `at…at+31` of each row, as words.
    #[inline(always)]
    fn words8<S: Simd>(self, s: S, at: usize, part: usize) -> [S::B; 8] {
        let [a, b, c, d] = self.words(s, at, part);
        let [e, f, g, h] = self.words(s, at + 16, part);
        [a, b, c, d, e, f, g, h]
    }
}

/// A type whose blocks are packed in registers.
trait Transpose: Block {
    /// Packs a block: the lanes of register `part` of its codes.
    fn pack_codes<S: Simd>(s: S, rows: Rows, part: usize, out: &mut [[u8; 64]]);
    /// Packs the scales of a block.
    fn pack_scales<S: Simd, const P: usize>(s: S, rows: Rows, out: &mut [u8]);
}

#[inline(always)]
fn blocks<S: Simd, const P: usize, T: Transpose>(s: S, shape: &Shape, rows: &[u8], out: &mut [u8]) {
    let format = &T::FORMAT;
    let block_lines = format.block_len / 32 * format.bits as usize;
    let mut units = Units::new(format, shape.n_cols);
    let mut lines: &mut [[u8; 64]] = out.as_chunks_mut().0;
    let mut at = 0;
    while let Some((code_lines, meta_lines)) = units.lengths() {
        let (codes, rest) = lines.split_at_mut(code_lines);
        let (scales, rest) = rest.split_at_mut(meta_lines);
        lines = rest;
        let scales = scales.as_flattened_mut();
        let start = at;
        for (codes, scales) in
            codes.chunks_exact_mut(block_lines).zip(scales.chunks_exact_mut(units.meta_bytes))
        {
            let rows = Rows { bytes: &rows[at..], stride: shape.row_bytes };
            for part in 0..P {
                T::pack_codes(s, rows, part, codes);
            }
            T::pack_scales::<S, P>(s, rows, scales);
            at += size_of::<T>();
        }
        let n_blocks = code_lines / block_lines;
        scales[n_blocks * units.meta_bytes..].fill(0);
        prefetch(s, rows, start, at);
    }
}

/// Prefetches of the next group as much as bytes `start…end` of the rows are of this one.
#[inline(always)]
fn prefetch<S: Simd>(s: S, rows: &[u8], start: usize, end: usize) {
    for line in &rows.as_chunks::<64>().0[start * LANES / 64..end * LANES / 64] {
        s.prefetch(line, rows.len());
    }
}

/// Packs elements of four bytes.
#[inline(always)]
fn words<S: Simd, const P: usize>(s: S, shape: &Shape, rows: &[u8], out: &mut [u8]) {
    for (i, out) in out.as_chunks_mut().0.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let rows4 = Rows { bytes: &rows[16 * i..], stride: shape.row_bytes };
        for part in 0..P {
            for (words, line) in rows4.words(s, 0, part).into_iter().zip(&mut *out) {
                s.store_b(words, line, part);
            }
        }
        prefetch(s, rows, 16 * i, 16 * i + 16);
    }
}

/// Packs elements of two bytes.
#[inline(always)]
fn halves<S: Simd, const P: usize>(s: S, shape: &Shape, rows: &[u8], out: &mut [u8]) {
    for (i, out) in out.as_chunks_mut().0.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let rows8 = Rows { bytes: &rows[16 * i..], stride: shape.row_bytes };
        let mut lines = [[0; 64]; 4];
        for part in 0..P {
            for (words, line) in rows8.words(s, 0, part).into_iter().zip(&mut lines) {
                s.store_b(words, line, part);
            }
        }
        for (line, out) in lines.iter().zip(out) {
            split_halves(line, out);
        }
        prefetch(s, rows, 16 * i, 16 * i + 16);
    }
}

/// Separates the two halves of each lane's word: `(lane, 2)` to `(2, lane)`.
#[inline(always)]
fn split_halves(line: &[u8; 64], out: &mut [u8; 64]) {
    let (first, second) = out.as_chunks_mut::<2>().0.split_at_mut(LANES);
    for (lane, word) in line.as_chunks::<4>().0.iter().enumerate() {
        first[lane] = [word[0], word[1]];
        second[lane] = [word[2], word[3]];
    }
}

/// Separates the four bytes of each lane's word: `(lane, 4)` to `(4, lane)`.
#[inline(always)]
fn split_bytes(line: &[u8; 64], out: &mut [u8; 64]) {
    let [a, b, c, d] = out.as_chunks_mut::<LANES>().0 else { unreachable!("4 times 16 bytes") };
    for (lane, word) in line.as_chunks::<4>().0.iter().enumerate() {
        [a[lane], b[lane], c[lane], d[lane]] = *word;
    }
}

/// Blocks of 32 with codes of 4 or 8 bits: words of the file are lines.
macro_rules! impl_block32 {
    ($t:ident, $codes:literal, $lines:literal, flip $flip:literal) => {
        impl Transpose for $t {
            #[inline(always)]
            fn pack_codes<S: Simd>(s: S, rows: Rows, part: usize, out: &mut [[u8; 64]]) {
                for (i, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    for (words, line) in rows.words(s, $codes + 16 * i, part).into_iter().zip(out) {
                        s.store_b(s.xor(words, s.splat_b($flip)), line, part);
                    }
                }
            }
            #[inline(always)]
            fn pack_scales<S: Simd, const P: usize>(s: S, rows: Rows, out: &mut [u8]) {
                first_halves::<S, P>(s, rows, Self::FORMAT.min, out);
            }
        }
    };
}

impl_block32!(Q4_0, 2, 4, flip 0);
impl_block32!(Q4_1, 4, 4, flip 0);
impl_block32!(Q8_0, 2, 8, flip 0x80);

/// Blocks of 32 with codes of 5 bits.
macro_rules! impl_block32_of_5_bits {
    ($t:ident, $fifth:literal) => {
        impl Transpose for $t {
            #[inline(always)]
            fn pack_codes<S: Simd>(s: S, rows: Rows, part: usize, out: &mut [[u8; 64]]) {
                let words = rows.words(s, $fifth + 4, part);
                for (words, line) in words.into_iter().zip(&mut *out) {
                    s.store_b(words, line, part);
                }
                if part == 0 {
                    let fifth = out[4].as_chunks_mut::<4>().0;
                    for (lane, out) in fifth.iter_mut().enumerate() {
                        let row = nth_row(&rows.bytes[$fifth..], rows.stride, lane);
                        let bits = row.first_chunk().expect("a row has 16 bytes");
                        *out = spread(u32::from_le_bytes(*bits)).to_le_bytes();
                    }
                }
            }
            #[inline(always)]
            fn pack_scales<S: Simd, const P: usize>(s: S, rows: Rows, out: &mut [u8]) {
                first_halves::<S, P>(s, rows, Self::FORMAT.min, out);
            }
        }
    };
}

impl_block32_of_5_bits!(Q5_0, 2);
impl_block32_of_5_bits!(Q5_1, 4);

/// Moves bit `4 g + t` to bit `g` of byte `t`.
#[inline(always)]
fn spread(bits: u32) -> u32 {
    let mut out = 0;
    for g in 0..8 {
        out |= ((bits >> (4 * g) & 15).wrapping_mul(0x0020_4081) & 0x0101_0101) << g;
    }
    out
}

/// Packs `d`, which begins the block, and `m` behind it if there is one.
#[inline(always)]
fn first_halves<S: Simd, const P: usize>(s: S, rows: Rows, min: bool, out: &mut [u8]) {
    let (mut line, mut both) = ([0; 64], [0; 64]);
    for part in 0..P {
        s.store_b(rows.words(s, 0, part)[0], &mut line, part);
    }
    split_halves(&line, &mut both);
    let len = if min { 64 } else { 32 };
    out[..len].copy_from_slice(&both[..len]);
}
