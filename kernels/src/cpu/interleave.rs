//! Packs native rows into groups, in the layout that `pack.rs` describes.
//!
//! This is the specification, and packs whatever an instruction set does not pack in registers (`transpose/`). Every
//! byte of a group is written, so the same rows always give the same bytes.

use super::lanes::LANES;
use super::pack::{Units, foreign_stride, min_at, scale_at};
use crate::quant::{BlockOps, Codes, Format, Kind, Scale, TypeInfo};

/// A line as its sixteen lanes of four bytes.
type Lanes4 = [[u8; 4]; LANES];

/// Packs up to 16 rows into one group; the lanes of missing rows become zeros.
pub(super) fn interleave(
    ty: &TypeInfo,
    n_cols: usize,
    rows: &[u8], // (up to 16 rows, row_bytes)
    row_bytes: usize,
    out: &mut [u8],
) {
    if rows.len() < row_bytes * LANES || matches!(ty.kind, Kind::Foreign) {
        out.fill(0);
    }
    match ty.kind {
        Kind::F32 => interleave_elements::<4>(rows, row_bytes, out),
        Kind::F16 | Kind::BF16 => interleave_elements::<2>(rows, row_bytes, out),
        Kind::Foreign => {
            let stride = foreign_stride(row_bytes);
            for (row, out) in rows.chunks_exact(row_bytes).zip(out.chunks_mut(stride)) {
                out[..row_bytes].copy_from_slice(row);
            }
        }
        Kind::Blocks(ops) => {
            let interleave_blocks = match ops.format.bits {
                2 => blocks::<2>,
                3 => blocks::<3>,
                4 => blocks::<4>,
                5 => blocks::<5>,
                6 => blocks::<6>,
                8 => blocks::<8>,
                bits => unreachable!("the table of types has no codes of {bits} bits"),
            };
            interleave_blocks(ops, n_cols, rows, row_bytes, out);
        }
    }
}

fn blocks<const BITS: usize>(
    ops: &BlockOps,
    n_cols: usize,
    rows: &[u8],
    row_bytes: usize,
    out: &mut [u8],
) {
    let f = &ops.format;
    let mut units = Units::new(f, n_cols);
    let mut codes = Codes::default();
    let (mut lines, mut first) = (out, 0);
    while let Some((code_lines, meta_lines)) = units.lengths() {
        let (code_out, rest) = lines.split_at_mut(code_lines * 64);
        let (meta_out, rest) = rest.split_at_mut(meta_lines * 64);
        lines = rest;
        let code_out: &mut [Lanes4] = bytemuck::cast_slice_mut(code_out);
        let block_lines = f.block_len / 32 * BITS;
        let n_blocks = code_lines / block_lines;
        meta_out[n_blocks * units.meta_bytes..].fill(0);
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let blocks = row[first..][..n_blocks * ops.block_bytes].chunks_exact(ops.block_bytes);
            let outs = code_out
                .chunks_exact_mut(block_lines)
                .zip(meta_out.chunks_exact_mut(units.meta_bytes));
            for (block, (code_out, meta_out)) in blocks.zip(outs) {
                (ops.codes)(block, &mut codes);
                let runs = codes.code.as_chunks::<32>().0.iter();
                for (run, out) in runs.zip(code_out.as_chunks_mut::<BITS>().0) {
                    for (word, line) in planes::<BITS>(run).into_iter().zip(out) {
                        line[lane] = word.to_le_bytes();
                    }
                }
                scales(f, &codes, lane, meta_out);
            }
        }
        first += n_blocks * ops.block_bytes;
    }
}

/// Packs 32 codes of a row to its words in `BITS` lines: four bytes each, base planes first, then high planes.
#[inline(always)]
fn planes<const BITS: usize>(run: &[u8; 32]) -> [u32; BITS] {
    let mut quads = [0; 8];
    for (quad, codes) in quads.iter_mut().zip(run.as_chunks().0) {
        *quad = u32::from_le_bytes(*codes);
    }
    let mut out = [0; BITS];
    match BITS {
        8 => out.copy_from_slice(&quads),
        4..=6 => {
            for l in 0..4 {
                out[l] = field(quads[l], 0, 4) | field(quads[l + 4], 0, 4) << 4;
            }
        }
        _ => {
            for (h, word) in out[..2].iter_mut().enumerate() {
                *word = pairs(&quads, h, 0);
            }
        }
    }
    match BITS {
        3 | 5 => {
            for (g, quad) in quads.into_iter().enumerate() {
                out[BITS - 1] |= field(quad, BITS - 1, 1) << g;
            }
        }
        6 => {
            for h in 0..2 {
                out[4 + h] = pairs(&quads, h, 4);
            }
        }
        _ => {}
    }
    out
}

