//! A weight matrix in the format of a GGUF file, to be packed or multiplied directly.

use super::Kernels;
use super::lanes::LANES;
use super::pack::Shape;
use crate::SharedBytes;
use crate::quant::TypeInfo;
use rayon::prelude::*;
use std::sync::LazyLock;

/// A weight matrix of shape (n_rows, n_cols) in the format of a GGUF file.
#[derive(Clone, Debug)]
pub struct GgufMatrix {
    pub(super) shape: Shape,
    bytes: SharedBytes,
}

impl GgufMatrix {
    /// `n_rows` rows of `n_cols` weights.
    ///
    /// # Errors
    /// If the shape does not fit the type: `n_cols` must be a multiple of the block length.
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

    /// The weights' type as a number in GGUF files.
    pub fn type_id(&self) -> u32 {
        self.shape.ty.id
    }

    /// The weights' type.
    pub fn ty(&self) -> &TypeInfo {
        &self.shape.ty
    }

    /// Number of output rows.
    pub fn n_rows(&self) -> usize {
        self.shape.n_rows
    }

    /// Number of weights in a row.
    pub fn n_cols(&self) -> usize {
        self.shape.n_cols
    }

    /// Native bytes of 16 rows, which become one group. The last group may have fewer.
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

    /// Packs groups from `first` on, as many as `out` holds, on the current rayon pool. Writes every byte of `out`.
    ///
    /// # Panics
    /// If there are fewer groups, or the length of `out` is not a whole number of groups.
    pub fn pack(&self, first: usize, out: &mut [u8]) {
        let n = out.len() / self.packed_group_len();
        assert_eq!(out.len(), n * self.packed_group_len(), "whole groups are packed");
        let left = self.shape.n_groups().checked_sub(first);
        assert!(left.is_some_and(|left| n <= left), "there are no {n} groups from {first} on");
        interleave_groups(&self.shape, &self.bytes[first * self.native_group_len()..], out);
    }
}

/// Packs native rows of this shape, from the start of a group on, into as many groups as `out` has, on the current
/// rayon pool.
pub(super) fn interleave_groups(shape: &Shape, rows: &[u8], out: &mut [u8]) {
    /// Which instruction set packs shows in the time alone, and looking for the best one takes some.
    static BEST: LazyLock<&Kernels> =
        LazyLock::new(|| Kernels::available().next().expect("the scalar kernels run everywhere"));
    let interleave = BEST.interleave;
    let groups = out.par_chunks_exact_mut(shape.group_lines * 64);
    groups
        .zip(rows.par_chunks(shape.row_bytes * LANES))
        .for_each(|(group, rows)| interleave(shape, rows, group));
}
