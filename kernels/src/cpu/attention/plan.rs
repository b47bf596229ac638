//! Divides the attention of a pass into units of work for a thread pool.
//!
//! A unit is a tile of tokens of one sequence over one chunk of one KV head. Units have the order (sequence, KV head,
//! chunk, tile), so that successive units find the same keys and values in the CPU's cache. Their partial results lie
//! in the same order in one buffer, which holds some tokens at a time. No result depends on the division: chunks are
//! part of the specification, and tiles never mix rows.

use super::{Attention, CHUNK, Cells, Parts, View, part_len};
use std::ops::Range;

/// Rows of a tile: enough to share a conversion of the cache's types, while their scores fit the second-level cache.
const TILE_ROWS: usize = 64;

/// Smallest number of tokens that is worth a conversion of its own.
const TILE_TOKENS: usize = 4;

/// Largest number of sequences of a pass.
pub const MAX_SEQUENCES: usize = 16;

/// Number of units for each member of a thread pool, so that a slow member can take fewer.
const UNITS: usize = 4;

/// Dimensions of a model's attention.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of KV heads.
    pub kv_heads: usize,
    /// Number of query heads for each KV head.
    pub group: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl Shape {
    /// Largest number of tokens of a tile; at least 1.
    fn tile_tokens(&self) -> usize {
        (TILE_ROWS / self.group).max(1)
    }

    /// Largest number of rows of a unit.
    pub fn unit_rows(&self) -> usize {
        self.tile_tokens() * self.group
    }

    /// Floats of a buffer for the parts of `tokens` tokens over one chunk, and of one tile over `positions` positions.
    pub fn room(&self, tokens: usize, positions: usize) -> usize {
        let token = self.kv_heads * self.group * part_len(self.head_dim);
        token * (tokens + self.tile_tokens()).max(self.tile_tokens() * positions.div_ceil(CHUNK))
    }
}

/// The division of some tokens' attention.
#[derive(Clone, Debug)]
pub struct Plan {
    shape: Shape,
    /// Number of tokens of the pass, and the first token of the plan.
    all: usize,
    first: usize,
    tile_tokens: usize,
    /// The tokens of each sequence; the first `n_runs` entries are valid.
    runs: [Run; MAX_SEQUENCES],
    n_runs: usize,
}

/// Successive tokens of one sequence; their indices are those of the pass.
#[derive(Clone, Debug, Default)]
struct Run {
    sequence: usize,
    first: usize,
    tokens: usize,
    tiles: usize,
    /// Chunks in which at least one of them sees a position.
    chunks: Range<usize>,
    /// Number of the first unit.
    unit: usize,
}

/// One unit of work: some tokens of the pass over a chunk of a KV head.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unit {
    sequence: usize,
    head: usize,
    chunk: usize,
    tokens: Range<usize>,
}

impl Plan {
    /// A plan for a pass over tokens with these `views`. `lens` is the number of tokens of each sequence, for at most
    /// [`MAX_SEQUENCES`]. The plan takes as many tokens from `first` on as `room` floats can hold, and divides them for
    /// `members` members. There must be a token, and room for one.
    pub fn new(
        shape: Shape,
        views: &[View],
        lens: impl IntoIterator<Item = usize>,
        first: usize,
        room: usize,
        members: usize,
    ) -> Plan {
        let (runs, n_runs) = (std::array::from_fn(|_| Run::default()), 0);
        let mut plan = Plan { shape, all: views.len(), first, tile_tokens: 1, runs, n_runs };
        let mut end = 0;
        for (sequence, len) in lens.into_iter().enumerate() {
            let start = first.max(end);
            end += len;
            if start < end {
                let all = views[start].chunks();
                let chunks = views[start + 1..end]
                    .iter()
                    .map(View::chunks)
                    .fold(all, |all, some| all.start.min(some.start)..all.end.max(some.end));
                let tokens = end - start;
                let run = Run { sequence, first: start, tokens, chunks, ..Run::default() };
                plan.runs[plan.n_runs] = run;
                plan.n_runs += 1;
            }
        }
        plan.tile_tokens = plan.tile_for(members);
        plan.fit(room);
        plan
    }

