//! Pieces of the cache: which positions lie together, and in which order.

use super::view::CHUNK;
use crate::cpu::lanes::LANES;

/// Which half of the cache: what a piece is, and the order of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Blocks of 16 positions, positions side by side.
    Keys,
    /// Chunks of [`CHUNK`] positions, sixteen elements of a head side by side.
    Values,
}

impl Half {
    /// Positions of a piece.
    pub const fn positions(self) -> usize {
        match self {
            Half::Keys => LANES,
            Half::Values => CHUNK,
        }
    }

    /// Where element `d` of the head at position `p` of the piece stands.
    pub(super) const fn index(self, d: usize, p: usize) -> usize {
        match self {
            Half::Keys => d * LANES + p,
            Half::Values => (d / LANES * CHUNK + p) * LANES + d % LANES,
        }
    }
}
