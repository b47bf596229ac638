//! The law of this crate: every instruction set, every number of rows and every split of the work
//! gives the bits of the naive versions. The instruction sets compared are printed, and those that
//! this CPU lacks.

mod common;

use common::{CODEBOOKS, bits, gaussian, isas, rng};
use dovetail_kernels::SharedBytes;
use dovetail_kernels::cpu::order;
use dovetail_kernels::cpu::{
    ActivationFormats, Activations, Angles, Kernels, ProductScratch, RopeStyle, WeightMatrix,
};
use dovetail_kernels::cpu::{GgufMatrix, ThreadPool};
use dovetail_kernels::quant::{self, Kind, TypeInfo};
use proptest::prelude::*;
use proptest::test_runner::TestRng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Every weight type that can be multiplied: our own and those read through ggml.
fn types() -> Vec<TypeInfo> {
    (0..64).filter_map(quant::type_info).collect()
}

/// `n_rows` rows of random weights of a type, as a file holds them.
fn random_weights(rng: &mut TestRng, ty: &TypeInfo, n_rows: usize, n_cols: usize) -> Vec<u8> {
    if !matches!(ty.kind, Kind::Foreign) && !CODEBOOKS.contains(&ty.id) {
        return ggml_sys::quantize(ty.id, &gaussian(rng, n_rows * n_cols, 0.3), n_cols).unwrap();
    }
    // Any bytes are weights; blocks of huge ones, or of no numbers, are drawn again.
    let mut weights = vec![0.0; ty.block_len];
    let mut draw = || loop {
        let block: Vec<u8> = (0..ty.block_bytes).map(|_| rng.next_u32() as u8).collect();
        ty.dequantize(&block, &mut weights);
        if weights.iter().all(|w| w.abs() < 1e3) {
            return block;
        }
    };
    (0..n_rows * n_cols / ty.block_len).flat_map(|_| draw()).collect()
}

/// The rows `inputs`, all of one length, as `k` quantises them.
fn quantized(k: &Kernels, inputs: &[Vec<f32>], formats: ActivationFormats) -> Activations {
    let mut activations = Activations::new(inputs.len(), inputs[0].len());
    let row_lines = activations.row_lines();
    for (x, row) in inputs.iter().zip(activations.rows_mut(inputs.len()).chunks_mut(row_lines)) {
        (k.quantize)(x, formats, row);
    }
    activations
}

#[test]
fn products_are_the_same_bits_on_every_isa_for_every_row_count_and_split() {
    let rng = &mut rng();
    let mut multiplied = 0;
    for ty in types() {
        let n_cols = ty.block_len.max(32) * (1 + rng.next_u32() as usize % 3);
        // Kernels may take several groups at a time: more than that here.
        let most = if matches!(ty.kind, Kind::Foreign) { 50 } else { 160 };
        let n_rows = most - rng.next_u32() as usize % 50;
        let bytes = random_weights(rng, &ty, n_rows, n_cols);
        let w = WeightMatrix::pack(ty, n_rows, n_cols, &bytes).unwrap();
        let row_bytes = ty.row_bytes(n_cols).unwrap();
        let inputs: Vec<Vec<f32>> = (0..64)
            .map(|i| gaussian(rng, n_cols, if i == 5 { 0.0 } else { 10f32.powi(i % 7 - 3) }))
            .collect();
        let expected: Vec<Vec<f32>> = inputs
            .iter()
            .map(|x| bytes.chunks(row_bytes).map(|row| order::product(&ty, row, x)).collect())
            .collect();
        for k in isas() {
            let activations = quantized(k, &inputs, w.formats());
            let mut scratch = scratch_full_of_nan(k, &w);
            for n in [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16, 23, 24, 29, 32, 33, 35, 48, 61, 64] {
                let mut out = vec![1.5f32; w.n_groups() * n * 16];
                let split = rng.next_u32() as usize % (w.n_groups() + 1);
                let (left, right) = out.split_at_mut(split * n * 16);
                k.multiply(&w, 0, activations.rows(n, n_cols), left, false, &mut scratch);
                k.multiply(&w, split, activations.rows(n, n_cols), right, true, &mut scratch);
                for (i, tile) in out.chunks(16 * n).enumerate() {
                    for (row, lanes) in tile.chunks(16).enumerate() {
                        for (lane, &got) in
                            lanes.iter().enumerate().take(n_rows - (16 * i).min(n_rows))
                        {
                            let product = expected[row][16 * i + lane];
                            let expected = if i < split { product } else { 1.5 + product };
                            assert_eq!(
                                got.to_bits(),
                                expected.to_bits(),
                                "{} on {}: row {row} of {n}, output {}: {got} not {expected}",
                                ty.name,
                                k.name,
                                16 * i + lane
                            );
                        }
                    }
                }
            }
        }
        multiplied += 1;
    }
    assert!(multiplied >= 20, "only {multiplied} types were multiplied");
}

