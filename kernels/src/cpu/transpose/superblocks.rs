//! Superblocks of 256 weights: eight runs of 32 codes, which share their bytes with other runs.

use super::{Rows, Transpose, split_bytes, split_halves};
use crate::cpu::blocks::field;
use crate::cpu::lanes::{LANES, Simd};
use crate::cpu::pack::{min_at, scale_at};
use crate::quant::q2_k::Q2K;
use crate::quant::q3_k::Q3K;
use crate::quant::q4_k::Q4K;
use crate::quant::q5_k::Q5K;
use crate::quant::q6_k::Q6K;
use crate::quant::{Block, Format};

/// A superblock's scales in each lane: `d` and `m` in the halves of a word, scales and minima of four sub-blocks each.
struct ScaleWords<B> {
    /// Without minima, `d` is the second half.
    d: B,
    scale: [B; 4],
    min: [B; 4],
}

/// Superblocks of 256.
macro_rules! impl_superblock {
    ($t:ident, $scale_words:ident, [$($plane:ident($($at:literal),*)),*]) => {
        impl Transpose for $t {
            #[inline(always)]
            fn pack_codes<S: Simd>(s: S, rows: Rows, part: usize, out: &mut [[u8; 64]]) {
                let run_lines = Self::FORMAT.bits as usize;
                let mut out = Planes { part, run_lines, lines: out };
                $($plane(s, rows, $($at,)* &mut out);)*
            }
            #[inline(always)]
            fn pack_scales<S: Simd, const P: usize>(s: S, rows: Rows, out: &mut [u8]) {
                let (mut d, mut scale, mut min) = ([0; 64], [[0; 64]; 4], [[0; 64]; 4]);
                for part in 0..P {
                    let words = $scale_words(s, rows, part);
                    s.store_b(words.d, &mut d, part);
                    for i in 0..4 {
                        s.store_b(words.scale[i], &mut scale[i], part);
                        s.store_b(words.min[i], &mut min[i], part);
                    }
                }
                superblock_scales(&Self::FORMAT, &d, &scale, &min, out);
            }
        }
    };
}

impl_superblock!(Q2K, scales_q2_k, [crumbs(16, 0)]);
impl_superblock!(Q3K, scales_q3_k, [crumbs(32, 0), bits(0, 2)]);
impl_superblock!(Q4K, scales_six_bits, [nibbles(16, 1)]);
impl_superblock!(Q5K, scales_six_bits, [nibbles(48, 1), bits(16, 4)]);
impl_superblock!(Q6K, scales_q6_k, [nibbles(0, 2), crumbs(128, 4)]);

/// The lines of a superblock's codes, and which register of each is written.
struct Planes<'a> {
    part: usize,
    run_lines: usize,
    lines: &'a mut [[u8; 64]],
}

impl Planes<'_> {
    #[inline(always)]
    fn store<S: Simd>(&mut self, s: S, plane: S::B, run: usize, line: usize) {
        s.store_b(plane, &mut self.lines[run * self.run_lines + line], self.part);
    }
}

/// Packs planes of four bits from byte `at` on. Runs of 32 codes whose bits share bytes are `apart` runs from another.
#[inline(always)]
fn nibbles<S: Simd>(s: S, rows: Rows, at: usize, apart: usize, out: &mut Planes) {
    for i in 0..4 {
        let words = rows.words8(s, at + 32 * i, out.part);
        let run = i / apart * 2 * apart + i % apart;
        for l in 0..4 {
            let low = s.or(field::<S, 4>(s, words[l], 0, 0), field::<S, 4>(s, words[l + 4], 0, 4));
            let high = s.or(field::<S, 4>(s, words[l], 4, 0), field::<S, 4>(s, words[l + 4], 4, 4));
            out.store(s, low, run, l);
            out.store(s, high, run + apart, l);
        }
    }
}

/// Packs planes of two bits from byte `at` on, which are two lines of a run from `line` on.
#[inline(always)]
fn crumbs<S: Simd>(s: S, rows: Rows, at: usize, line: usize, out: &mut Planes) {
    for half in 0..2 {
        let words = rows.words8(s, at + 32 * half, out.part);
        for t in 0..4 {
            for h in 0..2 {
                let mut plane = field::<S, 2>(s, words[4 * h], 2 * t, 0);
                for u in 1..4 {
                    plane = s.or(plane, field::<S, 2>(s, words[4 * h + u], 2 * t, 2 * u));
                }
                out.store(s, plane, 4 * half + t, line + h);
            }
        }
    }
}