/// The `width` bits at `from` of each byte.
#[inline(always)]
fn field(quad: u32, from: usize, width: u32) -> u32 {
    (quad >> from) & (0x0101_0101 * ((1 << width) - 1))
}

/// Packs two bits from bit `from` of half `h` of 32 codes, four codes to a byte.
#[inline(always)]
fn pairs(quads: &[u32; 8], h: usize, from: usize) -> u32 {
    let mut word = 0;
    for t in 0..4 {
        word |= field(quads[4 * h + t], from, 2) << (2 * t);
    }
    word
}

/// Writes a block's scales into their lane.
#[inline(always)]
fn scales(f: &Format, codes: &Codes, lane: usize, out: &mut [u8]) {
    match f.d {
        Scale::F16(_) => out[2 * lane..][..2].copy_from_slice(&codes.d.to_le_bytes()),
        Scale::E8M0(_) => out[lane] = codes.exponent,
    }
    if f.min {
        out[32 + 2 * lane..][..2].copy_from_slice(&codes.m.to_le_bytes());
    }
    if f.scaled {
        for j in 0..f.block_len / f.sub_len {
            out[scale_at(f.min) + j * LANES + lane] = codes.scale[j] as u8;
            if f.min {
                out[min_at(f) + j / 2 * 32 + 2 * lane + j % 2] = codes.min[j];
            }
        }
    }
}

/// Interleaves elements of `N` bytes: out[k][lane]. It processes a strip of columns at a time, whose output stays in
/// the first-level cache while the rows are read in turn. What is left of the last line becomes zeros.
fn interleave_elements<const N: usize>(rows: &[u8], row_bytes: usize, out: &mut [u8]) {
    const STRIP: usize = 64;
    let (out, rest) = out.split_at_mut(row_bytes * LANES);
    rest.fill(0);
    let out: &mut [[u8; N]] = out.as_chunks_mut().0;
    for (i, out) in out.chunks_mut(STRIP * LANES).enumerate() {
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let strip = &row.as_chunks::<N>().0[i * STRIP..];
            for (x, out) in strip.iter().zip(out.chunks_exact_mut(LANES)) {
                out[lane] = *x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SharedBytes;
    use crate::cpu::pack::Shape;
    use crate::cpu::{GgufMatrix, Kernels, LAYOUT_VERSION};
    use crate::quant::{TYPES, type_info};
    use std::sync::Arc;

    /// FNV-1a.
    fn hash(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        })
    }

    #[test]
    fn every_instruction_set_packs_the_same_bytes() {
        let mut state = 1u32;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for ty in TYPES.iter().copied().chain(type_info(40)) {
            for blocks in [1, 2, 7, 8, 9, 35] {
                let n_cols = if ty.block_len == 1 { 3 * blocks } else { ty.block_len * blocks };
                let row_bytes = ty.row_bytes(n_cols).unwrap();
                for n_rows in [16, 15, 1] {
                    // At an odd address.
                    let bytes: Vec<u8> = (0..1 + row_bytes * n_rows).map(|_| draw()).collect();
                    let bytes = &bytes[1..];
                    let shape = Shape::new(ty, n_rows, n_cols, bytes.len()).unwrap();
                    let mut expected = vec![0xff; shape.group_lines * 64];
                    interleave(&ty, n_cols, bytes, row_bytes, &mut expected);
                    for k in Kernels::available() {
                        let mut found = vec![0; expected.len()];
                        (k.interleave)(&shape, bytes, &mut found);
                        let what = (ty.name, n_cols, n_rows, k.name);
                        assert!(found == expected, "{what:?} is not packed as specified");
                    }
                }
            }
        }
    }

    #[test]
    fn another_layout_has_another_version() {
        let mut packed = Vec::new();
        // 40 is NVFP4, read through ggml.
        for ty in TYPES.iter().copied().chain(type_info(40)) {
            // Two units, the second shorter if possible, and a group that is not full.
            let (n_rows, n_cols) = (21, if ty.block_len > 32 { 512 } else { 288 });
            let len = ty.row_bytes(n_cols).unwrap() * n_rows;
            let bytes: Vec<u8> = (0..len).map(|i| (i * i / 7 + i / 256) as u8).collect();
            let bytes = SharedBytes::new(Arc::new(bytes), 0..len).unwrap();
            let rows = GgufMatrix::new(ty, n_rows, n_cols, bytes).unwrap();
            let start = packed.len();
            packed.resize(start + rows.packed_len(), 0);
            rows.pack(0, &mut packed[start..]);
        }
        let expected = (2, 13_959_774_380_713_421_409);
        let found = (LAYOUT_VERSION, hash(&packed));
        assert_eq!(found, expected, "bits changed: raise LAYOUT_VERSION, then correct this hash");
    }
}
