//! The tile unit: eight registers of up to 16 rows of 64 bytes, and exact integer products of them.
//!
//! The intrinsics are not stable yet, so this file uses assembly. Operands in memory are slices that cover the tile,
//! and each block names every tile that it writes.
//! # What lasts from one block of assembly to the next
//! The compiler promises nothing about a register between two blocks. Three things last nevertheless:
//!
//! - the configuration, from [`Tiles::for_sub_blocks`] or [`Tiles::for_superblocks`] until the drop;
//! - the sums of a superblock, tiles 0 to 3, from its first [`Tiles::quarter`] to [`Tiles::store`];
//! - the weights of a sub-block, tile 6, within one [`Tiles::sub_block`].
//!
//! That is sound because only instructions of the tile unit change any of them, and none but ours are executed in
//! between. The blocks run in order, each as often as it is written, since they are not `pure`. The compiler has
//! instructions of that unit for its intrinsics alone, which this crate does not call, and no function outside
//! of this crate is called between the blocks. No two [`Tiles`] exist on a thread. The system saves and restores
//! tiles when it interrupts one, and by the ABI a caller of ours expects nothing of them.
//!
//! One block for a whole superblock would have nothing to assume of tiles, but the vector unit works between the
//! quarters (see `superblocks.rs`), and a core cannot look far enough ahead to let it work beside all four.

use crate::cpu::lanes::LANES;
use std::arch::asm;
use std::marker::PhantomData;

/// Largest number of rows of a tile.
pub const TILE: usize = 16;

/// Columns of a quarter of a superblock: the bytes in a row of a tile.
pub const QUARTER: usize = 64;

/// Rows of activations in memory, one every `stride` bytes.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// The bytes from the first column of the first row on.
    pub bytes: &'a [u8],
    pub stride: usize,
}

impl<'a> Strided<'a> {
    /// The bytes from the first row to the end of the last of `n` rows of `columns` columns.
    ///
    /// # Panics
    /// If there are fewer bytes.
    #[inline(always)]
    fn rows(&self, n: usize, columns: usize) -> &'a [u8] {
        &self.bytes[..(n - 1) * self.stride + columns]
    }
}

/// Operations of the tile unit for a panel of rows.
pub trait Tiles: Sized {
    /// Configures tiles for [`Tiles::sub_block`] with `n_rows` rows, at least 1, of `columns` columns, 16 or 32.
    ///
    /// # Safety
    /// The tile unit was detected, and no other [`Tiles`] exist on this thread.
    unsafe fn for_sub_blocks(n_rows: usize, columns: usize) -> Self;

    /// Configures tiles for [`Tiles::quarter`] and [`Tiles::store`] with `n_rows` rows, 1 to 32.
    ///
    /// # Safety
    /// As for [`Tiles::for_sub_blocks`].
    unsafe fn for_superblocks(n_rows: usize) -> Self;

    /// Computes the sums of one sub-block, for row `r` and output `o`: `sums[r][o] = Σ weights[k / 4][4 o + k % 4] ·
    /// x[r][k]`, where all operands are signed.
    fn sub_block(&mut self, weights: &[[u8; 64]], x: Strided, sums: &mut [[i32; LANES]]);

    /// Adds a quarter of a superblock to the sums `Σ weights[half][k / 4][4 o + k % 4] · x[r][k]` of both halves, with
    /// unsigned weights; `first` starts them at 0.
    fn quarter(
        &mut self,
        first: bool,
        x: &[[i8; QUARTER]; 2 * TILE],
        weights: &[[[u8; 64]; TILE]; 2],
    );

    /// Stores the sums of a superblock: (halves, rows, outputs).
    fn store(&mut self, sums: &mut [[[i32; LANES]; 2 * TILE]; 2]);
}

/// The tiles of this CPU, configured until this is dropped.
pub struct Amx {
    n_rows: usize,
    /// Number of columns of activations.
    columns: usize,
    /// The configuration belongs to one thread, so this is not `Send`.
    _thread: PhantomData<*mut ()>,
}

/// Multiplies some rows of activations by the weights in tile 6 and writes the sums to memory.
macro_rules! sub_block {
    ($stride:expr, $($q:ident => $sums:ident: $acc:tt, $x:tt);+) => {
        asm!(
            $(concat!("tilezero ", $acc),
            concat!("tileloadd ", $x, ", [{", stringify!($q), "} + {stride}*1]"),
            concat!("tdpbssd ", $acc, ", ", $x, ", tmm6"),)+
            $(concat!("tilestored [{", stringify!($sums), "} + {line}*1], ", $acc),)+
            $($q = in(reg) $q, $sums = in(reg) $sums.as_mut_ptr(),)+
            stride = in(reg) $stride, line = in(reg) 64usize,
            $(out($acc) _, out($x) _,)+
            options(nostack)
        )
    };
}

