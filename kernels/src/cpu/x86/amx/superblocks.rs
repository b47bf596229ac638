//! Products by AMX of whole superblocks, for integer scales below 64 and codes below 32, or 128 and 4.
//!
//! A code times a scale does not fit a byte, but with `scale = 8 · high + low` a code times each half does. Two codes
//! in a word need one multiplication, without a carry between them. So the tiles compute `Σ scale · Σ code · q` as `8 ·
//! Σ high… + Σ low…`, and the vector unit handles two sums for each row instead of one for each sub-block.
//!
//! Three stages run side by side, one quarter of each in turn: the vector unit unpacks the weights of one step and uses
//! the sums of another, while the tiles multiply the step between them. Steps go through a few groups before the next
//! superblock, so that its activations stay in the first-level cache.

use super::tiles::{QUARTER, TILE, Tiles};
use super::{AHEAD, GROUPS};
use crate::cpu::ActivationRows;
use crate::cpu::blocks::{self, BlockKernel};
use crate::cpu::lanes::{Arith, LANES};
use crate::cpu::pack::{Lines, Units};
use crate::cpu::x86::avx512::Avx512;
use std::arch::x86_64::*;

/// Whether this file handles a format.
pub const fn takes<B: BlockKernel>() -> bool {
    const CODE_LINES_OF_5_BITS: usize = 8 * 5;
    // GGUF's types with minima have scales of four or six bits; IQ1_S has seven, and codes of two.
    B::SCALED && B::OFFSET == 0 && B::CODE_LINES <= CODE_LINES_OF_5_BITS
}

/// Rows that share one unpacking of the weights: two tiles.
const PANEL: usize = 2 * TILE;

/// Parts of a superblock, each as wide as a tile.
const QUARTERS: usize = 4;

/// Output of one step for the next stage. Two successive steps have one each; they lie half a page apart, because a
/// load waits for an earlier store to the same offset in another page.
#[repr(C, align(64))]
struct Place {
    /// Codes times the high halves of their scales and times the low ones: (quarters, 2, columns / 4,
    /// outputs, 4).
    weights: [[[[u8; 64]; 16]; 2]; QUARTERS],
    /// Their integer sums: (2, rows, outputs).
    sums: [[[i32; LANES]; PANEL]; 2],
    half_a_page: [u8; 2048],
}

/// Activations of a superblock: (quarters, rows, columns). Tiles load four times as slowly if their rows cross cache
/// lines, as those of [`ActivationRows`] do.
#[repr(C, align(64))]
struct Columns([[[i8; QUARTER]; PANEL]; QUARTERS]);

/// See [`super::Panel`].
pub struct Panel<'a, B: BlockKernel, T: Tiles> {
    s: Avx512,
    rows: [&'a [B::Activations]; PANEL],
    n_rows: usize,
    acc: [[[__m512; 1]; PANEL]; GROUPS],
    columns: Columns,
    places: [Place; 2],
    tiles: T,
}

/// A superblock of a group.
#[derive(Clone, Copy)]
struct Step<'a> {
    codes: Lines<'a>,
    meta: &'a [u8],
    /// Index of the superblock in the row.
    b: usize,
    group: usize,
    place: usize,
}

impl<'a, B: BlockKernel, T: Tiles> super::Panel<'a> for Panel<'a, B, T> {
    const ROWS: usize = PANEL;

    #[inline(always)]
    unsafe fn new(s: Avx512, x: ActivationRows<'a>) -> Self {
        let n_rows = x.n_rows();
        const PLACE: Place = Place {
            weights: [[[[0; 64]; 16]; 2]; QUARTERS],
            sums: [[[0; LANES]; PANEL]; 2],
            half_a_page: [0; 2048],
        };
        Panel {
            s,
            rows: blocks::rows::<B, PANEL>(x),
            n_rows,
            acc: [[[s.splat(0.0)]; PANEL]; GROUPS],
            columns: Columns([[[0; 64]; PANEL]; QUARTERS]),
            places: [PLACE; 2],
            // SAFETY: as the caller says.
            tiles: unsafe { T::for_superblocks(n_rows) },
        }
    }

    #[inline(always)]
    fn multiply(&mut self, mut units: Units, mut groups: [Lines<'a>; GROUPS], n_groups: usize) {
        for acc in &mut self.acc[..n_groups] {
            acc[..self.n_rows].fill([self.s.splat(0.0)]);
        }
        let (mut here, mut done): (Option<Step>, Option<Step>) = (None, None);
        let mut lengths = units.lengths();
        let (mut group, mut b, mut place) = (0, 0, 0);
        loop {
            let mut next = None;
            if let Some((codes, scales)) = lengths {
                let (codes, rest) = groups[group].split_at(codes);
                let (scales, rest) = rest.split_at(scales);
                groups[group] = rest;
                blocks::prefetch::<_, AHEAD>(self.s, scales);
                let (codes, meta) = blocks::block::<B>(codes, scales, 0);
                next = Some(Step { codes, meta, b, group, place });
                place = 1 - place;
                group += 1;
                if group == n_groups {
                    (group, b) = (0, b + 1);
                    lengths = units.lengths();
                }
            }
            if next.is_none() && here.is_none() && done.is_none() {
                return;
            }
            for quarter in 0..QUARTERS {
                if let Some(step) = &next {
                    self.unpack(step, quarter);
                }
                if let Some(step) = &here {
                    self.form_sums(step, quarter);
                }
                if let Some(step) = &done {
                    self.take(step, quarter);
                }
            }
            (here, done) = (next, here);
        }
    }

    #[inline(always)]
    fn products(&self, group: usize) -> &[[__m512; 1]] {
        &self.acc[group][..self.n_rows]
    }
}