/// Scratch for `w`, which a product of weights that are no numbers has used.
fn scratch_full_of_nan(k: &Kernels, w: &WeightMatrix) -> ProductScratch {
    let q2_0 = quant::type_info(42).unwrap();
    assert!(matches!(q2_0.kind, Kind::Foreign), "only ggml's types use floats of the scratch");
    let n_cols = w.n_cols().next_multiple_of(q2_0.block_len);
    let bytes = vec![0xff; 16 * q2_0.row_bytes(n_cols).unwrap()];
    let nan = WeightMatrix::pack(q2_0, 16, n_cols, &bytes).unwrap();
    let mut scratch = ProductScratch::for_matrices([w, &nan].into_iter());
    let (mut out, ones) = ([0.0; 16], quantized(k, &[vec![1.0; n_cols]], nan.formats()));
    k.multiply(&nan, 0, ones.rows(1, n_cols), &mut out, false, &mut scratch);
    assert!(out.iter().all(|x| x.is_nan()));
    scratch
}

/// The rows packed among other bytes, from the first cache line of a buffer on.
fn packed_elsewhere(rows: &GgufMatrix, fill: u8) -> (Vec<u8>, SharedBytes) {
    let len = rows.packed_len();
    let mut buffer = vec![fill; len + 64];
    let start = buffer.as_ptr().align_offset(64);
    let (first, rest) = buffer[start..][..len]
        .split_at_mut(len / 2 / rows.packed_group_len() * rows.packed_group_len());
    rows.pack(0, first);
    rows.pack(first.len() / rows.packed_group_len(), rest);
    let copy = buffer[start..][..len].to_vec();
    (copy, SharedBytes::new(Arc::new(buffer), start..start + len).unwrap())
}

#[test]
fn rows_give_the_same_bits_packed_here_or_elsewhere_or_not_at_all() {
    let rng = &mut rng();
    for ty in types() {
        let n_cols = ty.block_len.max(32) * (1 + rng.next_u32() as usize % 3);
        let n_rows = 33 + rng.next_u32() as usize % 50;
        let bytes = random_weights(rng, &ty, n_rows, n_cols);
        let here = WeightMatrix::pack(ty, n_rows, n_cols, &bytes).unwrap();
        let len = bytes.len();
        let native = SharedBytes::new(Arc::new(bytes), 0..len).unwrap();
        let rows = GgufMatrix::new(ty, n_rows, n_cols, native).unwrap();
        assert_eq!((rows.packed_len(), rows.bytes().len()), (here.bytes(), len), "{}", ty.name);

        let [(ones, elsewhere), (zeros, _)] = [0xff, 0].map(|fill| packed_elsewhere(&rows, fill));
        assert!(ones == zeros, "{}: a byte was not written", ty.name);
        let matrices = [
            here,
            WeightMatrix::from_packed(&rows, elsewhere).unwrap(),
            WeightMatrix::native(rows.clone()),
        ];
        let n_groups = matrices[0].n_groups();
        for k in isas() {
            let mut scratch = ProductScratch::for_matrices(matrices.iter());
            for n in [1, 2, 5, 33] {
                let inputs: Vec<Vec<f32>> = (0..n).map(|_| gaussian(rng, n_cols, 1.0)).collect();
                let activations = quantized(k, &inputs, matrices[0].formats());
                let rows = activations.rows(n, n_cols);
                let [here, elsewhere, not] = matrices.each_ref().map(|w| {
                    let mut out = vec![0.5; n_groups * n * 16];
                    let (left, right) = out.split_at_mut(2 * n * 16);
                    k.multiply(w, 0, rows, left, false, &mut scratch);
                    k.multiply(w, 2, rows, right, true, &mut scratch);
                    bits(&out)
                });
                assert_eq!(here, elsewhere, "{} on {}: packed elsewhere", ty.name, k.name);
                assert_eq!(here, not, "{} on {}: not packed", ty.name, k.name);
            }
        }
    }
}

