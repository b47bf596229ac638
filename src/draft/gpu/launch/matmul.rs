//! Products of a matrix with up to 64 rows.

use super::{Buffer, Launch, MAX_ROWS, launch};
use crate::draft::gpu::weights::{Matrix, TILE_ROWS, padded};
use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Job {
    weights: u64,
    scales: u64,
    input: u64,
    stride: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    jobs: [Job; 2],
    n: u64,
    sums: u64,
    out32: u64,
    out16: u64,
    hidden: u64,
    norm: u64,
    bias: u64,
    pair: u64,
    sums_out: u64,
    n_out: u64,
    out_stride: u32,
    pair_stride: u32,
    out_rows: u32,
    column_tiles: u32,
    epilogue: u32,
    parts: u32,
    groups: u32,
    unused: u32,
    width: f32,
    eps: f32,
}

/// Rows of half floats, so many apart, with zeros behind the columns that count.
#[derive(Clone, Copy)]
pub struct HalfRows {
    /// (MAX_ROWS, stride)
    pub buffer: Buffer<u16>,
    pub stride: usize,
}

/// Rows whose RMSNorm is not finished: a product with them is multiplied by 1 / sqrt(mean of squares + eps).
#[derive(Clone, Copy)]
pub struct Squares {
    /// Sums of squares: (MAX_ROWS, parts)
    pub sums: Buffer<f32>,
    pub parts: usize,
    /// Width of the rows.
    pub width: usize,
    pub eps: f32,
}

/// The hidden states, and the same ready for the next product.
#[derive(Clone, Copy)]
pub struct Hidden {
    /// (MAX_ROWS, width)
    pub states: Buffer<f32>,
    pub normed: HalfRows,
    /// Set by the product that writes them.
    pub squares: Buffer<f32>, // (MAX_ROWS, blocks of the product)
}

impl Hidden {
    /// What the next product needs to know.
    pub fn squares(&self, width: usize, eps: f32) -> Squares {
        Squares { sums: self.squares, parts: width.div_ceil(block_rows(width)), width, eps }
    }
}

/// What becomes of a product `y`.
#[derive(Clone, Copy)]
pub enum Epilogue {
    /// Rows of floats, as wide as the matrix has rows.
    Store(Buffer<f32>),
    /// y of one matrix and SiLU(y) of another one side by side, each product with rows of its own.
    Pair(HalfRows),
    /// SiLU(y) of the even tiles times y of the odd ones.
    SwiGlu(HalfRows),
    /// The hidden states, and the weights of the norm after them; the bias may be missing.
    Set { hidden: Hidden, norm: Buffer<f32>, bias: Option<Buffer<f32>> },
    /// The same, z·a + (1 − z)·b of a pair (a, b) and z = sigmoid(y).
    Gate { hidden: Hidden, norm: Buffer<f32>, pair: HalfRows },
    /// The same, added to what they are.
    Add { hidden: Hidden, norm: Buffer<f32> },
}

/// Rows of a matrix that a block of a product takes: fewer where few blocks would be busy.
fn block_rows(rows: usize) -> usize {
    if rows >= 2048 { 2 * TILE_ROWS } else { TILE_ROWS }
}