impl Tiles for Amx {
    /// Tiles 0 and 1 are sums of 16 rows, 3 and 4 their activations; 2 and 5 those of the last rows; 6 weights.
    #[inline(always)]
    unsafe fn for_sub_blocks(n_rows: usize, columns: usize) -> Amx {
        assert!(columns == 16 || columns == 32);
        let (full, last) = (TILE, (n_rows - 1) % TILE + 1);
        let shapes = [
            (full, 64),
            (full, 64),
            (last, 64),
            (full, columns),
            (full, columns),
            (last, columns),
            (columns / 4, 64),
            (0, 0),
        ];
        // SAFETY: as the caller says.
        unsafe { Amx::configure(n_rows, columns, shapes) }
    }

    /// The first 16 rows have sums 0 and 1 and activations 4, the others 2, 3 and 5; weights are 6 and 7.
    #[inline(always)]
    unsafe fn for_superblocks(n_rows: usize) -> Amx {
        let (first, others) = ((n_rows.min(TILE), 64), (n_rows.saturating_sub(TILE).max(1), 64));
        let weights = (TILE, 64);
        let shapes = [first, first, others, others, first, others, weights, weights];
        // SAFETY: as the caller says.
        unsafe { Amx::configure(n_rows, QUARTER, shapes) }
    }

    #[inline(always)]
    fn sub_block(&mut self, weights: &[[u8; 64]], x: Strided, sums: &mut [[i32; LANES]]) {
        let (columns, stride) = (self.columns, x.stride);
        assert!(weights.len() == columns / 4 && sums.len() == self.n_rows, "as configured");
        // SAFETY: the slice is as long as the tile is configured.
        unsafe {
            asm!(
                "tileloadd tmm6, [{weights} + {line}*1]",
                weights = in(reg) weights.as_ptr(), line = in(reg) 64usize,
                out("tmm6") _, options(nostack)
            );
        }
        // All rows are looked at once: bounds of each tile would cost a twentieth of a product.
        let mut q = x.rows(self.n_rows, columns).as_ptr();
        let (pairs, rest) = sums.as_chunks_mut::<{ 2 * TILE }>();
        for sums in pairs {
            let (s0, s1) = sums.split_at_mut(TILE);
            // SAFETY: the slices are as long as the tiles are configured, and `q` has a row for each sum.
            unsafe {
                let q1 = q.add(TILE * stride);
                sub_block!(stride, q => s0: "tmm0", "tmm3"; q1 => s1: "tmm1", "tmm4");
                q = q1.wrapping_add(TILE * stride);
            }
        }
        let (full, last) = rest.split_at_mut(rest.len() / TILE * TILE);
        if !full.is_empty() {
            // SAFETY: as above.
            unsafe { sub_block!(stride, q => full: "tmm0", "tmm3") }
            q = q.wrapping_add(TILE * stride);
        }
        if !last.is_empty() {
            // SAFETY: as above.
            unsafe { sub_block!(stride, q => last: "tmm2", "tmm5") }
        }
    }

