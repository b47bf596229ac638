//! Products of a matrix with up to 64 rows of activations.

use super::{Buffer, Launch, LaunchMemory, MAX_ROWS};
use crate::gpu::weights::{Matrix, TILE_ROWS, padded};
use bytemuck::{Pod, Zeroable};
use half::f16;

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

/// Rows of half floats in panels (see `common.cuh`); padding columns are zero.
pub struct HalfRows {
    /// (MAX_ROWS, stride)
    pub buffer: Buffer<f16>,
    /// Columns that fit, a multiple of 32.
    pub stride: usize,
}

impl HalfRows {
    /// The columns from `first` on, a multiple of 32.
    pub fn columns(&self, first: usize) -> HalfRows {
        let buffer = self.buffer.part(8 * first..self.buffer.len());
        HalfRows { buffer, stride: self.stride }
    }

    /// The first `columns` columns of row `r`, out of all values of the buffer.
    #[cfg(test)]
    pub fn row(&self, all: &[f16], r: usize, columns: usize) -> Vec<f16> {
        (0..columns).map(|c| all[panel(r, c, self.stride)]).collect()
    }
}

/// Index of column `c` of row `r`.
#[cfg(test)]
pub fn panel(r: usize, c: usize, stride: usize) -> usize {
    r / 8 * 8 * stride + c / 32 * 256 + r % 8 * 32 + c % 32
}

/// Rows whose RMSNorm is not finished: products with them are multiplied by 1 / sqrt(mean of squares + eps).
#[derive(Clone, Copy)]
pub struct Squares<'a> {
    /// Sums of squares: (MAX_ROWS, parts)
    pub sums: &'a Buffer<f32>,
    pub parts: usize,
    /// Width of the rows.
    pub width: usize,
    pub eps: f32,
}

/// The hidden states, and their normed copy for the next product.
pub struct Hidden {
    /// (MAX_ROWS, width)
    pub states: Buffer<f32>,
    pub normed: HalfRows,
    /// Written by the product that writes the states.
    pub squares: Buffer<f32>, // (MAX_ROWS, blocks of the product)
}

impl Hidden {
    /// The sums of squares for the next product.
    pub fn squares(&self, width: usize, eps: f32) -> Squares<'_> {
        Squares { sums: &self.squares, parts: width.div_ceil(TILE_ROWS), width, eps }
    }
}

