//! Matrices in a GPU's memory: see `kernels/cuda/matmul.cuh` for the layout.

use super::device::{Buffer, Device};
use crate::error::Result;
use dovetail_kernels::cpu::GgufMatrix;
use dovetail_kernels::quant::{Codes, Kind, TypeInfo};
use half::f16;
use rayon::prelude::*;

/// Rows in a tile.
pub const TILE_ROWS: usize = 16;
/// Columns that share a scale.
const UNIT: usize = 32;
/// Bytes in a tile.
const TILE_BYTES: usize = 1024;

/// The format of weights on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// Half floats.
    F16,
    /// 8 bits, with one scale for 32 weights.
    Q8,
    /// 4 bits, with one scale for 32 weights.
    Q4,
}

impl WeightFormat {
    /// The smallest format that is good enough for rows of this type. Scales of other block types have more bits than
    /// ours, so these types take 8 bits.
    fn for_type(ty: &TypeInfo) -> WeightFormat {
        match (ty.kind, ty.name) {
            (Kind::F32 | Kind::F16 | Kind::BF16, _) => WeightFormat::F16,
            (_, "q4_0") => WeightFormat::Q4,
            _ => WeightFormat::Q8,
        }
    }

    /// A format for rows of all these types.
    pub fn for_types<'a>(mut types: impl Iterator<Item = &'a TypeInfo>) -> WeightFormat {
        let first = types.next().map_or(WeightFormat::F16, WeightFormat::for_type);
        types.map(WeightFormat::for_type).fold(first, |all, one| match (all, one) {
            (a, b) if a == b => a,
            (WeightFormat::F16, _) | (_, WeightFormat::F16) => WeightFormat::F16,
            _ => WeightFormat::Q8,
        })
    }

    /// Number of units in a tile.
    fn units(self) -> usize {
        match self {
            WeightFormat::F16 => 1,
            WeightFormat::Q8 => 2,
            WeightFormat::Q4 => 4,
        }
    }

    /// Its name in the names of kernels.
    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::F16 => "f16",
            WeightFormat::Q8 => "q8",
            WeightFormat::Q4 => "q4",
        }
    }
}

/// Columns padded to whole tiles of every format: the stride of rows of activations.
pub fn padded(columns: usize) -> usize {
    columns.next_multiple_of(4 * UNIT)
}

/// A matrix on a device.
pub struct Matrix {
    /// The format.
    pub format: WeightFormat,
    /// Rows, without those that pad the last tile.
    pub rows: usize,
    /// Columns, a multiple of 32.
    pub columns: usize,
    /// Whether tiles of rows of two matrices alternate.
    pub paired: bool,
    /// (row tiles, column tiles, 1024)
    pub weights: Buffer<u8>,
    /// (row tiles, column tiles, 16, units); half floats
    pub scales: Buffer<u16>,
}

/// Weights and scales of some rows, in tiles.
struct Tiles {
    weights: Vec<u8>,
    scales: Vec<u16>,
}

