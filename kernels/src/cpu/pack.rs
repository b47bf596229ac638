//! Weights repacked for the kernels: sixteen output rows side by side.
//!
//! One layout serves every instruction set. A *group* is 16 consecutive output rows; in each 64-byte
//! line, lane `r` holds four consecutive weights of row `r`, so that one instruction multiplies 16
//! rows by the same four activations. A group is a sequence of *units* of 256 weights a row (the last
//! one perhaps shorter), each with its scales behind its codes, so that a product reads one ascending
//! stream. In a unit of `b`-bit codes:
//!
//! ```text
//! codes of its blocks       per 32 weights b lines: a base plane of 4 (2, 8) bits and, for b = 5, 6, 3,
//!                           a plane of the remaining 1 (2, 1) high bits
//! scales of its blocks      d: 16 f16 | m: 16 f16 | scale: (sub-blocks, 16) i8
//!                           | min: (sub-blocks / 2, 16, 2) u8; filled up to a whole line
//! ```
//!
//! Base plane of 4 bits: line `l` of 4 holds weights `4l…4l+3` in the low and `16+4l…` in the high
//! nibbles. Of 2 bits: line `h` of 2 holds weights `16h + 4t…` in bits `2t, 2t+1`. The high plane of
//! 1 bit holds weights `4g…` in bit `g`; that of 2 bits is laid out as a base plane of 2.
//! Floating-point weights are simply interleaved: `(k, 16)`.
//!
//! Types read through ggml are kept as they are and dequantised 16 rows at a time.

use super::acts::Forms;
use super::lanes::LANES;
use crate::quant::{BlockOps, Codes, Format, Kind, TypeInfo};
use rayon::prelude::*;

/// One cache line, and the alignment of packed weights and of rows of activations.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Line([u8; 64]);

impl Default for Line {
    fn default() -> Line {
        Line([0; 64])
    }
}

/// Some consecutive lines.
pub(super) type Lines<'a> = &'a [[u8; 64]];

/// What the lines of a packed matrix hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Blocks(Format),
    F32,
    F16,
    BF16,
    /// Native rows of `row_bytes` each, one every [`foreign_stride`] bytes.
    Foreign {
        row_bytes: usize,
    },
}

/// From one native row to the next: ggml reads at multiples of 8 bytes without copying first.
pub(super) fn foreign_stride(row_bytes: usize) -> usize {
    row_bytes.next_multiple_of(8)
}

/// A weight matrix of shape (n_rows, n_cols) ready to be multiplied: row `i` yields output `i`.
pub struct Packed {
    pub(super) layout: Layout,
    pub(super) ty: TypeInfo,
    n_rows: usize,
    n_cols: usize,
    lines: Vec<Line>,
    group_lines: usize,
}

impl Packed {
    /// Packs `n_rows` rows of `n_cols` weights from their GGUF bytes, on the current rayon pool.
    ///
    /// Fails with the reason where the shape does not fit the type: `n_cols` must be a multiple of the
    /// block length and of 32.
    pub fn pack(
        ty: TypeInfo,
        n_rows: usize,
        n_cols: usize,
        bytes: &[u8],
    ) -> Result<Packed, String> {
        let row_bytes = ty
            .row_bytes(n_cols)
            .filter(|_| n_cols.is_multiple_of(32) && n_cols > 0)
            .ok_or_else(|| format!("rows of {n_cols} {} weights cannot be multiplied", ty.name))?;
        if row_bytes.checked_mul(n_rows) != Some(bytes.len()) {
            return Err(format!(
                "{} bytes are not {n_rows} rows of {n_cols} {} weights",
                bytes.len(),
                ty.name
            ));
        }
        let layout = match ty.kind {
            Kind::Blocks(ops) => Layout::Blocks(ops.format),
            Kind::F32 => Layout::F32,
            Kind::F16 => Layout::F16,
            Kind::BF16 => Layout::BF16,
            Kind::Foreign => Layout::Foreign { row_bytes },
        };
        let group_lines = match layout {
            Layout::Blocks(f) => Units::new(&f, n_cols).lines(),
            Layout::F32 => n_cols,
            Layout::F16 | Layout::BF16 => n_cols / 2,
            Layout::Foreign { row_bytes } => (foreign_stride(row_bytes) * LANES).div_ceil(64),
        };
        let mut lines = vec![Line::default(); group_lines * n_rows.div_ceil(LANES)];
        lines.par_chunks_exact_mut(group_lines).zip(bytes.par_chunks(row_bytes * LANES)).for_each(
            |(group, rows)| {
                let out: &mut [u8] = bytemuck::cast_slice_mut(group);
                match ty.kind {
                    Kind::Blocks(ops) => pack_blocks(ops, n_cols, rows, row_bytes, out),
                    Kind::F32 => interleave::<4>(rows, row_bytes, out),
                    Kind::F16 | Kind::BF16 => interleave::<2>(rows, row_bytes, out),
                    Kind::Foreign => {
                        let stride = foreign_stride(row_bytes);
                        for (row, out) in rows.chunks_exact(row_bytes).zip(out.chunks_mut(stride)) {
                            out[..row_bytes].copy_from_slice(row);
                        }
                    }
                }
            },
        );
        Ok(Packed { layout, ty, n_rows, n_cols, lines, group_lines })
    }