impl<B: BlockKernel, T: Tiles> Panel<'_, B, T> {
    /// Unpacks a quarter's weights and multiplies them by the halves of their scales.
    #[inline(always)]
    fn unpack(&mut self, step: &Step, quarter: usize) {
        let [high, low] = &mut self.places[step.place].weights[quarter];
        let chunks = high.as_chunks_mut::<8>().0.iter_mut().zip(low.as_chunks_mut::<8>().0);
        for (c, (high, low)) in chunks.enumerate() {
            let c = 2 * quarter + c;
            let codes = B::codes::<_, AHEAD>(self.s, step.codes, c, 0);
            for j in 0..32 / B::SUB {
                let scale = B::scale(self.s, step.meta, 32 / B::SUB * c + j, 0);
                // SAFETY: AVX-512 was detected; a line is 64 bytes and lies at a multiple of that.
                unsafe {
                    let scale = _mm512_or_si512(scale, _mm512_slli_epi32::<16>(scale));
                    let upper = _mm512_srli_epi16::<3>(scale);
                    let lower = _mm512_and_si512(scale, _mm512_set1_epi16(7));
                    for i in j * B::SUB / 4..(j + 1) * B::SUB / 4 {
                        let upper = _mm512_mullo_epi16(codes[i], upper);
                        let lower = _mm512_mullo_epi16(codes[i], lower);
                        _mm512_store_si512(high[i].as_mut_ptr().cast(), upper);
                        _mm512_store_si512(low[i].as_mut_ptr().cast(), lower);
                    }
                }
            }
        }
    }

    /// Multiplies a quarter in the tiles, and stores the sums after the last one.
    #[inline(always)]
    fn form_sums(&mut self, step: &Step, quarter: usize) {
        let columns = &mut self.columns.0[quarter];
        if step.group == 0 {
            for (row, out) in self.rows[..self.n_rows].iter().zip(&mut *columns) {
                for (c, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                    *out = *B::q(&row[step.b], 2 * quarter + c);
                }
            }
        }
        let Place { weights, sums, .. } = &mut self.places[step.place];
        self.tiles.quarter(quarter == 0, columns, &weights[quarter]);
        if quarter + 1 == QUARTERS {
            self.tiles.store(sums);
        }
    }

    /// Adds the contribution of a superblock's sums to a quarter of the rows.
    #[inline(always)]
    fn take(&mut self, step: &Step, quarter: usize) {
        let s = self.s;
        let scales = B::scales(s, step.meta, 0);
        let [high, low] = &self.places[step.place].sums;
        let share = self.n_rows.div_ceil(QUARTERS);
        let first = (quarter * share).min(self.n_rows);
        let last = (first + share).min(self.n_rows);
        let rows = self.rows[first..last].iter().zip(&mut self.acc[step.group][first..last]);
        for ((x, acc), (high, low)) in rows.zip(high[first..last].iter().zip(&low[first..last])) {
            // SAFETY: AVX-512 was detected; a line is 64 bytes and lies at a multiple of that.
            let sum = unsafe {
                let high = _mm512_load_si512(high.as_ptr().cast());
                let low = _mm512_load_si512(low.as_ptr().cast());
                _mm512_add_epi32(_mm512_slli_epi32::<3>(high), low)
            };
            acc[0] = B::finish(s, &scales, &x[step.b], sum, acc[0]);
        }
    }
}
