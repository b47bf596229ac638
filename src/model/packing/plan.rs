//! Which packed bytes lie where: matrix after matrix, in the order in which a pass reads them.

use crate::gguf::{FileBytes, Gguf};
use crate::model::weights::{Matrix, MatrixPlace};
use dovetail_kernels::SharedBytes;
use dovetail_kernels::cpu::{GgufMatrix, LANES};
use std::collections::HashMap;
use std::sync::Arc;

/// Every matrix begins at a multiple of this: a page, so that none shares one with another.
pub(super) const PAGE: usize = 4096;

/// Packed bytes of a run, about: two of them stay in the third-level cache beside the native rows,
/// and a system call to write one costs nothing beside its bytes.
const RUN_BYTES: usize = 4 << 20;

/// All matrices of a model and their places.
pub(super) struct Plan {
    matrices: Vec<PlacedMatrix>,
    len: usize,
}

/// A matrix and where it begins.
pub(super) struct PlacedMatrix {
    pub(super) place: MatrixPlace,
    pub(super) rows: GgufMatrix,
    pub(super) at: usize,
}

/// Some consecutive groups of one matrix: what is packed at a time.
pub(super) struct Run<'a> {
    pub(super) rows: &'a GgufMatrix,
    /// Which matrix it is, and the first of its groups.
    pub(super) matrix: usize,
    pub(super) first: usize,
    /// Where the groups begin, how many bytes they take, and how many there are to the next matrix
    /// if they are the last of theirs.
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) padded: usize,
}

impl Plan {
    pub(super) fn new(matrices: Vec<Matrix>) -> Plan {
        let mut len = 0;
        let matrices = matrices.into_iter().map(|Matrix { place, rows }| {
            let at = len;
            len += rows.packed_len().next_multiple_of(PAGE);
            PlacedMatrix { place, rows, at }
        });
        let matrices = matrices.collect();
        Plan { matrices, len }
    }

    /// Bytes of all matrices, packed.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn matrices(&self) -> &[PlacedMatrix] {
        &self.matrices
    }

    /// The packed matrices by their places in the file, out of `owner`'s bytes.
    pub(super) fn share(&self, owner: &Arc<FileBytes>) -> HashMap<MatrixPlace, SharedBytes> {
        let shared = |PlacedMatrix { place, rows, at }: &PlacedMatrix| {
            let range = *at..at + rows.packed_len();
            let bytes = SharedBytes::new(owner.clone(), range).expect("the plan gave the length");
            (place.clone(), bytes)
        };
        self.matrices.iter().map(shared).collect()
    }

    /// Hands every run to `pack`, in order of place, until it fails. What has been packed is dropped
    /// from the mapped model, so that no more than a run of it lies in memory beside the packed bytes;
    /// then `progress` hears of it and may cancel.
    pub(super) fn pack(
        &self,
        gguf: &Gguf,
        progress: &mut dyn FnMut(u64, u64) -> bool,
        mut pack: impl FnMut(&Run) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let total: usize = self.matrices.iter().map(|m| m.rows.bytes().len()).sum();
        let mut done = 0;
        for (matrix, PlacedMatrix { place, rows, at }) in self.matrices.iter().enumerate() {
            let MatrixPlace { tensor, first: first_row } = place;
            let tensor = gguf.tensor(tensor).expect("the plan was made from this model");
            let before = rows.native_group_len() / LANES * first_row; // bytes of the tensor's other rows
            gguf.will_need(&tensor);
            let group = rows.packed_group_len();
            let groups = rows.packed_len() / group;
            let groups_per_run = (RUN_BYTES / group).max(1);
            for first in (0..groups).step_by(groups_per_run) {
                let end = groups.min(first + groups_per_run);
                let (len, at) = ((end - first) * group, at + first * group);
                let padded =
                    if end == groups { (at + len).next_multiple_of(PAGE) - at } else { len };
                pack(&Run { rows, matrix, first, at, len, padded })?;
                let native = |group: usize| rows.bytes().len().min(group * rows.native_group_len());
                gguf.release(&tensor, before + native(first)..before + native(end));
                done += native(end) - native(first);
                if !progress(done as u64, total as u64) {
                    return Err(Failure::Cancelled);
                }
            }
        }
        Ok(())
    }
}

/// Why there are no packed bytes.
#[derive(Debug)]
pub(super) enum Failure {
    /// The caller did not want to wait.
    Cancelled,
    /// The system, or what a file holds; a clause that says where and why.
    Refused(String),
}