    /// Output rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Weights in a row.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Groups of 16 rows, the last one filled up with zeros.
    pub fn n_groups(&self) -> usize {
        self.n_rows.div_ceil(LANES)
    }

    /// Bytes held, all of which a product reads once.
    pub fn bytes(&self) -> usize {
        self.lines.len() * 64
    }

    /// The forms of activations that a product with this matrix reads.
    pub fn forms(&self) -> Forms {
        let none = Forms::default();
        match self.layout {
            Layout::Blocks(f) if f.block_len == 32 => Forms { by32: true, ..none },
            Layout::Blocks(_) => Forms { by256: true, ..none },
            _ => Forms { float: true, ..none },
        }
    }

    /// Floats of scratch a product needs: 0 but for types read through ggml.
    pub fn scratch_len(&self) -> usize {
        match self.layout {
            Layout::Foreign { .. } => (LANES + 1) * self.n_cols,
            _ => 0,
        }
    }

    /// The lines of group `g`.
    pub(super) fn group(&self, g: usize) -> Lines<'_> {
        bytemuck::cast_slice(&self.lines[g * self.group_lines..][..self.group_lines])
    }
}

/// Weights of a row in a whole unit.
const UNIT: usize = 256;

/// How the blocks of a group divide into units.
#[derive(Clone, Copy)]
pub(super) struct Units {
    blocks: usize,
    blocks_per_unit: usize,
    /// Lines of codes of one block.
    code_lines: usize,
    /// Bytes of scales of one block.
    meta_bytes: usize,
}

impl Units {
    #[inline(always)]
    pub(super) fn new(f: &Format, n_cols: usize) -> Units {
        Units {
            blocks: n_cols / f.block_len,
            blocks_per_unit: UNIT / f.block_len,
            code_lines: f.block_len / 32 * f.bits as usize,
            meta_bytes: meta_len(f),
        }
    }

    fn lines(&self) -> usize {
        let unit =
            |blocks: usize| blocks * self.code_lines + (blocks * self.meta_bytes).div_ceil(64);
        let (whole, rest) =
            (self.blocks / self.blocks_per_unit, self.blocks % self.blocks_per_unit);
        whole * unit(self.blocks_per_unit) + unit(rest)
    }

    /// Cuts the next unit off `lines`: its codes and its scales.
    #[inline(always)]
    pub(super) fn next<'a>(&mut self, lines: &mut Lines<'a>) -> Option<(Lines<'a>, Lines<'a>)> {
        let blocks = self.blocks.min(self.blocks_per_unit);
        if blocks == 0 {
            return None;
        }
        self.blocks -= blocks;
        let (codes, rest) = lines.split_at(blocks * self.code_lines);
        let (meta, rest) = rest.split_at((blocks * self.meta_bytes).div_ceil(64));
        *lines = rest;
        Some((codes, meta))
    }
}

/// Bytes of scales a block and group: see the module's head.
pub(super) fn meta_len(f: &Format) -> usize {
    min_at(f) + if f.scaled && f.min { f.block_len / f.sub_len * LANES } else { 0 }
}

/// Where the integer scales begin in a block's scales.
pub(super) const fn scale_at(min: bool) -> usize {
    if min { 64 } else { 32 }
}

