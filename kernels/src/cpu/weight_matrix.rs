//! A weight matrix ready to be multiplied: packed in advance, or at each product.
//!
//! Packing makes products fast, but needs memory or a file for the packed copy. Without one, [`Kernels::multiply`]
//! packs the rows of one group into its thread's scratch and multiplies that: the same kernel reads the same lines, so
//! the bits are the same.

use super::Kernels;
use super::activations::{ActivationFormats, ActivationRows};
use super::gguf_matrix::{GgufMatrix, interleave_groups};
use super::lanes::LANES;
use super::pack::{Layout, Line, PackedBytes, PackedMatrix, Shape};
use crate::SharedBytes;
use crate::quant::TypeInfo;

/// A weight matrix of shape (n_rows, n_cols), ready to be multiplied: row `i` yields output `i`.
pub struct WeightMatrix(Weights);

enum Weights {
    Packed(PackedMatrix),
    Native(GgufMatrix),
}

impl WeightMatrix {
    /// Packs `n_rows` rows of `n_cols` weights from their GGUF bytes into memory of its own, on the current rayon pool.
    ///
    /// # Errors
    /// If the shape does not fit the type: `n_cols` must be a multiple of the block length.
    pub fn pack(
        ty: TypeInfo,
        n_rows: usize,
        n_cols: usize,
        bytes: &[u8],
    ) -> Result<WeightMatrix, String> {
        let shape = Shape::new(ty, n_rows, n_cols, bytes.len())?;
        let mut lines = bytemuck::zeroed_vec::<Line>(shape.group_lines * shape.n_groups());
        interleave_groups(&shape, bytes, bytemuck::cast_slice_mut(&mut lines));
        Ok(WeightMatrix(Weights::Packed(PackedMatrix::new(shape, PackedBytes::Own(lines))?)))
    }

    /// The packed form of `rows`, from bytes that [`GgufMatrix::pack`] wrote.
    ///
    /// # Errors
    /// If there are not [`GgufMatrix::packed_len`] bytes, or they are not aligned to 64.
    pub fn from_packed(rows: &GgufMatrix, bytes: SharedBytes) -> Result<WeightMatrix, String> {
        let packed = PackedMatrix::new(rows.shape, PackedBytes::Shared(bytes))?;
        Ok(WeightMatrix(Weights::Packed(packed)))
    }

    /// Native rows, which are packed group by group at each product.
    pub fn native(rows: GgufMatrix) -> WeightMatrix {
        WeightMatrix(Weights::Native(rows))
    }

    fn shape(&self) -> &Shape {
        match &self.0 {
            Weights::Packed(packed) => &packed.shape,
            Weights::Native(rows) => &rows.shape,
        }
    }

    /// Number of output rows.
    pub fn n_rows(&self) -> usize {
        self.shape().n_rows
    }

    /// Number of weights in a row.
    pub fn n_cols(&self) -> usize {
        self.shape().n_cols
    }

    /// Number of groups of 16 rows; the last one is padded with zeros.
    pub fn n_groups(&self) -> usize {
        self.shape().n_groups()
    }

    /// Number of bytes; a product reads each once.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Weights::Packed(packed) => packed.bytes().len(),
            Weights::Native(rows) => rows.bytes().len(),
        }
    }

    /// The native rows, if they were not packed.
    pub fn as_native(&self) -> Option<&GgufMatrix> {
        match &self.0 {
            Weights::Native(rows) => Some(rows),
            Weights::Packed(_) => None,
        }
    }

    /// The activation formats that a product with this matrix reads.
    pub fn formats(&self) -> ActivationFormats {
        let none = ActivationFormats::default();
        match self.shape().layout {
            Layout::Blocks(f) if f.block_len == 32 => ActivationFormats { by32: true, ..none },
            Layout::Blocks(_) => ActivationFormats { by256: true, ..none },
            _ => ActivationFormats { float: true, ..none },
        }
    }
}

/// Scratch memory of one thread for products.
#[derive(Default)]
pub struct ProductScratch {
    floats: Vec<f32>,
    group: Vec<Line>,
}

impl ProductScratch {
    /// Enough scratch for each of these matrices.
    pub fn for_matrices<'a>(matrices: impl Iterator<Item = &'a WeightMatrix>) -> ProductScratch {
        let (mut floats, mut lines) = (0, 0);
        for w in matrices {
            floats = floats.max(w.shape().scratch_len());
            lines = lines.max(w.as_native().map_or(0, |rows| rows.shape.group_lines));
        }
        ProductScratch { floats: vec![0.0; floats], group: bytemuck::zeroed_vec(lines) }
    }
}

impl Kernels {
    /// Multiplies groups `first..` of `w` by the rows `x`, as many groups as `out` has tiles, (groups, rows, 16); with
    /// `add` it adds to `out`.
    ///
    /// `scratch` is [`ProductScratch::for_matrices`] of matrices that include `w`.
    ///
    /// This is the only public product: an instruction set's own one takes only packed weights, and other code cannot
    /// call it.
    /// ```compile_fail,E0616
    /// use dovetail_kernels::cpu::{Kernels, WeightMatrix};
    /// fn product(kernels: &Kernels, native: &WeightMatrix) {
    ///     let matmul = kernels.matmul;
    /// }
    /// ```
    pub fn multiply(
        &self,
        w: &WeightMatrix,
        first: usize,
        x: ActivationRows,
        out: &mut [f32],
        add: bool,
        scratch: &mut ProductScratch,
    ) {
        let rows = match &w.0 {
            Weights::Packed(packed) => {
                return (self.matmul)(packed, first, x, out, add, &mut scratch.floats);
            }
            Weights::Native(rows) => rows,
        };
        let shape = &rows.shape;
        for (i, tile) in out.chunks_exact_mut(x.n_rows() * LANES).enumerate() {
            let start = (first + i) * LANES;
            let n_rows = (shape.n_rows - start).min(LANES);
            let rows = &rows.bytes()[start * shape.row_bytes..][..n_rows * shape.row_bytes];
            let mut lines = std::mem::take(&mut scratch.group);
            lines.resize(shape.group_lines, Line::default());
            let group: &mut [u8] = bytemuck::cast_slice_mut(&mut lines);
            (self.interleave)(shape, rows, group);
            let one = Shape { n_rows, ..*shape };
            let group = PackedMatrix::new(one, PackedBytes::Own(lines)).expect("lines of a group");
            (self.matmul)(&group, 0, x, tile, add, &mut scratch.floats);
            scratch.group = group.into_lines();
        }
    }
}
