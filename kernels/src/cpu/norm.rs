//! Operations on rows between the products: RMSNorm, activation functions, soft caps, scales, biases, the drafter's
//! gate, and the sum of a softmax.

use super::lanes::{self, LANES, Lanes, exp, lanes, nth, sum_lanes};
use super::order;

/// RMSNorm: `out = x / sqrt(mean(x²) + eps) · weight`, of any length.
///
/// Squares are summed in sixteen fused chains, chain `i mod 16`, folded as in
/// [`super::lanes::sum_lanes`]. IEEE division and square root are exactly rounded everywhere, so the
/// reciprocal root needs no polynomial.
///
/// # Source
/// arXiv 1910.07467.
#[inline(always)]
pub(super) fn rms_norm<S: Lanes>(s: S, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    scaled(s, x, 0.0, weight, eps, out);
}

/// LayerNorm without a bias: RMSNorm of `x − mean(x)`, of any length. The mean is summed in sixteen chains too.
///
/// # Source
/// arXiv 1607.06450.
#[inline(always)]
pub(super) fn layer_norm<S: Lanes>(s: S, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let (lines, rest) = x.as_chunks::<LANES>();
    let sums = lines.iter().fold(s.splat(0.0), |sums, x| s.add(sums, s.load(x)));
    let sums = s.add(sums, s.load(&line(rest, 0.0)));
    scaled(s, x, sum_lanes(lanes(s, sums)) / x.len() as f32, weight, eps, out);
}

/// `y / sqrt(mean(y²) + eps) · weight` of `y = x − mean`.
#[inline(always)]
fn scaled<S: Lanes>(s: S, x: &[f32], mean: f32, weight: &[f32], eps: f32, out: &mut [f32]) {
    let ((lines, rest), (weights, other_weights)) = (x.as_chunks(), weight.as_chunks());
    // What fills the last line up is 0 when the mean is subtracted.
    let rest = line(rest, mean);
    let mean = s.splat(mean);
    let mut squares = s.splat(0.0);
    for x in lines.iter().chain([&rest]) {
        let y = s.sub(s.load(x), mean);
        squares = s.fma(y, y, squares);
    }
    let square = sum_lanes(lanes(s, squares)) / x.len() as f32;
    let scale = s.splat(1.0 / (square + eps).sqrt());
    let normed = |x: &[f32; LANES], weight: &[f32; LANES]| {
        s.mul(s.mul(s.sub(s.load(x), mean), scale), s.load(weight))
    };
    let (outs, other_outs) = out.as_chunks_mut();
    for (out, (x, weight)) in outs.iter_mut().zip(lines.iter().zip(weights)) {
        s.store(normed(x, weight), out);
    }
    if !other_outs.is_empty() {
        let mut last = [0.0; LANES];
        s.store(normed(&rest, &line(other_weights, 0.0)), &mut last);
        other_outs.copy_from_slice(&last[..other_outs.len()]);
    }
}

/// The end of a row, filled up to a line.
#[inline(always)]
fn line(rest: &[f32], fill: f32) -> [f32; LANES] {
    let mut line = [fill; LANES];
    line[..rest.len()].copy_from_slice(rest);
    line
}

/// SwiGLU: `gate = gate / (1 + exp(−gate)) · up`, in place; lengths a multiple of 16.
#[inline(always)]
pub(super) fn swiglu<S: Lanes>(s: S, gate: &mut [f32], up: &[f32]) {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    for (i, gate) in gate.chunks_exact_mut(LANES).enumerate() {
        let gate: &mut [f32; LANES] = gate.try_into().expect("chunks are 16 long");
        let g = s.load(gate);
        let silu = s.div(g, s.add(one, exp(s, s.sub(zero, g))));
        s.store(s.mul(silu, s.load(nth(up, i))), gate);
    }
}

