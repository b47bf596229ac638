//! Attention of some query rows over a chunk of one KV head, and how chunks become a result.
//!
//! ```text
//! view.rs      what a row sees: a prefix, and its ancestors in a tree
//! cache.rs     what the bytes of keys and values mean
//! product.rs   sixteen lanes times one factor a row, for up to six rows at once
//! plan.rs      a pass over all heads, cut into work for a thread pool
//! ```
//!
//! # The order of operations
//! A row sees positions `0 … len` in an order of its own: the prefix, then its ancestors by depth. They
//! are taken in chunks of [`CHUNK`], and of each chunk comes a *part*: the largest score `m`, the sum
//! `Σ exp(score − m)` and the vector `Σ exp(score − m) · value`. A score is one fused chain over the
//! elements of the head; weights are summed in sixteen chains (`position mod 16`, folded as in
//! [`super::lanes::sum_lanes`]); values are added one position after the other in fused steps.
//! `combine` weighs the parts with `exp(m − max m)`, adds them in order of the chunks, and divides.
//! So a row's bits depend on nothing but what it sees, and each chunk may be another thread's work.
//! [`super::order::attention`] is all of this for one row.
//!
//! # Cells
//! Scores and sums of values are the same product: sixteen lanes (positions of a block of keys, elements
//! of a strip of values) times one factor a row. Where many rows share a KV head, its cells are turned
//! into floats once, a block or strip at a time, and stay in the first cache while all rows pass over
//! them; a few rows read half floats as they are.
//!
//! # A tree in the cache
//! The nodes of a tree lie behind the prefix, parents before children, so ascending means by depth.
//! Every node is scored for every row; then each row moves the scores of its ancestors together and
//! goes on as if they were a sequence. Nothing else of the tree enters the row, not even with weight
//! zero: a stale cell of the cache might hold an infinity.

mod cache;
mod plan;
mod product;
mod view;

pub use cache::{CacheType, Cells, Half};
pub use plan::{MAX_SEQUENCES, Plan, Shape};
pub use view::{MAX_TREE, View};

use super::lanes::{LANES, Lanes, exp, lanes, max_lanes, nth, sum_lanes};
use product::{MOST_ABREAST, TILE, abreast, multiply, tile};
use view::Seen;

/// Positions that share one maximum, and the least that a thread takes.
pub const CHUNK: usize = 256;

/// Scores of a row: a chunk, and as far behind it as the nodes of a tree may lie.
const SCORES: usize = CHUNK + MAX_TREE;

/// Some query rows over a chunk of the keys and values of one KV head.
pub struct Attention<'a> {
    /// Query rows, already rotated and scaled: (rows, head_dim).
    pub queries: &'a [f32],
    /// What the rows see: (rows / group).
    pub views: &'a [View],
    /// Successive rows that see the same: query heads of one KV head.
    pub group: usize,
    /// Keys of the head.
    pub keys: Cells<'a>,
    /// Values of the head.
    pub values: Cells<'a>,
    /// Elements of a head: a multiple of 16.
    pub head_dim: usize,
    /// Number of the chunk.
    pub chunk: usize,
}

/// What one thread needs to attend.
pub struct Scratch {
    scores: Vec<f32>,         // (rows, SCORES)
    seen: Vec<Seen>,          // (rows / group)
    cells: Vec<[f32; LANES]>, // blocks of keys or strips of values
}

impl Scratch {
    /// For up to so many rows at once.
    pub fn new(rows: usize, head_dim: usize) -> Scratch {
        Scratch {
            scores: vec![0.0; rows * SCORES],
            seen: vec![Seen::default(); rows],
            cells: vec![[0.0; LANES]; MOST_ABREAST * head_dim.max(CHUNK)],
        }
    }
}

/// Floats of one row's part.
const fn part_len(head_dim: usize) -> usize {
    2 + head_dim
}

