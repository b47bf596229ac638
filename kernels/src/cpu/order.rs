//! The specified order of floating-point operations, written for one row at a time.
//!
//! These naive versions are the specification of the kernels: every instruction set, number of rows and number of
//! threads must give the same bits. ([`crate::quant::dot`] specifies the product of one row of quantised weights and
//! one of quantised activations.) Only tests and benchmarks call them.

use super::attention::view::CHUNK;
use super::lanes::sum_lanes;
use super::rope::{Angles, RopeStyle};
use crate::quant::{self, Kind, QuantizedRow, TypeInfo};
use half::f16;

/// eˣ as in [`super::lanes::exp`].
pub fn exp(x: f32) -> f32 {
    if x < -87.3 {
        return 0.0;
    }
    let y = if x > 88.3 { 88.3 } else { x };
    let n = (y * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(-1.428_606_8e-6, n.mul_add(-0.693_145_75, y));
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = r.mul_add(p, c);
    }
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// Quantises one block: `q = round(x · 127 / max|x|)`; returns the scale `max|x| / 127`, NaN if a number is NaN or
/// infinite.
pub fn quantize_block(x: &[f32], q: &mut [i8]) -> f32 {
    let broken = x.iter().any(|x| !x.is_finite());
    let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let largest = if broken { f32::NAN } else { largest };
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    for (x, q) in x.iter().zip(q) {
        *q = (x * inverse).round_ties_even() as i8;
    }
    largest / 127.0
}

/// Product of a row of weights, in a file's format, and a row of activations.
pub fn product(ty: &TypeInfo, row: &[u8], x: &[f32]) -> f32 {
    let Kind::Blocks(ops) = ty.kind else {
        let mut w = vec![0.0; x.len()];
        ty.dequantize(row, &mut w);
        return float_dot(&w, x);
    };
    let mut q = vec![0; x.len()];
    let blocks = x.chunks(ty.block_len).zip(q.chunks_mut(ty.block_len));
    let d: Vec<f32> = blocks.map(|(x, q)| quantize_block(x, q)).collect();
    quant::dot(ops, row, &QuantizedRow { q: &q, d: &d })
}

/// Product of a row of floating-point weights and a row of activations.
pub fn float_dot(w: &[f32], x: &[f32]) -> f32 {
    w.iter().zip(x).fold(0.0, |sum, (w, x)| w.mul_add(*x, sum))
}

/// RMSNorm of one row.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut squares = [0.0f32; 16];
    for (i, x) in x.iter().enumerate() {
        squares[i % 16] = x.mul_add(*x, squares[i % 16]);
    }
    let scale = 1.0 / (sum_lanes(squares) / x.len() as f32 + eps).sqrt();
    x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
}

/// LayerNorm of a row, without a bias: RMSNorm of the row less its mean.
pub fn layer_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut sums = [0.0f32; 16];
    x.iter().enumerate().for_each(|(i, x)| sums[i % 16] += x);
    let mean = sum_lanes(sums) / x.len() as f32;
    rms_norm(&x.iter().map(|x| x - mean).collect::<Vec<_>>(), weight, eps)
}

/// SwiGLU of one pair.
pub fn swiglu(gate: f32, up: f32) -> f32 {
    gate / (1.0 + exp(0.0 - gate)) * up
}

/// GELU's exponent `2u`: `√(8/π)` times `x` and `0.044715 √(8/π)` times `x³`.
pub const GELU: [f32; 2] = [1.595_769, 0.071_354_81];

/// GeGLU of one pair, GELU in its tanh form.
pub fn geglu(gate: f32, up: f32) -> f32 {
    let u2 = (gate * gate).mul_add(GELU[1], GELU[0]) * gate;
    gate / (1.0 + exp(0.0 - u2)) * up
}

/// `cap · tanh(x / cap)`.
pub fn soft_cap(x: f32, cap: f32) -> f32 {
    cap - 2.0 * cap / (1.0 + exp(x * (2.0 / cap)))
}

/// Adds `factor · x` to a sum.
pub fn add_scaled(sum: f32, x: f32, factor: f32) -> f32 {
    x.mul_add(factor, sum)
}

