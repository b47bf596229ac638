//! What a row sees of the cache.

use std::ops::Range;

/// Positions that share one maximum, and the least that a thread takes.
pub const CHUNK: usize = 256;

/// Most nodes of a tree: bits of a mask.
pub const MAX_TREE: usize = 64;

/// The path of a row, and how much of it the row sees.
///
/// The path is the first `prefix` positions of the cache and, of those behind, `prefix + j` for each bit
/// `j` of `branch`. In this order they are the row's positions `0 … len`; the row sees `start … len`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    start: usize,
    prefix: usize,
    branch: u64,
}

impl View {
    /// The first `len` positions, all of them seen.
    pub fn plain(len: usize) -> View {
        View { start: 0, prefix: len, branch: 0 }
    }

    /// The first `prefix` positions and those nodes of a tree that `mask` names, all of them seen: bit `j`
    /// is the node at position `prefix + j` of the cache.
    pub fn tree(prefix: usize, mask: u64) -> View {
        // Nodes without a gap before them are no different from the prefix.
        let run = mask.trailing_ones();
        let branch = mask.checked_shr(run).unwrap_or(0);
        View { start: 0, prefix: prefix + run as usize, branch }
    }

    /// The same path, of which only the last `window` positions are seen, one at least; all of them where
    /// there is no window. A window shorter than the branch hides nodes too.
    pub fn within(self, window: Option<usize>) -> View {
        let start = window.map_or(0, |window| self.len().saturating_sub(window.max(1)));
        View { start, ..self }
    }

    /// The first of its positions that the row sees.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Length of the path: one past the last position that the row sees.
    pub fn len(&self) -> usize {
        self.prefix + self.branch.count_ones() as usize
    }

    /// Whether the row sees nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers of the chunks of which the row sees something.
    pub fn chunks(&self) -> Range<usize> {
        self.start / CHUNK..self.len().div_ceil(CHUNK)
    }

    /// What it sees of the chunk that begins at its position `first`.
    pub(super) fn chunk(&self, first: usize) -> Seen {
        if first >= self.len() || first + CHUNK <= self.start {
            return Seen::NOTHING;
        }
        let from = self.start.saturating_sub(first);
        let run = self.prefix.saturating_sub(first).min(CHUNK);
        let mut nodes = self.branch;
        // Fewer nodes than there are stand before the first one seen here, which is before the path's end.
        for _ in self.prefix..first.max(self.start) {
            nodes &= nodes - 1;
        }
        let left = CHUNK - run.max(from);
        Seen { from, run, nodes: Nodes { prefix: self.prefix, bits: nodes, left } }
    }
}

/// What a row sees of one chunk: positions `from … run` as they lie in the cache, then nodes of a tree,
/// which are its positions from `max(from, run)` on. All are counted from the chunk's first position.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub from: usize,
    pub run: usize,
    pub nodes: Nodes,
}

impl Seen {
    /// Not a position.
    pub const NOTHING: Seen =
        Seen { from: CHUNK, run: 0, nodes: Nodes { prefix: 0, bits: 0, left: 0 } };

    /// The row's position of the first node.
    pub fn first_node(&self) -> usize {
        self.run.max(self.from)
    }

    /// One past the last position in the cache, `first` being the chunk's first; 0 if there is none.
    pub fn end(&self, first: usize) -> usize {
        let run = if self.run > self.from { first + self.run } else { 0 };
        self.nodes.last().map_or(run, |last| last + 1)
    }
}

/// Positions of nodes in the cache, ascending.
#[derive(Clone, Copy)]
pub(super) struct Nodes {
    prefix: usize,
    bits: u64,
    left: usize,
}

impl Nodes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bits == 0 || self.left == 0
    }
}

impl Iterator for Nodes {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let node = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        self.left -= 1;
        Some(self.prefix + node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All positions that a view sees, put together from its chunks.
    fn positions(view: View) -> Vec<usize> {
        let list = |chunk: usize| {
            let first = chunk * CHUNK;
            let seen = view.chunk(first);
            assert_eq!(seen.from, view.start().saturating_sub(first));
            let run = first + seen.from..(first + seen.run).max(first + seen.from);
            let all: Vec<usize> = run.chain(seen.nodes).collect();
            assert_eq!(all.len(), CHUNK.min(view.len() - first) - seen.from);
            assert_eq!(seen.end(first), all[all.len() - 1] + 1);
            all
        };
        view.chunks().flat_map(list).collect()
    }

    #[test]
    fn chunks_of_a_view_are_its_positions_in_order() {
        let windows = [1, 2, 3, 40, 64, 255, 256, 257, 300, 4000].map(Some);
        for prefix in [0, 1, 3, 200, 255, 256, 257, 500, 511, 512] {
            for mask in [0, 1, 2, 0b1011, 0xff00, u64::MAX, 1 << 63, 0x8421_1248_8421_1249] {
                let nodes = (0..64).filter(|j| mask >> j & 1 == 1).map(|j| prefix + j);
                let path: Vec<usize> = (0..prefix).chain(nodes).collect();
                for window in [None].into_iter().chain(windows) {
                    let view = View::tree(prefix, mask).within(window);
                    let start = window.map_or(0, |window| path.len().saturating_sub(window));
                    assert_eq!((view.start(), view.len()), (start, path.len()));
                    assert_eq!(view.is_empty(), path.is_empty());
                    assert_eq!(positions(view), path[start..], "{prefix} {mask:b} {window:?}");
                    for chunk in [view.chunks().end, 16] {
                        assert_eq!(view.chunk(chunk * CHUNK).end(chunk * CHUNK), 0);
                    }
                    if let Some(before) = view.chunks().start.checked_sub(1) {
                        assert_eq!(view.chunk(before * CHUNK).end(before * CHUNK), 0);
                    }
                }
            }
        }
        assert_eq!(View::tree(7, 0b111), View::plain(10), "a chain is no tree");
    }
}
