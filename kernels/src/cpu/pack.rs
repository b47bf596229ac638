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
//! scales of its blocks      d: 16 f16, or 16 bytes of exponents | m: 16 f16 | scale: (sub-blocks, 16) i8
//!                           | min: (sub-blocks / 2, 16, 2) u8; filled up to a whole line
//! ```
//!
//! Base plane of 4 bits: line `l` of 4 holds weights `4l…4l+3` in the low and `16+4l…` in the high
//! nibbles. Of 2 bits: line `h` of 2 holds weights `16h + 4t…` in bits `2t, 2t+1`. The high plane of
//! 1 bit holds weights `4g…` in bit `g`; that of 2 bits is laid out as a base plane of 2.
//! Floating-point weights are simply interleaved: `(k, 16)`.
//!
//! Types that are read through ggml are not repacked; 16 rows at a time are dequantised.
//!
//! `interleave.rs` and `transpose/` write this layout. Packed bytes are also stored in files: any change of the layout must raise
//! [`LAYOUT_VERSION`].

use super::lanes::LANES;
use crate::SharedBytes;
use crate::quant::{Format, Kind, Scale, TypeInfo};

/// Version of the layout; any change of its bits needs a new number.
pub const LAYOUT_VERSION: u32 = 2;

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

/// Format of the lines of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Blocks(Format),
    F32,
    F16,
    BF16,
    /// Native rows of `row_bytes` bytes each, at a distance of [`foreign_stride`] bytes.
    Foreign {
        row_bytes: usize,
    },
}

/// Distance between native rows: ggml needs multiples of 8 bytes to read without copying.
pub(super) fn foreign_stride(row_bytes: usize) -> usize {
    row_bytes.next_multiple_of(8)
}

/// Type and dimensions of a matrix, which fit each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) layout: Layout,
    pub(super) ty: TypeInfo,
    pub(super) n_rows: usize,
    pub(super) n_cols: usize,
    /// Bytes of a native row.
    pub(super) row_bytes: usize,
    /// Lines of a packed group.
    pub(super) group_lines: usize,
}

impl Shape {
    /// The shape of `n_rows` rows of `n_cols` weights in `len` native bytes, or the reason why it is impossible.
    pub(super) fn new(
        ty: TypeInfo,
        n_rows: usize,
        n_cols: usize,
        len: usize,
    ) -> Result<Shape, String> {
        // Rows of floats are multiplied element by element.
        let is_float = matches!(ty.kind, Kind::F32 | Kind::F16 | Kind::BF16);
        let row_bytes = ty
            .row_bytes(n_cols)
            .filter(|_| n_cols > 0 && (n_cols.is_multiple_of(32) || is_float))
            .ok_or_else(|| format!("rows of {n_cols} {} weights cannot be multiplied", ty.name))?;
        if row_bytes.checked_mul(n_rows) != Some(len) {
            let name = ty.name;
            return Err(format!("{len} bytes are not {n_rows} rows of {n_cols} {name} weights"));
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
            Layout::F16 | Layout::BF16 => n_cols.div_ceil(2),
            Layout::Foreign { row_bytes } => (foreign_stride(row_bytes) * LANES).div_ceil(64),
        };
        Ok(Shape { layout, ty, n_rows, n_cols, row_bytes, group_lines })
    }

    /// Number of groups of 16 rows; the last one is padded with zeros.
    pub(super) fn n_groups(&self) -> usize {
        self.n_rows.div_ceil(LANES)
    }

    /// Floats of scratch that a product needs: 0 except for types read through ggml.
    pub(super) fn scratch_len(&self) -> usize {
        match self.layout {
            Layout::Foreign { .. } => (LANES + 1) * self.n_cols,
            _ => 0,
        }
    }

    /// Bytes of all packed groups.
    pub(super) fn packed_len(&self) -> usize {
        self.group_lines * 64 * self.n_groups()
    }
}

/// A packed weight matrix of shape (n_rows, n_cols), as kernels read it.
pub(super) struct PackedMatrix {
    pub(super) shape: Shape,
    bytes: PackedBytes,
}

/// The packed bytes: whole lines, for all groups.
pub(super) enum PackedBytes {
    Own(Vec<Line>),
    Shared(SharedBytes),
}

impl PackedMatrix {
    /// Fails with a reason if the number of bytes does not fit the shape, or they are not aligned to 64.
    pub(super) fn new(shape: Shape, bytes: PackedBytes) -> Result<PackedMatrix, String> {
        let matrix = PackedMatrix { shape, bytes };
        let (len, expected) = (matrix.bytes().len(), shape.packed_len());
        if len != expected {
            return Err(format!("{len} packed bytes, not {expected}"));
        }
        if !matrix.bytes().as_ptr().addr().is_multiple_of(align_of::<Line>()) {
            return Err("packed bytes do not begin at a cache line".into());
        }
        Ok(matrix)
    }

    /// Returns the lines if the matrix owns them.
    pub(super) fn into_lines(self) -> Vec<Line> {
        match self.bytes {
            PackedBytes::Own(lines) => lines,
            PackedBytes::Shared(_) => Vec::new(),
        }
    }

    /// All packed bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            PackedBytes::Own(lines) => bytemuck::cast_slice(lines),
            PackedBytes::Shared(bytes) => bytes,
        }
    }

    /// The lines of group `g`.
    pub(super) fn group(&self, g: usize) -> Lines<'_> {
        let len = self.shape.group_lines * 64;
        self.bytes()[g * len..][..len].as_chunks().0
    }
}

/// Weights of a row in a whole unit.
const UNIT: usize = 256;

/// Division of a group's blocks into units.
#[derive(Clone, Copy)]
pub(super) struct Units {
    blocks: usize,
    blocks_per_unit: usize,
    /// Lines of one block's codes.
    code_lines: usize,
    /// Bytes of one block's scales.
    pub(super) meta_bytes: usize,
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

    /// Numbers of lines of the next unit's codes and scales.
    #[inline(always)]
    pub(super) fn lengths(&mut self) -> Option<(usize, usize)> {
        let blocks = self.blocks.min(self.blocks_per_unit);
        self.blocks -= blocks;
        (blocks > 0).then(|| (blocks * self.code_lines, (blocks * self.meta_bytes).div_ceil(64)))
    }

    /// Splits the next unit off `lines`: its codes and its scales.
    #[inline(always)]
    pub(super) fn next<'a>(&mut self, lines: &mut Lines<'a>) -> Option<(Lines<'a>, Lines<'a>)> {
        let (codes, meta) = self.lengths()?;
        let (codes, rest) = lines.split_at(codes);
        let (meta, rest) = rest.split_at(meta);
        *lines = rest;
        Some((codes, meta))
    }
}

/// Bytes of the scales of one block in a group: see the module's head.
pub(super) const fn meta_len(f: &Format) -> usize {
    if let Scale::E8M0(_) = f.d {
        return LANES;
    }
    min_at(f) + if f.scaled && f.min { f.block_len / f.sub_len * LANES } else { 0 }
}

/// Offset of the integer scales among a block's scales.
pub(super) const fn scale_at(min: bool) -> usize {
    if min { 64 } else { 32 }
}

/// Offset of the integer minima among a block's scales.
pub(super) const fn min_at(f: &Format) -> usize {
    scale_at(f.min) + if f.scaled { f.block_len / f.sub_len * LANES } else { 0 }
}
