//! A weight matrix as it lies in a GGUF file, to be packed or multiplied as it is.

use super::interleave::interleave_groups;
use super::lanes::LANES;
use super::pack::Shape;
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
        self.shape.packed_len()
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
        interleave_groups(&self.shape, &self.bytes[first * self.native_group_len()..], out);
    }
}
