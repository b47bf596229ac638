//! The product of attention: sums of sixteen lanes times one factor of each row.
//!
//! `out[r][b] = Σᵢ factors[r][i] · cells[b][i]`, where each sum is one fused chain in order of `i`. For scores, a cell
//! is one element of sixteen keys and the factors are a query; for values, a cell is sixteen elements of one position's
//! value and the factors are weights.
//!
//! Up to six rows are kept in registers: of AVX2's sixteen, twelve hold sums, two the cell and one a factor. Two fused
//! steps per cycle at a latency of four need eight sums at a time, so fewer rows, or registers twice as wide, process
//! several blocks side by side.

use crate::cpu::lanes::{LANES, Lanes, nth};
use std::ops::Range;

/// Number of blocks that products of many rows should process side by side, at most [`MAX_ABREAST`].
#[inline(always)]
pub(super) fn abreast<S: Lanes>() -> usize {
    if S::REGISTERS == 1 { MAX_ABREAST } else { 1 }
}

/// See [`abreast`].
pub(super) const MAX_ABREAST: usize = 2;

/// Largest number of rows of one product.
pub(super) const TILE: usize = 6;

/// Number of rows in the first of `rows` rows' tiles, which are as even as possible.
#[inline(always)]
pub(super) fn tile(rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(TILE))
}

/// Sixteen numbers that can be read as floats.
pub(super) trait Cell: Copy {
    /// Whether they come from memory, where what follows is worth prefetching.
    const STREAMED: bool;
    /// Loads them.
    fn load<S: Lanes>(&self, s: S) -> S::F;
    /// Prefetches what lies `ahead` cells behind.
    fn prefetch<S: Lanes>(&self, s: S, ahead: usize);
}

impl Cell for [f32; LANES] {
    const STREAMED: bool = false;
    #[inline(always)]
    fn load<S: Lanes>(&self, s: S) -> S::F {
        s.load(self)
    }
    #[inline(always)]
    fn prefetch<S: Lanes>(&self, _: S, _: usize) {}
}

impl Cell for [u8; 2 * LANES] {
    const STREAMED: bool = true;
    #[inline(always)]
    fn load<S: Lanes>(&self, s: S) -> S::F {
        s.load_f16(self)
    }
    #[inline(always)]
    fn prefetch<S: Lanes>(&self, s: S, ahead: usize) {
        s.prefetch(self, ahead * size_of::<Self>());
    }
}

/// The cells of each block that are summed, and the initial value of the sums.
#[derive(Clone)]
pub(super) struct Terms {
    /// Distance between blocks, in cells.
    pub stride: usize,
    /// Range of the cells in a block, and of the factors in a row.
    pub range: Range<usize>,
    /// Whether sums start with the content of the output; otherwise with 0.
    pub onto: bool,
}

impl Terms {
    /// The first `len` cells of blocks of `stride`, summed from 0.
    #[inline(always)]
    pub fn first(len: usize, stride: usize) -> Terms {
        Terms { stride, range: 0..len, onto: false }
    }
}

/// `out[r][b] = Σᵢ factors[r][i] · cells[b][i]` for `n` rows, at most [`TILE`], and each block `b`; `i` runs over the
/// range of `terms`, and each sum is one fused chain.
#[inline(always)]
pub(super) fn multiply<S: Lanes, C: Cell>(
    s: S,
    cells: &[C], // (blocks, stride)
    terms: Terms,
    n: usize,
    factors: (&[f32], usize), // (n, stride of a row)
    out: (&mut [f32], usize), // (n, stride of a row), 16 for each block
) {
    match (n, S::REGISTERS) {
        (1, _) => blocks::<S, C, 1, 4>(s, cells, &terms, factors, out),
        (2, 1) => blocks::<S, C, 2, 4>(s, cells, &terms, factors, out),
        (2, _) => blocks::<S, C, 2, 2>(s, cells, &terms, factors, out),
        (3, 1) => blocks::<S, C, 3, 2>(s, cells, &terms, factors, out),
        (3, _) => blocks::<S, C, 3, 1>(s, cells, &terms, factors, out),
        (4, 1) => blocks::<S, C, 4, 2>(s, cells, &terms, factors, out),
        (4, _) => blocks::<S, C, 4, 1>(s, cells, &terms, factors, out),
        (5, 1) => blocks::<S, C, 5, 2>(s, cells, &terms, factors, out),
        (5, _) => blocks::<S, C, 5, 1>(s, cells, &terms, factors, out),
        (_, 1) => blocks::<S, C, TILE, 2>(s, cells, &terms, factors, out),
        (..) => blocks::<S, C, TILE, 1>(s, cells, &terms, factors, out),
    }
}

/// [`multiply`] for `N` rows; `W` blocks side by side while there are as many.
#[inline(always)]
fn blocks<S: Lanes, C: Cell, const N: usize, const W: usize>(
    s: S,
    cells: &[C],
    terms: &Terms,
    factors: (&[f32], usize),
    (out, out_stride): (&mut [f32], usize),
) {
    let stride = terms.stride;
    let count = cells.len() / stride;
    let mut block = 0;
    while block + W <= count {
        let out = (&mut out[block * LANES..], out_stride);
        product::<S, C, N, W>(s, &cells[block * stride..], terms, factors, out);
        block += W;
    }
    while block < count {
        let out = (&mut out[block * LANES..], out_stride);
        product::<S, C, N, 1>(s, &cells[block * stride..], terms, factors, out);
        block += 1;
    }
}

#[inline(always)]
fn product<S: Lanes, C: Cell, const N: usize, const W: usize>(
    s: S,
    cells: &[C],
    terms: &Terms,
    (factors, factors_stride): (&[f32], usize),
    (out, out_stride): (&mut [f32], usize),
) {
    let Terms { stride, range: Range { start, end }, onto } = *terms;
    let len = end - start;
    let mut rows = [&factors[..0]; N];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &factors[r * factors_stride + start..][..len];
    }
    let mut columns = [&cells[..0]; W];
    for (w, column) in columns.iter_mut().enumerate() {
        *column = &cells[w * stride + start..][..len];
    }
    let mut sums = [[s.splat(0.0); W]; N];
    if onto {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (w, sum) in sums.iter_mut().enumerate() {
                *sum = s.load(nth(&out[r * out_stride + w * LANES..], 0));
            }
        }
    }
    for i in 0..len {
        let mut here = [s.splat(0.0); W];
        for (here, column) in here.iter_mut().zip(columns) {
            *here = column[i].load(s);
            // A line is two cells.
            if C::STREAMED && i % 2 == 0 {
                column[i].prefetch(s, W * stride);
            }
        }
        for (sums, row) in sums.iter_mut().zip(rows) {
            let factor = s.splat(row[i]);
            for (sum, here) in sums.iter_mut().zip(here) {
                *sum = s.fma(factor, here, *sum);
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (w, sum) in sums.into_iter().enumerate() {
            let out = out[r * out_stride + w * LANES..].first_chunk_mut();
            s.store(sum, out.expect("each row has room for its blocks"));
        }
    }
}
