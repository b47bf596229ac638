//! I8MM: rows of activations in pairs; all other kernels are those of `dotprod`.
//!
//! One `smmla` multiplies two outputs by two rows of activations over eight columns, twice the work of `sdot`. Its
//! operand of weights is two adjacent groups of four columns of two outputs, zipped from packed registers. Its operand
//! of activations is eight columns of two rows, combined once for all outputs of a group. Sums stay in the
//! instruction's order, `(outputs 2, rows 2)`, until the end of a block; then they are added to the result by the same
//! steps as everywhere.
//!
//! The intrinsic is not stable, so the instruction is written in assembly.

use super::neon::{self, Neon};
use crate::cpu::blocks::{self, BlockKernel, PREFETCH_BYTES, with_block_kernel};
use crate::cpu::lanes::{Arith, LANES, Simd};
use crate::cpu::matmul::Groups;
use crate::cpu::pack::{Layout, Lines, PackedMatrix, Units};
use crate::cpu::{ActivationRows, Kernels};
use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};
use std::mem::transmute;

/// Smallest number of rows for which this needs fewer instructions than `dotprod`; counted under emulation.
const fn min_rows(scaled: bool) -> usize {
    if scaled { 4 } else { 8 }
}

/// Rows that share one unpacking of the weights.
const PANEL: usize = 32;

/// Registers of a group's 16 outputs.
const PARTS: usize = LANES / 4;

/// Whether the CPU has `sdot` and `smmla`.
pub fn detected() -> bool {
    Neon::<true>::detect().is_some() && is_aarch64_feature_detected!("i8mm")
}

/// The kernels of `dotprod`, except for products of several rows.
pub(in crate::cpu) static KERNELS: Kernels =
    Kernels { name: "i8mm", matmul, ..Kernels::copy(&neon::dotprod::KERNELS) };

fn matmul(
    w: &PackedMatrix,
    first: usize,
    x: ActivationRows,
    out: &mut [f32],
    add: bool,
    scratch: &mut [f32],
) {
    let Layout::Blocks(format) = w.shape.layout else {
        return (neon::dotprod::KERNELS.matmul)(w, first, x, out, add, scratch);
    };
    if x.n_rows() < min_rows(format.scaled) {
        return (neon::dotprod::KERNELS.matmul)(w, first, x, out, add, scratch);
    }
    #[target_feature(enable = "neon,dotprod,i8mm")]
    fn compiled<B: BlockKernel>(
        _: B,
        s: Neon<true>,
        groups: &Groups,
        units: Units,
        out: &mut [f32],
    ) {
        panels::<B>(s, groups, units, out);
    }
    let (groups, units) = (Groups { w, first, x, add }, Units::new(&format, w.shape.n_cols));
    // SAFETY: `Kernels::available` hands this table out only where [`detected`] said yes.
    unsafe {
        let s = Neon::<true>::assume();
        with_block_kernel!(format, kernel => compiled(kernel, s, &groups, units, out))
    }
}

/// Multiplies panels of rows by the groups.
#[inline(always)]
fn panels<B: BlockKernel>(s: Neon<true>, groups: &Groups, units: Units, out: &mut [f32]) {
    let n_rows = groups.x.n_rows();
    for start in (0..n_rows).step_by(PANEL) {
        let len = PANEL.min(n_rows - start);
        let mut panel = Panel::<B>::new(s, groups.x.range(start..start + len));
        for (g, tile) in out.chunks_exact_mut(n_rows * LANES).enumerate() {
            panel.group(units, groups.w.group(groups.first + g));
            groups.store(s, &panel.acc[..len], &mut tile[start * LANES..][..len * LANES]);
        }
    }
}

/// Sums of a register's outputs for two rows: those of its first two outputs, then of its last two.
type Sums = [int32x4_t; 2];

/// Up to [`PANEL`] rows of activations, and their sums.
struct Panel<'a, B: BlockKernel> {
    s: Neon<true>,
    /// Rows in pairs; an odd last row is paired with itself.
    rows: [[&'a [B::Activations]; 2]; PANEL / 2],
    n_pairs: usize,
    acc: [[float32x4_t; PARTS]; PANEL],
    /// Integer sums of a superblock.
    scaled: [[Sums; PARTS]; PANEL / 2],
    /// A chunk's activations of each pair: eight columns of one row, then of the other.
    eights: [[int8x16_t; 4]; PANEL / 2],
}

/// One block of each row of a group, and the same block of each pair of rows.
struct Block<'a, A> {
    codes: Lines<'a>,
    meta: &'a [u8],
    pairs: &'a [[&'a A; 2]],
}

