//! Attention of some query rows over a chunk of one KV head, and how chunks become a result.
//!
//! ```text
//! view.rs      what a row sees: a prefix, and its ancestors in a tree
//! cache.rs     what the bytes of keys and values mean
//! piece.rs     which positions lie together there
//! groups.rs    keys and values that are quantised
//! product.rs   sixteen lanes times one factor a row, for up to six rows at once
//! plan.rs      a pass over all heads, cut into work for a thread pool
//! ```
//!
//! # The order of operations
//! A row has positions `0 … len` in an order of its own: the prefix, then its ancestors by depth. They
//! are taken in chunks of [`CHUNK`], and of each chunk comes a *part*: the largest score `m`, the sum
//! `Σ exp(score − m)` and the vector `Σ exp(score − m) · value`. A score is one fused chain over the
//! elements of the head; weights are summed in sixteen chains (`position mod 16`, folded as in
//! [`super::lanes::sum_lanes`]); values are added one position after the other in fused steps.
//! `combine` weighs the parts with `exp(m − max m)`, adds them in order of the chunks, and divides. A sink is a
//! part before the first one, with its score for `m`, a sum of 1 and no value (arXiv 2309.17453; learnt as
//! in gpt-oss). A soft cap turns scores before anything else.
//! A row with a window sees positions `start … len` only. Chunks still begin at multiples of [`CHUNK`] of
//! its positions: of the first one that it sees, the part is that of the rest of the chunk. So a row's bits
//! depend on nothing but its position and what it sees, and each chunk may be another thread's work.
//! [`super::order::attention`] is all of this for one row.
//!
//! # Cells
//! Scores and sums of values are the same product: sixteen lanes (positions of a block of keys, elements
//! of a strip of values) times one factor a row. Some cells at a time stay in the first cache while all rows
//! pass over them: half floats as they are, cells of other types after they were turned into floats.
//!
//! # A tree in the cache
//! The nodes of a tree lie behind the prefix, parents before children, so ascending means by depth.
//! Every node is scored for every row; then each row moves the scores of its ancestors together and
//! goes on as if they were a sequence. Nothing else of the tree enters the row, not even with weight
//! zero: a stale cell of the cache might hold an infinity.
//!
//! # A ring
//! The cache of a window need not hold the whole sequence: chunks lie modulo its length ([`Cells::new`]). What a row
//! computes is the same, since chunks are counted in the sequence.

mod cache;
mod groups;
mod piece;
mod plan;
mod product;
pub(super) mod view;

pub use cache::{CacheType, Cells};
pub use piece::Half;
pub use plan::{MAX_SEQUENCES, Plan, Shape};
pub use view::{CHUNK, MAX_TREE, View};

use super::lanes::{LANES, Lanes, exp, lanes, max_lanes, nth, soft_cap, sum_lanes};
use product::{Cell, MAX_ABREAST, TILE, Terms, abreast, multiply, tile};
use std::ops::Range;
use view::Seen;

/// Scores of a row: a chunk, and as far behind it as the nodes of a tree may lie.
const SCORES: usize = CHUNK + MAX_TREE;

/// Blocks of keys of a chunk.
const BLOCKS: usize = CHUNK / LANES;

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
    /// Scores become `cap · tanh(score / cap)`.
    pub soft_cap: Option<f32>,
}

impl Attention<'_> {
    /// How many of `all` blocks or strips of this type are processed by all rows before the next ones. Half floats are
    /// read as they are, so one tile of rows may pass over all of them.
    fn step<S: Lanes>(&self, ty: CacheType, all: usize) -> usize {
        let one_tile = self.queries.len() / self.head_dim <= TILE;
        if ty == CacheType::F16 && one_tile { all.max(1) } else { abreast::<S>() }
    }
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
            seen: vec![Seen::NOTHING; rows],
            cells: vec![[0.0; LANES]; MAX_ABREAST * head_dim.max(CHUNK)],
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
    let (hd, first) = (a.head_dim, a.chunk * CHUNK);
    let (mut start, mut end) = (CHUNK, 0);
    let seen = &mut scratch.seen[..a.views.len()];
    for (seen, view) in seen.iter_mut().zip(a.views) {
        *seen = view.chunk(first);
        start = start.min(seen.from);
        end = end.max(seen.end(first));
    }
    if end == 0 {
        return;
    }
    let rows = a.queries.len() / hd;
    let (sums, weighted) = out.split_at_mut(2 * rows);
    let scores = &mut scratch.scores[..rows * SCORES];
    let blocks = start / LANES..(end - first).div_ceil(LANES);
    score(s, a, blocks.start..blocks.end.min(BLOCKS), &mut scratch.cells, scores);
    if blocks.end > BLOCKS {
        score(s, a, blocks.start.max(BLOCKS)..blocks.end, &mut scratch.cells, scores);
    }
    for (r, scores) in scores.chunks_exact_mut(SCORES).enumerate() {
        let seen = seen[r / a.group];
        let mut n = seen.first_node();
        for node in seen.nodes {
            scores[n] = scores[node - first];
            n += 1;
        }
        if n > seen.from {
            if let Some(cap) = a.soft_cap {
                cap_scores(s, scores, seen.from..n, cap);
            }
            let (largest, sum) = partial_softmax(s, scores, seen.from..n);
            sums[2 * r..2 * r + 2].copy_from_slice(&[largest, sum]);
        }
    }
    weigh(s, a, seen, scores, &mut scratch.cells, weighted);
}