/// GeGLU: `gate = gelu(gate) · up`, in place; lengths a multiple of 16.
///
/// GELU in its tanh form is `½ x (1 + tanh u)` with `u = √(2/π) (x + 0.044715 x³)`, and `½ (1 + tanh u)` is
/// `1 / (1 + exp(−2u))`, which loses no digits where GELU is almost 0.
///
/// # Source
/// GELU: arXiv 1606.08415; GeGLU: arXiv 2002.05202.
#[inline(always)]
pub(super) fn geglu<S: Lanes>(s: S, gate: &mut [f32], up: &[f32]) {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let [linear, cubic] = order::GELU.map(|x| s.splat(x));
    for (i, gate) in gate.chunks_exact_mut(LANES).enumerate() {
        let gate: &mut [f32; LANES] = gate.try_into().expect("chunks are 16 long");
        let g = s.load(gate);
        let u2 = s.mul(s.fma(s.mul(g, g), cubic, linear), g);
        let gelu = s.div(g, s.add(one, exp(s, s.sub(zero, u2))));
        s.store(s.mul(gelu, s.load(nth(up, i))), gate);
    }
}

/// `x = cap · tanh(x / cap)`, in place; the length a multiple of 16, `cap` positive.
#[inline(always)]
pub(super) fn soft_cap<S: Lanes>(s: S, x: &mut [f32], cap: f32) {
    for x in x.as_chunks_mut::<LANES>().0 {
        s.store(lanes::soft_cap(s, s.load(x), cap), x);
    }
}

/// `x = factor · x`, in place; the length a multiple of 16.
#[inline(always)]
pub(super) fn scale<S: Lanes>(s: S, x: &mut [f32], factor: f32) {
    for x in x.as_chunks_mut::<LANES>().0 {
        s.store(s.mul(s.load(x), s.splat(factor)), x);
    }
}

/// `sum = sum + factor · x` in one fused step, in place; lengths a multiple of 16.
#[inline(always)]
pub(super) fn add_scaled<S: Lanes>(s: S, sum: &mut [f32], x: &[f32], factor: f32) {
    for (sum, x) in sum.as_chunks_mut::<LANES>().0.iter_mut().zip(x.as_chunks::<LANES>().0) {
        s.store(s.fma(s.load(x), s.splat(factor), s.load(sum)), sum);
    }
}

/// Adds a bias, (groups, 16), to every row of products, (groups, n_rows, 16), in place.
#[inline(always)]
pub(super) fn add_bias<S: Lanes>(s: S, tiles: &mut [f32], n_rows: usize, bias: &[f32]) {
    let tiles = tiles.chunks_exact_mut(n_rows * LANES);
    for (tile, bias) in tiles.zip(bias.as_chunks::<LANES>().0) {
        let bias = s.load(bias);
        for x in tile.as_chunks_mut::<LANES>().0 {
            s.store(s.add(s.load(x), bias), x);
        }
    }
}

/// Gates two rows in place: `a = z · a + (1 − z) · b` with `z = 1 / (1 + exp(−gate))`; lengths a multiple of 16. For `b
/// = 0` this is `a · z`.
#[inline(always)]
pub(super) fn gate<S: Lanes>(s: S, gate: &[f32], a: &mut [f32], b: &[f32]) {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    for (i, a) in a.chunks_exact_mut(LANES).enumerate() {
        let a: &mut [f32; LANES] = a.try_into().expect("chunks are 16 long");
        let z = s.div(one, s.add(one, exp(s, s.sub(zero, s.load(nth(gate, i))))));
        let b = s.load(nth(b, i));
        s.store(s.fma(z, s.sub(s.load(a), b), b), a);
    }
}

/// `Σ exp(x − largest)` in sixteen chains, as in [`rms_norm`]; the length a multiple of 16.
#[inline(always)]
pub(super) fn sum_exp<S: Lanes>(s: S, x: &[f32], largest: f32) -> f32 {
    let (largest, mut sums) = (s.splat(largest), s.splat(0.0));
    for x in x.as_chunks::<LANES>().0 {
        sums = s.add(sums, exp(s, s.sub(s.load(x), largest)));
    }
    sum_lanes(lanes(s, sums))
}