    #[inline(always)]
    fn quarter(
        &mut self,
        first: bool,
        x: &[[i8; QUARTER]; 2 * TILE],
        weights: &[[[u8; 64]; TILE]; 2],
    ) {
        assert!(self.columns == QUARTER, "as configured");
        // SAFETY: each tile is up to 16 rows of 64 bytes, and so much is behind each address. The sums last
        // from the last block: see the head of this file.
        unsafe {
            if first {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    options(nostack)
                );
            }
            if self.n_rows > TILE {
                asm!(
                    "tileloadd tmm4, [{x} + {line}*1]",
                    "tileloadd tmm6, [{weights} + {line}*1]",
                    "tdpbsud tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{weights} + {line}*1 + 1024]",
                    "tdpbsud tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{x} + {line}*1 + 1024]",
                    "tdpbsud tmm2, tmm5, tmm6",
                    "tdpbsud tmm3, tmm5, tmm7",
                    x = in(reg) x.as_ptr(), weights = in(reg) weights.as_ptr(), line = in(reg) 64usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                    out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            } else {
                asm!(
                    "tileloadd tmm4, [{x} + {line}*1]",
                    "tileloadd tmm6, [{weights} + {line}*1]",
                    "tdpbsud tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{weights} + {line}*1 + 1024]",
                    "tdpbsud tmm1, tmm4, tmm7",
                    x = in(reg) x.as_ptr(), weights = in(reg) weights.as_ptr(), line = in(reg) 64usize,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    }

    #[inline(always)]
    fn store(&mut self, sums: &mut [[[i32; LANES]; 2 * TILE]; 2]) {
        assert!(self.columns == QUARTER, "as configured");
        let sums = sums.as_mut_ptr();
        // SAFETY: as in `quarter`; a half of the sums is 32 lines.
        unsafe {
            asm!(
                "tilestored [{sums} + {line}*1], tmm0",
                "tilestored [{sums} + {line}*1 + 2048], tmm1",
                sums = in(reg) sums, line = in(reg) 64usize, options(nostack)
            );
            if self.n_rows > TILE {
                asm!(
                    "tilestored [{sums} + {line}*1 + 1024], tmm2",
                    "tilestored [{sums} + {line}*1 + 3072], tmm3",
                    sums = in(reg) sums, line = in(reg) 64usize, options(nostack)
                );
            }
        }
    }
}

impl Amx {
    /// Multiplies the tiles of 32 rows by each other `rounds` times, as [`Tiles::quarter`] does but without loading
    /// them; returns the number of operations, two for each product. For benchmarks.
    pub fn multiply_often(&mut self, rounds: usize) -> u64 {
        assert!(self.columns == QUARTER && self.n_rows == 2 * TILE, "as configured");
        for _ in 0..rounds {
            // SAFETY: the tiles are configured; their content does not matter.
            unsafe {
                asm!(
                    "tdpbsud tmm0, tmm4, tmm6",
                    "tdpbsud tmm1, tmm4, tmm7",
                    "tdpbsud tmm2, tmm5, tmm6",
                    "tdpbsud tmm3, tmm5, tmm7",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    options(nostack)
                );
            }
        }
        (rounds * 4 * TILE * QUARTER * LANES * 2) as u64
    }

    /// Sets the number of rows and the bytes per row of each tile register.
    ///
    /// # Safety
    /// The tile unit was detected, no other [`Tiles`] exist on this thread, and no tile has more than 16 rows of
    /// 64 bytes.
    unsafe fn configure(n_rows: usize, columns: usize, shapes: [(usize, usize); 8]) -> Amx {
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
        unsafe {
            asm!(
                "ldtilecfg [{}]", in(reg) &config,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
        Amx { n_rows, columns, _thread: PhantomData }
    }
}

impl Drop for Amx {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the tiles were configured by `configure`.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }
}

#[cfg(test)]
pub mod emulated {
    //! Emulation of the tile unit, for tests.

    use super::*;

    pub struct Emulated {
        n_rows: usize,
        columns: usize,
        sums: [[[i32; LANES]; 2 * TILE]; 2],
    }

    impl Emulated {
        fn new(n_rows: usize, columns: usize) -> Emulated {
            Emulated { n_rows, columns, sums: [[[i32::MIN; LANES]; 2 * TILE]; 2] }
        }
    }

    fn dot(weights: &[[u8; 64]], o: usize, x: impl Iterator<Item = i8>, signed: bool) -> i32 {
        let product = |(k, x): (usize, i8)| {
            let weight = weights[k / 4][4 * o + k % 4];
            i32::from(x) * if signed { weight.cast_signed().into() } else { i32::from(weight) }
        };
        x.enumerate().map(product).sum()
    }

    impl Tiles for Emulated {
        unsafe fn for_sub_blocks(n_rows: usize, columns: usize) -> Emulated {
            Emulated::new(n_rows, columns)
        }

        unsafe fn for_superblocks(n_rows: usize) -> Emulated {
            Emulated::new(n_rows, QUARTER)
        }

        fn sub_block(&mut self, weights: &[[u8; 64]], x: Strided, sums: &mut [[i32; LANES]]) {
            assert!(weights.len() == self.columns / 4 && sums.len() == self.n_rows);
            let rows = x.rows(self.n_rows, self.columns);
            for (row, sums) in rows.chunks(x.stride).zip(sums) {
                for (o, sum) in sums.iter_mut().enumerate() {
                    let row = row[..self.columns].iter().map(|q| q.cast_signed());
                    *sum = dot(weights, o, row, true);
                }
            }
        }

        fn quarter(
            &mut self,
            first: bool,
            x: &[[i8; QUARTER]; 2 * TILE],
            weights: &[[[u8; 64]; TILE]; 2],
        ) {
            assert_eq!(self.columns, QUARTER);
            if first {
                self.sums = Default::default();
            }
            for (sums, weights) in self.sums.iter_mut().zip(weights) {
                for (sums, row) in sums[..self.n_rows].iter_mut().zip(x) {
                    for (o, sum) in sums.iter_mut().enumerate() {
                        *sum += dot(weights, o, row.iter().copied(), false);
                    }
                }
            }
        }

        fn store(&mut self, sums: &mut [[[i32; LANES]; 2 * TILE]; 2]) {
            for (sums, found) in sums.iter_mut().zip(&self.sums) {
                sums[..self.n_rows].copy_from_slice(&found[..self.n_rows]);
            }
        }
    }

    #[test]
    fn rows_are_loaded_from_a_slice_that_covers_them() {
        let bytes: Vec<u8> = (0..200).collect();
        let rows = |len| Strided { bytes: &bytes[..len], stride: 48 };
        assert_eq!(rows(64).rows(2, 16), &bytes[..64]);
        assert_eq!(rows(200).rows(2, 16), &bytes[..64]);
        for (len, n) in [(63, 2), (64, 3), (15, 1)] {
            assert!(std::panic::catch_unwind(|| rows(len).rows(n, 16)).is_err());
        }
    }
}