/// Scores of some blocks of the chunk or of the next one, seen or not: (rows, SCORES).
#[inline(always)]
fn score<S: Lanes>(
    s: S,
    a: &Attention,
    blocks: Range<usize>,
    cells: &mut [[f32; LANES]],
    scores: &mut [f32],
) {
    let (hd, chunk) = (a.head_dim, a.chunk + blocks.start / BLOCKS);
    let first = a.keys.slot(chunk) * BLOCKS + blocks.start % BLOCKS;
    let step = a.step::<S>(a.keys.ty, blocks.len());
    for block in blocks.clone().step_by(step) {
        let some = step.min(blocks.end - block);
        let (at, scores) = (first + (block - blocks.start), &mut scores[block * LANES..]);
        if a.keys.ty == CacheType::F16 {
            let cells = &a.keys.f16_cells()[at * hd..][..some * hd];
            score_blocks(s, a, cells, scores);
        } else {
            let cells = &mut cells[..some * hd];
            for (i, cells) in cells.chunks_exact_mut(hd).enumerate() {
                a.keys.keys(s, at + i, cells);
            }
            score_blocks(s, a, cells, scores);
        }
    }
}

/// Scores of some blocks for all rows: (rows, SCORES), from the first block on.
#[inline(always)]
fn score_blocks<S: Lanes, C: Cell>(s: S, a: &Attention, cells: &[C], scores: &mut [f32]) {
    let hd = a.head_dim;
    let rows = a.queries.len() / hd;
    let mut r = 0;
    while r < rows {
        let n = tile(rows - r);
        let out = (&mut scores[r * SCORES..], SCORES);
        multiply(s, cells, Terms::first(hd, hd), n, (&a.queries[r * hd..], hd), out);
        r += n;
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
    let (mut start, mut end) = (CHUNK, 0);
    for seen in seen {
        start = start.min(seen.from / LANES * LANES);
        end = end.max(seen.run);
    }
    let end = end.max(start);
    let step = a.step::<S>(a.values.ty, strips);
    for strip in (0..strips).step_by(step) {
        let some = strip..strips.min(strip + step);
        if a.values.ty == CacheType::F16 {
            let first = (a.values.slot(a.chunk) * strips + strip) * CHUNK;
            let cells = &a.values.f16_cells()[first..][..some.len() * CHUNK];
            weigh_strips(s, a, (cells, some), (seen, weights), out);
        } else {
            let cells = &mut cells[..some.len() * CHUNK];
            for (cells, strip) in cells.chunks_exact_mut(CHUNK).zip(some.clone()) {
                a.values.values(s, hd, a.chunk, strip, start, &mut cells[start..end]);
            }
            weigh_strips(s, a, (cells, some), (seen, weights), out);
        }
    }
}

/// Adds up some strips for all rows: (rows, head_dim).
#[inline(always)]
fn weigh_strips<S: Lanes, C: Cell>(
    s: S,
    a: &Attention,
    (cells, strips): (&[C], Range<usize>),
    (seen, weights): (&[Seen], &[f32]),
    out: &mut [f32],
) {
    let hd = a.head_dim;
    let rows = a.queries.len() / hd;
    let mut r = 0;
    while r < rows {
        let n = tile(rows - r);
        let common = common(&seen[r / a.group..=(r + n - 1) / a.group]);
        let (weights, out) = (&weights[r * SCORES..], &mut out[r * hd..]);
        let sums = Sums { a, rows: (r, n), strips: strips.clone(), common, seen };
        let onto = sums.begin(s, weights, out);
        let terms = Terms { stride: CHUNK, range: sums.common.clone(), onto };
        let of_strips = (&mut out[strips.start * LANES..], hd);
        multiply(s, cells, terms, n, (weights, SCORES), of_strips);
        sums.end(s, weights, out);
        r += n;
    }
}

/// Positions of the chunk that all of these see as they lie in the cache.
#[inline(always)]
fn common(seen: &[Seen]) -> Range<usize> {
    let (mut start, mut end) = (0, CHUNK);
    for seen in seen {
        start = start.max(seen.from);
        end = end.min(seen.run);
    }
    if start < end { start..end } else { 0..0 }
}

/// The values that some rows see and do not have in common: before those, and behind.
struct Sums<'a> {
    a: &'a Attention<'a>,
    /// The first row, and how many.
    rows: (usize, usize),
    strips: Range<usize>,
    common: Range<usize>,
    seen: &'a [Seen], // (rows / group)
}

