//! The operations on single rows between the products: RMSNorm of rows of 4096, and RoPE of the 32
//! query heads of a row, by the number of rows. One thread; the rows lie in its caches.
//!
//! ```sh
//! cargo bench --bench rows
//! ```

mod common;

use common::random::Random;
use common::{Bench, Load};
use criterion::Criterion;
use dovetail_kernels::cpu::{Angles, Kernels, RopeStyle, order};

const WIDTH: usize = 4096;
const HEAD_DIM: usize = 128;
const ROWS: [usize; 3] = [1, 16, 64];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let bench = Bench::new();
    let kernels = Kernels::choose().expect("DOVETAIL_ISA names an instruction set");
    norm(&mut criterion, &bench, kernels);
    for (name, style) in [("adjacent", RopeStyle::Adjacent), ("halves", RopeStyle::Halves)] {
        rope(&mut criterion, &bench, kernels, name, style);
    }
    criterion.final_summary();
}

fn norm(criterion: &mut Criterion, bench: &Bench, kernels: &Kernels) {
    let mut group = criterion.benchmark_group("norm");
    let mut numbers = Random(1);
    let weight = numbers.floats(WIDTH);
    for n in ROWS {
        let rows = numbers.floats(n * WIDTH);
        let mut out = vec![0.0; n * WIDTH];
        let mut work = || {
            for (row, out) in rows.chunks_exact(WIDTH).zip(out.chunks_exact_mut(WIDTH)) {
                (kernels.rms_norm)(row, &weight, 1e-5, out);
            }
        };
        work();
        let case = format!("norm of {n} rows");
        let load = Load { bytes: 4 * n * WIDTH, operations: 0 };
        bench.rate(&mut group, kernels.name, &case, load, &mut work);
        for (row, out) in rows.chunks_exact(WIDTH).zip(out.chunks_exact(WIDTH)) {
            assert_eq!(bits(out), bits(&order::rms_norm(row, &weight, 1e-5)));
        }
    }
    group.finish();
}

fn rope(criterion: &mut Criterion, bench: &Bench, kernels: &Kernels, name: &str, style: RopeStyle) {
    let mut group = criterion.benchmark_group("rope");
    let frequencies: Vec<f64> = (0..HEAD_DIM / 2).map(|i| 0.9f64.powi(i as i32)).collect();
    let mut angles = Angles::default();
    angles.set(777, &frequencies, 1.0);
    let scalar = Kernels::available().last().expect("the scalar kernels are everywhere");
    for n in ROWS {
        let mut rows = Random(2).floats(n * WIDTH);
        let mut expected = rows[..HEAD_DIM].to_vec();
        (scalar.rope)(&mut expected, &angles, style);
        let turn = |rows: &mut [f32]| {
            rows.chunks_exact_mut(HEAD_DIM).for_each(|head| (kernels.rope)(head, &angles, style));
        };
        turn(&mut rows);
        assert_eq!(bits(&rows[..HEAD_DIM]), bits(&expected));
        let case = format!("rope of {n} rows {name}");
        let load = Load { bytes: 4 * n * WIDTH, operations: 0 };
        bench.rate(&mut group, kernels.name, &case, load, &mut || turn(&mut rows));
    }
    group.finish();
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
