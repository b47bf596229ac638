//! Products of quantised weights by n rows, by type, instruction set and n, against ggml in the same run.
//!
//! The weights are one tall matrix of 4096 columns, larger than any cache, so that they come from memory
//! as in a pass. Both sides start from rows of floats, and quantise them.
//! The rival needs `--features rival` (it compiles ggml's CPU backend):
//!
//! ```sh
//! cargo bench --bench matmul --features rival                 # all: half an hour
//! cargo bench --bench matmul --features rival -- 'q4_K x 16'
//! DOVETAIL_THREADS=1 cargo bench --bench matmul -- avx2
//! ```

mod common;

#[cfg(not(feature = "rival"))]
use common::NoRival;
use common::random::Random;
use common::{Bench, Load, Side};
use criterion::Criterion;
use dovetail_kernels::cpu::{
    Activations, Kernels, LANES, ProductScratch, ThreadPool, WeightMatrix,
};
use dovetail_kernels::cpu::{groups_per_chunk, order};
use dovetail_kernels::quant::{self, Kind, TypeInfo};
use std::cell::LazyCell;

/// As GGUF numbers them: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K … Q6_K, F16, BF16, IQ4_NL, IQ4_XS, MXFP4, IQ3_XXS, IQ3_S,
/// IQ2_XXS, IQ2_S, IQ1_S, TQ2_0.
const TYPES: [u32; 21] =
    [2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 1, 30, 20, 23, 39, 18, 21, 16, 22, 19, 35];
const ROWS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const COLUMNS: usize = 4096;

/// Bytes of weights, about: larger than the caches.
const BYTES: usize = 256 << 20;

/// Different rows of weights; the matrix repeats them.
const DIFFERENT: usize = 64;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("matmul");
    for id in TYPES {
        let ty = quant::type_info(id).expect("a type of ours");
        // Made when first used: the command line may leave it out.
        let problem = LazyCell::new(|| Problem::new(ty));
        for n in ROWS {
            let case = format!("{} x {n}", ty.name);
            let products = 2 * n * COLUMNS * rows(&ty);
            let operations = if matches!(ty.kind, Kind::Blocks(_)) { products } else { 0 };
            let load = Load { bytes: rows(&ty) * row_bytes(&ty), operations };
            let mut best = None;
            for kernels in Kernels::available().filter(|kernels| kernels.name != "scalar") {
                let mut ours = None;
                let mut multiply = || {
                    let ours = ours.get_or_insert_with(|| Ours::new(&problem, n, kernels, &bench));
                    ours.run();
                };
                if bench.rate(&mut group, kernels.name, &case, load, &mut multiply) {
                    best = best.or(ours);
                }
            }
            let Some(mut ours) = best else { continue };
            for (name, mut rival) in rivals(&problem, &ours, &bench) {
                bench.rate(&mut group, name, &case, load, &mut || rival.run());
                rival.rest();
                common::print_ratio(&case, name, &mut ours, &mut rival);
            }
        }
    }
    group.finish();
    criterion.final_summary();
}

fn row_bytes(ty: &TypeInfo) -> usize {
    ty.row_bytes(COLUMNS).expect("columns are whole blocks")
}

/// Rows of the matrix.
fn rows(ty: &TypeInfo) -> usize {
    BYTES / row_bytes(ty) / DIFFERENT * DIFFERENT
}

/// A matrix and rows to multiply by it.
struct Problem {
    ty: TypeInfo,
    weights: Vec<u8>, // (rows, COLUMNS) as in a file
    packed: WeightMatrix,
    x: Vec<f32>, // (most rows, COLUMNS)
}

impl Problem {
    fn new(ty: TypeInfo) -> Problem {
        let mut numbers = Random(1);
        let different = numbers.floats(DIFFERENT * COLUMNS);
        let different = ggml_sys::quantize(ty.id, &different, COLUMNS).expect("whole blocks");
        let weights = different.repeat(rows(&ty) / DIFFERENT);
        let packed = WeightMatrix::pack(ty, rows(&ty), COLUMNS, &weights).expect("the sizes fit");
        Problem { ty, weights, packed, x: numbers.floats(ROWS[ROWS.len() - 1] * COLUMNS) }
    }