/// Rotates the pairs of a head; elements beyond the pairs of `angles` are unchanged.
pub fn rope(x: &[f32], angles: &Angles, style: RopeStyle) -> Vec<f32> {
    let (mut out, pairs) = (x.to_vec(), angles.rotations.len());
    for (i, (cos, sin)) in angles.rotations.iter().enumerate() {
        let (a, b) = match style {
            RopeStyle::Adjacent => (2 * i, 2 * i + 1),
            RopeStyle::Halves => (i, pairs + i),
        };
        out[a] = x[a].mul_add(*cos, -(x[b] * sin));
        out[b] = x[a].mul_add(*sin, x[b] * cos);
    }
    out
}

/// Gates a pair: `z · a + (1 − z) · b` with `z = 1 / (1 + exp(−gate))`.
pub fn gate(gate: f32, a: f32, b: f32) -> f32 {
    (1.0 / (1.0 + exp(0.0 - gate))).mul_add(a - b, b)
}

/// `Σ exp(x − largest)`.
pub fn sum_exp(x: &[f32], largest: f32) -> f32 {
    let mut sums = [0.0f32; 16];
    x.iter().enumerate().for_each(|(i, x)| sums[i % 16] += exp(x - largest));
    sum_lanes(sums)
}

/// Quantises 32 elements of a key or value for the cache. The scale is `max|x| / 127` as a half float, and `q = round(x
/// / scale)`, ties to even; what is read back is 0 if the scale is 0.
pub fn cache_block(x: &[f32], q: &mut [i8]) -> f16 {
    let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let scale = f16::from_f32(largest / 127.0);
    for (x, q) in x.iter().zip(q) {
        // A tiny scale is rounded coarsely, so codes can exceed ±127 and are clamped. 0 / 0 becomes 0.
        *q = (x / scale.to_f32()).round_ties_even().clamp(-127.0, 127.0) as i8;
    }
    scale
}

/// Quantises 32 elements of a key or value for the cache to 4 bits. The scale is the element of the largest magnitude
/// over −8 as a half float, and `q = round(x / scale)` from −8 to 7; what is read back is 0 if the scale is 0.
pub fn cache_block_4(x: &[f32], q: &mut [i8]) -> f16 {
    let largest = x.iter().fold(0.0f32, |m, x| if x.abs() > m.abs() { *x } else { m });
    let scale = f16::from_f32(largest / -8.0);
    for (x, q) in x.iter().zip(q) {
        *q = (x / scale.to_f32()).round_ties_even().clamp(-8.0, 7.0) as i8;
    }
    scale
}

/// Quantises 32 elements of a key or value for the cache to 5 bits and a minimum. The minimum is a half float, the scale
/// `(max x − min x) / 31` another, and `q = round((x − minimum) / scale)` from 0 to 31; all `q` are 0 if the scale is 0.
pub fn cache_block_5(x: &[f32], q: &mut [i8]) -> (f16, f16) {
    let lowest = x.iter().fold(f32::INFINITY, |m, x| m.min(*x));
    let highest = x.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let (scale, minimum) = (f16::from_f32((highest - lowest) / 31.0), f16::from_f32(lowest));
    for (x, q) in x.iter().zip(q) {
        let steps = (x - minimum.to_f32()) / scale.to_f32();
        *q = if scale > f16::ZERO { steps.round_ties_even().clamp(0.0, 31.0) as i8 } else { 0 };
    }
    (scale, minimum)
}

/// Changes to attention scores before the softmax.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scores {
    /// Replaces each score by `cap · tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// An additional score that takes part in the softmax and has no value.
    pub sink: Option<f32>,
}