/// Writes the parts of the rows: largest score and sum of weights (rows, 2), then the weighted values
/// (rows, head_dim), in as much of `out` as that takes. The part of a row that sees nothing of the chunk is
/// left undefined.
#[inline(always)]
pub(super) fn attention<S: Lanes>(s: S, a: &Attention, scratch: &mut Scratch, out: &mut [f32]) {
    let (hd, start) = (a.head_dim, a.chunk * CHUNK);
    let mut end = 0;
    let seen = &mut scratch.seen[..a.views.len()];
    for (seen, view) in seen.iter_mut().zip(a.views) {
        *seen = view.chunk(start);
        end = end.max(seen.end(start));
    }
    if end == 0 {
        return;
    }
    let rows = a.queries.len() / hd;
    let (sums, weighted) = out.split_at_mut(2 * rows);
    let scores = &mut scratch.scores[..rows * SCORES];
    score(s, a, (end - start).div_ceil(LANES), &mut scratch.cells, scores);
    for (r, scores) in scores.chunks_exact_mut(SCORES).enumerate() {
        let seen = seen[r / a.group];
        let mut n = seen.run;
        for node in seen.nodes {
            scores[n] = scores[node - start];
            n += 1;
        }
        if n > 0 {
            let (largest, sum) = partial_softmax(s, scores, n);
            sums[2 * r..2 * r + 2].copy_from_slice(&[largest, sum]);
        }
    }
    weigh(s, a, seen, scores, &mut scratch.cells, weighted);
}

/// Scores of the first `blocks` blocks of the chunk, seen or not: (rows, SCORES).
#[inline(always)]
fn score<S: Lanes>(
    s: S,
    a: &Attention,
    blocks: usize,
    cells: &mut [[f32; LANES]],
    scores: &mut [f32],
) {
    let (hd, first) = (a.head_dim, a.chunk * CHUNK / LANES);
    let rows = a.queries.len() / hd;
    if rows <= TILE && a.keys.ty == CacheType::F16 {
        let keys = &a.keys.f16_cells()[first * hd..][..blocks * hd];
        return multiply(s, keys, hd, hd, rows, (a.queries, hd), (scores, SCORES));
    }
    for block in (0..blocks).step_by(abreast::<S>()) {
        let some = abreast::<S>().min(blocks - block);
        let cells = &mut cells[..some * hd];
        for (i, cells) in cells.chunks_exact_mut(hd).enumerate() {
            a.keys.keys(s, first + block + i, cells);
        }
        let mut r = 0;
        while r < rows {
            let n = tile(rows - r);
            let out = &mut scores[r * SCORES + block * LANES..];
            multiply(s, cells, hd, hd, n, (&a.queries[r * hd..], hd), (out, SCORES));
            r += n;
        }
    }
}

/// Adds up the values of the chunk by their weights: (rows, head_dim).
#[inline(always)]
fn weigh<S: Lanes>(
    s: S,
    a: &Attention,
    seen: &[Seen],   // (rows / group)
    weights: &[f32], // (rows, SCORES)
    cells: &mut [[f32; LANES]],
    out: &mut [f32],
) {
    let (hd, strips) = (a.head_dim, a.head_dim / LANES);
    let rows = a.queries.len() / hd;
    if rows <= TILE && a.values.ty == CacheType::F16 {
        let values = &a.values.f16_cells()[a.chunk * CHUNK * strips..][..CHUNK * strips];
        let common = shortest(seen);
        multiply(s, values, CHUNK, common, rows, (weights, SCORES), (out, hd));
        return add_rest(s, a, (0, rows), common, 0..strips, seen, weights, out);
    }
    let mut longest = 0;
    for seen in seen {
        longest = longest.max(seen.run);
    }
    for strip in (0..strips).step_by(abreast::<S>()) {
        let some = strip..strips.min(strip + abreast::<S>());
        let cells = &mut cells[..some.len() * CHUNK];
        for (cells, strip) in cells.chunks_exact_mut(CHUNK).zip(some.clone()) {
            a.values.values(s, hd, a.chunk, strip, &mut cells[..longest]);
        }
        let mut r = 0;
        while r < rows {
            let n = tile(rows - r);
            let common = shortest(&seen[r / a.group..=(r + n - 1) / a.group]);
            let (weights, out) = (&weights[r * SCORES..], &mut out[r * hd..]);
            let sums = (&mut out[strip * LANES..], hd);
            multiply(s, cells, CHUNK, common, n, (weights, SCORES), sums);
            add_rest(s, a, (r, n), common, some.clone(), seen, weights, out);
            r += n;
        }
    }
}

/// Positions of the chunk that all of these see as they lie in the cache.
#[inline(always)]
fn shortest(seen: &[Seen]) -> usize {
    let mut shortest = CHUNK;
    for seen in seen {
        shortest = shortest.min(seen.run);
    }
    shortest
}

