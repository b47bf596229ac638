//! A pass over all heads of some sequences, cut into work for a thread pool.
//!
//! A unit of work is a tile of tokens of one sequence over one chunk of one KV head; units lie in the order
//! (sequence, KV head, chunk, tile), so that whoever takes the next one finds the same keys and values in
//! the cache. Their parts lie in the same order in one buffer, as many tokens at a time as it has room for.
//! None of that shows in a result: chunks are parts of the definition, and tiles never mix rows.

use super::{Attention, CHUNK, Cells, Parts, View, part_len};
use std::ops::Range;

/// Rows of a tile: what many rows share, they convert once; and their scores still fit the second cache.
const TILE_ROWS: usize = 64;

/// Fewer tokens than this are not worth a conversion of their own.
const TILE_TOKENS: usize = 4;

/// Most sequences of a pass.
pub const MAX_SEQUENCES: usize = 16;

/// Units for each member of a thread pool: one that is slowed down takes fewer.
const UNITS: usize = 4;

/// Sizes of the attention of a model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Query heads of each.
    pub group: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl Shape {
    /// Most tokens of a tile, of which at least one fits any plan.
    fn tile_tokens(&self) -> usize {
        (TILE_ROWS / self.group).max(1)
    }

    /// Most rows of a unit.
    pub fn unit_rows(&self) -> usize {
        self.tile_tokens() * self.group
    }

    /// Floats of a buffer that holds the parts of `tokens` tokens over one chunk, and of a tile over
    /// `positions`.
    pub fn room(&self, tokens: usize, positions: usize) -> usize {
        let token = self.kv_heads * self.group * part_len(self.head_dim);
        token * (tokens + self.tile_tokens()).max(self.tile_tokens() * positions.div_ceil(CHUNK))
    }
}

/// How the attention of some tokens of a pass is shared out.
#[derive(Clone, Debug)]
pub struct Plan {
    shape: Shape,
    /// Tokens of the pass, and the first one of the plan.
    all: usize,
    first: usize,
    tile_tokens: usize,
    /// What it takes of each sequence; the first `n_runs` count.
    runs: [Run; MAX_SEQUENCES],
    n_runs: usize,
}

/// Successive tokens of one sequence, counted as in the pass.
#[derive(Clone, Debug, Default)]
struct Run {
    sequence: usize,
    first: usize,
    tokens: usize,
    tiles: usize,
    /// Chunks of which one of them sees something.
    chunks: Range<usize>,
    /// Number of the first unit.
    unit: usize,
}

/// One piece of work: some tokens of the pass over a chunk of a KV head.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unit {
    sequence: usize,
    head: usize,
    chunk: usize,
    tokens: Range<usize>,
}

impl Plan {
    /// For a pass over tokens that see `views`, of which each sequence has as many as `lens` says, at most
    /// [`MAX_SEQUENCES`] of them: those from `first` on that `room` floats have room for, shared out among
    /// so many members. There is a token, and room for it.
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

    /// Tokens of a tile that leave work for all members.
    fn tile_for(&self, members: usize) -> usize {
        let longest = self.runs().iter().map(|run| run.tokens).fold(0, usize::max);
        let chunks: usize = self.runs().iter().map(|run| run.chunks.len()).sum();
        let most = longest.div_ceil(self.shape.tile_tokens());
        let wanted = (UNITS * members).div_ceil(self.shape.kv_heads * chunks);
        longest.div_ceil(wanted.min(longest / TILE_TOKENS).max(most))
    }

    /// Takes as many tokens as there is room for, and numbers the units.
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

    /// How many tokens it is for.
    pub fn tokens(&self) -> usize {
        self.runs().iter().map(|run| run.tokens).sum()
    }

    /// Floats of the parts of one unit.
    pub fn unit_len(&self) -> usize {
        self.tile_tokens * self.shape.group * part_len(self.shape.head_dim)
    }

    /// Floats of all units.
    pub fn len(&self) -> usize {
        let units: usize = self.runs().iter().map(|run| run.chunks.len() * run.tiles).sum();
        self.shape.kv_heads * units * self.unit_len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.n_runs == 0
    }

    /// The work of unit `i`, without a soft cap. `queries` are those of all tokens of the pass, (kv_heads, tokens, group,
    /// head_dim), and `views` what these tokens see. `cells` gives keys and values of a sequence's KV head.
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

    /// Where a row's parts lie in the buffer: query head `head` of the plan's `i`-th token, which sees
    /// `view`. There is no sink.
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

    /// Every row of a pass over such sequences is in one unit a chunk, and its parts are found there.
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
