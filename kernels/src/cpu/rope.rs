//! Rotary position embedding.
//!
//! Angles are computed in double precision with a polynomial of our own: the last bit of libm functions differs between
//! systems.
//!
//! # Source
//! RoPE: arXiv 2104.09864. The pairing styles are those of GGUF files: `llama` files are permuted for
//! adjacent pairs, `qwen2` and others keep halves.

use super::lanes::Lanes;

/// The elements of a head that form pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// `(2i, 2i + 1)`.
    Adjacent,
    /// `(i, i + n/2)`, `n` the number of rotated elements.
    Halves,
}

/// cos and sin of one position, for every pair of a head, times the attention factor of the scaling.
#[derive(Clone, Debug, Default)]
pub struct Angles {
    /// (cos, sin) of pair `i`.
    pub rotations: Vec<(f32, f32)>,
}

impl Angles {
    /// Sets the angles of `position`: pair `i` turns by `position · frequencies[i]` radians. Allocates only if there
    /// are more pairs than ever before.
    pub fn set(&mut self, position: usize, frequencies: &[f64], factor: f64) {
        self.rotations.clear();
        self.rotations.extend(frequencies.iter().map(|frequency| {
            let (sin, cos) = sin_cos(position as f64 * frequency);
            ((cos * factor) as f32, (sin * factor) as f32)
        }));
    }
}

/// Rotates the head `x` in place: `a' = a·cos − b·sin`, `b' = a·sin + b·cos`, where the first term is fused onto the
/// second. Elements beyond the pairs of `angles` are unchanged.
#[inline(always)]
pub(super) fn rope<S: Lanes>(_: S, x: &mut [f32], angles: &Angles, style: RopeStyle) {
    let half = angles.rotations.len();
    match style {
        RopeStyle::Adjacent => {
            for (pair, &rotation) in x.chunks_exact_mut(2).zip(&angles.rotations) {
                (pair[0], pair[1]) = rotate(pair[0], pair[1], rotation);
            }
        }
        RopeStyle::Halves => {
            let (left, right) = x[..2 * half].split_at_mut(half);
            for ((a, b), &rotation) in left.iter_mut().zip(right).zip(&angles.rotations) {
                (*a, *b) = rotate(*a, *b, rotation);
            }
        }
    }
}

#[inline(always)]
fn rotate(a: f32, b: f32, (cos, sin): (f32, f32)) -> (f32, f32) {
    (a.mul_add(cos, -(b * sin)), a.mul_add(sin, b * cos))
}

/// sin and cos of `x` for |x| up to 2²⁵, to about 10⁻¹⁵.
///
/// Taylor series on the quarter circle around the nearest multiple of π/2. The multiple is subtracted in three parts:
/// two of 33 bits, whose products are exact, and the rest.
pub fn sin_cos(x: f64) -> (f64, f64) {
    const PARTS: [f64; 3] =
        [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_795_950_7e-21];
    let turns = (x * std::f64::consts::FRAC_2_PI).round();
    let r = PARTS.iter().fold(x, |r, part| r - turns * part);
    let r2 = r * r;
    let series = |coefficients: [f64; 8]| coefficients.iter().fold(0.0, |sum, c| sum * r2 + c);
    let sin = r * series([
        -1.0 / 1_307_674_368_000.0,
        1.0 / 6_227_020_800.0,
        -1.0 / 39_916_800.0,
        1.0 / 362_880.0,
        -1.0 / 5040.0,
        1.0 / 120.0,
        -1.0 / 6.0,
        1.0,
    ]);
    let cos = 1.0
        + r2 * series([
            1.0 / 20_922_789_888_000.0,
            -1.0 / 87_178_291_200.0,
            1.0 / 479_001_600.0,
            -1.0 / 3_628_800.0,
            1.0 / 40_320.0,
            -1.0 / 720.0,
            1.0 / 24.0,
            -0.5,
        ]);
    match (turns as i64).rem_euclid(4) {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::lanes::Wide;
    use crate::cpu::scalar::Scalar;

    #[test]
    fn sin_cos_follow_the_standard_library() {
        for i in 0..200_000 {
            let x = (i as f64 - 100_000.0) * 1.3717;
            let (sin, cos) = sin_cos(x);
            assert!((sin - x.sin()).abs() < 2e-15 && (cos - x.cos()).abs() < 2e-15, "{x}");
        }
    }

    #[test]
    fn styles_turn_the_same_pairs_under_a_permutation() {
        let frequencies = [1.0, 0.1, 0.01, 0.001];
        let mut angles = Angles::default();
        angles.set(7, &frequencies, 1.0);
        let mut adjacent: Vec<f32> = (0..10).map(|i| i as f32 - 4.5).collect();
        let mut halves = adjacent.clone();
        for i in 0..4 {
            (halves[i], halves[4 + i]) = (adjacent[2 * i], adjacent[2 * i + 1]);
        }
        rope(Wide::<_, 1>(Scalar), &mut adjacent, &angles, RopeStyle::Adjacent);
        rope(Wide::<_, 1>(Scalar), &mut halves, &angles, RopeStyle::Halves);
        for i in 0..4 {
            assert_eq!((halves[i], halves[4 + i]), (adjacent[2 * i], adjacent[2 * i + 1]));
            let (a, b) = (2.0 * i as f64 - 4.5, 2.0 * i as f64 - 3.5);
            let (sin, cos) = (7.0 * frequencies[i]).sin_cos();
            assert!((halves[i] as f64 - (a * cos - b * sin)).abs() < 1e-6);
            assert!((halves[4 + i] as f64 - (a * sin + b * cos)).abs() < 1e-6);
        }
        assert_eq!(adjacent[8..], [3.5, 4.5], "elements past the rotated ones stay");
    }
}