#[test]
fn packed_bytes_of_another_length_or_place_are_refused() {
    let ty = quant::type_info(2).unwrap();
    let rows = SharedBytes::new(Arc::new(vec![7u8; 18 * 32]), 0..18 * 32).unwrap();
    let rows = GgufMatrix::new(ty, 32, 32, rows).unwrap();
    let (_, whole) = packed_elsewhere(&rows, 0);
    assert!(WeightMatrix::from_packed(&rows, whole.clone()).is_ok());
    let len = whole.len();
    let longer = Arc::new(vec![0u8; 2 * len + 64]);
    let place = longer.as_ptr().align_offset(64);
    let part = |range| SharedBytes::new(longer.clone(), range).unwrap();
    for (wrong, part) in [
        (part(place..place + len - 1), "packed bytes, not"),
        (part(place..place + len + 64), "packed bytes, not"),
        (part(place + 1..place + 1 + len), "cache line"),
    ] {
        let Err(error) = WeightMatrix::from_packed(&rows, wrong) else {
            panic!("{part}: accepted")
        };
        assert!(error.contains(part), "{error}");
    }
    for (first, len) in [(0, 64), (1, rows.packed_len()), (usize::MAX, rows.packed_group_len())] {
        let packing = catch_unwind(AssertUnwindSafe(|| rows.pack(first, &mut vec![0; len])));
        assert!(packing.is_err(), "{first}, {len}");
    }
}

/// Rows of one byte over and over, but for their scales: some, and the two with the largest sums of weights.
fn extreme_rows(ty: &TypeInfo, n_cols: usize) -> Vec<Vec<u8>> {
    let row = |fill: u8| {
        let mut row = vec![fill; ty.row_bytes(n_cols).unwrap()];
        for block in row.chunks_mut(ty.block_bytes) {
            // Half floats lie at one of these places, if at any, and are 1; minima behind them are finite.
            for at in [0, 80, 108, 208] {
                if let Some(scale) = block.get_mut(at..at + 2) {
                    scale.copy_from_slice(&[0, 0x3c]);
                }
            }
            block.iter_mut().skip(1).step_by(2).for_each(|b| *b &= 0xbf);
        }
        row
    };
    let sum = |fill: &u8| {
        let mut weights = vec![0.0; n_cols];
        ty.dequantize(&row(*fill), &mut weights);
        weights.iter().sum::<f32>()
    };
    let least = (0..=255).min_by(|a, b| sum(a).total_cmp(&sum(b)));
    let most = (0..=255).max_by(|a, b| sum(a).total_cmp(&sum(b)));
    let fills = [0xff, 0x7f, 0x80, 0x00].into_iter().chain(least).chain(most);
    fills.map(row).collect()
}

