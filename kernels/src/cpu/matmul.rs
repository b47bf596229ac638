//! Product of `n` rows of activations and packed weights.
//!
//! # The order of operations
//! For each output, over the blocks of the weight row in order: the integer sum of the block is exact, and is added to
//! the result in one fused step (two if there is a minimum):
//!
//! ```text
//! acc = fma(d · x.d, Σ scale[j] · Σ value(code[i]) · q[i], acc)
//! acc = fma(m, x.d · Σ min[j] · Σ q[i], acc)
//! ```
//!
//! Floating-point weights: one fused step for each weight, in order of `k`.
//!
//! No operation involves two outputs, so the result depends neither on the number of rows nor on the split over
//! threads.
//!
//! # Shape of the output
//! Tiles: `out[g][row][lane]` is output `16 g + lane` of activation row `row`, so a chunk of consecutive groups is
//! consecutive memory. For one row this is the plain vector.

use super::activations::ActivationRows;
use super::blocks::{BlockKernel, PREFETCH_BYTES, block, prefetch, rows};
use super::lanes::{LANES, Simd, Wide};
use super::pack::{Layout, PackedMatrix, Units, foreign_stride};

/// Largest number of activation rows that pass over some groups before the next ones do.
const PANEL: usize = 32;

/// Largest number of (group, row) tiles of a chunk, and the number of groups that it may have in any case.
const CHUNK_TILES: usize = 256;
const CHUNK_GROUPS: usize = 4;

/// Number of a matrix's `groups` that a member of a thread pool takes at a time for `rows` rows: small enough that
/// nobody waits for a slow member, large enough that taking a chunk costs almost nothing.
pub fn groups_per_chunk(groups: usize, rows: usize, members: usize) -> usize {
    (groups / (4 * members)).clamp(1, (CHUNK_TILES / rows).max(CHUNK_GROUPS))
}

/// Largest number of floats in the output of such a chunk, for up to `rows` rows.
pub fn chunk_len(rows: usize) -> usize {
    CHUNK_TILES.max(CHUNK_GROUPS * rows) * LANES
}

/// The operands of a product: as many groups as the output has tiles, (groups, rows, 16).
pub(super) struct Groups<'a> {
    pub w: &'a PackedMatrix,
    pub first: usize,
    pub x: ActivationRows<'a>,
    /// Whether products are added to the output; otherwise they replace it.
    pub add: bool,
}

/// Multiplies groups of a block format.
#[inline(always)]
pub(super) fn blocks<S: Simd, const P: usize, B: BlockKernel>(
    s: Wide<S, P>,
    _: B,
    groups: &Groups,
    units: Units,
    out: &mut [f32],
) {
    let s = s.0;
    // Panels are the outer loop: a panel of activations stays in the second-level cache while the groups of this call
    // pass by. A group stays in the nearest caches for all tiles of the panel.
    let n_rows = groups.x.n_rows();
    for panel in (0..n_rows).step_by(PANEL) {
        let end = n_rows.min(panel + PANEL);
        for (g, out) in out.chunks_exact_mut(n_rows * LANES).enumerate() {
            let (group, mut at) = (groups.first + g, panel);
            let n_tiles = (end - panel).div_ceil(tile_rows(P));
            for t in 0..n_tiles {
                // Tiles of about the same size.
                let n = (end - at).div_ceil(n_tiles - t);
                match n {
                    1 => groups.tile::<S, P, B, 1>(s, units, group, at, out),
                    2 => groups.tile::<S, P, B, 2>(s, units, group, at, out),
                    3 => groups.tile::<S, P, B, 3>(s, units, group, at, out),
                    4 => groups.tile::<S, P, B, 4>(s, units, group, at, out),
                    5 if P == 1 => groups.tile::<S, P, B, 5>(s, units, group, at, out),
                    6 if P == 1 => groups.tile::<S, P, B, 6>(s, units, group, at, out),
                    7 if P == 1 => groups.tile::<S, P, B, 7>(s, units, group, at, out),
                    _ if P == 1 => groups.tile::<S, P, B, 8>(s, units, group, at, out),
                    _ => unreachable!("no tile has more rows"),
                }
                at += n;
            }
        }
    }
}

/// Largest number of rows whose sums fit the registers, where 16 lanes are `p` of these.
const fn tile_rows(p: usize) -> usize {
    if p == 1 { 8 } else { 4 }
}

