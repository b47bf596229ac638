//! GgufMatrix as they lie in the file: packed beforehand, or each time they are multiplied.
//!
//! Packing is what makes products fast, and costs memory for the packed copy, or room on disk. Where
//! neither is to be had, [`Kernels::multiply`] packs the rows of one group into its thread's scratch
//! and multiplies that: the same kernel reads the same lines, so the bits are the same.

use super::Kernels;
use super::activations::ActivationRows;
use super::interleave::interleave;
use super::lanes::LANES;
use super::pack::{Line, Shape, WeightMatrix};
use crate::SharedBytes;
use crate::quant::TypeInfo;

/// A weight matrix of shape (n_rows, n_cols) as its bytes lie in a GGUF file.
#[derive(Clone, Debug)]
pub struct GgufMatrix {
    pub(super) shape: Shape,
    bytes: SharedBytes,
}

impl GgufMatrix {
    /// `n_rows` rows of `n_cols` weights.
    ///
    /// Fails with the reason where the shape does not fit the type: `n_cols` must be a multiple of the
    /// block length and of 32.
    pub fn new(
        ty: TypeInfo,
        n_rows: usize,
        n_cols: usize,
        bytes: SharedBytes,
    ) -> Result<GgufMatrix, String> {
        Ok(GgufMatrix { shape: Shape::new(ty, n_rows, n_cols, bytes.len())?, bytes })
    }

    /// The native bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of the weights' type in a GGUF file.
    pub fn type_id(&self) -> u32 {
        self.shape.ty.id
    }

    /// Their type.
    pub fn ty(&self) -> &TypeInfo {
        &self.shape.ty
    }

    /// Output rows.
    pub fn n_rows(&self) -> usize {
        self.shape.n_rows
    }

    /// Weights in a row.
    pub fn n_cols(&self) -> usize {
        self.shape.n_cols
    }

    /// Bytes of 16 rows: what becomes one group. The last group may have fewer.
    pub fn native_group_len(&self) -> usize {
        self.shape.row_bytes * LANES
    }

    /// Bytes of one packed group.
    pub fn packed_group_len(&self) -> usize {
        self.shape.group_lines * 64
    }

    /// Bytes of all packed groups.
    pub fn packed_len(&self) -> usize {
        self.packed_group_len() * self.shape.n_groups()
    }

    /// Packs the groups from `first` on, as many as `out` has, on the current rayon pool. Every byte
    /// of `out` is written.
    ///
    /// # Panics
    /// Where there are not so many groups, or `out` is no whole number of them.
    pub fn pack(&self, first: usize, out: &mut [u8]) {
        let n = out.len() / self.packed_group_len();
        assert_eq!(out.len(), n * self.packed_group_len(), "whole groups are packed");
        let left = self.shape.n_groups().checked_sub(first);
        assert!(left.is_some_and(|left| n <= left), "there are no {n} groups from {first} on");
        self.shape.pack(&self.bytes[first * self.native_group_len()..], out);
    }
}

/// What one thread needs beside the matrices it multiplies.
#[derive(Default)]
pub struct ProductScratch {
    floats: Vec<f32>,
    group: Vec<Line>,
}

impl ProductScratch {
    /// Enough for each of these matrices.
    pub fn for_matrices<'a>(matrices: impl Iterator<Item = &'a WeightMatrix>) -> ProductScratch {
        let (mut floats, mut lines) = (0, 0);
        for w in matrices {
            floats = floats.max(w.scratch_len());
            lines = lines.max(w.as_native().map_or(0, |rows| rows.shape.group_lines));
        }
        ProductScratch { floats: vec![0.0; floats], group: bytemuck::zeroed_vec(lines) }
    }
}

impl Kernels {
    /// [`Kernels::matmul`] for packed and for native matrices: groups `first..` of `w` by the rows
    /// `x`, as many groups as `out` has tiles (groups, rows, 16); with `add` onto what `out` holds.
    ///
    /// `scratch` is [`ProductScratch::for_matrices`] of some matrices with `w` among them.
    pub fn multiply(
        &self,
        w: &WeightMatrix,
        first: usize,
        x: ActivationRows,
        out: &mut [f32],
        add: bool,
        scratch: &mut ProductScratch,
    ) {
        let Some(GgufMatrix { shape, bytes }) = w.as_native() else {
            return (self.matmul)(w, first, x, out, add, &mut scratch.floats);
        };
        for (i, tile) in out.chunks_exact_mut(x.n_rows() * LANES).enumerate() {
            let start = (first + i) * LANES;
            let n_rows = (shape.n_rows - start).min(LANES);
            let rows = &bytes[start * shape.row_bytes..][..n_rows * shape.row_bytes];
            let mut lines = std::mem::take(&mut scratch.group);
            let group: &mut [u8] = bytemuck::cast_slice_mut(&mut lines[..shape.group_lines]);
            interleave(&shape.ty, shape.n_cols, rows, shape.row_bytes, group);
            let group = WeightMatrix::one_group(shape, n_rows, lines);
            (self.matmul)(&group, 0, x, tile, add, &mut scratch.floats);
            scratch.group = group.into_lines();
        }
    }
}