#[test]
fn extreme_codes_do_not_saturate() {
    // All codes and activations at their largest: intermediate 16-bit sums are at their limits.
    for ty in types() {
        let Kind::Blocks(_) = ty.kind else { continue };
        let n_cols = ty.block_len.max(32);
        for row in extreme_rows(&ty, n_cols) {
            let rows = row.repeat(16);
            let w = WeightMatrix::pack(ty, 16, n_cols, &rows).unwrap();
            for (sign, period) in [(1.0, 3), (-1.0, 3), (1.0, usize::MAX), (-1.0, usize::MAX)] {
                let turned = |i: usize| (i + 1).is_multiple_of(period);
                let x: Vec<f32> =
                    (0..n_cols).map(|i| if turned(i) { -sign } else { sign }).collect();
                let expected = order::product(&ty, &row, &x);
                for k in isas() {
                    let activations = quantized(k, &vec![x.clone(); 33], w.formats());
                    for n in [1, 3, 17, 33] {
                        let mut out = vec![0.0; n * 16];
                        let rows = activations.rows(n, n_cols);
                        k.multiply(&w, 0, rows, &mut out, false, &mut ProductScratch::default());
                        let expected = vec![expected.to_bits(); n * 16];
                        assert_eq!(bits(&out), expected, "{} on {}, {n} rows", ty.name, k.name);
                    }
                }
            }
        }
    }
}

