//! The rival multiplies what we think it multiplies.
#![cfg(feature = "cpu-backend")]

use ggml_sys::matmul::{Layout, MatMul, Problem};
use ggml_sys::{dequantize, quantize};

#[test]
fn both_layouts_agree_with_the_values() {
    const ROWS: usize = 16;
    const COLUMNS: usize = 512;
    let wave = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>();
    let x = wave(3 * COLUMNS, 0.37);
    for id in [0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 30] {
        let weights = quantize(id, &wave(ROWS * COLUMNS, 0.11), COLUMNS).unwrap();
        let mut values = vec![0f32; ROWS * COLUMNS];
        dequantize(id, &weights, &mut values).unwrap();
        for (tokens, layout) in
            [(1, Layout::Plain), (3, Layout::Plain), (1, Layout::Repacked), (3, Layout::Repacked)]
        {
            let problem =
                Problem { id, weights: &weights, rows: ROWS, columns: COLUMNS, tokens, threads: 2 };
            let Some(mut matmul) = MatMul::new(problem, layout).unwrap() else {
                eprintln!("SKIPPED: type {id} has no repacked layout on this machine");
                continue;
            };
            let x = &x[..tokens * COLUMNS];
            let mut out = vec![0f32; tokens * ROWS];
            matmul.set_input(x);
            matmul.compute();
            matmul.output(&mut out);
            for (token, out) in out.chunks(ROWS).enumerate() {
                for (row, &out) in out.iter().enumerate() {
                    let terms = || {
                        values[row * COLUMNS..][..COLUMNS]
                            .iter()
                            .zip(&x[token * COLUMNS..])
                            .map(|(a, b)| a * b)
                    };
                    let (exact, size) = (terms().sum::<f32>(), terms().map(f32::abs).sum::<f32>());
                    assert!(
                        (out - exact).abs() < 0.01 * size,
                        "type {id} {layout:?}: {out} {exact}"
                    );
                }
            }
        }
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let weights = [0u8; 18];
    let problem = Problem { id: 2, weights: &weights, rows: 1, columns: 32, tokens: 1, threads: 1 };
    assert!(MatMul::new(problem, Layout::Plain).unwrap().is_some());
    for wrong in [
        Problem { columns: 31, ..problem },
        Problem { rows: 2, ..problem },
        Problem { tokens: 0, ..problem },
        Problem { threads: 0, ..problem },
        Problem { id: 4, ..problem },
    ] {
        assert!(MatMul::new(wrong, Layout::Plain).is_err(), "{wrong:?}");
    }
}
