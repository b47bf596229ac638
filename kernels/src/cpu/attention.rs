//! Attention of a few query rows over one KV head of the cache.
//!
//! # Layout of the cache
//! Keys lie in blocks of 16 positions, `(position / 16, head_dim, 16)`, so that sixteen positions are
//! scored side by side; values lie `(position, head_dim)`. Both are IEEE half floats.
//!
//! # The order of operations
//! A score sums over the head in two fused chains, even and odd elements, added at the end. Positions
//! are taken in chunks of [`CHUNK`], beginning at multiples of it; within a chunk the largest score
//! is subtracted, weights are summed in sixteen chains (`position mod 16`, folded as in
//! [`super::lanes::sum_lanes`]), and values are added one position after the other in fused steps.
//! Chunks are merged in order. A row's bits depend on its own positions only.

use super::lanes::{LANES, Lanes, exp, lanes, max_lanes, nth, sum_lanes};

/// Positions that share one maximum; also where long contexts may be split.
pub const CHUNK: usize = 256;

/// Queries that share the conversion of keys and values.
const TILE: usize = 4;

/// Some queries over the keys and values of one KV head.
pub struct Attention<'a> {
    /// Query rows, already rotated and scaled: (queries, head_dim).
    pub queries: &'a [f32],
    /// For each query, how many positions it sees, counted from the first: (queries), none 0.
    pub seen: &'a [usize],
    /// (⌈positions / 16⌉, head_dim, 16) half floats.
    pub keys: &'a [u16],
    /// (positions, head_dim) half floats.
    pub values: &'a [u16],
    /// Elements of a head: a multiple of 16.
    pub head_dim: usize,
}

/// Writes `softmax(q · K) · V` of each query: (queries, head_dim).
#[inline(always)]
pub(super) fn attention<S: Lanes>(s: S, a: &Attention, out: &mut [f32]) {
    let hd = a.head_dim;
    let mut queries = a.queries.chunks(TILE * hd);
    let mut seen = a.seen.chunks(TILE);
    for out in out.chunks_mut(TILE * hd) {
        let (Some(q), Some(seen)) = (queries.next(), seen.next()) else { return };
        match seen {
            [a1] => tile::<S, 1>(s, a, q, [*a1], out),
            [a1, a2] => tile::<S, 2>(s, a, q, [*a1, *a2], out),
            [a1, a2, a3] => tile::<S, 3>(s, a, q, [*a1, *a2, *a3], out),
            [a1, a2, a3, a4] => tile::<S, 4>(s, a, q, [*a1, *a2, *a3, *a4], out),
            _ => unreachable!("tiles have at most four queries"),
        }
    }
}

#[inline(always)]
fn tile<S: Lanes, const N: usize>(
    s: S,
    a: &Attention,
    q: &[f32], // (N, head_dim)
    seen: [usize; N],
    out: &mut [f32], // (N, head_dim)
) {
    let hd = a.head_dim;
    let mut total = [(0.0f32, 0.0f32); N]; // largest score, sum of weights
    let mut scores = [[0.0f32; CHUNK]; N];
    let longest = seen.iter().copied().fold(0, usize::max);
    for start in (0..longest).step_by(CHUNK) {
        let keys = &a.keys[start * hd..];
        let values: &[u8] = bytemuck::cast_slice(&a.values[start * hd..]);
        let mut here = [0; N];
        for (here, seen) in here.iter_mut().zip(seen) {
            *here = seen.saturating_sub(start).min(CHUNK);
        }
        let in_chunk = (longest - start).min(CHUNK);
        for block in 0..in_chunk.div_ceil(LANES) {
            let keys = bytemuck::cast_slice(&keys[block * LANES * hd..][..LANES * hd]);
            score_block(s, q, keys, block, &mut scores);
        }
        let mut shares = [(0.0, 1.0); N];
        for i in 0..N {
            let chunk = soften(s, &mut scores[i], here[i]);
            if start == 0 {
                total[i] = chunk;
            } else if here[i] == 0 {
                shares[i] = (1.0, 0.0);
            } else {
                shares[i] = merge(s, &mut total[i], chunk);
            }
        }
        let mut from = 0;
        while from < hd {
            from += if hd - from >= 2 * LANES {
                weigh_values::<S, N, 2>(s, &scores, &here, values, hd, from, shares, out)
            } else {
                weigh_values::<S, N, 1>(s, &scores, &here, values, hd, from, shares, out)
            };
        }
    }
    for (out, (_, sum)) in out.chunks_exact_mut(hd).zip(total) {
        let inverse = s.splat(1.0 / sum);
        for out in out.chunks_exact_mut(LANES) {
            let out: &mut [f32; LANES] = out.try_into().expect("chunks are 16 long");
            s.store(s.mul(s.load(out), inverse), out);
        }
    }
}

