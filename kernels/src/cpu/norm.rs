//! Row-wise operations between the products: RMSNorm, SwiGLU, the drafter's gate, the sum of a softmax.

use super::lanes::{LANES, Lanes, exp, lanes, nth, sum_lanes};

/// RMSNorm: `out = x / sqrt(mean(x²) + eps) · weight`; lengths a multiple of 16.
///
/// Squares are summed in sixteen fused chains, chain `i mod 16`, folded as in
/// [`super::lanes::sum_lanes`]. IEEE division and square root are exactly rounded everywhere, so the
/// reciprocal root needs no polynomial.
#[inline(always)]
pub(super) fn rms_norm<S: Lanes>(s: S, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let mut squares = s.splat(0.0);
    for i in 0..x.len() / LANES {
        let x = s.load(nth(x, i));
        squares = s.fma(x, x, squares);
    }
    let mean = sum_lanes(lanes(s, squares)) / x.len() as f32;
    let scale = s.splat(1.0 / (mean + eps).sqrt());
    for (i, out) in out.chunks_exact_mut(LANES).enumerate() {
        let y = s.mul(s.mul(s.load(nth(x, i)), scale), s.load(nth(weight, i)));
        s.store(y, out.try_into().expect("chunks are 16 long"));
    }
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

/// A gate between two rows: `a = z · a + (1 − z) · b` with `z = 1 / (1 + exp(−gate))`, in place; lengths a
/// multiple of 16.
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

/// `Σ exp(x − largest)`, in sixteen chains as [`rms_norm`] has them; the length a multiple of 16.
#[inline(always)]
pub(super) fn sum_exp<S: Lanes>(s: S, x: &[f32], largest: f32) -> f32 {
    let (largest, mut sums) = (s.splat(largest), s.splat(0.0));
    for x in x.as_chunks::<LANES>().0 {
        sums = s.add(sums, exp(s, s.sub(s.load(x), largest)));
    }
    sum_lanes(lanes(s, sums))
}