/// Attention of one query. `keys` and `values` are the rows that it sees in order of position; the first has index
/// `start` in the query's path.
pub fn attention(
    q: &[f32],
    start: usize,
    keys: &[Vec<f32>],
    values: &[Vec<f32>],
    Scores { soft_cap, sink }: Scores,
) -> Vec<f32> {
    let end = start + keys.len();
    let parts = (start / CHUNK..end.div_ceil(CHUNK)).map(|chunk| {
        let seen = start.max(chunk * CHUNK)..end.min((chunk + 1) * CHUNK);
        let rows = seen.start - start..seen.end - start;
        attention_part(q, seen.start, &keys[rows.clone()], &values[rows], soft_cap)
    });
    let parts: Vec<_> = parts.collect();
    let top = sink.unwrap_or(f32::NEG_INFINITY);
    let top = parts.iter().fold(top, |top, part| top.max(part.0));
    let (mut total, mut out) = (sink.map_or(0.0, |sink| exp(sink - top)), vec![0.0f32; q.len()]);
    for (largest, sum, weighted) in parts {
        let share = exp(largest - top);
        total = share.mul_add(sum, total);
        for (out, weighted) in out.iter_mut().zip(weighted) {
            *out = share.mul_add(weighted, *out);
        }
    }
    let inverse = 1.0 / total;
    out.iter().map(|x| x * inverse).collect()
}

/// The part of one chunk: the largest score, the sum of the weights, and the weighted values.
fn attention_part(
    q: &[f32],
    start: usize,
    keys: &[Vec<f32>],
    values: &[Vec<f32>],
    cap: Option<f32>,
) -> (f32, f32, Vec<f32>) {
    let dot = |key: &Vec<f32>| q.iter().zip(key).fold(0.0f32, |sum, (q, k)| q.mul_add(*k, sum));
    let score = |key: &Vec<f32>| cap.map_or(dot(key), |cap| soft_cap(dot(key), cap));
    let scores: Vec<f32> = keys.iter().map(score).collect();
    let largest = scores.iter().fold(f32::NEG_INFINITY, |m, s| m.max(*s));
    let weights: Vec<f32> = scores.iter().map(|s| exp(s - largest)).collect();
    let mut sums = [0.0f32; 16];
    (start..).zip(&weights).for_each(|(position, w)| sums[position % 16] += w);
    let mut weighted = vec![0.0f32; q.len()];
    for (w, value) in weights.iter().zip(values) {
        for (sum, v) in weighted.iter_mut().zip(value) {
            *sum = w.mul_add(*v, *sum);
        }
    }
    (largest, sum_lanes(sums), weighted)
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_follows_the_standard_library() {
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let (ours, exact) = (super::exp(x) as f64, (x as f64).exp());
            assert!((ours / exact - 1.0).abs() < 2.5e-7, "exp({x}) = {ours}, not {exact}");
        }
        assert_eq!(super::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(super::exp(-88.0), 0.0);
        assert!(super::exp(1e9).is_finite());
        assert_eq!(super::exp(0.0), 1.0);
    }

    #[test]
    fn gelu_and_soft_caps_follow_the_standard_library() {
        for i in -200_000..200_000 {
            let x = i as f32 * 1e-4;
            let u =
                (2.0 / std::f64::consts::PI).sqrt() * (x as f64 + 0.044715 * (x as f64).powi(3));
            // ½ (1 + tanh u) without cancellation.
            let exact = x as f64 / (1.0 + (-2.0 * u).exp());
            let ours = super::geglu(x, 1.0) as f64;
            assert!((ours - exact).abs() <= 2e-5 * exact.abs() + 1e-37, "gelu({x}) = {ours}");
            assert!((u.tanh() * x as f64 / 2.0 + x as f64 / 2.0 - exact).abs() < 1e-14);
            for cap in [1.0f32, 30.0, 50.0] {
                let exact = cap as f64 * (x as f64 / cap as f64).tanh();
                let ours = super::soft_cap(x, cap) as f64;
                assert!((ours - exact).abs() < 2e-7 * cap as f64, "{cap}: {x} to {ours}");
            }
        }
        for huge in [1e30, f32::MAX, f32::INFINITY] {
            assert_eq!((super::geglu(huge, 1.0), super::soft_cap(huge, 5.0)), (huge, 5.0));
            assert_eq!(super::soft_cap(-huge, 5.0), -5.0);
        }
        assert!(super::geglu(-1e30, 1.0).abs() < 1e-7);
    }
}