    /// The specification: row `r` of the weights by row `i` of the activations.
    fn naive(&self, r: usize, i: usize) -> f32 {
        let row = &self.weights[r * row_bytes(&self.ty)..][..row_bytes(&self.ty)];
        let x = &self.x[i * COLUMNS..][..COLUMNS];
        order::product(&self.ty, row, x)
    }
}

struct Ours<'a> {
    problem: &'a Problem,
    n: usize,
    kernels: &'static Kernels,
    pool: ThreadPool,
    scratch: Vec<ProductScratch>,
    activations: Activations,
    out: Vec<f32>, // (groups, n, 16)
}

impl Ours<'_> {
    /// Ready to multiply, and found right.
    fn new<'a>(
        problem: &'a Problem,
        n: usize,
        kernels: &'static Kernels,
        bench: &Bench,
    ) -> Ours<'a> {
        let w = &problem.packed;
        let scratch = || ProductScratch::for_matrices(std::iter::once(w));
        let mut ours = Ours {
            problem,
            n,
            kernels,
            pool: ThreadPool::new(bench.threads),
            scratch: (0..bench.threads).map(|_| scratch()).collect(),
            activations: Activations::new(n, COLUMNS),
            out: vec![0.0; w.n_groups() * n * LANES],
        };
        ours.run();
        for r in (0..DIFFERENT).chain(w.n_rows() - DIFFERENT..w.n_rows()) {
            let (found, expected) = (ours.output(r, n - 1), problem.naive(r, n - 1));
            assert_eq!(found.to_bits(), expected.to_bits(), "{} row {r}", kernels.name);
        }
        ours
    }

    /// Row `r` of the weights by row `i` of the activations.
    fn output(&self, r: usize, i: usize) -> f32 {
        self.out[(r / LANES * self.n + i) * LANES + r % LANES]
    }
}

impl Side for Ours<'_> {
    fn run(&mut self) {
        let (w, x, n, kernels) = (&self.problem.packed, &self.problem.x, self.n, self.kernels);
        let row_lines = self.activations.row_lines();
        let activations = self.activations.rows_mut(n);
        self.pool.for_chunks(activations, row_lines, &mut self.scratch, |i, activations, _| {
            (kernels.quantize)(&x[i * COLUMNS..][..COLUMNS], w.formats(), activations);
        });
        let activations = self.activations.rows(n, COLUMNS);
        let chunk = groups_per_chunk(w.n_groups(), n, self.pool.members());
        self.pool.for_chunks(&mut self.out, chunk * n * LANES, &mut self.scratch, |i, out, s| {
            kernels.multiply(w, i * chunk, activations, out, false, s);
        });
    }
}

#[cfg(not(feature = "rival"))]
fn rivals(_: &Problem, _: &Ours, _: &Bench) -> Vec<(&'static str, NoRival)> {
    Vec::new()
}

/// ggml over the same numbers, with its weights as in the file and, where it can, rearranged.
#[cfg(feature = "rival")]
fn rivals(
    problem: &Problem,
    ours: &Ours,
    bench: &Bench,
) -> Vec<(&'static str, ggml_sys::matmul::MatMul)> {
    use ggml_sys::matmul::{Layout, MatMul, Problem as Theirs};
    let (n, rows) = (ours.n, problem.packed.n_rows());
    let theirs = Theirs {
        id: problem.ty.id,
        weights: &problem.weights,
        rows,
        columns: COLUMNS,
        tokens: n,
        threads: bench.threads,
    };
    let mut ready = Vec::new();
    for (name, layout) in [("ggml", Layout::Plain), ("ggml repacked", Layout::Repacked)] {
        let Some(mut rival) = MatMul::new(theirs, layout).expect("the sizes fit") else { continue };
        rival.set_input(&problem.x[..n * COLUMNS]);
        rival.compute();
        rival.rest();
        let mut out = vec![0.0; n * rows];
        rival.output(&mut out);
        // It rounds the activations otherwise: the same product to about a hundredth.
        for r in 0..DIFFERENT {
            let (a, b) = (ours.output(r, n - 1), out[(n - 1) * rows + r]);
            assert!((a - b).abs() < 0.5, "{name} says {b}, we {a}");
        }
        ready.push((name, rival));
    }
    ready
}