/// Multiplies groups of floating-point weights, or of types read through ggml; `scratch` has
/// [`pack::Shape::scratch_len`] floats.
#[inline(always)]
pub(super) fn floats<S: Simd, const P: usize>(
    s: Wide<S, P>,
    groups: &Groups,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    match groups.w.shape.layout {
        Layout::F32 => groups.floats::<S, P, Single>(s.0, out),
        Layout::F16 => groups.floats::<S, P, Half>(s.0, out),
        Layout::BF16 => groups.floats::<S, P, Brain>(s.0, out),
        Layout::Foreign { row_bytes } => groups.foreign::<S, P>(s.0, out, row_bytes, scratch),
        Layout::Blocks(_) => unreachable!("blocks have kernels of their own"),
    }
}

impl Groups<'_> {
    /// Multiplies a group by `N` rows, with their sums in registers.
    #[inline(always)]
    fn tile<S: Simd, const P: usize, B: BlockKernel, const N: usize>(
        &self,
        s: S,
        mut units: Units,
        group: usize,
        first: usize,
        out: &mut [f32],
    ) {
        let x = rows::<B, N>(self.x.range(first..first + N));
        let mut lines = self.w.group(group);
        let mut acc = [[s.splat(0.0); N]; P];
        let mut b = 0;
        while let Some((codes, scales)) = units.next(&mut lines) {
            prefetch::<S, PREFETCH_BYTES>(s, scales);
            let n_blocks = codes.len() / B::CODE_LINES;
            // A part of the lanes at a time: the sums of all would not fit the registers beside the codes.
            for (part, acc) in acc.iter_mut().enumerate() {
                let mut sums = *acc;
                for i in 0..n_blocks {
                    let (codes, meta) = block::<B>(codes, scales, i);
                    B::multiply::<S, N>(s, (codes, meta, b + i), part, &x, &mut sums);
                }
                *acc = sums;
            }
            b += n_blocks;
        }
        let mut by_row = [[s.splat(0.0); P]; N];
        for (part, acc) in acc.iter().enumerate() {
            for (row, sum) in by_row.iter_mut().zip(acc) {
                row[part] = *sum;
            }
        }
        self.store(s, &by_row, &mut out[first * LANES..][..N * LANES]);
    }

    /// Multiplies groups of floating-point weights, several abreast where their sums fit the registers: an activation is
    /// read once for all of them.
    #[inline(always)]
    fn floats<S: Simd, const P: usize, W: Weight>(&self, s: S, out: &mut [f32]) {
        let group_len = self.x.n_rows() * LANES;
        let n_groups = out.len() / group_len;
        let mut g = 0;
        while g < n_groups {
            let tiles = &mut out[g * group_len..];
            g += match n_groups - g {
                4.. if P == 1 => {
                    self.float_groups::<S, P, W, 4>(s, self.float_weights::<W, 4>(g), tiles)
                }
                2.. if P == 1 => {
                    self.float_groups::<S, P, W, 2>(s, self.float_weights::<W, 2>(g), tiles)
                }
                _ => self.float_groups::<S, P, W, 1>(s, self.float_weights::<W, 1>(g), tiles),
            };
        }
    }

    /// The weights of `G` groups from group `g` of the output on.
    #[inline(always)]
    fn float_weights<W: Weight, const G: usize>(&self, g: usize) -> [&[W::Lanes]; G] {
        let mut groups: [&[W::Lanes]; G] = [&[]; G];
        for (i, group) in groups.iter_mut().enumerate() {
            *group = W::lanes(self.w.group(self.first + g + i).as_flattened());
        }
        groups
    }

    /// Dequantises 16 rows at a time with ggml and multiplies them as floats.
    #[inline(always)]
    fn foreign<S: Simd, const P: usize>(
        &self,
        s: S,
        out: &mut [f32],
        row_bytes: usize,
        scratch: &mut [f32],
    ) {
        let (k, stride) = (self.w.shape.n_cols, foreign_stride(row_bytes));
        let (row, tile16) = scratch[..(LANES + 1) * k].split_at_mut(k);
        for (g, tile) in out.chunks_exact_mut(self.x.n_rows() * LANES).enumerate() {
            let lines = self.w.group(self.first + g);
            let rows = (self.w.shape.n_rows - (self.first + g) * LANES).min(LANES);
            tile16.fill(0.0);
            for lane in 0..rows {
                self.w
                    .shape
                    .ty
                    .dequantize(&lines.as_flattened()[lane * stride..][..row_bytes], row);
                for (w, tile) in row.iter().zip(tile16.chunks_exact_mut(LANES)) {
                    tile[lane] = *w;
                }
            }
            let weights = Single::lanes(bytemuck::cast_slice(tile16));
            self.float_groups::<S, P, Single, 1>(s, [weights], tile);
        }
    }

    /// Multiplies `G` groups; returns `G`. It processes as many rows at once as keep enough sums in registers to hide
    /// the latency of a fused step.
    #[inline(always)]
    fn float_groups<S: Simd, const P: usize, W: Weight, const G: usize>(
        &self,
        s: S,
        weights: [&[W::Lanes]; G],
        tiles: &mut [f32],
    ) -> usize {
        let mut row = 0;
        while row < self.x.n_rows() {
            row += match self.x.n_rows() - row {
                12.. if P * G == 1 => self.float_rows::<S, P, W, G, 12>(s, weights, row, tiles),
                8 => self.float_rows::<S, P, W, G, 4>(s, weights, row, tiles),
                6.. => self.float_rows::<S, P, W, G, 6>(s, weights, row, tiles),
                4.. => self.float_rows::<S, P, W, G, 4>(s, weights, row, tiles),
                2.. => self.float_rows::<S, P, W, G, 2>(s, weights, row, tiles),
                _ => self.float_rows::<S, P, W, G, 1>(s, weights, row, tiles),
            };
        }
        G
    }

    /// Multiplies `N` rows from `first` on by `G` groups; returns `N`.
    #[inline(always)]
    fn float_rows<S: Simd, const P: usize, W: Weight, const G: usize, const N: usize>(
        &self,
        s: S,
        weights: [&[W::Lanes]; G],
        first: usize,
        tiles: &mut [f32],
    ) -> usize {
        let k = self.w.shape.n_cols;
        let mut rows: [&[f32]; N] = [&[]; N];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &self.x.float(first + r)[..k];
        }
        let weights = weights.map(|weights| &weights[..k]);
        let mut acc = [[[s.splat(0.0); P]; N]; G];
        for i in 0..k {
            let mut w = [[s.splat(0.0); P]; G];
            for (weights, w) in weights.iter().zip(&mut w) {
                for (part, w) in w.iter_mut().enumerate() {
                    *w = W::load(s, &weights[i], part);
                }
            }
            for (r, row) in rows.iter().enumerate() {
                let x = s.splat(row[i]);
                for (acc, w) in acc.iter_mut().zip(w) {
                    for (acc, w) in acc[r].iter_mut().zip(w) {
                        *acc = s.fma(w, x, *acc);
                    }
                }
            }
        }
        for (acc, tile) in acc.iter().zip(tiles.chunks_exact_mut(self.x.n_rows() * LANES)) {
            self.store(s, acc, &mut tile[first * LANES..]);
        }
        N
    }

    /// Writes the sums of some rows to the output, or adds them to it.
    #[inline(always)]
    pub(super) fn store<S: Simd, const P: usize>(&self, s: S, acc: &[[S::F; P]], out: &mut [f32]) {
        for (acc, out) in acc.iter().zip(out.as_chunks_mut::<LANES>().0) {
            for (part, &acc) in acc.iter().enumerate() {
                let sum = if self.add { s.add(s.load(out, part), acc) } else { acc };
                s.store(sum, out, part);
            }
        }
    }
}

/// A floating-point type of weights, interleaved `(k, 16)`.
trait Weight {
    /// The weights of a group's rows at one `k`.
    type Lanes;

    /// The weights of a group.
    fn lanes(bytes: &[u8]) -> &[Self::Lanes]; // (k)
    /// The weights of a register's rows.
    fn load<S: Simd>(s: S, weights: &Self::Lanes, part: usize) -> S::F;
}

struct Single;
struct Half;
struct Brain;

impl Weight for Single {
    type Lanes = [u8; 64];

    #[inline(always)]
    fn lanes(bytes: &[u8]) -> &[[u8; 64]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, weights: &[u8; 64], part: usize) -> S::F {
        s.load_f32(weights, part)
    }
}

impl Weight for Half {
    type Lanes = [u8; 32];

    #[inline(always)]
    fn lanes(bytes: &[u8]) -> &[[u8; 32]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, weights: &[u8; 32], part: usize) -> S::F {
        s.load_f16(weights, part)
    }
}

impl Weight for Brain {
    type Lanes = [u8; 32];

    #[inline(always)]
    fn lanes(bytes: &[u8]) -> &[[u8; 32]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, weights: &[u8; 32], part: usize) -> S::F {
        s.load_bf16(weights, part)
    }
}
