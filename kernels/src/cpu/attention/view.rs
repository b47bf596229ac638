//! What a row sees of the cache.

use super::CHUNK;

/// Most nodes of a tree: bits of a mask.
pub const MAX_TREE: usize = 64;

/// What a row sees: the first `prefix` positions of the cache and, of those behind, `prefix + j` for
/// each bit `j` of `branch`. In this order they are the row's positions `0 … len`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    prefix: usize,
    branch: u64,
}

impl View {
    /// The first `len` positions.
    pub fn plain(len: usize) -> View {
        View { prefix: len, branch: 0 }
    }

    /// The first `prefix` positions and those nodes of a tree that `mask` names: bit `j` is the node at
    /// position `prefix + j` of the cache.
    pub fn tree(prefix: usize, mask: u64) -> View {
        // Nodes without a gap before them are no different from the prefix.
        let run = mask.trailing_ones();
        View { prefix: prefix + run as usize, branch: mask.checked_shr(run).unwrap_or(0) }
    }

    /// How many positions the row sees.
    pub fn len(&self) -> usize {
        self.prefix + self.branch.count_ones() as usize
    }

    /// Whether the row sees nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it sees of the chunk that begins at its position `start`.
    pub(super) fn chunk(&self, start: usize) -> Seen {
        if start >= self.len() {
            return Seen::default();
        }
        let run = self.prefix.saturating_sub(start).min(CHUNK);
        let mut nodes = self.branch;
        // At most 63 nodes belong to the chunk before, or `start` would be past the end.
        for _ in self.prefix..start {
            nodes &= nodes - 1;
        }
        Seen { run, nodes: Nodes { prefix: self.prefix, bits: nodes, left: CHUNK - run } }
    }
}

/// What a row sees of one chunk.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    /// Positions from the chunk's first on, as they lie in the cache.
    pub run: usize,
    /// Nodes of a tree that follow them.
    pub nodes: Nodes,
}

impl Seen {
    /// One past the last position in the cache, `start` being the chunk's first; 0 if there is none.
    pub fn end(&self, start: usize) -> usize {
        let run = if self.run > 0 { start + self.run } else { 0 };
        self.nodes.last().map_or(run, |last| last + 1)
    }
}

/// Positions of nodes in the cache, ascending.
#[derive(Clone, Copy, Default)]
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

    /// All positions of a view, put together from its chunks.
    fn positions(view: View) -> Vec<usize> {
        let chunks = (0..view.len()).step_by(CHUNK).map(|start| (start, view.chunk(start)));
        let list = |(start, seen): (usize, Seen)| {
            let all: Vec<usize> = (start..start + seen.run).chain(seen.nodes).collect();
            assert_eq!(all.len(), CHUNK.min(view.len() - start));
            assert_eq!(seen.end(start), all[all.len() - 1] + 1);
            all
        };
        chunks.flat_map(list).collect()
    }

    #[test]
    fn chunks_of_a_view_are_its_positions_in_order() {
        for prefix in [0, 1, 3, 200, 255, 256, 257, 500, 511, 512] {
            for mask in [0, 1, 2, 0b1011, 0xff00, u64::MAX, 1 << 63, 0x8421_1248_8421_1249] {
                let nodes = (0..64).filter(|j| mask >> j & 1 == 1).map(|j| prefix + j);
                let expected: Vec<usize> = (0..prefix).chain(nodes).collect();
                let view = View::tree(prefix, mask);
                assert_eq!(view.len(), expected.len());
                assert_eq!(view.is_empty(), expected.is_empty());
                assert_eq!(positions(view), expected, "{prefix} {mask:b}");
                for start in [view.len().next_multiple_of(CHUNK), 4096] {
                    assert_eq!(view.chunk(start).end(start), 0);
                }
            }
        }
        assert_eq!(View::tree(7, 0b111), View::plain(10), "a chain is no tree");
    }
}
