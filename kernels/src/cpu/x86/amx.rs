//! AMX: many rows of activations as int8 tiles; everything else as AVX-512 does it.
//!
//! A tile of weights is 16 output rows of one sub-block: its lines as they are packed, unpacked to
//! bytes, are the interleaving by four that the instruction asks for. A tile of activations is up to 16
//! rows, read in place. Their product is the exact integer sum of each (row, output), which then
//! enters the result by the same steps as everywhere.
//!
//! The intrinsics are not stable yet, so tiles are spelled in assembly. Nothing else uses the tile
//! registers, and each call leaves them as it found them: released.

use super::avx512::{self, Avx512};
use crate::cpu::blocks::{self, BlockKernel, with_block_kernel};
use crate::cpu::lanes::{Arith, LANES, Simd};
use crate::cpu::matmul::Groups;
use crate::cpu::pack::{Layout, Lines, Units};
use crate::cpu::{ActRows, Kernels, Packed};
use std::arch::asm;
use std::arch::x86_64::*;

/// From so many rows on tiles win over AVX-512: measured on Emerald Rapids.
const fn min_rows(scaled: bool) -> usize {
    if scaled { 12 } else { 24 }
}

/// Rows of a tile.
const TILE: usize = 16;

/// Rows that share one unpacking of the weights.
const PANEL: usize = 4 * TILE;

/// Whether the CPU has AVX-512 and AMX int8 and the system lets us use the tiles; asks it for that.
pub fn detected() -> bool {
    const AMX_TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    Avx512::detect().is_some()
        && __cpuid_count(7, 0).edx & AMX_TILE_AND_INT8 == AMX_TILE_AND_INT8
        && tiles_permitted()
}

/// Linux hands out the 8 KB of tile state only to a process that has asked.
#[cfg(target_os = "linux")]
fn tiles_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let outcome: i64;
    // SAFETY: a system call that touches no memory of ours.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => outcome, in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    outcome == 0
}

#[cfg(not(target_os = "linux"))]
fn tiles_permitted() -> bool {
    false
}

/// AVX-512's kernels, but for products of many rows.
pub(in crate::cpu) static KERNELS: Kernels =
    Kernels { name: "amx", matmul, ..Kernels::copy(&avx512::KERNELS) };

fn matmul(w: &Packed, first: usize, x: ActRows, out: &mut [f32], add: bool, scratch: &mut [f32]) {
    let Layout::Blocks(format) = w.layout else {
        return (avx512::KERNELS.matmul)(w, first, x, out, add, scratch);
    };
    if x.n_rows() < min_rows(format.scaled) {
        return (avx512::KERNELS.matmul)(w, first, x, out, add, scratch);
    }
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c")]
    fn compiled<B: BlockKernel>(_: B, s: Avx512, groups: &Groups, units: Units, out: &mut [f32]) {
        panels::<B>(s, groups, units, out);
    }
    let (groups, units) = (Groups { w, first, x, add }, Units::new(&format, w.n_cols()));
    // SAFETY: `Kernels::available` hands this table out only where [`detected`] said yes.
    unsafe {
        let s = Avx512::assume();
        with_block_kernel!(format, kernel => compiled(kernel, s, &groups, units, out))
    }
}

/// Runs panels of rows over the groups.
#[inline(always)]
fn panels<B: BlockKernel>(s: Avx512, groups: &Groups, units: Units, out: &mut [f32]) {
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

/// One sub-block's weights as signed bytes: for each four columns those of 16 outputs.
#[repr(C, align(64))]
struct Weights([[u8; 64]; 8]);

/// Integer sums of one sub-block: (rows, outputs).
#[repr(C, align(64))]
struct Sums([[i32; LANES]; PANEL]);

/// Up to [`PANEL`] rows of activations, and what is being added up for them.
struct Panel<'a, B: BlockKernel> {
    s: Avx512,
    rows: [&'a [B::Acts]; PANEL],
    n_rows: usize,
    /// From one row of activations to the next, in bytes.
    stride: usize,
    acc: [[__m512; 1]; PANEL],
    /// Integer sums of a superblock.
    scaled: [__m512i; PANEL],
    weights: Weights,
    /// Of the sub-blocks of two chunks: tiles work on one while the other is made use of.
    sums: [[Sums; 2]; 2],
}

/// Product of the weights in tile 6 and a tile of activations at `q`, stored at `sums`.
macro_rules! product {
    ($into:literal, $acts:literal, $q:expr, $stride:expr, $sums:expr) => {
        asm!(
            concat!("tilezero ", $into),
            concat!("tileloadd ", $acts, ", [{q} + {stride}*1]"),
            concat!("tdpbssd ", $into, ", ", $acts, ", tmm6"),
            concat!("tilestored [{sums} + {line}*1], ", $into),
            q = in(reg) $q, stride = in(reg) $stride, sums = in(reg) $sums, line = in(reg) 64usize,
            options(nostack)
        )
    };
}

/// 32 weights of each row of a group.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    codes: Lines<'a>,
    meta: &'a [u8],
    /// Number of the block in the row, and of the chunk in the block.
    b: usize,
    c: usize,
}

