//! Products by AMX of one sub-block at a time.
//!
//! The sums of a sub-block leave the tiles and are added to the result by the steps of [`BlockKernel::finish`], after
//! multiplication by an integer scale if there is one. The tiles work on one chunk while the vector unit uses the sums
//! of the one before.

use super::tiles::{Strided, TILE, Tiles};
use super::{AHEAD, GROUPS};
use crate::cpu::ActivationRows;
use crate::cpu::blocks::{self, BlockKernel};
use crate::cpu::lanes::{Arith, LANES, Simd};
use crate::cpu::pack::{Lines, Units};
use crate::cpu::x86::avx512::Avx512;
use std::arch::x86_64::*;

/// Rows that share one unpacking of the weights.
const PANEL: usize = 4 * TILE;

/// Weights of one sub-block as signed bytes: for every four columns, those of 16 outputs.
#[repr(C, align(64))]
struct Weights([[u8; 64]; 8]);

/// Integer sums of one sub-block: (rows, outputs).
#[repr(C, align(64))]
struct Sums([[i32; LANES]; PANEL]);

/// See [`super::Panel`].
pub struct Panel<'a, B: BlockKernel, T: Tiles> {
    s: Avx512,
    x: ActivationRows<'a>,
    rows: [&'a [B::Activations]; PANEL],
    n_rows: usize,
    acc: [[[__m512; 1]; PANEL]; GROUPS],
    /// Integer sums of a superblock.
    scaled: [__m512i; PANEL],
    weights: Weights,
    /// Sums of the sub-blocks of two chunks: the tiles write one while the other is used.
    sums: [[Sums; 2]; 2],
    tiles: T,
}

/// 32 weights of each row of a group.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    codes: Lines<'a>,
    meta: &'a [u8],
    /// Index of the block in the row, and of the chunk in the block.
    b: usize,
    c: usize,
}

impl<'a, B: BlockKernel, T: Tiles> super::Panel<'a> for Panel<'a, B, T> {
    const ROWS: usize = PANEL;

    #[inline(always)]
    unsafe fn new(s: Avx512, x: ActivationRows<'a>) -> Self {
        const ZERO: Sums = Sums([[0; LANES]; PANEL]);
        let n_rows = x.n_rows();
        Panel {
            s,
            x,
            rows: blocks::rows::<B, PANEL>(x),
            n_rows,
            acc: [[[s.splat(0.0)]; PANEL]; GROUPS],
            scaled: [s.splat_i(0); PANEL],
            weights: Weights([[0; 64]; 8]),
            sums: [const { [ZERO; 2] }; 2],
            // SAFETY: as the caller says.
            tiles: unsafe { T::for_sub_blocks(n_rows, B::SUB) },
        }
    }

    #[inline(always)]
    fn multiply(&mut self, units: Units, groups: [Lines<'a>; GROUPS], n_groups: usize) {
        for (group, lines) in groups[..n_groups].iter().enumerate() {
            self.group(units, lines, group);
        }
    }

    #[inline(always)]
    fn products(&self, group: usize) -> &[[__m512; 1]] {
        &self.acc[group][..self.n_rows]
    }
}

impl<B: BlockKernel, T: Tiles> Panel<'_, B, T> {
    #[inline(always)]
    fn group(&mut self, mut units: Units, mut lines: Lines, group: usize) {
        self.acc[group][..self.n_rows].fill([self.s.splat(0.0)]);
        let mut before: Option<Chunk> = None;
        let mut b = 0;
        while let Some((codes, scales)) = units.next(&mut lines) {
            blocks::prefetch::<_, AHEAD>(self.s, scales);
            for block in 0..codes.len() / B::CODE_LINES {
                let (codes, meta) = blocks::block::<B>(codes, scales, block);
                for c in 0..B::CHUNKS {
                    let chunk = Chunk { codes, meta, b, c };
                    self.unpack(&chunk);
                    self.multiply_chunk(&chunk);
                    if let Some(before) = before.replace(chunk) {
                        self.take(&before, group);
                    }
                }
                b += 1;
            }
        }
        if let Some(last) = before {
            self.take(&last, group);
        }
    }

    /// Unpacks a chunk's weights to signed bytes.
    #[inline(always)]
    fn unpack(&mut self, chunk: &Chunk) {
        let codes = B::codes::<_, AHEAD>(self.s, chunk.codes, chunk.c, 0);
        for (line, codes) in self.weights.0.iter_mut().zip(codes) {
            // SAFETY: AVX-512 was detected; a line is 64 bytes.
            unsafe {
                let signed = _mm512_sub_epi8(codes, _mm512_set1_epi8(B::OFFSET as i8));
                _mm512_storeu_si512(line.as_mut_ptr().cast(), signed);
            }
        }
    }

    /// Multiplies a chunk in the tiles.
    #[inline(always)]
    fn multiply_chunk(&mut self, chunk: &Chunk) {
        let all = self.x.bytes();
        for half in 0..32 / B::SUB {
            let weights = &self.weights.0[half * B::SUB / 4..][..B::SUB / 4];
            let sums = &mut self.sums[chunk.parity::<B>()][half].0[..self.n_rows];
            // All rows have the same layout, so the offset in the first row holds for each.
            let q = &B::q(&self.rows[0][chunk.b], chunk.c)[half * B::SUB..];
            let at = q.as_ptr().addr() - all.as_ptr().addr();
            let x = Strided { bytes: &all[at..], stride: self.x.stride() };
            self.tiles.sub_block(weights, x, sums);
        }
    }

    /// Adds the contribution of a chunk's sums to each row.
    #[inline(always)]
    fn take(&mut self, chunk: &Chunk, group: usize) {
        let s = self.s;
        let sums = &self.sums[chunk.parity::<B>()];
        if B::SCALED {
            for half in 0..32 / B::SUB {
                let scale = B::scale(s, chunk.meta, 32 / B::SUB * chunk.c + half, 0);
                let first = chunk.c == 0 && half == 0;
                for (sums, scaled) in sums[half].0[..self.n_rows].iter().zip(&mut self.scaled) {
                    // SAFETY: AVX-512 was detected; a line is 64 bytes.
                    *scaled = unsafe {
                        let sum = _mm512_loadu_si512(sums.as_ptr().cast());
                        let product = _mm512_mullo_epi32(sum, scale);
                        if first { product } else { _mm512_add_epi32(*scaled, product) }
                    };
                }
            }
            if chunk.c + 1 < B::CHUNKS {
                return;
            }
        }
        let scales = B::scales(s, chunk.meta, 0);
        let rows = self.rows[..self.n_rows].iter().zip(&mut self.acc[group]);
        for ((x, acc), (scaled, sums)) in rows.zip(self.scaled.iter().zip(&sums[0].0)) {
            // SAFETY: as above.
            let plain = unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) };
            let sum = if B::SCALED { *scaled } else { plain };
            acc[0] = B::finish(s, &scales, &x[chunk.b], sum, acc[0]);
        }
    }
}

impl Chunk<'_> {
    /// The index of its place in `sums`.
    fn parity<B: BlockKernel>(&self) -> usize {
        (self.b * B::CHUNKS + self.c) % 2
    }
}