#[test]
fn scales_that_are_exponents_may_be_any() {
    let mxfp4 = quant::type_info(39).unwrap();
    let rows: Vec<[u8; 17]> = (0..=255)
        .map(|exponent| {
            let mut block = [0x73; 17]; // 1.5 and 6
            block[0] = exponent;
            block
        })
        .collect();
    let w = WeightMatrix::pack(mxfp4, 256, 32, rows.as_flattened()).unwrap();
    let x = vec![1e-3; 32];
    let expected: Vec<f32> = rows.iter().map(|row| order::product(&mxfp4, row, &x)).collect();
    assert!(expected[0] > 0.0 && expected[254] < f32::INFINITY && expected[255] == f32::INFINITY);
    for k in isas() {
        let activations = quantized(k, &vec![x.clone(); 33], w.formats());
        for n in [1, 33] {
            let mut out = vec![0.0; 256 * n];
            let rows = activations.rows(n, 32);
            k.multiply(&w, 0, rows, &mut out, false, &mut ProductScratch::default());
            for (tile, expected) in out.chunks(16 * n).zip(expected.chunks(16)) {
                assert_eq!(bits(tile), bits(&expected.repeat(n)), "{}, {n} rows", k.name);
            }
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let q4_k = quant::type_info(12).unwrap();
    assert!(WeightMatrix::pack(q4_k, 16, 288, &[0; 16]).is_err(), "no multiple of the block");
    assert!(WeightMatrix::pack(q4_k, 16, 256, &[0; 16]).is_err(), "too few bytes");
    assert!(WeightMatrix::pack(q4_k, usize::MAX, 256, &[0; 144]).is_err(), "overflow");
    assert!(WeightMatrix::pack(quant::type_info(0).unwrap(), 1, 0, &[]).is_err(), "no column");
}

/// What a damaged weight brings forth shows in the end, on every instruction set.
#[test]
fn not_a_number_stays_one() {
    let all = ActivationFormats { by32: true, by256: true, float: false };
    for k in isas() {
        for (at, wrong) in
            (0..256).zip([f32::NAN, -f32::NAN, f32::INFINITY, -f32::INFINITY].iter().cycle())
        {
            let mut x = vec![1.5; 256];
            x[at] = *wrong;
            let activations = quantized(k, &[x.clone()], all);
            let rows = activations.rows(1, 256);
            assert!(rows.by256(0)[0].d.is_nan(), "{at} on {}", k.name);
            for (i, block) in rows.by32(0).iter().enumerate() {
                assert_eq!(block.d.is_nan(), i == at / 32, "{at} on {}", k.name);
                assert_eq!(block.d_sum.is_nan(), i == at / 32, "{at} on {}", k.name);
            }
            if !wrong.is_nan() {
                continue;
            }
            let ones = [1.0; 256];
            let mut outputs = [(); 4].map(|()| x.clone());
            let [capped, swiglu, geglu, gated] = &mut outputs;
            (k.soft_cap)(capped, 30.0);
            (k.swiglu)(swiglu, &ones);
            (k.geglu)(geglu, &ones);
            (k.gate)(&x, gated, &ones);
            for out in outputs {
                assert!(out[at].is_nan(), "{at} on {}", k.name);
                assert_eq!(out.iter().filter(|x| x.is_nan()).count(), 1, "{at} on {}", k.name);
            }
            assert!((k.sum_exp)(&x, 2.0).is_nan(), "{at} on {}", k.name);
        }
    }
    assert!(order::exp(f32::NAN).is_nan());
    assert!(order::quantize_block(&[f32::INFINITY; 32], &mut [0; 32]).is_nan());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn activations_quantise_alike(blocks in 1usize..5, seed in any::<[u8; 32]>(), scale in -20i32..20) {
        let rng = &mut TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed);
        let x = gaussian(rng, 256 * blocks, 2f32.powi(scale));
        for k in isas() {
            let all = ActivationFormats { by32: true, by256: true, float: true };
            let activations = quantized(k, &[vec![0.0; 256 * blocks], x.clone()], all);
            let rows = activations.rows(2, 256 * blocks);
            prop_assert_eq!(bits(rows.float(1)), bits(&x));
            for (x, block) in x.chunks(32).zip(rows.by32(1)) {
                let mut q = [0; 32];
                let d = order::quantize_block(x, &mut q);
                prop_assert_eq!((d.to_bits(), q), (block.d.to_bits(), block.q));
                let sum: i32 = q.iter().map(|&q| q as i32).sum();
                let d_sum = (d * sum as f32).to_bits();
                prop_assert_eq!((-8 * sum, d_sum), (block.minus_8_sum, block.d_sum.to_bits()));
            }
            for (x, block) in x.chunks(256).zip(rows.by256(1)) {
                let mut q = [0; 256];
                let d = order::quantize_block(x, &mut q);
                prop_assert_eq!((d.to_bits(), &q[..]), (block.d.to_bits(), &block.q[..]));
                for (q, sum) in q.chunks(32).zip(block.sum32) {
                    prop_assert_eq!(q.iter().map(|&q| q as i32).sum::<i32>(), sum as i32);
                }
                for (q, sum) in q.chunks(16).zip(block.sum16) {
                    prop_assert_eq!(q.iter().map(|&q| q as i32).sum::<i32>(), sum as i32);
                }
            }
        }
    }

    #[test]
    fn row_operations_are_alike(tiles in 1usize..40, seed in any::<[u8; 32]>(), scale in -10i32..10) {
        let rng = &mut TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed);
        let x = gaussian(rng, 16 * tiles, 2f32.powi(scale));
        let y = gaussian(rng, 16 * tiles, 3.0);
        let normed = order::rms_norm(&x, &y, 1e-5);
        let pairs = |f: fn(f32, f32) -> f32| -> Vec<f32> {
            x.iter().zip(&y).map(|(x, y)| f(*x, *y)).collect()
        };
        let [gated, gelu] = [pairs(order::swiglu), pairs(order::geglu)];
        let capped = x.iter().map(|x| order::soft_cap(*x, 30.0)).collect::<Vec<_>>();
        let scaled = x.iter().map(|x| x * 1.7).collect::<Vec<_>>();
        let added = pairs(|x, y| order::add_scaled(x, y, 0.3));
        let z = gaussian(rng, 16 * tiles, 2.0);
        let mixed: Vec<f32> =
            z.iter().zip(x.iter().zip(&y)).map(|(z, (x, y))| order::gate(*z, *x, *y)).collect();
        let mut padded = x.clone();
        padded[16 * tiles - 5..].fill(f32::NEG_INFINITY);
        let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum = order::sum_exp(&padded, largest);
        let mut angles = Angles::default();
        // All of the head is rotated, or part of it, or nothing.
        let pairs = 8 * tiles / (1 + seed[1] as usize % 3) * usize::from(seed[2] > 20);
        let frequencies: Vec<f64> = (0..pairs).map(|i| 0.9f64.powi(i as i32)).collect();
        angles.set(seed[0] as usize * 100, &frequencies, 1.25);
        for k in isas() {
            let mut out = vec![0.0; x.len()];
            (k.rms_norm)(&x, &y, 1e-5, &mut out);
            prop_assert_eq!(bits(&out), bits(&normed), "norm on {}", k.name);
            for n in [1, 11, 16 * tiles - 3, 16 * tiles] {
                let (x, y, out) = (&x[..n], &y[..n], &mut out[..n]);
                (k.rms_norm)(x, y, 1e-5, out);
                prop_assert_eq!(bits(out), bits(&order::rms_norm(x, y, 1e-5)), "{}", k.name);
                (k.layer_norm)(x, y, 1e-5, out);
                prop_assert_eq!(bits(out), bits(&order::layer_norm(x, y, 1e-5)), "{}", k.name);
            }
            out.copy_from_slice(&x);
            (k.swiglu)(&mut out, &y);
            prop_assert_eq!(bits(&out), bits(&gated), "SwiGLU on {}", k.name);
            out.copy_from_slice(&x);
            (k.geglu)(&mut out, &y);
            prop_assert_eq!(bits(&out), bits(&gelu), "GeGLU on {}", k.name);
            out.copy_from_slice(&x);
            (k.soft_cap)(&mut out, 30.0);
            prop_assert_eq!(bits(&out), bits(&capped), "soft cap on {}", k.name);
            out.copy_from_slice(&x);
            (k.scale)(&mut out, 1.7);
            prop_assert_eq!(bits(&out), bits(&scaled), "scale on {}", k.name);
            out.copy_from_slice(&x);
            (k.add_scaled)(&mut out, &y, 0.3);
            prop_assert_eq!(bits(&out), bits(&added), "scaled sum on {}", k.name);
            for n in [1, 3] {
                let mut panel = x.repeat(n); // (tiles, n, 16) of any numbers
                (k.add_bias)(&mut panel, n, &y);
                for (i, (sum, x)) in panel.iter().zip(x.repeat(n)).enumerate() {
                    let expected = x + y[i / (16 * n) * 16 + i % 16];
                    prop_assert_eq!(sum.to_bits(), expected.to_bits(), "bias on {}", k.name);
                }
            }
            out.copy_from_slice(&x);
            (k.gate)(&z, &mut out, &y);
            prop_assert_eq!(bits(&out), bits(&mixed), "gate on {}", k.name);
            let found = (k.sum_exp)(&padded, largest);
            prop_assert_eq!(found.to_bits(), sum.to_bits(), "sum of a softmax on {}", k.name);
            for style in [RopeStyle::Adjacent, RopeStyle::Halves] {
                let mut head = x.clone();
                (k.rope)(&mut head, &angles, style);
                prop_assert_eq!(bits(&head), bits(&order::rope(&x, &angles, style)));
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    let rng = &mut rng();
    let ty = quant::type_info(3).unwrap();
    let (n_rows, n_cols) = (16 * 37, 96);
    let bytes = ggml_sys::quantize(ty.id, &gaussian(rng, n_rows * n_cols, 0.3), n_cols).unwrap();
    let w = WeightMatrix::pack(ty, n_rows, n_cols, &bytes).unwrap();
    let k = Kernels::available().next().unwrap();
    let activations = quantized(k, &[gaussian(rng, n_cols, 1.0)], w.formats());
    let rows = activations.rows(1, n_cols);
    let mut results = [1, 2, 3, 5].map(|members| {
        let mut out = vec![0.0; n_rows];
        ThreadPool::new(members).for_chunks(
            &mut out,
            16 * members,
            &mut std::iter::repeat_with(ProductScratch::default).take(members).collect::<Vec<_>>(),
            |i, out, scratch| k.multiply(&w, i * members, rows, out, false, scratch),
        );
        bits(&out)
    });
    let first = results[0].clone();
    assert!(results.iter_mut().all(|r| *r == first));
}
