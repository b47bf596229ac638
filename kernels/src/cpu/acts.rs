//! Activations as a matrix product reads them: one row of the layer input, quantised once and shared
//! by every matrix that multiplies it.

use super::lanes::{Lanes, lanes, max_lanes, nth};

/// 32 activations: `x ≈ d · q`, with `q` in −127…127.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Block32 {
    /// Quantised activations.
    pub q: [i8; 32],
    /// Scale: the block's largest magnitude over 127.
    pub d: f32,
    /// −8 Σ q: what codes that are 8 too large add.
    pub minus_8_sum: i32,
    /// d · Σ q, rounded once.
    pub d_sum: f32,
}

/// 256 activations, for weights that come in superblocks.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Block256 {
    /// Quantised activations.
    pub q: [i8; 256],
    /// Scale: the block's largest magnitude over 127.
    pub d: f32,
    /// Σ q over each 32.
    pub sum32: [i16; 8],
    /// Σ q over each 16.
    pub sum16: [i16; 16],
}

/// Which forms of a row the matrices that read it ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    /// For weights in blocks of 32.
    pub by32: bool,
    /// For weights in superblocks of 256.
    pub by256: bool,
    /// For weights in floating point.
    pub float: bool,
}

impl std::ops::BitOr for Forms {
    type Output = Forms;
    fn bitor(self, other: Forms) -> Forms {
        Forms {
            by32: self.by32 | other.by32,
            by256: self.by256 | other.by256,
            float: self.float | other.float,
        }
    }
}

/// One row of activations in the forms that were asked for; the others hold whatever was there.
#[derive(Clone)]
pub struct ActRow {
    by32: Vec<Block32>,
    by256: Vec<Block256>,
    float: Vec<f32>,
    len: usize,
}

impl ActRow {
    /// Room for rows of up to `max_len` activations; nothing allocates after this.
    pub fn new(max_len: usize) -> ActRow {
        let empty = Block256 { q: [0; 256], d: 0.0, sum32: [0; 8], sum16: [0; 16] };
        ActRow {
            by32: vec![Block32::default(); max_len / 32],
            by256: vec![empty; max_len / 256],
            float: vec![0.0; max_len],
            len: 0,
        }
    }

    /// The row in blocks of 32.
    pub fn by32(&self) -> &[Block32] {
        &self.by32[..self.len / 32]
    }

    /// The row in blocks of 256.
    pub fn by256(&self) -> &[Block256] {
        &self.by256[..self.len / 256]
    }

    /// The row as it came.
    pub fn float(&self) -> &[f32] {
        &self.float[..self.len]
    }
}

/// Stores `x`, a multiple of 32 (256 for [`Forms::by256`]) long, in the forms asked for.
#[inline(always)]
pub(super) fn quantize<S: Lanes>(s: S, x: &[f32], forms: Forms, out: &mut ActRow) {
    out.len = x.len();
    if forms.by32 {
        for (x, block) in x.chunks_exact(32).zip(&mut out.by32) {
            block.d = quantize_block(s, x, &mut block.q);
            let sum = sum(&block.q);
            block.minus_8_sum = -8 * i32::from(sum);
            block.d_sum = block.d * f32::from(sum);
        }
    }
    if forms.by256 {
        for (x, block) in x.chunks_exact(256).zip(&mut out.by256) {
            block.d = quantize_block(s, x, &mut block.q);
            for (sum16, q) in block.sum16.iter_mut().zip(block.q.chunks_exact(16)) {
                *sum16 = sum(q);
            }
            block.sum32 = std::array::from_fn(|i| block.sum16[2 * i] + block.sum16[2 * i + 1]);
        }
    }
    if forms.float {
        out.float[..x.len()].copy_from_slice(x);
    }
}

/// `q = round(x · 127 / max|x|)`, ties to even; returns the scale `max|x| / 127`.
#[inline(always)]
fn quantize_block<S: Lanes>(s: S, x: &[f32], q: &mut [i8]) -> f32 {
    let mut largest = s.splat(0.0);
    for i in 0..x.len() / 16 {
        largest = s.max(largest, s.abs(s.load(nth(x, i))));
    }
    let largest = max_lanes(lanes(s, largest));
    let inverse = s.splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
    for (i, q) in q.chunks_exact_mut(16).enumerate() {
        q.copy_from_slice(&s.to_i8(s.round(s.mul(s.load(nth(x, i)), inverse))));
    }
    largest / 127.0
}

#[inline(always)]
fn sum(q: &[i8]) -> i16 {
    q.iter().map(|&q| q as i16).sum()
}
