//! AMX: int8 tiles for products of many rows; all other kernels are AVX-512's.
//!
//! A tile of weights is 16 output rows of up to 64 columns: packed lines, unpacked to bytes, have the interleaving by
//! four that the instruction needs. A tile of activations is up to 16 rows, which are read in place. Their product is
//! the exact integer sum of each (row, output).
//!
//! ```text
//! superblocks.rs   formats with small integer scales: the tiles sum a whole superblock
//! chunks.rs        all others: the tiles sum one sub-block, and the vector unit does the rest
//! tiles.rs         the tile unit in assembly, and its emulation for tests
//! ```
//!
//! Each call releases the tiles before it returns.

mod chunks;
mod superblocks;
mod tiles;

use super::avx512::{self, Avx512};
use crate::cpu::blocks::{BlockKernel, with_block_kernel};
use crate::cpu::lanes::LANES;
use crate::cpu::matmul::Groups;
use crate::cpu::pack::{Layout, Lines, PackedMatrix, Units};
use crate::cpu::{ActivationRows, Kernels};
use std::arch::asm;
use std::arch::x86_64::*;
use tiles::{Amx, Tiles};

/// Smallest number of rows for which tiles are faster than AVX-512; measured on Emerald Rapids.
const MIN_ROWS: usize = 12;

/// Prefetch distance in bytes, in each of the groups that are read side by side.
const AHEAD: usize = 4096;

/// Groups that share one reading of the activations.
const GROUPS: usize = 4;

/// Whether the CPU has AVX-512 and AMX int8, and the system permits the tiles; requests that permission.
pub fn detected() -> bool {
    const AMX_TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    Avx512::detect().is_some()
        && __cpuid_count(7, 0).edx & AMX_TILE_AND_INT8 == AMX_TILE_AND_INT8
        && tiles_permitted()
}

/// Linux provides the 8 KB of tile state only to a process that has requested it.
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

/// AVX-512's kernels, except for products of many rows.
pub(in crate::cpu) static KERNELS: Kernels =
    Kernels { name: "amx", matmul, peak_tiles: Some(peak), ..Kernels::copy(&avx512::KERNELS) };

/// Multiplies full tiles `rounds` times: see [`Kernels::peak_tiles`].
fn peak(rounds: usize) -> u64 {
    // SAFETY: the table is handed out only where the unit was detected, and no panel lives while this runs.
    let mut tiles = unsafe { Amx::for_superblocks(2 * tiles::TILE) };
    tiles.multiply_often(rounds)
}

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
    if x.n_rows() < MIN_ROWS {
        return (avx512::KERNELS.matmul)(w, first, x, out, add, scratch);
    }
    let (groups, units) = (Groups { w, first, x, add }, Units::new(&format, w.shape.n_cols));
    // SAFETY: `Kernels::available` hands this table out only where [`detected`] said yes.
    unsafe {
        let s = Avx512::assume();
        with_block_kernel!(format, kernel => blocks::<_, Amx>(kernel, s, &groups, units, out))
    }
}

/// Multiplies groups of a block format.
///
/// # Safety
/// The unit of `T` was detected, and no [`Tiles`] exist on this thread.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c")]
unsafe fn blocks<B: BlockKernel, T: Tiles>(
    _: B,
    s: Avx512,
    groups: &Groups,
    units: Units,
    out: &mut [f32],
) {
    // SAFETY: as the caller says; `panels` drops one panel before it makes the next.
    unsafe {
        if superblocks::takes::<B>() {
            panels::<superblocks::Panel<B, T>>(s, groups, units, out);
        } else {
            panels::<chunks::Panel<B, T>>(s, groups, units, out);
        }
    }
}