impl Sums<'_> {
    /// Writes the sums of the values before the common ones; whether there are any. `weights` are (n, SCORES),
    /// `out` (n, head_dim).
    #[inline(always)]
    fn begin<S: Lanes>(&self, s: S, weights: &[f32], out: &mut [f32]) -> bool {
        let (start, n) = (self.common.start, self.rows.1);
        let mut any = false;
        for r in 0..n {
            any |= self.seen(r).from < start;
        }
        if any {
            for r in 0..n {
                let before = self.seen(r).from..start;
                for strip in self.strips.clone() {
                    let sum = self.add(s, r, before.clone(), strip, s.splat(0.0), weights);
                    s.store(sum, self.strip(r, strip, out));
                }
            }
        }
        any
    }

    /// Adds the values behind the common ones.
    #[inline(always)]
    fn end<S: Lanes>(&self, s: S, weights: &[f32], out: &mut [f32]) {
        let end = self.common.end;
        for r in 0..self.rows.1 {
            let seen = self.seen(r);
            if seen.run == end && seen.nodes.is_empty() {
                continue;
            }
            let run = seen.from.max(end)..seen.run;
            let of_nodes = &weights[r * SCORES + seen.first_node()..];
            for strip in self.strips.clone() {
                let out = self.strip(r, strip, out);
                let mut sum = self.add(s, r, run.clone(), strip, s.load(out), weights);
                for (weight, node) in of_nodes.iter().zip(seen.nodes) {
                    let value = self.a.values.value(s, self.a.head_dim, node, strip);
                    sum = s.fma(s.splat(*weight), value, sum);
                }
                s.store(sum, out);
            }
        }
    }

    /// Adds the weighted values of some positions of the chunk to a sum of row `r`.
    #[inline(always)]
    fn add<S: Lanes>(
        &self,
        s: S,
        r: usize,
        positions: Range<usize>,
        strip: usize,
        mut sum: S::F,
        weights: &[f32],
    ) -> S::F {
        let (hd, first) = (self.a.head_dim, self.a.chunk * CHUNK);
        for position in positions {
            let value = self.a.values.value(s, hd, first + position, strip);
            sum = s.fma(s.splat(weights[r * SCORES + position]), value, sum);
        }
        sum
    }

    /// What row `r` of these sees.
    #[inline(always)]
    fn seen(&self, r: usize) -> Seen {
        self.seen[(self.rows.0 + r) / self.a.group]
    }

    /// A strip of row `r`.
    #[inline(always)]
    fn strip<'o>(&self, r: usize, strip: usize, out: &'o mut [f32]) -> &'o mut [f32; LANES] {
        let out = out[r * self.a.head_dim + strip * LANES..].first_chunk_mut();
        out.expect("a row has room for its strips")
    }
}

/// Caps some scores of a chunk, and what else lies in their blocks.
#[inline(always)]
fn cap_scores<S: Lanes>(s: S, scores: &mut [f32], seen: Range<usize>, cap: f32) {
    let scores = &mut scores[seen.start / LANES * LANES..seen.end.next_multiple_of(LANES)];
    for scores in scores.as_chunks_mut::<LANES>().0 {
        s.store(soft_cap(s, s.load(scores), cap), scores);
    }
}

/// Turns some scores of a chunk into weights `exp(score − max)`; returns (max, sum of weights).
#[inline(always)]
fn partial_softmax<S: Lanes>(s: S, scores: &mut [f32], seen: Range<usize>) -> (f32, f32) {
    let first = seen.start / LANES * LANES;
    let scores = &mut scores[first..seen.end.next_multiple_of(LANES)];
    scores[..seen.start - first].fill(f32::NEG_INFINITY);
    scores[seen.end - first..].fill(f32::NEG_INFINITY);
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
    /// What [`Attention`] left of the row's first chunk; those of the others follow.
    pub first: &'a [f32],
    /// Floats from one chunk to the next.
    pub stride: usize,
    /// Chunks the row sees something of, at least one.
    pub chunks: usize,
    /// Rows that were attended together.
    pub rows: usize,
    /// Which of them this is.
    pub row: usize,
    /// A score beside those of the positions: it has a share of the softmax and no value.
    pub sink: Option<f32>,
}

/// Writes `softmax(q · K) · V` of one row: (head_dim).
#[inline(always)]
pub(super) fn combine<S: Lanes>(s: S, parts: &Parts, out: &mut [f32]) {
    let mut top = parts.sink.unwrap_or(f32::NEG_INFINITY);
    for chunk in 0..parts.chunks {
        let largest = parts.first[chunk * parts.stride + 2 * parts.row];
        top = if largest > top { largest } else { top };
    }
    let mut total = 0.0f32;
    if let Some(sink) = parts.sink {
        total = lanes(s, exp(s, s.splat(sink - top)))[0];
    }
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