    /// Tile length in tokens that leaves work for all members.
    fn tile_for(&self, members: usize) -> usize {
        let longest = self.runs().iter().map(|run| run.tokens).fold(0, usize::max);
        let chunks: usize = self.runs().iter().map(|run| run.chunks.len()).sum();
        let most = longest.div_ceil(self.shape.tile_tokens());
        let wanted = (UNITS * members).div_ceil(self.shape.kv_heads * chunks);
        longest.div_ceil(wanted.min(longest / TILE_TOKENS).max(most))
    }

    /// Takes as many tokens as fit, and numbers the units.
    fn fit(&mut self, room: usize) {
        let (n_runs, tile_tokens) = (self.n_runs, self.tile_tokens);
        let mut left = room / (self.unit_len() * self.shape.kv_heads);
        let mut unit = 0;
        self.n_runs = 0;
        for run in &mut self.runs[..n_runs] {
            let tokens = run.tokens;
            run.tiles = tokens.div_ceil(tile_tokens).min(left / run.chunks.len());
            if run.tiles == 0 {
                return;
            }
            run.tokens = tokens.min(run.tiles * tile_tokens);
            run.unit = unit;
            unit += self.shape.kv_heads * run.chunks.len() * run.tiles;
            left -= run.chunks.len() * run.tiles;
            self.n_runs += 1;
            if run.tokens < tokens {
                return;
            }
        }
    }

    fn runs(&self) -> &[Run] {
        &self.runs[..self.n_runs]
    }

    /// Number of tokens in the plan.
    pub fn tokens(&self) -> usize {
        self.runs().iter().map(|run| run.tokens).sum()
    }

    /// Floats of one unit's parts.
    pub fn unit_len(&self) -> usize {
        self.tile_tokens * self.shape.group * part_len(self.shape.head_dim)
    }

    /// Floats of all units' parts.
    pub fn len(&self) -> usize {
        let units: usize = self.runs().iter().map(|run| run.chunks.len() * run.tiles).sum();
        self.shape.kv_heads * units * self.unit_len()
    }

    /// Whether there is no work.
    pub fn is_empty(&self) -> bool {
        self.n_runs == 0
    }

