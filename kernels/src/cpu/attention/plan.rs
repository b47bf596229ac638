//! A pass over all heads, cut into work for a team.
//!
//! A unit of work is a tile of tokens over one chunk of one KV head; units lie in the order (KV head,
//! chunk, tile), so that whoever takes the next one finds the same keys and values in the cache. Their
//! parts lie in the same order in one buffer, as many tokens at a time as it has room for. None of that
//! shows in a result: chunks are parts of the definition, and tiles never mix rows.

use super::{Attention, CHUNK, Cells, Parts, View, part_len};
use std::ops::Range;

/// Rows of a tile: what many rows share, they convert once; and their scores still fit the second cache.
const TILE_ROWS: usize = 64;

/// Fewer tokens than this are not worth a conversion of their own.
const TILE_TOKENS: usize = 4;

/// Units for each member of a team: one that is slowed down takes fewer.
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

/// How the attention of the first `tokens` tokens of a pass is shared out.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    shape: Shape,
    tokens: usize,
    tile_tokens: usize,
    chunks: usize,
}

/// One piece of work: some tokens of the plan over a chunk of a KV head.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unit {
    head: usize,
    chunk: usize,
    tokens: Range<usize>,
}

impl Plan {
    /// For as many of these tokens as `room` floats have room for, and so many members. There is a token,
    /// and room for it.
    pub fn new(shape: Shape, views: &[View], room: usize, members: usize) -> Plan {
        let longest = views.iter().map(View::len).fold(0, usize::max);
        let chunks = longest.div_ceil(CHUNK);
        let most = views.len().div_ceil(shape.tile_tokens());
        let wanted = (UNITS * members).div_ceil(shape.kv_heads * chunks);
        let tiles = wanted.min(views.len() / TILE_TOKENS).max(most);
        let tile_tokens = views.len().div_ceil(tiles);
        let mut plan = Plan { shape, tokens: views.len(), tile_tokens, chunks };
        let tiles = room / (plan.unit_len() * chunks * shape.kv_heads);
        plan.tokens = plan.tokens.min(tiles * tile_tokens);
        plan
    }

    /// How many tokens it is for.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Floats of the parts of one unit.
    pub fn unit_len(&self) -> usize {
        self.tile_tokens * self.shape.group * part_len(self.shape.head_dim)
    }

    /// Floats of all units.
    pub fn len(&self) -> usize {
        self.shape.kv_heads * self.chunks * self.tiles() * self.unit_len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    fn tiles(&self) -> usize {
        self.tokens.div_ceil(self.tile_tokens)
    }

    /// The work of unit `i`. `queries` are those of all tokens of the pass, (kv_heads, tokens, group,
    /// head_dim), and `views` what these tokens see; the plan is for those from `first` on. `cells` gives
    /// keys and values of a KV head.
    pub fn task<'a>(
        &self,
        i: usize,
        queries: &'a [f32],
        views: &'a [View],
        first: usize,
        cells: impl Fn(usize) -> (Cells<'a>, Cells<'a>),
    ) -> Attention<'a> {
        let Shape { group, head_dim, .. } = self.shape;
        let Unit { head, chunk, tokens } = self.unit(i);
        let token = first + tokens.start;
        let row = (head * views.len() + token) * group;
        let (keys, values) = cells(head);
        Attention {
            queries: &queries[row * head_dim..][..tokens.len() * group * head_dim],
            views: &views[token..][..tokens.len()],
            group,
            keys,
            values,
            head_dim,
            chunk,
        }
    }

    fn unit(&self, i: usize) -> Unit {
        let (tile, i) = (i % self.tiles(), i / self.tiles());
        let first = tile * self.tile_tokens;
        let tokens = first..self.tokens.min(first + self.tile_tokens);
        Unit { head: i / self.chunks, chunk: i % self.chunks, tokens }
    }

    /// Where a row's parts lie in the buffer: query head `head` of token `token`, which sees `len`
    /// positions.
    pub fn parts<'a>(&self, buffer: &'a [f32], token: usize, head: usize, len: usize) -> Parts<'a> {
        let (tile, group) = (token / self.tile_tokens, self.shape.group);
        let unit = head / group * self.chunks * self.tiles() + tile;
        let tokens = self.unit(unit).tokens;
        Parts {
            first: &buffer[unit * self.unit_len()..],
            stride: self.tiles() * self.unit_len(),
            chunks: len.div_ceil(CHUNK),
            rows: tokens.len() * group,
            row: (token - tokens.start) * group + head % group,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cover_every_row_once_and_parts_find_them() {
        for (kv_heads, group) in [(8, 4), (3, 3), (4, 1), (1, 7), (2, 100)] {
            let shape = Shape { kv_heads, group, head_dim: 32 };
            for (n, context) in [(1, 0), (1, 5000), (3, 10), (16, 300), (64, 4096), (200, 60)] {
                let views: Vec<View> = (1..=n).map(|i| View::plain(context + i)).collect();
                for (members, room) in [(1, n), (2, 1), (7, n), (3, n / 2)] {
                    let room = shape.room(room, context + n);
                    let plan = Plan::new(shape, &views, room, members);
                    assert!(plan.len() <= room && !plan.is_empty());
                    // Each unit writes its number over the parts of its rows.
                    let mut buffer = vec![f32::NAN; plan.len()];
                    for (i, unit) in buffer.chunks_mut(plan.unit_len()).enumerate() {
                        let rows = plan.unit(i).tokens.len() * group;
                        assert!(rows <= shape.unit_rows());
                        unit[..rows * part_len(32)].fill(i as f32);
                    }
                    for (token, view) in views.iter().enumerate().take(plan.tokens()) {
                        for head in 0..kv_heads * group {
                            let parts = plan.parts(&buffer, token, head, view.len());
                            for chunk in 0..parts.chunks {
                                let part = &parts.first[chunk * parts.stride..];
                                let unit = plan.unit(part[2 * parts.row] as usize);
                                assert_eq!((unit.head, unit.chunk), (head / group, chunk));
                                assert!(unit.tokens.contains(&token));
                                let row = (token - unit.tokens.start) * group + head % group;
                                assert_eq!(parts.row, row);
                                let last = 2 * parts.rows + parts.row * 32 + 31;
                                assert_eq!(part[last], part[2 * parts.row]);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn one_token_over_a_long_context_is_work_for_many() {
        let shape = Shape { kv_heads: 3, group: 3, head_dim: 64 };
        let plan = Plan::new(shape, &[View::plain(4000)], shape.room(1, 4096), 8);
        assert_eq!(plan.len() / plan.unit_len(), 3 * 16);
        let views: Vec<View> = (1..=64).map(View::plain).collect();
        let plan = Plan::new(shape, &views, shape.room(64, 64), 8);
        assert!(plan.len() / plan.unit_len() >= 32, "a short context is cut by tokens");
    }
}