/// Adds the values that `n` rows from `first` on see beyond the first `common` positions of the chunk.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn add_rest<S: Lanes>(
    s: S,
    a: &Attention,
    (first, n): (usize, usize),
    common: usize,
    strips: std::ops::Range<usize>,
    seen: &[Seen],   // (rows / group)
    weights: &[f32], // (n, SCORES)
    out: &mut [f32], // (n, head_dim)
) {
    let start = a.chunk * CHUNK;
    for r in 0..n {
        let Seen { run, nodes } = seen[(first + r) / a.group];
        if run == common && nodes.is_empty() {
            continue;
        }
        let weights = &weights[r * SCORES..][..SCORES];
        for strip in strips.clone() {
            let out = out[r * a.head_dim + strip * LANES..].first_chunk_mut();
            let out: &mut [f32; LANES] = out.expect("a row has room for its strips");
            let mut sum = s.load(out);
            for (position, weight) in weights.iter().enumerate().take(run).skip(common) {
                let value = a.values.value(s, a.head_dim, start + position, strip);
                sum = s.fma(s.splat(*weight), value, sum);
            }
            for (weight, node) in weights[run..].iter().zip(nodes) {
                let value = a.values.value(s, a.head_dim, node, strip);
                sum = s.fma(s.splat(*weight), value, sum);
            }
            s.store(sum, out);
        }
    }
}

/// Turns the first `n` scores into weights `exp(score − max)`; returns (max, sum of weights).
#[inline(always)]
fn partial_softmax<S: Lanes>(s: S, scores: &mut [f32], n: usize) -> (f32, f32) {
    let scores = &mut scores[..n.next_multiple_of(LANES)];
    scores[n..].fill(f32::NEG_INFINITY);
    let mut largest = s.load(nth(scores, 0));
    for i in 1..scores.len() / LANES {
        largest = s.max(largest, s.load(nth(scores, i)));
    }
    let largest = max_lanes(lanes(s, largest));
    let mut sum = s.splat(0.0);
    for scores in scores.chunks_exact_mut(LANES) {
        let scores: &mut [f32; LANES] = scores.try_into().expect("chunks are 16 long");
        let weight = exp(s, s.sub(s.load(scores), s.splat(largest)));
        sum = s.add(sum, weight);
        s.store(weight, scores);
    }
    (largest, sum_lanes(lanes(s, sum)))
}

/// The parts of one row.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// What [`Attention`] left of the rows' first chunk; those of the others follow.
    pub first: &'a [f32],
    /// Floats from one chunk to the next.
    pub stride: usize,
    /// Chunks the row sees something of, at least one.
    pub chunks: usize,
    /// GgufMatrix that were attended together.
    pub rows: usize,
    /// Which of them this is.
    pub row: usize,
}

/// Writes `softmax(q · K) · V` of one row: (head_dim).
#[inline(always)]
pub(super) fn combine<S: Lanes>(s: S, parts: &Parts, out: &mut [f32]) {
    let mut top = f32::NEG_INFINITY;
    for chunk in 0..parts.chunks {
        let largest = parts.first[chunk * parts.stride + 2 * parts.row];
        top = if largest > top { largest } else { top };
    }
    let mut total = 0.0f32;
    out.fill(0.0);
    for chunk in 0..parts.chunks {
        let part = &parts.first[chunk * parts.stride..];
        let (largest, sum) = (part[2 * parts.row], part[2 * parts.row + 1]);
        let weighted = &part[2 * parts.rows + parts.row * out.len()..][..out.len()];
        let share = lanes(s, exp(s, s.splat(largest - top)))[0];
        total = share.mul_add(sum, total);
        for (i, out) in out.chunks_exact_mut(LANES).enumerate() {
            let out: &mut [f32; LANES] = out.try_into().expect("chunks are 16 long");
            s.store(s.fma(s.splat(share), s.load(nth(weighted, i)), s.load(out)), out);
        }
    }
    let inverse = s.splat(1.0 / total);
    for out in out.chunks_exact_mut(LANES) {
        let out: &mut [f32; LANES] = out.try_into().expect("chunks are 16 long");
        s.store(s.mul(s.load(out), inverse), out);
    }
}
