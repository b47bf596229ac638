//! Every type of ggml, through the safe functions.

use ggml_sys::{
    Error, activation_type, dequantize, quantize, quantize_activations, type_info, vec_dot,
};

const N: usize = 512;
/// Largest root-mean-square error of a round trip, in parts of the standard deviation: the ternary
/// types, which scale by the largest weight, lose most of a normal row.
const WORST_ERROR: f64 = 0.9;

fn types() -> impl Iterator<Item = ggml_sys::TypeInfo> {
    (0..64).filter_map(type_info)
}

/// Roughly normal: the sum of four uniform numbers.
fn normal(n: usize) -> Vec<f32> {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (0..4).map(|_| uniform()).sum()).collect()
}

fn root_mean_square(values: impl ExactSizeIterator<Item = f32>) -> f64 {
    let n = values.len() as f64;
    (values.map(|value| f64::from(value).powi(2)).sum::<f64>() / n).sqrt()
}

#[test]
fn every_readable_type_goes_there_and_back() {
    let x = normal(2 * N);
    for info in types().filter(|info| info.readable) {
        let bytes = quantize(info.id, &x, N).unwrap();
        assert_eq!(bytes.len(), 2 * N / info.block_len * info.block_bytes, "{}", info.name);
        let mut back = vec![f32::NAN; 2 * N];
        dequantize(info.id, &bytes, &mut back).unwrap();
        let error = root_mean_square(x.iter().zip(&back).map(|(a, b)| a - b))
            / root_mean_square(x.iter().copied());
        println!("{:8} {error:.4}", info.name);
        assert!(error < WORST_ERROR, "{}: {error}", info.name);
    }
}

#[test]
fn unaligned_bytes_read_the_same() {
    let x = normal(N);
    for info in types().filter(|info| info.readable) {
        let bytes = quantize(info.id, &x, N).unwrap();
        let mut shifted = vec![0u8; bytes.len() + 1];
        shifted[1..].copy_from_slice(&bytes);
        let (mut a, mut b) = (vec![0f32; N], vec![0f32; N]);
        dequantize(info.id, &bytes, &mut a).unwrap();
        dequantize(info.id, &shifted[1..], &mut b).unwrap();
        assert_eq!(a, b, "{}", info.name);
    }
}

#[test]
fn dot_products_agree_with_the_values() {
    let (w, x) = (normal(N), normal(2 * N)[N..].to_vec());
    for info in types() {
        let Some(activations) = activation_type(info.id) else { continue };
        let row = quantize(info.id, &w, N).unwrap();
        let mut values = vec![0f32; N];
        dequantize(info.id, &row, &mut values).unwrap();
        let dot = vec_dot(info.id, &row, &quantize_activations(activations, &x).unwrap()).unwrap();
        let exact: f32 = values.iter().zip(&x).map(|(a, b)| a * b).sum();
        let size: f32 = values.iter().zip(&x).map(|(a, b)| (a * b).abs()).sum();
        assert!((dot - exact).abs() < 0.01 * size, "{}: {dot} {exact}", info.name);
    }
}

#[test]
fn numbers_that_are_no_types() {
    // Removed from ggml: Q4_2, Q4_3 and the layouts now made at run time.
    for id in [4, 5, 31, 32, 33, 36, 37, 38, 43, 1000, u32::MAX] {
        assert_eq!(type_info(id), None);
        assert_eq!(dequantize(id, &[], &mut []), Err(Error::Type(id)));
        assert_eq!(quantize(id, &[], 32), Err(Error::Type(id)));
    }
    // No weights: Q8_1, Q8_K, I8 … F64.
    for id in [9, 15, 24, 25, 26, 27, 28] {
        assert!(!type_info(id).unwrap().readable);
        assert_eq!(quantize(id, &[0.0; 256], 256), Err(Error::Type(id)));
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for info in types().filter(|info| info.readable) {
        let bytes = vec![0u8; info.block_bytes];
        let mut out = vec![0f32; info.block_len];
        assert!(dequantize(info.id, &bytes, &mut out).is_ok());
        assert!(dequantize(info.id, &bytes[1..], &mut out).is_err());
        assert!(dequantize(info.id, &bytes, &mut out[1..]).is_err());
        assert!(quantize(info.id, &out, 0).is_err());
        out[0] = f32::NAN;
        assert!(quantize(info.id, &out, info.block_len).is_err());
        if activation_type(info.id).is_some() {
            assert!(vec_dot(info.id, &bytes, &[]).is_err());
            assert!(vec_dot(info.id, &bytes[1..], &[]).is_err());
        }
    }
}
