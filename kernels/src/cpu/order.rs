//! The one order of floating-point operations, spelled out for one row at a time.
//!
//! These naive versions are the specification of the kernels: every instruction set, number of rows
//! and number of threads must give their bits. (That of the matrix product over quantised weights is
//! [`crate::quant::dot`].) Tests and benches compare with them; nothing else calls them.

use super::attention::CHUNK;
use super::lanes::sum_lanes;
use half::f16;

/// eˣ as in [`super::lanes::exp`].
pub fn exp(x: f32) -> f32 {
    if x < -87.3 {
        return 0.0;
    }
    let y = x.min(88.3);
    let n = (y * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(-1.428_606_8e-6, n.mul_add(-0.693_145_75, y));
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = r.mul_add(p, c);
    }
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// Quantises one block: `q = round(x · 127 / max|x|)`; returns the scale `max|x| / 127`.
pub fn quantize_block(x: &[f32], q: &mut [i8]) -> f32 {
    let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    for (x, q) in x.iter().zip(q) {
        *q = (x * inverse).round_ties_even() as i8;
    }
    largest / 127.0
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

/// SwiGLU of one pair.
pub fn swiglu(gate: f32, up: f32) -> f32 {
    gate / (1.0 + exp(0.0 - gate)) * up
}

/// Attention of one query: `keys` and `values` are the rows it sees, in order of position.
pub fn attention(q: &[f32], keys: &[Vec<f16>], values: &[Vec<f16>]) -> Vec<f32> {
    let (mut largest, mut sum, mut out) = (0.0f32, 0.0f32, vec![0.0f32; q.len()]);
    for (c, (keys, values)) in keys.chunks(CHUNK).zip(values.chunks(CHUNK)).enumerate() {
        let score = |key: &Vec<f16>| {
            let mut chains = [0.0f32; 2];
            for (d, q) in q.iter().enumerate() {
                chains[d % 2] = key[d].to_f32().mul_add(*q, chains[d % 2]);
            }
            chains[0] + chains[1]
        };
        let scores: Vec<f32> = keys.iter().map(score).collect();
        let here = scores.iter().fold(f32::NEG_INFINITY, |m, s| m.max(*s));
        let weights: Vec<f32> = scores.iter().map(|s| exp(s - here)).collect();
        let mut sums = [0.0f32; 16];
        weights.iter().enumerate().for_each(|(i, w)| sums[i % 16] += w);
        let mut acc = vec![0.0f32; q.len()];
        for (w, value) in weights.iter().zip(values) {
            for (acc, v) in acc.iter_mut().zip(value) {
                *acc = w.mul_add(v.to_f32(), *acc);
            }
        }
        if c == 0 {
            (largest, sum, out) = (here, sum_lanes(sums), acc);
            continue;
        }
        let top = largest.max(here);
        let (old, new) = (exp(largest - top), exp(here - top));
        sum = sum.mul_add(old, sum_lanes(sums) * new);
        for (out, acc) in out.iter_mut().zip(acc) {
            *out = out.mul_add(old, acc * new);
        }
        largest = top;
    }
    let inverse = 1.0 / sum;
    out.iter().map(|x| x * inverse).collect()
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
}