/// What happens to a product `y`.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// Stored as rows of floats, as wide as the matrix has rows.
    Store(&'a Buffer<f32>),
    /// y of one matrix and SiLU(y) of another one, side by side; each product has its own rows of activations.
    Pair(&'a HalfRows),
    /// SiLU(y) of the even tiles times y of the odd ones.
    SwiGlu(&'a HalfRows),
    /// Becomes the hidden states, plus an optional bias; `norm` has the weights of the norm that follows.
    Set { hidden: &'a Hidden, norm: &'a Buffer<f32>, bias: Option<&'a Buffer<f32>> },
    /// The same with z·a + (1 − z)·b, for a pair (a, b) and z = sigmoid(y).
    Gate { hidden: &'a Hidden, norm: &'a Buffer<f32>, pair: &'a HalfRows },
    /// The same, added to the hidden states.
    Add { hidden: &'a Hidden, norm: &'a Buffer<f32> },
}

/// Multiplies a matrix with the first `n` rows of `input`, at most `max_rows`. [`Epilogue::Pair`] takes a second matrix
/// with its own rows. Only the first `n_out` rows of the matrix are computed, if given.
///
/// # Panics
/// If lengths do not fit each other.
pub fn matmul(
    max_rows: usize,
    n: &Buffer<u32>,
    jobs: &[(&Matrix, &HalfRows)],
    squares: Option<Squares>,
    n_out: Option<&Buffer<u32>>,
    epilogue: Epilogue,
) -> Launch {
    let (matrix, _) = jobs[0];
    assert!(jobs.len() == 1 + usize::from(matches!(epilogue, Epilogue::Pair(_))), "jobs");
    assert!(matrix.paired == matches!(epilogue, Epilogue::SwiGlu(_)), "paired tiles");
    let block_n = if max_rows <= 8 { 8 } else { 16 };
    let groups = max_rows.div_ceil(block_n);
    let rows = groups * block_n;
    assert!(max_rows <= MAX_ROWS && rows <= MAX_ROWS && n.len() > 0, "rows");
    let (mut args, mut memory) = (Args::zeroed(), LaunchMemory::default());
    for (job, (of, input)) in args.jobs.iter_mut().zip(jobs) {
        let same = (of.format, of.rows, of.columns) == (matrix.format, matrix.rows, matrix.columns);
        let width = padded(matrix.columns);
        assert!(same && input.stride >= width, "rows as wide as the matrix");
        let last = (rows - 8) * input.stride + 8 * width;
        assert!(input.buffer.len() >= last, "rows of activations");
        *job = Job {
            weights: memory.buffer(&of.weights),
            scales: memory.buffer(&of.scales),
            input: memory.buffer(&input.buffer),
            stride: input.stride as u64,
        };
    }
    let block_m = match epilogue {
        Epilogue::SwiGlu(_) => 2 * TILE_ROWS,
        _ => TILE_ROWS,
    };
    let tile_rows = if matrix.paired { 2 } else { 1 } * matrix.rows.next_multiple_of(TILE_ROWS);
    let blocks = tile_rows.div_ceil(block_m);
    assert!(
        matrix.weights.len() >= blocks * block_m / TILE_ROWS * matrix.column_tiles() * 1024,
        "whole blocks of tiles"
    );
    args.n = memory.buffer(n);
    args.out_rows = matrix.rows as u32;
    args.column_tiles = matrix.column_tiles() as u32;
    args.groups = groups as u32;
    args.n_out = memory.optional(n_out);
    if let Some(Squares { sums, parts, width, eps }) = squares {
        assert!(sums.len() >= rows * parts, "sums of squares");
        (args.sums, args.parts) = (memory.buffer(sums), parts as u32);
        (args.width, args.eps) = (width as f32, eps);
    }
    let half_rows = |memory: &mut LaunchMemory, to: &HalfRows, width: usize| {
        assert!(to.stride >= width && to.buffer.len() >= rows * to.stride, "rows of the product");
        (memory.buffer(&to.buffer), to.stride as u32)
    };
    let mut hidden = |memory: &mut LaunchMemory, to: &Hidden, norm: &Buffer<f32>| {
        assert!(
            to.states.len() >= rows * matrix.rows && norm.len() == matrix.rows,
            "hidden states"
        );
        assert!(to.squares.len() >= rows * blocks, "sums of squares");
        (args.out16, args.out_stride) = half_rows(memory, &to.normed, matrix.rows);
        args.hidden = memory.buffer(&to.states);
        args.norm = memory.buffer(norm);
        args.sums_out = memory.buffer(&to.squares);
    };
    args.epilogue = match epilogue {
        Epilogue::Store(out) => {
            assert!(out.len() >= rows * matrix.rows, "rows of the product");
            args.out32 = memory.buffer(out);
            0
        }
        Epilogue::Pair(out) => {
            (args.out16, args.out_stride) = half_rows(&mut memory, out, 2 * matrix.rows);
            1
        }
        Epilogue::SwiGlu(out) => {
            (args.out16, args.out_stride) = half_rows(&mut memory, out, matrix.rows);
            2
        }
        Epilogue::Set { hidden: to, norm, bias } => {
            hidden(&mut memory, to, norm);
            assert!(bias.is_none_or(|bias| bias.len() == matrix.rows), "bias");
            args.bias = memory.optional(bias);
            3
        }
        Epilogue::Gate { hidden: to, norm, pair } => {
            hidden(&mut memory, to, norm);
            (args.pair, args.pair_stride) = half_rows(&mut memory, pair, 2 * matrix.rows);
            4
        }
        Epilogue::Add { hidden: to, norm } => {
            hidden(&mut memory, to, norm);
            5
        }
    };
    let kernel = kernel(matrix, block_n, block_m);
    let grid = [blocks as u32, (groups * jobs.len()) as u32];
    // SAFETY: lengths were checked above.
    unsafe { Launch::new(kernel, grid, 256, &args, memory) }
}

fn kernel(matrix: &Matrix, n: usize, m: usize) -> &'static str {
    const NAMES: [[[&str; 2]; 2]; 3] = [
        [["matmul_f16_8_16", "matmul_f16_8_32"], ["matmul_f16_16_16", "matmul_f16_16_32"]],
        [["matmul_q8_8_16", "matmul_q8_8_32"], ["matmul_q8_16_16", "matmul_q8_16_32"]],
        [["matmul_q4_8_16", "matmul_q4_8_32"], ["matmul_q4_16_16", "matmul_q4_16_32"]],
    ];
    NAMES[matrix.format as usize][n / 16][m / 32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::Device;
    use crate::gpu::tests::{devices, half_rows, noise, run};
    use dovetail_kernels::SharedBytes;
    use dovetail_kernels::cpu::GgufMatrix;
    use dovetail_kernels::quant;
    use std::sync::Arc;

    /// A matrix of random bytes of this type, with small scales.
    fn random(ty: u32, rows: usize, columns: usize, seed: u32) -> GgufMatrix {
        let info = quant::type_info(ty).unwrap();
        let n = rows * columns / info.block_len;
        let mut draw = noise(seed);
        let mut half = |most: f32| f16::from_f32(draw() * most).to_le_bytes();
        let mut bytes = Vec::new();
        for _ in 0..n {
            match info.name {
                "f16" => bytes.extend(half(1.0)),
                "q4_K" => {
                    bytes.extend(half(0.01));
                    bytes.extend(half(0.01));
                }
                _ => bytes.extend(half(0.01)),
            }
            let left = info.block_bytes - bytes.len() % info.block_bytes;
            if left < info.block_bytes {
                bytes.extend((0..left).map(|_| half(1.0)[0]));
            }
        }
        let len = bytes.len();
        let bytes = SharedBytes::new(Arc::new(bytes), 0..len).unwrap();
        GgufMatrix::new(info, rows, columns, bytes).unwrap()
    }

    fn weights(rows: &GgufMatrix) -> Vec<f32> {
        let mut out = vec![0.0; rows.n_rows() * rows.n_cols()];
        rows.ty().dequantize(rows.bytes(), &mut out);
        out
    }

    /// For each row of `x` and each row of `w`: y, and the sum of the absolute values of its terms.
    fn reference(w: &[f32], x: &[f32], columns: usize) -> Vec<(f64, f64)> {
        let dot = |x: &[f32], w: &[f32]| {
            let terms = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
            terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
        };
        x.chunks_exact(columns)
            .flat_map(|x| w.chunks_exact(columns).map(move |w| dot(x, w)))
            .collect()
    }

    const F16: u32 = 1;
    const Q4_0: u32 = 2;
    const Q8_0: u32 = 8;
    const Q4_K: u32 = 12;

    #[test]
    fn products_are_those_of_the_textbook() {
        for mut device in devices() {
            let device = &mut *device;
            for (ty, loss) in [(F16, 0.0), (Q8_0, 0.0), (Q4_0, 0.0), (Q4_K, 0.006)] {
                for (rows, columns) in [(48, 32), (16, 576), (80, 256), (2064, 96)] {
                    if ty == Q4_K && columns % 256 != 0 {
                        continue;
                    }
                    let native = random(ty, rows, columns, 7);
                    let w = weights(&native);
                    let matrix = Matrix::stacked(device, &[&native]).unwrap();
                    for (max_rows, n) in [(8, 1), (8, 8), (16, 9), (16, 0), (32, 31), (64, 63)] {
                        product(device, (&matrix, &w), max_rows, n, loss);
                    }
                }
            }
        }
    }

    fn product(
        device: &mut dyn Device,
        (matrix, w): (&Matrix, &[f32]),
        max_rows: usize,
        n: usize,
        loss: f64,
    ) {
        let (rows, columns) = (matrix.rows, matrix.columns);
        let (input, x) = half_rows(device, n, columns, 3);
        let out = Buffer::from_slice(device, &vec![f32::NAN; MAX_ROWS * rows]).unwrap();
        let count = Buffer::from_slice(device, &[n as u32]).unwrap();
        let store = Epilogue::Store(&out);
        run(device, &[matmul(max_rows, &count, &[(matrix, &input)], None, None, store)]);
        let found = out.read(device).unwrap();
        let expected = reference(w, &x, columns);
        for (i, (y, size)) in expected.iter().enumerate() {
            let error = (f64::from(found[i]) - y).abs();
            // Products of half floats are exact; sums of floats are not.
            let most = size * (1e-6 * (columns as f64).sqrt() + loss);
            let (r, m) = (i / rows, i % rows);
            assert!(error <= most, "({r}, {m}) of {n} × {rows}: {} for {y}, ± {most}", found[i]);
        }
        assert!(found[n * rows..].iter().all(|y| y.is_nan()), "rows behind the last are written");
    }

    #[test]
    fn rows_that_do_not_count_are_not_computed() {
        for mut device in devices() {
            let device = &mut *device;
            let native = random(Q8_0, 96, 64, 5);
            let matrix = Matrix::stacked(device, &[&native]).unwrap();
            let (input, _) = half_rows(device, 1, 64, 3);
            let one = Buffer::from_slice(device, &[1u32]).unwrap();
            let n_out = Buffer::from_slice(device, &[50u32]).unwrap();
            let out = Buffer::from_slice(device, &vec![f32::NAN; 8 * 96]).unwrap();
            let store = Epilogue::Store(&out);
            run(device, &[matmul(1, &one, &[(&matrix, &input)], None, Some(&n_out), store)]);
            let found = out.read(device).unwrap();
            assert!(
                found[..50].iter().all(|y| !y.is_nan()) && found[50..].iter().all(|y| y.is_nan())
            );
        }
    }

    /// All epilogues, one after the other, as in a block of a drafter.
    #[test]
    fn epilogues_are_those_of_the_textbook() {
        let silu = |x: f64| x / (1.0 + (-x).exp());
        for mut device in devices() {
            let device = &mut *device;
            for (ty, h) in [(Q8_0, 64), (F16, 2080), (Q4_0, 96)] {
                let n = 3;
                let count = Buffer::from_slice(device, &[n as u32]).unwrap();
                let natives: Vec<GgufMatrix> =
                    (0..4).map(|seed| random(ty, h, h, seed + 10)).collect();
                let wide = random(ty, h, 2 * h, 20);
                let w: Vec<Vec<f32>> = natives.iter().map(weights).collect();
                let m: Vec<Matrix> =
                    natives.iter().map(|n| Matrix::stacked(device, &[n]).unwrap()).collect();
                let gate = Matrix::stacked(device, &[&wide]).unwrap();
                let both = Matrix::paired(device, &natives[2], &natives[3]).unwrap();
                let (xa, a) = half_rows(device, n, h, 1);
                let (xb, b) = half_rows(device, n, h, 2);
                let norm: Vec<f32> = (0..h).map(|i| 0.5 + i as f32 / h as f32).collect();
                let norm_on = Buffer::from_slice(device, &norm).unwrap();
                let half = |device: &mut dyn Device, width: usize| HalfRows {
                    buffer: Buffer::new(device, MAX_ROWS * padded(width)).unwrap(),
                    stride: padded(width),
                };
                let pair = half(device, 2 * h);
                let hidden = Hidden {
                    states: Buffer::new(device, MAX_ROWS * h).unwrap(),
                    normed: half(device, h),
                    squares: Buffer::new(device, MAX_ROWS * h).unwrap(),
                };
                let inner = half(device, h);
                let eps = 1e-5;
                let launches = [
                    matmul(
                        8,
                        &count,
                        &[(&m[0], &xa), (&m[1], &xb)],
                        None,
                        None,
                        Epilogue::Pair(&pair),
                    ),
                    matmul(
                        8,
                        &count,
                        &[(&gate, &pair)],
                        None,
                        None,
                        Epilogue::Gate { hidden: &hidden, norm: &norm_on, pair: &pair },
                    ),
                    matmul(
                        8,
                        &count,
                        &[(&both, &hidden.normed)],
                        Some(hidden.squares(h, eps)),
                        None,
                        Epilogue::SwiGlu(&inner),
                    ),
                ];
                run(device, &launches);
                let read = |device: &mut dyn Device, rows: &HalfRows, width: usize| -> Vec<f64> {
                    let all = rows.buffer.read(device).unwrap();
                    let rows = (0..n).flat_map(|r| rows.row(&all, r, width));
                    rows.map(f64::from).collect()
                };
                let close = |what: &str, found: &[f64], expected: &[f64]| {
                    let size = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
                    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
                        assert!(
                            (f - e).abs() <= 3e-3 * size,
                            "{what} {i}: {f}, not {e}, of {size}"
                        );
                    }
                    assert_eq!(found.len(), expected.len());
                };
                let product = |w: &[f32], x: &[f64], columns: usize| -> Vec<f64> {
                    let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
                    reference(w, &x, columns).into_iter().map(|(y, _)| y).collect()
                };
                let floats = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
                // The pair, as it was stored.
                let found = read(device, &pair, 2 * h);
                let left = product(&w[0], &floats(&a), h);
                let right = product(&w[1], &floats(&b), h);
                let expected: Vec<f64> = (0..n)
                    .flat_map(|r| {
                        let right = right[r * h..][..h].iter().map(|x| silu(*x));
                        left[r * h..][..h].iter().copied().chain(right).collect::<Vec<_>>()
                    })
                    .collect();
                close("pair", &found, &expected);
                // The gate, from the stored pair.
                let z = product(&weights(&wide), &found, 2 * h);
                let expected: Vec<f64> = (0..n * h)
                    .map(|i| {
                        let (r, m) = (i / h, i % h);
                        let z = 1.0 / (1.0 + (-z[i]).exp());
                        z * found[r * 2 * h + m] + (1.0 - z) * found[r * 2 * h + h + m]
                    })
                    .collect();
                let states = floats(&hidden.states.read(device).unwrap()[..n * h]);
                close("gate", &states, &expected);
                let normed: Vec<f64> =
                    (0..n * h).map(|i| states[i] * f64::from(norm[i % h])).collect();
                close("normed", &read(device, &hidden.normed, h), &normed);
                // RMSNorm and SwiGLU.
                let x: Vec<f64> = (0..n * h)
                    .map(|i| {
                        let row = &states[i / h * h..][..h];
                        let mean = row.iter().map(|x| x * x).sum::<f64>() / h as f64;
                        normed[i] / (mean + f64::from(eps)).sqrt()
                    })
                    .collect();
                let (g, u) = (product(&w[2], &x, h), product(&w[3], &x, h));
                let expected: Vec<f64> = g.iter().zip(&u).map(|(g, u)| silu(*g) * u).collect();
                close("swiglu", &read(device, &inner, h), &expected);
                // The residual stream: set with a bias, then added to.
                let bias: Vec<f32> = (0..h).map(|i| i as f32 / 100.0).collect();
                let bias_on = Buffer::from_slice(device, &bias).unwrap();
                let set = Epilogue::Set { hidden: &hidden, norm: &norm_on, bias: Some(&bias_on) };
                let add = Epilogue::Add { hidden: &hidden, norm: &norm_on };
                run(
                    device,
                    &[
                        matmul(8, &count, &[(&m[0], &xa)], None, None, set),
                        matmul(8, &count, &[(&m[1], &xb)], None, None, add),
                    ],
                );
                let right = product(&w[1], &floats(&b), h);
                let expected: Vec<f64> =
                    (0..n * h).map(|i| left[i] + right[i] + f64::from(bias[i % h])).collect();
                close("sum", &floats(&hidden.states.read(device).unwrap()[..n * h]), &expected);
            }
        }
    }
}