/// Packs planes of one bit from byte `at` on, which are line `line` of a run.
#[inline(always)]
fn bits<S: Simd>(s: S, rows: Rows, at: usize, line: usize, out: &mut Planes) {
    let words = rows.words8(s, at, out.part);
    for run in 0..8 {
        let mut plane = field::<S, 1>(s, words[0], run, 0);
        for (g, &word) in words.iter().enumerate().skip(1) {
            plane = s.or(plane, field::<S, 1>(s, word, run, g));
        }
        out.store(s, plane, run, line);
    }
}

#[inline(always)]
fn scales_q2_k<S: Simd>(s: S, rows: Rows, part: usize) -> ScaleWords<S::B> {
    let both = rows.words(s, 0, part);
    let (mut scale, mut min) = (both, both);
    for i in 0..4 {
        scale[i] = field::<S, 4>(s, both[i], 0, 0);
        min[i] = field::<S, 4>(s, both[i], 4, 0);
    }
    ScaleWords { d: rows.words(s, 68, part)[3], scale, min }
}

#[inline(always)]
fn scales_q3_k<S: Simd>(s: S, rows: Rows, part: usize) -> ScaleWords<S::B> {
    let [_, a, b, high] = rows.words(s, 92, part);
    let mut scale = [a, b, a, b];
    for (i, scale) in scale.iter_mut().enumerate() {
        let low = field::<S, 4>(s, *scale, i / 2 * 4, 0);
        let code = s.or(low, field::<S, 2>(s, high, 2 * i, 4));
        // Less 32: the sixth bit, turned over, is the sign.
        let code = s.xor(code, s.splat_b(32));
        let sign = s.and(code, s.splat_b(32));
        *scale = s.or(code, s.or(s.shl(sign, 1), s.shl(sign, 2)));
    }
    ScaleWords { d: rows.words(s, 94, part)[3], scale, min: scale }
}

/// The scales of `Q4_K` and `Q5_K`: see `SixBits`.
#[inline(always)]
fn scales_six_bits<S: Simd>(s: S, rows: Rows, part: usize) -> ScaleWords<S::B> {
    let [d, a, b, both] = rows.words(s, 0, part);
    let scale = [
        field::<S, 6>(s, a, 0, 0),
        s.or(field::<S, 4>(s, both, 0, 0), field::<S, 2>(s, a, 6, 4)),
        a,
        a,
    ];
    let min = [
        field::<S, 6>(s, b, 0, 0),
        s.or(field::<S, 4>(s, both, 4, 0), field::<S, 2>(s, b, 6, 4)),
        b,
        b,
    ];
    ScaleWords { d, scale, min }
}

#[inline(always)]
fn scales_q6_k<S: Simd>(s: S, rows: Rows, part: usize) -> ScaleWords<S::B> {
    let scale = rows.words(s, 192, part);
    ScaleWords { d: rows.words(s, 194, part)[3], scale, min: scale }
}

/// Writes a superblock's scales: see `pack.rs`.
#[inline(always)]
fn superblock_scales(
    f: &Format,
    d: &[u8; 64],
    scale: &[[u8; 64]; 4],
    min: &[[u8; 64]; 4],
    out: &mut [u8],
) {
    let mut both = [0; 64];
    split_halves(d, &mut both);
    if f.min {
        out[..64].copy_from_slice(&both);
        for m in out[32..64].as_chunks_mut::<2>().0 {
            m[1] ^= 0x80; // The file has −m.
        }
        for (min, out) in min.iter().zip(out[min_at(f)..].as_chunks_mut().0) {
            split_halves(min, out);
        }
    } else {
        out[..32].copy_from_slice(&both[32..]);
    }
    let scales_len = f.block_len / f.sub_len * LANES;
    let scales = out[scale_at(f.min)..][..scales_len].as_chunks_mut().0;
    for (scale, out) in scale.iter().zip(scales) {
        split_bytes(scale, out);
    }
}