/// 32 weights of a register's outputs: eight columns of the first two outputs, and of the last two.
type Weights = [[int8x16_t; 2]; 4];

impl<'a, B: BlockKernel> Panel<'a, B> {
    /// The offset that [`BlockKernel::codes`] leaves in each code; 8-bit codes are signed already.
    const OFFSET: i32 = if B::OFFSET == 128 { Neon::<true>::OFFSET8 } else { B::OFFSET };

    #[inline(always)]
    fn new(s: Neon<true>, x: ActivationRows<'a>) -> Self {
        let mut rows: [[&[B::Activations]; 2]; PANEL / 2] = [[&[]; 2]; PANEL / 2];
        let n_pairs = x.n_rows().div_ceil(2);
        for (i, pair) in rows[..n_pairs].iter_mut().enumerate() {
            *pair = [B::activations(x, 2 * i), B::activations(x, (2 * i + 1).min(x.n_rows() - 1))];
        }
        let sums = [s.splat_i(0); 2];
        // SAFETY: NEON was detected.
        let zero = unsafe { vdupq_n_s8(0) };
        Panel {
            s,
            rows,
            n_pairs,
            acc: [[s.splat(0.0); PARTS]; PANEL],
            scaled: [[sums; PARTS]; PANEL / 2],
            eights: [[zero; 4]; PANEL / 2],
        }
    }

    /// Multiplies one group by all rows.
    #[inline(always)]
    fn group(&mut self, mut units: Units, mut lines: Lines) {
        self.acc[..2 * self.n_pairs].fill([self.s.splat(0.0); PARTS]);
        let mut b = 0;
        while let Some((codes, scales)) = units.next(&mut lines) {
            blocks::prefetch::<_, PREFETCH_BYTES>(self.s, scales);
            for i in 0..codes.len() / B::CODE_LINES {
                let (codes, meta) = blocks::block::<B>(codes, scales, i);
                let mut pairs = [[&self.rows[0][0][b]; 2]; PANEL / 2];
                for (pair, rows) in pairs.iter_mut().zip(&self.rows[..self.n_pairs]) {
                    *pair = [&rows[0][b], &rows[1][b]];
                }
                self.block(&Block { codes, meta, pairs: &pairs[..self.n_pairs] });
                b += 1;
            }
        }
    }

    #[inline(always)]
    fn block(&mut self, block: &Block<B::Activations>) {
        for c in 0..B::CHUNKS {
            self.pair_up(block, c);
            for part in 0..PARTS {
                let weights = self.unpack(block, c, part);
                if B::SCALED {
                    self.multiply_scaled(block, c, &weights, part);
                } else {
                    self.multiply(block, &weights, part);
                }
            }
        }
        if B::SCALED {
            self.take_scaled(block);
        }
    }

    /// Combines the activations of chunk `c` for all pairs of rows.
    #[inline(always)]
    fn pair_up(&mut self, block: &Block<B::Activations>, c: usize) {
        for (eights, pair) in self.eights.iter_mut().zip(block.pairs) {
            let a = B::q(pair[0], c).as_chunks::<8>().0;
            let b = B::q(pair[1], c).as_chunks::<8>().0;
            for (eight, (a, b)) in eights.iter_mut().zip(a.iter().zip(b)) {
                // SAFETY: a register of bytes is 16 of them.
                *eight = unsafe { transmute::<[[i8; 8]; 2], int8x16_t>([*a, *b]) };
            }
        }
    }

    /// Unpacks a chunk's weights of one register's outputs to signed bytes.
    #[inline(always)]
    fn unpack(&self, block: &Block<B::Activations>, c: usize, part: usize) -> Weights {
        let fours = B::codes::<_, PREFETCH_BYTES>(self.s, block.codes, c, part);
        // SAFETY: NEON was detected.
        unsafe {
            let offset = vdupq_n_u8(Self::OFFSET as u8);
            let mut weights = [[vdupq_n_s8(0); 2]; 4];
            for (weights, fours) in weights.iter_mut().zip(fours.as_chunks::<2>().0) {
                let left = vreinterpretq_u32_u8(vsubq_u8(fours[0], offset));
                let right = vreinterpretq_u32_u8(vsubq_u8(fours[1], offset));
                weights[0] = vreinterpretq_s8_u32(vzip1q_u32(left, right));
                weights[1] = vreinterpretq_s8_u32(vzip2q_u32(left, right));
            }
            weights
        }
    }