/// Where the integer minima begin in a block's scales.
pub(super) fn min_at(f: &Format) -> usize {
    scale_at(f.min) + if f.scaled { f.block_len / f.sub_len * LANES } else { 0 }
}

fn pack_blocks(
    ops: &BlockOps,
    n_cols: usize,
    rows: &[u8], // (up to 16 rows, row_bytes)
    row_bytes: usize,
    mut lines: &mut [u8],
) {
    let f = &ops.format;
    let units = Units::new(f, n_cols);
    let code_len = units.code_lines * 64;
    let mut codes = Codes::default();
    for unit in 0..units.blocks.div_ceil(units.blocks_per_unit) {
        let first = unit * units.blocks_per_unit;
        let blocks = units.blocks_per_unit.min(units.blocks - first);
        let meta_lines = (blocks * units.meta_bytes).div_ceil(64);
        let (code_out, rest) = lines.split_at_mut(blocks * code_len);
        let (meta_out, rest) = rest.split_at_mut(meta_lines * 64);
        lines = rest;
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let row = &row[first * ops.block_bytes..];
            let outs = code_out
                .chunks_exact_mut(code_len)
                .zip(meta_out.chunks_exact_mut(units.meta_bytes));
            for (block, (code_out, meta_out)) in row.chunks_exact(ops.block_bytes).zip(outs) {
                (ops.codes)(block, &mut codes);
                pack_block(f, &codes, lane, code_out, meta_out);
            }
        }
    }
}

/// Writes one block of one row into its lane.
fn pack_block(f: &Format, codes: &Codes, lane: usize, code_out: &mut [u8], meta_out: &mut [u8]) {
    let chunk_len = f.bits as usize * 64;
    for (code, out) in codes.code.chunks_exact(32).zip(code_out.chunks_exact_mut(chunk_len)) {
        pack_codes(f.bits, code, lane, out);
    }
    meta_out[2 * lane..][..2].copy_from_slice(&codes.d.to_le_bytes());
    if f.min {
        meta_out[32 + 2 * lane..][..2].copy_from_slice(&codes.m.to_le_bytes());
    }
    if f.scaled {
        for j in 0..f.block_len / f.sub_len {
            meta_out[scale_at(f.min) + j * LANES + lane] = codes.scale[j] as u8;
            if f.min {
                meta_out[min_at(f) + j / 2 * 32 + 2 * lane + j % 2] = codes.min[j];
            }
        }
    }
}

/// Writes 32 codes of one row into its lane of the planes; four codes at a time in a 32-bit word.
fn pack_codes(bits: u32, code: &[u8], lane: usize, out: &mut [u8]) {
    let quad =
        |g: usize| u32::from_le_bytes(*code[4 * g..].first_chunk().expect("32 codes are 8 quads"));
    let field =
        |g: usize, from: u32, width: u32| (quad(g) >> from) & (0x0101_0101 * ((1 << width) - 1));
    let mut put = |line: usize, word: u32| {
        out[line * 64 + 4 * lane..][..4].copy_from_slice(&word.to_le_bytes());
    };
    let two_bits =
        |h: usize, from: u32| (0..4).fold(0, |word, t| word | field(4 * h + t, from, 2) << (2 * t));
    let one_bit = |from: u32| (0..8).fold(0, |word, g| word | field(g, from, 1) << g);
    match bits {
        8 => (0..8).for_each(|g| put(g, quad(g))),
        4..=6 => (0..4).for_each(|l| put(l, field(l, 0, 4) | field(l + 4, 0, 4) << 4)),
        _ => (0..2).for_each(|h| put(h, two_bits(h, 0))),
    }
    match bits {
        3 => put(2, one_bit(2)),
        5 => put(4, one_bit(4)),
        6 => (0..2).for_each(|h| put(4 + h, two_bits(h, 4))),
        _ => {}
    }
}

/// Interleaves elements of `N` bytes: out[k][lane].
fn interleave<const N: usize>(rows: &[u8], row_bytes: usize, out: &mut [u8]) {
    for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
        for (x, out) in row.chunks_exact(N).zip(out.chunks_exact_mut(N * LANES)) {
            out[N * lane..][..N].copy_from_slice(x);
        }
    }
}