/// Multiplies the first `n` rows of `input`, at most `max_rows`; a second matrix and its rows are for
/// [`Epilogue::Pair`]. `n_out` says how many rows of the matrix count, if not all.
///
/// # Panics
/// Where lengths do not fit each other.
pub fn matmul(
    max_rows: usize,
    n: Buffer<u32>,
    jobs: &[(&Matrix, HalfRows)],
    squares: Option<Squares>,
    n_out: Option<Buffer<u32>>,
    epilogue: Epilogue,
) -> Launch {
    let (matrix, _) = jobs[0];
    assert!(jobs.len() == 1 + usize::from(matches!(epilogue, Epilogue::Pair(_))), "jobs");
    assert!(matrix.paired == matches!(epilogue, Epilogue::SwiGlu(_)), "paired tiles");
    let (block_n, groups) = match max_rows {
        0..=8 => (8, 1),
        9..=16 => (16, 1),
        _ => (32, max_rows.div_ceil(32)),
    };
    let rows = groups * block_n;
    assert!(max_rows <= MAX_ROWS && rows <= MAX_ROWS && n.len() > 0, "rows");
    let mut args = Args::zeroed();
    for (job, (of, input)) in args.jobs.iter_mut().zip(jobs) {
        let same = (of.store, of.rows, of.columns) == (matrix.store, matrix.rows, matrix.columns);
        let width = padded(matrix.columns);
        assert!(same && input.stride >= width, "rows as wide as the matrix");
        assert!(input.buffer.len() >= (rows - 1) * input.stride + width, "rows of activations");
        *job = Job {
            weights: of.weights.address(),
            scales: of.scales.address(),
            input: input.buffer.address(),
            stride: input.stride as u64,
        };
    }
    let block_m = match epilogue {
        Epilogue::SwiGlu(_) => 2 * TILE_ROWS,
        _ => block_rows(matrix.rows),
    };
    let tile_rows = if matrix.paired { 2 } else { 1 } * matrix.rows.next_multiple_of(TILE_ROWS);
    let blocks = tile_rows.div_ceil(block_m);
    assert!(
        matrix.weights.len() >= blocks * block_m / TILE_ROWS * matrix.column_tiles() * 1024,
        "whole blocks of tiles"
    );
    args.n = n.address();
    args.out_rows = matrix.rows as u32;
    args.column_tiles = matrix.column_tiles() as u32;
    args.groups = groups as u32;
    args.n_out = n_out.map_or(0, |n| n.address());
    if let Some(Squares { sums, parts, width, eps }) = squares {
        assert!(sums.len() >= rows * parts, "sums of squares");
        (args.sums, args.parts) = (sums.address(), parts as u32);
        (args.width, args.eps) = (width as f32, eps);
    }
    let half_rows = |to: HalfRows, width: usize| {
        assert!(to.stride >= width && to.buffer.len() >= rows * to.stride, "rows of the product");
        (to.buffer.address(), to.stride as u32)
    };
    let mut hidden = |to: Hidden, norm: Buffer<f32>| {
        assert!(to.states.len() >= rows * matrix.rows && norm.len() == matrix.rows, "hidden states");
        assert!(to.squares.len() >= rows * blocks, "sums of squares");
        (args.out16, args.out_stride) = half_rows(to.normed, matrix.rows);
        args.hidden = to.states.address();
        args.norm = norm.address();
        args.sums_out = to.squares.address();
    };
    args.epilogue = match epilogue {
        Epilogue::Store(out) => {
            assert!(out.len() >= rows * matrix.rows, "rows of the product");
            args.out32 = out.address();
            0
        }
        Epilogue::Pair(out) => {
            (args.out16, args.out_stride) = half_rows(out, 2 * matrix.rows);
            1
        }
        Epilogue::SwiGlu(out) => {
            (args.out16, args.out_stride) = half_rows(out, matrix.rows);
            2
        }
        Epilogue::Set { hidden: to, norm, bias } => {
            hidden(to, norm);
            assert!(bias.is_none_or(|bias| bias.len() == matrix.rows), "bias");
            args.bias = bias.map_or(0, |bias| bias.address());
            3
        }
        Epilogue::Gate { hidden: to, norm, pair } => {
            hidden(to, norm);
            (args.pair, args.pair_stride) = half_rows(pair, 2 * matrix.rows);
            4
        }
        Epilogue::Add { hidden: to, norm } => {
            hidden(to, norm);
            5
        }
    };
    let kernel = kernel(matrix, block_n, block_m);
    launch(kernel, [blocks as u32, (groups * jobs.len()) as u32], 256, args)
}

fn kernel(matrix: &Matrix, n: usize, m: usize) -> &'static str {
    const NAMES: [[[&str; 2]; 3]; 3] = [
        [
            ["matmul_f16_8_16", "matmul_f16_8_32"],
            ["matmul_f16_16_16", "matmul_f16_16_32"],
            ["matmul_f16_32_16", "matmul_f16_32_32"],
        ],
        [
            ["matmul_q8_8_16", "matmul_q8_8_32"],
            ["matmul_q8_16_16", "matmul_q8_16_32"],
            ["matmul_q8_32_16", "matmul_q8_32_32"],
        ],
        [
            ["matmul_q4_8_16", "matmul_q4_8_32"],
            ["matmul_q4_16_16", "matmul_q4_16_32"],
            ["matmul_q4_32_16", "matmul_q4_32_32"],
        ],
    ];
    NAMES[matrix.store as usize][(n / 16).min(2)][m / 32]
}
