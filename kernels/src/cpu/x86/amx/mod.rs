//! AMX: many rows of activations as int8 tiles; everything else as AVX-512 does it.
//!
//! A tile of weights is 16 output rows of up to 64 columns: lines as they are packed, unpacked to bytes,
//! are the interleaving by four that the instruction asks for. A tile of activations is up to 16 rows,
//! read in place. Their product is the exact integer sum of each (row, output).
//!
//! ```text
//! superblocks.rs   where integer scales are small: the tiles add up a whole superblock
//! chunks.rs        all others: the tiles add up one sub-block, the vector unit does the rest
//! ```
//!
//! The intrinsics are not stable yet, so tiles are spelled in assembly. What one piece of it leaves in a
//! tile register the next one finds there: the compiler has no other use for these registers, and no
//! function is called in between. Each call leaves them as it found them: released.

mod chunks;
mod superblocks;

use super::avx512::{self, Avx512};
use crate::cpu::blocks::{BlockKernel, with_block_kernel};
use crate::cpu::lanes::LANES;
use crate::cpu::matmul::Groups;
use crate::cpu::pack::{Layout, Lines, PackedMatrix, Units};
use crate::cpu::{ActivationRows, Kernels};
use std::arch::asm;
use std::arch::x86_64::*;

/// From so many rows on tiles win over AVX-512: measured on Emerald Rapids.
const fn min_rows(scaled: bool) -> usize {
    if scaled { 12 } else { 24 }
}

/// Rows of a tile.
const TILE: usize = 16;

/// Groups that share one reading of the activations.
const GROUPS: usize = 4;

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

fn matmul(
    w: &PackedMatrix,
    first: usize,
    x: ActivationRows,
    out: &mut [f32],
    add: bool,
    scratch: &mut [f32],
) {
    let Layout::Blocks(format) = w.shape.layout else {
        return (avx512::KERNELS.matmul)(w, first, x, out, add, scratch);
    };
    if x.n_rows() < min_rows(format.scaled) {
        return (avx512::KERNELS.matmul)(w, first, x, out, add, scratch);
    }
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c")]
    fn compiled<B: BlockKernel>(_: B, s: Avx512, groups: &Groups, units: Units, out: &mut [f32]) {
        if superblocks::takes::<B>() {
            panels::<superblocks::Panel<B>>(s, groups, units, out);
        } else {
            panels::<chunks::Panel<B>>(s, groups, units, out);
        }
    }
    let (groups, units) = (Groups { w, first, x, add }, Units::new(&format, w.shape.n_cols));
    // SAFETY: `Kernels::available` hands this table out only where [`detected`] said yes.
    unsafe {
        let s = Avx512::assume();
        with_block_kernel!(format, kernel => compiled(kernel, s, &groups, units, out))
    }
}

/// Up to [`Panel::ROWS`] rows of activations, and what is being added up for them. The tiles are configured
/// as long as one exists.
trait Panel<'a> {
    /// Rows that share one unpacking of the weights.
    const ROWS: usize;
    fn new(s: Avx512, x: ActivationRows<'a>) -> Self;
    /// Multiplies the first `n_groups` of these groups by all rows.
    fn multiply(&mut self, units: Units, groups: [Lines<'a>; GROUPS], n_groups: usize);
    /// The products of each row with a group.
    fn products(&self, group: usize) -> &[[__m512; 1]];
}

/// Runs panels of rows over the groups.
#[inline(always)]
fn panels<'a, P: Panel<'a>>(s: Avx512, groups: &Groups<'a>, units: Units, out: &mut [f32]) {
    let n_rows = groups.x.n_rows();
    for start in (0..n_rows).step_by(P::ROWS) {
        let len = P::ROWS.min(n_rows - start);
        let mut panel = P::new(s, groups.x.range(start..start + len));
        for (i, tiles) in out.chunks_mut(GROUPS * n_rows * LANES).enumerate() {
            let n_groups = tiles.len() / (n_rows * LANES);
            let mut lines: [Lines; GROUPS] = [&[]; GROUPS];
            for (g, lines) in lines[..n_groups].iter_mut().enumerate() {
                *lines = groups.w.group(groups.first + GROUPS * i + g);
            }
            panel.multiply(units, lines, n_groups);
            for (g, tile) in tiles.chunks_exact_mut(n_rows * LANES).enumerate() {
                groups.store(s, panel.products(g), &mut tile[start * LANES..][..len * LANES]);
            }
        }
    }
}

/// The tiles' configuration, in force until it is dropped.
struct Tiles(());

impl Tiles {
    /// Sets rows and bytes a row of each tile register.
    ///
    /// # Safety
    /// The CPU must have AMX and the system allow it; no tile has more than 16 rows of 64 bytes, and no
    /// other configuration is in force.
    unsafe fn configure(shapes: [(usize, usize); 8]) -> Tiles {
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        for (tile, (n, bytes)) in shapes.into_iter().enumerate() {
            (rows[tile], row_bytes[tile]) = (n as u8, bytes as u16);
        }
        let config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows };
        // SAFETY: the configuration is 64 bytes long.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack)) };
        Tiles(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the tiles were configured by `configure`.
        unsafe { asm!("tilerelease", options(nostack)) };
    }
}
