//! Activations as matrix products read them: a row of a layer's input is quantised once, for all matrices that multiply
//! it.

use super::lanes::{Lanes, lanes, max_magnitude, nth};
use super::pack::Line;

/// 32 activations: `x ≈ d · q`, with `q` in −127…127.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Block32 {
    /// Quantised activations.
    pub q: [i8; 32],
    /// Scale: the block's largest magnitude over 127.
    pub d: f32,
    /// −8 Σ q: the correction for codes that are stored with an offset of 8.
    pub minus_8_sum: i32,
    /// d · Σ q, rounded once.
    pub d_sum: f32,
}

/// 256 activations, for weights in superblocks.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
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

/// The formats of a row that matrices read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActivationFormats {
    /// For weights in blocks of 32.
    pub by32: bool,
    /// For weights in superblocks of 256.
    pub by256: bool,
    /// For weights in floating point.
    pub float: bool,
}

impl std::ops::BitOr for ActivationFormats {
    type Output = ActivationFormats;
    fn bitor(self, other: ActivationFormats) -> ActivationFormats {
        ActivationFormats {
            by32: self.by32 | other.by32,
            by256: self.by256 | other.by256,
            float: self.float | other.float,
        }
    }
}

/// Buffer for rows of activations in all formats, one row after the other.
pub struct Activations {
    lines: Vec<Line>,
    row_lines: usize,
}

impl Activations {
    /// A buffer for `max_rows` rows of up to `max_len` activations. Later calls do not allocate.
    pub fn new(max_rows: usize, max_len: usize) -> Activations {
        let row_lines = (float_at(max_len) + 4 * max_len).div_ceil(size_of::<Line>());
        Activations { lines: vec![Line::default(); max_rows * row_lines], row_lines }
    }

    /// Lines of one row: the length that [`super::Kernels::quantize`] writes.
    pub fn row_lines(&self) -> usize {
        self.row_lines
    }

    /// The first `n` rows, for writing.
    pub fn rows_mut(&mut self, n: usize) -> &mut [Line] {
        &mut self.lines[..n * self.row_lines]
    }

    /// The first `n` rows, of `len` activations each.
    pub fn rows(&self, n: usize, len: usize) -> ActivationRows<'_> {
        ActivationRows { lines: &self.lines[..n * self.row_lines], row_lines: self.row_lines, len }
    }
}

/// Offset of the format [`ActivationFormats::by256`] in a row, in bytes; [`ActivationFormats::by32`] is at 0.
fn by256_at(len: usize) -> usize {
    (len / 32 * size_of::<Block32>()).next_multiple_of(64)
}

/// Offset of the format [`ActivationFormats::float`] in a row, in bytes.
fn float_at(len: usize) -> usize {
    by256_at(len) + (len / 256 * size_of::<Block256>()).next_multiple_of(64)
}

/// Some rows of activations. Formats that were not requested have unspecified content.
#[derive(Clone, Copy)]
pub struct ActivationRows<'a> {
    lines: &'a [Line],
    row_lines: usize,
    len: usize,
}

impl<'a> ActivationRows<'a> {
    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.lines.len() / self.row_lines
    }

    /// The rows of a range.
    pub fn range(&self, rows: std::ops::Range<usize>) -> ActivationRows<'a> {
        let lines = &self.lines[rows.start * self.row_lines..rows.end * self.row_lines];
        ActivationRows { lines, ..*self }
    }

    /// The bytes of all rows, one row every [`ActivationRows::stride`] bytes.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn bytes(&self) -> &'a [u8] {
        bytemuck::cast_slice(self.lines)
    }

    /// Distance between rows, in bytes.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn stride(&self) -> usize {
        self.row_lines * size_of::<Line>()
    }

    /// Row `r` in blocks of 32.
    pub fn by32(&self, r: usize) -> &'a [Block32] {
        self.form(r, 0, self.len / 32)
    }

    /// Row `r` in blocks of 256.
    pub fn by256(&self, r: usize) -> &'a [Block256] {
        self.form(r, by256_at(self.len), self.len / 256)
    }

    /// Row `r` as floats.
    pub fn float(&self, r: usize) -> &'a [f32] {
        self.form(r, float_at(self.len), self.len)
    }

    fn form<T: bytemuck::Pod>(&self, r: usize, at: usize, n: usize) -> &'a [T] {
        let row: &[u8] = bytemuck::cast_slice(&self.lines[r * self.row_lines..][..self.row_lines]);
        bytemuck::cast_slice(&row[at..][..n * size_of::<T>()])
    }
}

/// Stores `x` in the requested formats. Its length must be a multiple of 32, or of 256 for
/// [`ActivationFormats::by256`].
#[inline(always)]
pub(super) fn quantize<S: Lanes>(s: S, x: &[f32], formats: ActivationFormats, out: &mut [Line]) {
    let out: &mut [u8] = bytemuck::cast_slice_mut(out);
    let (by32, rest) = out.split_at_mut(by256_at(x.len()));
    let (by256, float) = rest.split_at_mut(float_at(x.len()) - by256_at(x.len()));
    if formats.by32 {
        let out = bytemuck::cast_slice_mut::<_, Block32>(
            &mut by32[..x.len() / 32 * size_of::<Block32>()],
        );
        for (x, block) in x.chunks_exact(32).zip(out) {
            block.d = quantize_block(s, x, &mut block.q);
            let sum = sum(&block.q);
            block.minus_8_sum = -8 * i32::from(sum);
            block.d_sum = block.d * f32::from(sum);
        }
    }
    if formats.by256 {
        let out = bytemuck::cast_slice_mut::<_, Block256>(
            &mut by256[..x.len() / 256 * size_of::<Block256>()],
        );
        for (x, block) in x.chunks_exact(256).zip(out) {
            block.d = quantize_block(s, x, &mut block.q);
            for (sum16, q) in block.sum16.iter_mut().zip(block.q.chunks_exact(16)) {
                *sum16 = sum(q);
            }
            block.sum32 = std::array::from_fn(|i| block.sum16[2 * i] + block.sum16[2 * i + 1]);
        }
    }
    if formats.float {
        bytemuck::cast_slice_mut(&mut float[..4 * x.len()]).copy_from_slice(x);
    }
}

/// `q = round(x · 127 / max|x|)`, ties to even; returns the scale `max|x| / 127`. The scale is NaN if a number is NaN or
/// infinite, so that products with a damaged row are NaN too.
#[inline(always)]
fn quantize_block<S: Lanes>(s: S, x: &[f32], q: &mut [i8]) -> f32 {
    let zero = s.splat(0.0);
    let (mut largest, mut broken) = (zero, zero);
    for i in 0..x.len() / 16 {
        let x = s.load(nth(x, i));
        largest = s.max(largest, s.abs(x));
        broken = s.fma(x, zero, broken);
    }
    let largest = max_magnitude(lanes(s, s.add(largest, broken)));
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