impl Matrix {
    /// Memory for this many rows, all zero, in whole pairs of tiles: a product may take two at once.
    pub fn zeros(
        device: &mut dyn Device,
        format: WeightFormat,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix> {
        let tiles =
            rows.next_multiple_of(2 * TILE_ROWS) / TILE_ROWS * column_tiles(format, columns);
        let weights = Buffer::new(device, tiles * TILE_BYTES)?;
        let scales = Buffer::new(device, tiles * scales_of_a_tile(format))?;
        Ok(Matrix { format, rows, columns, paired: false, weights, scales })
    }

    /// Stacks the rows of several matrices. Each but the last must have whole tiles of rows.
    pub fn stacked(device: &mut dyn Device, parts: &[&GgufMatrix]) -> Result<Matrix> {
        Matrix::with_format(
            device,
            WeightFormat::for_types(parts.iter().map(|part| part.ty())),
            parts,
        )
    }

    /// [`Matrix::stacked`] with a given format.
    pub fn with_format(
        device: &mut dyn Device,
        format: WeightFormat,
        parts: &[&GgufMatrix],
    ) -> Result<Matrix> {
        let columns = parts[0].n_cols();
        let rows = parts.iter().map(|part| part.n_rows()).sum();
        let matrix = Matrix::zeros(device, format, rows, columns)?;
        let mut first = 0usize;
        for part in parts {
            assert!(
                first.is_multiple_of(TILE_ROWS) && part.n_cols() == columns,
                "parts have whole tiles"
            );
            let rows = part.bytes().chunks_exact(part.bytes().len() / part.n_rows());
            matrix.write_rows(device, first, part.ty(), &rows.collect::<Vec<_>>())?;
            first += part.n_rows();
        }
        Ok(matrix)
    }

    /// Two matrices of one shape whose tiles of rows alternate.
    pub fn paired(device: &mut dyn Device, even: &GgufMatrix, odd: &GgufMatrix) -> Result<Matrix> {
        let (rows, columns) = (even.n_rows(), even.n_cols());
        assert!(rows == odd.n_rows() && columns == odd.n_cols(), "two matrices of one shape");
        let format = WeightFormat::for_types([even.ty(), odd.ty()].into_iter());
        let padded_rows = rows.next_multiple_of(TILE_ROWS);
        let matrix = Matrix::zeros(device, format, 2 * padded_rows, columns)?;
        let [even, odd] = [even, odd].map(|part| {
            let rows: Vec<&[u8]> = part.bytes().chunks_exact(part.bytes().len() / rows).collect();
            encode(format, part.ty(), &rows, columns)
        });
        let (tile_bytes, scales) = (matrix.tile_row_bytes(), matrix.tile_row_scales());
        let weights = in_turn(&even.weights, &odd.weights, tile_bytes);
        matrix.weights.write(device, 0, &weights)?;
        if scales > 0 {
            matrix.scales.write(device, 0, &in_turn(&even.scales, &odd.scales, scales))?;
        }
        Ok(Matrix { rows, paired: true, ..matrix })
    }

    /// Writes GGUF rows of this type from row `first` on, which must begin a tile. The rest of the last tile becomes
    /// zero.
    pub fn write_rows(
        &self,
        device: &mut dyn Device,
        first: usize,
        ty: &TypeInfo,
        rows: &[&[u8]],
    ) -> Result<()> {
        assert!(first.is_multiple_of(TILE_ROWS), "rows are written tile by tile");
        let tiles = encode(self.format, ty, rows, self.columns);
        let at = first / TILE_ROWS;
        self.weights.write(device, at * self.tile_row_bytes(), &tiles.weights)?;
        match self.tile_row_scales() {
            0 => Ok(()),
            scales => self.scales.write(device, at * scales, &tiles.scales),
        }
    }

    /// Number of tiles along a row.
    pub fn column_tiles(&self) -> usize {
        column_tiles(self.format, self.columns)
    }

    /// Bytes that a product reads.
    pub fn bytes(&self) -> usize {
        self.weights.len() + 2 * self.scales.len()
    }

    fn tile_row_bytes(&self) -> usize {
        self.column_tiles() * TILE_BYTES
    }

    fn tile_row_scales(&self) -> usize {
        self.column_tiles() * scales_of_a_tile(self.format)
    }
}

fn column_tiles(format: WeightFormat, columns: usize) -> usize {
    columns.div_ceil(UNIT * format.units())
}

fn scales_of_a_tile(format: WeightFormat) -> usize {
    if format == WeightFormat::F16 { 0 } else { TILE_ROWS * format.units() }
}

fn in_turn<T: Copy>(even: &[T], odd: &[T], chunk: usize) -> Vec<T> {
    let pairs = even.chunks_exact(chunk).zip(odd.chunks_exact(chunk));
    pairs.flat_map(|(even, odd)| [even, odd].concat()).collect()
}

/// Encodes GGUF rows as tiles.
fn encode(format: WeightFormat, ty: &TypeInfo, rows: &[&[u8]], columns: usize) -> Tiles {
    let (n, scales) = (column_tiles(format, columns), scales_of_a_tile(format));
    let tile_rows = rows.len().div_ceil(TILE_ROWS);
    let mut tiles = Tiles {
        weights: vec![0; tile_rows * n * TILE_BYTES],
        scales: vec![0; tile_rows * n * scales],
    };
    // Without scales there is nothing to zip with the weights.
    let mut none = vec![[0u16; 0]; tile_rows];
    let weights = tiles.weights.par_chunks_exact_mut(n * TILE_BYTES);
    let rows = rows.par_chunks(TILE_ROWS);
    match format {
        WeightFormat::F16 => {
            weights.zip(rows).zip(&mut none).for_each(|((weights, rows), none)| {
                encode_tiles(format, ty, rows, columns, weights, none)
            })
        }
        _ => weights.zip(rows).zip(tiles.scales.par_chunks_exact_mut(n * scales)).for_each(
            |((weights, rows), out)| encode_tiles(format, ty, rows, columns, weights, out),
        ),
    }
    tiles
}

/// Encodes one row of tiles.
fn encode_tiles(
    format: WeightFormat,
    ty: &TypeInfo,
    rows: &[&[u8]],
    columns: usize,
    weights: &mut [u8],
    scales: &mut [u16],
) {
    let units = format.units();
    let mut floats = vec![0.0; columns];
    let mut codes = Codes::default();
    for (i, row) in rows.iter().enumerate() {
        // Codes of the same format are copied; other types are dequantised and quantised again.
        let native = match ty.kind {
            Kind::Blocks(ops) if format == WeightFormat::for_type(ty) && is_exact(ty) => Some(ops),
            _ => {
                ty.dequantize(row, &mut floats);
                None
            }
        };
        for unit in 0..columns / UNIT {
            let (tile, u) = (unit / units, unit % units);
            let values = &floats[unit * UNIT..][..UNIT];
            let mut code = [0u8; UNIT];
            if format != WeightFormat::F16 {
                let scale = match native {
                    Some(ops) => {
                        let bytes = ops.block_bytes;
                        (ops.codes)(&row[unit * bytes..][..bytes], &mut codes);
                        code.copy_from_slice(&codes.code[..UNIT]);
                        codes.d
                    }
                    None => quantize(format, values, &mut code),
                };
                scales[(tile * TILE_ROWS + i) * units + u] = scale.to_bits();
            }
            let lane_row = tile * TILE_BYTES + i / 8 * 512 + i % 8 * 64;
            for c in 0..UNIT {
                let (lane, e) = (lane_row + c / 8 * 16, c % 8);
                match format {
                    WeightFormat::F16 => {
                        let value = f16::from_f32(values[c].clamp(-65504.0, 65504.0));
                        weights[lane + 2 * e..][..2].copy_from_slice(&value.to_le_bytes());
                    }
                    WeightFormat::Q8 => weights[lane + 8 * u + e] = code[c],
                    WeightFormat::Q4 => {
                        let nibble = e / 2 + 4 * (e % 2);
                        weights[lane + 4 * u + nibble / 2] |= code[c] << (4 * (nibble % 2));
                    }
                }
            }
        }
    }
}

/// Whether a format holds exactly the codes and scales of this type.
fn is_exact(ty: &TypeInfo) -> bool {
    matches!(ty.name, "q8_0" | "q4_0")
}

/// Quantises a unit to codes with an offset. Returns its scale.
fn quantize(format: WeightFormat, values: &[f32], code: &mut [u8; UNIT]) -> f16 {
    let (most, offset) = if format == WeightFormat::Q8 { (127.0, 128) } else { (7.0, 8) };
    let largest = values.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let scale = f16::from_f32(largest / most);
    let inverse = if scale == f16::ZERO { 0.0 } else { 1.0 / scale.to_f32() };
    for (code, x) in code.iter_mut().zip(values) {
        *code = ((x * inverse).round().clamp(-most, most) as i32 + offset) as u8;
    }
    scale
}