/// Up to [`Panel::ROWS`] rows of activations, and their sums. The tiles stay configured while one exists.
trait Panel<'a> {
    /// Rows that share one unpacking of the weights.
    const ROWS: usize;
    /// # Safety
    /// The tile unit was detected, and no other panel exists on this thread.
    unsafe fn new(s: Avx512, x: ActivationRows<'a>) -> Self;
    /// Multiplies the first `n_groups` of these groups by all rows.
    fn multiply(&mut self, units: Units, groups: [Lines<'a>; GROUPS], n_groups: usize);
    /// The products of each row with a group.
    fn products(&self, group: usize) -> &[[__m512; 1]];
}

/// Multiplies panels of rows by the groups.
///
/// # Safety
/// The tile unit was detected, and no panel exists on this thread.
#[inline(always)]
unsafe fn panels<'a, P: Panel<'a>>(s: Avx512, groups: &Groups<'a>, units: Units, out: &mut [f32]) {
    let n_rows = groups.x.n_rows();
    for start in (0..n_rows).step_by(P::ROWS) {
        let len = P::ROWS.min(n_rows - start);
        // SAFETY: as the caller says.
        let mut panel = unsafe { P::new(s, groups.x.range(start..start + len)) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Activations;
    use crate::cpu::gguf_matrix::interleave_groups;
    use crate::cpu::pack::{Line, PackedBytes, Shape};
    use crate::quant::tests::CODEBOOKS;
    use crate::quant::{Kind, TYPES, TypeInfo};
    use tiles::emulated::Emulated;

    fn packed(ty: &TypeInfo, n_rows: usize, n_cols: usize, weights: &[f32]) -> PackedMatrix {
        let bytes = if CODEBOOKS.contains(&ty.id) {
            // The middle bytes of the floats are random. No pair of bytes may be a huge half float.
            let n = n_rows * ty.row_bytes(n_cols).unwrap();
            let bits = weights.iter().map(|weight| weight.to_bits() >> 8);
            bits.take(n).map(|bits| bits as u8 & 0xbf).collect()
        } else {
            ggml_sys::quantize(ty.id, weights, n_cols).unwrap()
        };
        let shape = Shape::new(*ty, n_rows, n_cols, bytes.len()).unwrap();
        let mut lines = vec![Line::default(); shape.packed_len() / 64];
        interleave_groups(&shape, &bytes, bytemuck::cast_slice_mut(&mut lines));
        PackedMatrix::new(shape, PackedBytes::Own(lines)).unwrap()
    }

    /// Covers all but the instructions of the tile unit, which `tests/isa.rs` compares on CPUs that have one.
    #[test]
    fn panels_over_emulated_tiles_give_the_bits_of_avx512() {
        let Some(s) = Avx512::detect() else {
            return eprintln!("SKIPPED: this CPU has no AVX-512");
        };
        let mut state = 1u32;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        for ty in TYPES {
            let Kind::Blocks(ops) = ty.kind else { continue };
            let (n_out, n_cols, first) = (16 * 7 + 3, 512 + ty.block_len % 256, 1);
            let weights: Vec<f32> = (0..n_out * n_cols).map(|_| draw()).collect();
            let w = packed(ty, n_out, n_cols, &weights);
            for n in [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 100] {
                let mut x = Activations::new(n, n_cols);
                let row_lines = x.row_lines();
                for row in x.rows_mut(n).chunks_mut(row_lines) {
                    let input: Vec<f32> = (0..n_cols).map(|_| draw()).collect();
                    let formats = crate::cpu::ActivationFormats {
                        by32: ops.format.block_len == 32,
                        by256: ops.format.block_len == 256,
                        float: false,
                    };
                    (avx512::KERNELS.quantize)(&input, formats, row);
                }
                let x = x.rows(n, n_cols);
                let len = (w.shape.n_groups() - first) * n * LANES;
                let [mut found, mut expected] = [vec![0.5; len], vec![0.5; len]];
                (avx512::KERNELS.matmul)(&w, first, x, &mut expected, true, &mut []);
                let (groups, units) =
                    (Groups { w: &w, first, x, add: true }, Units::new(&ops.format, n_cols));
                // SAFETY: AVX-512 was detected, and emulated tiles need no unit.
                unsafe {
                    with_block_kernel!(ops.format, kernel => {
                        blocks::<_, Emulated>(kernel, s, &groups, units, &mut found)
                    });
                }
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&found), bits(&expected), "{}, {n} rows", ty.name);
            }
        }
    }
}