impl<'a, B: BlockKernel> Panel<'a, B> {
    #[inline(always)]
    fn new(s: Avx512, x: ActRows<'a>) -> Self {
        let mut rows: [&[B::Acts]; PANEL] = [&[]; PANEL];
        for (r, row) in rows[..x.n_rows()].iter_mut().enumerate() {
            *row = B::acts(x, r);
        }
        const ZERO: Sums = Sums([[0; LANES]; PANEL]);
        let n_rows = x.n_rows();
        let panel = Panel {
            s,
            rows,
            n_rows,
            stride: x.stride(),
            acc: [[s.splat(0.0)]; PANEL],
            scaled: [s.splat_i(0); PANEL],
            weights: Weights([[0; 64]; 8]),
            sums: [const { [ZERO; 2] }; 2],
        };
        // SAFETY: this table is in use, so AMX was detected; a remainder is below 16, SUB at most 32.
        unsafe { configure(B::SUB as u16, (n_rows % TILE) as u8) };
        panel
    }

    /// Multiplies one group by all rows.
    #[inline(always)]
    fn group(&mut self, mut units: Units, mut lines: Lines) {
        self.acc[..self.n_rows].fill([self.s.splat(0.0)]);
        let mut before: Option<Chunk> = None;
        let mut b = 0;
        while let Some((codes, scales)) = units.next(&mut lines) {
            blocks::prefetch(self.s, scales);
            for block in 0..codes.len() / B::CODE_LINES {
                let (codes, meta) = blocks::block::<B>(codes, scales, block);
                for c in 0..B::CHUNKS {
                    let chunk = Chunk { codes, meta, b, c };
                    self.unpack(&chunk);
                    self.multiply(&chunk);
                    if let Some(before) = before.replace(chunk) {
                        self.take(&before);
                    }
                }
                b += 1;
            }
        }
        if let Some(last) = before {
            self.take(&last);
        }
    }

    /// Unpacks a chunk's weights to signed bytes.
    #[inline(always)]
    fn unpack(&mut self, chunk: &Chunk) {
        let codes = B::codes(self.s, chunk.codes, chunk.c, 0);
        for (line, codes) in self.weights.0.iter_mut().zip(codes) {
            // SAFETY: AVX-512 was detected; a line is 64 bytes.
            unsafe {
                let signed = _mm512_sub_epi8(codes, _mm512_set1_epi8(B::OFFSET as i8));
                _mm512_storeu_si512(line.as_mut_ptr().cast(), signed);
            }
        }
    }

    /// Lets the tiles form the sums of a chunk.
    #[inline(always)]
    fn multiply(&mut self, chunk: &Chunk) {
        for half in 0..32 / B::SUB {
            let lines = &self.weights.0[half * B::SUB / 4..][..B::SUB / 4];
            let sums = &mut self.sums[chunk.parity::<B>()][half].0;
            // SAFETY: the tile of weights has SUB / 4 lines.
            unsafe {
                asm!("tileloadd tmm6, [{lines} + {line}*1]", lines = in(reg) lines.as_ptr(),
                    line = in(reg) 64usize, options(nostack));
            }
            for (t, sums) in sums[..self.n_rows].chunks_mut(TILE).enumerate() {
                let q = &B::q(&self.rows[t * TILE][chunk.b], chunk.c)[half * B::SUB..];
                let (q, sums_len) = (q.as_ptr(), sums.len());
                let sums = sums.as_mut_ptr();
                // SAFETY: a full tile reads SUB activations of each of 16 rows, which lie `stride`
                // bytes apart, and writes 16 lines of sums; the last one may have fewer rows, as it was
                // configured.
                unsafe {
                    match (sums_len, t % 2) {
                        (TILE, 0) => product!("tmm0", "tmm3", q, self.stride, sums),
                        (TILE, _) => product!("tmm1", "tmm4", q, self.stride, sums),
                        _ => product!("tmm2", "tmm5", q, self.stride, sums),
                    }
                }
            }
        }
    }

    /// Adds what the sums of a chunk contribute to each row.
    #[inline(always)]
    fn take(&mut self, chunk: &Chunk) {
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
        let rows = self.rows[..self.n_rows].iter().zip(&mut self.acc);
        for ((x, acc), (scaled, sums)) in rows.zip(self.scaled.iter().zip(&sums[0].0)) {
            // SAFETY: as above.
            let plain = unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) };
            let sum = if B::SCALED { *scaled } else { plain };
            acc[0] = B::finish(s, &scales, &x[chunk.b], sum, acc[0]);
        }
    }
}

impl<B: BlockKernel> Drop for Panel<'_, B> {
    fn drop(&mut self) {
        // SAFETY: the tiles were configured by `Panel::new`.
        unsafe { asm!("tilerelease", options(nostack)) };
    }
}

impl Chunk<'_> {
    /// Which of the two places for sums it has.
    fn parity<B: BlockKernel>(&self) -> usize {
        (self.b * B::CHUNKS + self.c) % 2
    }
}

/// Sets the shapes of the tiles: sums 0, 1 and those of the last rows 2; activations 3, 4 and 5;
/// weights 6.
///
/// # Safety
/// The CPU must have AMX and the system allow it; `columns` is at most 64, `last_rows` at most 16.
unsafe fn configure(columns: u16, last_rows: u8) {
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }
    let (full, last) = (TILE as u8, last_rows.max(1));
    let mut config =
        Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    config.row_bytes[..7].copy_from_slice(&[64, 64, 64, columns, columns, columns, 64]);
    config.rows[..7].copy_from_slice(&[full, full, last, full, full, last, columns as u8 / 4]);
    // SAFETY: the configuration is 64 bytes long.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack)) };
}