    /// Adds the contribution of a block of one chunk to each row's sums.
    #[inline(always)]
    fn multiply(&mut self, block: &Block<B::Activations>, weights: &Weights, part: usize) {
        let scales = B::scales(self.s, block.meta, part);
        let acc = self.acc.as_chunks_mut::<2>().0;
        for ((acc, eights), x) in acc.iter_mut().zip(&self.eights).zip(block.pairs) {
            take::<B>(self.s, &scales, x, dots(self.s, weights, eights), part, acc);
        }
    }

    /// Adds a chunk, times its integer scales, to the sums of each pair. The first chunk of a superblock sets them.
    #[inline(always)]
    fn multiply_scaled(
        &mut self,
        block: &Block<B::Activations>,
        c: usize,
        weights: &Weights,
        part: usize,
    ) {
        let n_subs = 32 / B::SUB;
        let mut scales = [[self.s.splat_i(0); 2]; 2];
        for (sub, scales) in scales[..n_subs].iter_mut().enumerate() {
            let scale = B::scale(self.s, block.meta, n_subs * c + sub, part);
            // SAFETY: NEON was detected.
            *scales = unsafe { [vzip1q_s32(scale, scale), vzip2q_s32(scale, scale)] };
        }
        for (scaled, eights) in self.scaled.iter_mut().zip(&self.eights[..self.n_pairs]) {
            let scaled = &mut scaled[part];
            let mut acc = if c == 0 { [self.s.splat_i(0); 2] } else { *scaled };
            for (sub, scales) in scales[..n_subs].iter().enumerate() {
                let first = sub * B::SUB / 8;
                let (weights, eights) = (&weights[first..][..B::SUB / 8], &eights[first..]);
                let sums = dots(self.s, weights, eights);
                for ((acc, sum), &scale) in acc.iter_mut().zip(sums).zip(scales) {
                    // SAFETY: NEON was detected.
                    *acc = unsafe { vmlaq_s32(*acc, sum, scale) };
                }
            }
            *scaled = acc;
        }
    }

    /// Adds the contribution of a superblock to each row's sums.
    #[inline(always)]
    fn take_scaled(&mut self, block: &Block<B::Activations>) {
        for part in 0..PARTS {
            let scales = B::scales(self.s, block.meta, part);
            let acc = self.acc.as_chunks_mut::<2>().0;
            for ((acc, scaled), x) in acc.iter_mut().zip(&self.scaled).zip(block.pairs) {
                take::<B>(self.s, &scales, x, scaled[part], part, acc);
            }
        }
    }
}

/// Adds the contribution of a block's integer sums to the results of a pair of rows.
#[inline(always)]
fn take<B: BlockKernel>(
    s: Neon<true>,
    scales: &B::Scales<Neon<true>>,
    x: &[&B::Activations; 2],
    [left, right]: Sums,
    part: usize,
    acc: &mut [[float32x4_t; PARTS]; 2],
) {
    // SAFETY: NEON was detected.
    let sums = unsafe { [vuzp1q_s32(left, right), vuzp2q_s32(left, right)] };
    for ((acc, x), sum) in acc.iter_mut().zip(x).zip(sums) {
        acc[part] = B::finish(s, scales, x, sum, acc[part]);
    }
}

/// Integer sums over groups of eight columns.
#[inline(always)]
fn dots(s: Neon<true>, weights: &[[int8x16_t; 2]], eights: &[int8x16_t]) -> Sums {
    let mut sums = [s.splat_i(0); 2];
    for (weights, &eight) in weights.iter().zip(eights) {
        for (sum, &weights) in sums.iter_mut().zip(weights) {
            // SAFETY: this table is in use, so the instruction was detected; it touches registers
            // alone.
            unsafe {
                asm!("smmla {:v}.4s, {:v}.16b, {:v}.16b", inout(vreg) *sum, in(vreg) weights,
                    in(vreg) eight, options(pure, nomem, nostack, preserves_flags));
            }
        }
    }
    sums
}