/// Scores of 16 positions for each query.
#[inline(always)]
fn score_block<S: Lanes, const N: usize>(
    s: S,
    q: &[f32],   // (N, head_dim)
    keys: &[u8], // (head_dim, 16) half floats
    block: usize,
    scores: &mut [[f32; CHUNK]; N],
) {
    let hd = q.len() / N;
    let mut chains = [[s.splat(0.0); 2]; N];
    for d in (0..hd).step_by(2) {
        for odd in 0..2 {
            let key = s.load_f16(nth(keys, d + odd));
            for (i, chains) in chains.iter_mut().enumerate() {
                chains[odd] = s.fma(key, s.splat(q[i * hd + d + odd]), chains[odd]);
            }
        }
    }
    for (chains, scores) in chains.into_iter().zip(scores) {
        let out = scores[block * LANES..].first_chunk_mut().expect("blocks lie within the chunk");
        s.store(s.add(chains[0], chains[1]), out);
    }
}

/// Turns the first `n` scores into weights `exp(score − max)`; returns (max, sum of weights).
#[inline(always)]
fn soften<S: Lanes>(s: S, scores: &mut [f32; CHUNK], n: usize) -> (f32, f32) {
    if n == 0 {
        return (f32::NEG_INFINITY, 0.0);
    }
    let blocks = n.div_ceil(LANES);
    scores[n..blocks * LANES].fill(f32::NEG_INFINITY);
    let mut largest = s.load(nth(scores, 0));
    for i in 1..blocks {
        largest = s.max(largest, s.load(nth(scores, i)));
    }
    let largest = max_lanes(lanes(s, largest));
    let mut sum = s.splat(0.0);
    for scores in scores[..blocks * LANES].chunks_exact_mut(LANES) {
        let scores: &mut [f32; LANES] = scores.try_into().expect("chunks are 16 long");
        let weight = exp(s, s.sub(s.load(scores), s.splat(largest)));
        sum = s.add(sum, weight);
        s.store(weight, scores);
    }
    (largest, sum_lanes(lanes(s, sum)))
}

/// Adds a chunk's (max, sum) to the total; returns what earlier values and the chunk's are scaled by.
#[inline(always)]
fn merge<S: Lanes>(s: S, total: &mut (f32, f32), chunk: (f32, f32)) -> (f32, f32) {
    let largest = if chunk.0 > total.0 { chunk.0 } else { total.0 };
    let old = lanes(s, exp(s, s.splat(total.0 - largest)))[0];
    let new = lanes(s, exp(s, s.splat(chunk.0 - largest)))[0];
    *total = (largest, total.1.mul_add(old, chunk.1 * new));
    (old, new)
}

/// `out = out · old + (Σ weight · value) · new` for `16 · W` elements of the head from `from` on;
/// returns how many elements that are.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn weigh_values<S: Lanes, const N: usize, const W: usize>(
    s: S,
    weights: &[[f32; CHUNK]; N],
    here: &[usize; N],
    values: &[u8], // (positions, head_dim) half floats
    hd: usize,
    from: usize,
    shares: [(f32, f32); N],
    out: &mut [f32], // (N, head_dim)
) -> usize {
    let mut acc = [[s.splat(0.0); W]; N];
    // Positions that every query sees, then what each sees alone: a masked value never takes part,
    // not even with weight zero, since a stale row of the cache might hold an infinity.
    let common = here.iter().copied().fold(CHUNK, usize::min);
    for position in 0..common {
        for w in 0..W {
            let value = s.load_f16(nth(&values[2 * (position * hd + from)..], w));
            for (acc, weights) in acc.iter_mut().zip(weights) {
                acc[w] = s.fma(s.splat(weights[position]), value, acc[w]);
            }
        }
    }
    for ((acc, weights), &here) in acc.iter_mut().zip(weights).zip(here) {
        for position in common..here {
            for (w, acc) in acc.iter_mut().enumerate() {
                let value = s.load_f16(nth(&values[2 * (position * hd + from)..], w));
                *acc = s.fma(s.splat(weights[position]), value, *acc);
            }
        }
    }
    for ((acc, out), (old, new)) in acc.iter().zip(out.chunks_exact_mut(hd)).zip(shares) {
        if (old, new) == (1.0, 0.0) {
            continue; // nothing to add; `fma(−0, 1, 0)` would lose the sign
        }
        for (acc, out) in acc.iter().zip(out[from..].chunks_exact_mut(LANES)) {
            let out: &mut [f32; LANES] = out.try_into().expect("chunks are 16 long");
            let added = s.mul(*acc, s.splat(new));
            let kept = if old == 0.0 { added } else { s.fma(s.load(out), s.splat(old), added) };
            s.store(kept, out);
        }
    }
    W * LANES
}