    /// The work of unit `i`, without a soft cap. `queries` are those of all tokens of the pass, (kv_heads, tokens,
    /// group, head_dim), and `views` their views. `cells` gives the keys and values of a sequence's KV head.
    pub fn task<'a>(
        &self,
        i: usize,
        queries: &'a [f32],
        views: &'a [View],
        cells: impl Fn(usize, usize) -> (Cells<'a>, Cells<'a>),
    ) -> Attention<'a> {
        let Shape { group, head_dim, .. } = self.shape;
        let Unit { sequence, head, chunk, tokens } = self.unit(i);
        let row = (head * self.all + tokens.start) * group;
        let (keys, values) = cells(sequence, head);
        Attention {
            queries: &queries[row * head_dim..][..tokens.len() * group * head_dim],
            views: &views[tokens],
            group,
            keys,
            values,
            head_dim,
            chunk,
            soft_cap: None,
        }
    }

    fn unit(&self, i: usize) -> Unit {
        let run = &self.runs()[self.runs().partition_point(|run| run.unit <= i) - 1];
        let i = i - run.unit;
        let (tile, i) = (i % run.tiles, i / run.tiles);
        let first = tile * self.tile_tokens;
        let tokens = run.first + first..run.first + run.tokens.min(first + self.tile_tokens);
        let chunks = run.chunks.len();
        let chunk = run.chunks.start + i % chunks;
        Unit { sequence: run.sequence, head: i / chunks, chunk, tokens }
    }

    /// The place of a row's parts in the buffer: query head `head` of the plan's `i`-th token, whose view is `view`.
    /// There is no sink.
    pub fn parts<'a>(&self, buffer: &'a [f32], i: usize, head: usize, view: &View) -> Parts<'a> {
        let (token, group) = (self.first + i, self.shape.group);
        let run = &self.runs()[self.runs().partition_point(|run| run.first <= token) - 1];
        let tile = (token - run.first) / self.tile_tokens;
        let chunks = view.chunks();
        let chunk = head / group * run.chunks.len() + chunks.start - run.chunks.start;
        let unit = run.unit + chunk * run.tiles + tile;
        let tokens = self.unit(unit).tokens;
        Parts {
            first: &buffer[unit * self.unit_len()..],
            stride: run.tiles * self.unit_len(),
            chunks: chunks.len(),
            rows: tokens.len() * group,
            row: (token - tokens.start) * group + head % group,
            sink: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that each row of a pass over such sequences is in one unit for each chunk, and that its parts are found
    /// there.
    fn check(
        shape: Shape,
        sequences: &[(usize, usize)],
        window: Option<usize>,
        members: usize,
        room: usize,
    ) {
        let plain = |(n, context): &(usize, usize)| {
            let context = *context;
            (1..=*n).map(move |i| View::plain(context + i).within(window))
        };
        let views: Vec<View> = sequences.iter().flat_map(plain).collect();
        let owners: Vec<usize> =
            (0..).zip(sequences).flat_map(|(s, (n, _))| std::iter::repeat_n(s, *n)).collect();
        let mut first = 0;
        while first < views.len() {
            let lens = sequences.iter().map(|(n, _)| *n);
            let plan = Plan::new(shape, &views, lens, first, room, members);
            assert!(plan.len() <= room && !plan.is_empty());
            // Each unit writes its number over the parts of its rows.
            let mut buffer = vec![f32::NAN; plan.len()];
            for (i, unit) in buffer.chunks_mut(plan.unit_len()).enumerate() {
                let rows = plan.unit(i).tokens.len() * shape.group;
                assert!(rows <= shape.unit_rows());
                unit[..rows * part_len(32)].fill(i as f32);
            }
            for i in 0..plan.tokens() {
                let token = first + i;
                for head in 0..shape.kv_heads * shape.group {
                    let parts = plan.parts(&buffer, i, head, &views[token]);
                    assert_eq!(parts.chunks, views[token].chunks().len());
                    for (i, chunk) in views[token].chunks().enumerate() {
                        let part = &parts.first[i * parts.stride..];
                        let unit = plan.unit(part[2 * parts.row] as usize);
                        assert_eq!((unit.head, unit.chunk), (head / shape.group, chunk));
                        assert_eq!(unit.sequence, owners[token]);
                        assert!(unit.tokens.contains(&token));
                        let row = (token - unit.tokens.start) * shape.group + head % shape.group;
                        assert_eq!(parts.row, row);
                        let last = 2 * parts.rows + parts.row * 32 + 31;
                        assert_eq!(part[last], part[2 * parts.row]);
                    }
                }
            }
            first += plan.tokens();
        }
    }

    #[test]
    fn units_cover_every_row_once_and_parts_find_them() {
        for (kv_heads, group) in [(8, 4), (3, 3), (4, 1), (1, 7), (2, 100)] {
            let shape = Shape { kv_heads, group, head_dim: 32 };
            for sequences in [
                &[(1, 0)][..],
                &[(1, 5000)],
                &[(3, 10)],
                &[(16, 300)],
                &[(64, 4096)],
                &[(200, 60)],
                &[(1, 700), (1, 0), (1, 255), (1, 256)],
                &[(30, 900), (0, 5), (1, 3000), (7, 0)],
                &[(5, 100); MAX_SEQUENCES],
            ] {
                let n: usize = sequences.iter().map(|(n, _)| n).sum();
                let positions = sequences.iter().map(|(n, context)| n + context).max().unwrap();
                for (members, room, window) in
                    [(1, n, None), (2, 1, None), (7, n, Some(40)), (3, n / 2, Some(300))]
                {
                    check(shape, sequences, window, members, shape.room(room, positions));
                }
            }
        }
    }

    #[test]
    fn few_tokens_are_work_for_many() {
        let shape = Shape { kv_heads: 3, group: 3, head_dim: 64 };
        let units = |views: &[View], lens: &[usize], room| {
            let plan = Plan::new(shape, views, lens.iter().copied(), 0, room, 8);
            plan.len() / plan.unit_len()
        };
        let room = shape.room(1, 4096);
        assert_eq!(units(&[View::plain(4000)], &[1], room), 3 * 16, "one over a long context");
        assert_eq!(units(&[View::plain(40); 8], &[1; 8], room), 3 * 8, "one of each sequence");
        let long = [View::plain(4000).within(Some(150))];
        assert_eq!(units(&long, &[1], room), 3, "chunks before the window are no work");
        let views: Vec<View> = (1..=64).map(View::plain).collect();
        assert!(units(&views, &[64], shape.room(64, 64)) >= 32, "a short context is cut by tokens");
    }
}
