//! The messages. The kernels have twins of these structures in C.
//!
//! A *verdict*, from the target to the drafter, is the result of verifying the last tree: the accepted path with the
//! target's hidden states, which are the drafter's features. A slot holds the header, then `rows` rows:
//!
//! ```text
//!   0  rows      u32                20  nodes    u32
//!   4  first     u32                24  floor    f32
//!   8  grow      u32                28  n_draft  u32
//!  12  depth     u32                32  tokens   [u32; 64]
//!  16  width     u32               288  (rows, feature + hidden) f16: the feature, then the embedding
//! ```
//! Widths are multiples of 8, so every feature and every embedding begins at a multiple of 16 bytes.
//!
//! *Proposals*, from the drafter to the target, are a tree:
//!
//! ```text
//!   0  len       u32               520  depths     [u32; 64]
//!   4  unused    u32               776  log_probs  [f32; 64]
//!   8  tokens    [u32; 64]        1032  masks      [u64; 64]
//! 264  parents   [u32; 64]        1544
//! ```

use bytemuck::{Pod, Zeroable};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::mem::offset_of;

/// Most rows of a verdict and most nodes of a tree: bits of a mask.
pub const MAX_ROWS: usize = u64::BITS as usize;

/// The header of a verdict, before its rows.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Verdict {
    /// Number of rows that follow, up to [`MAX_ROWS`].
    pub rows: u32,
    /// Slot of the oldest row in the drafter's cache; the others follow.
    pub first: u32,
    /// 1 if a tree is to be grown after the last row, 0 if the rows are only taken in.
    pub grow: u32,
    /// Most draft tokens on a path of the tree.
    pub depth: u32,
    /// Draft tokens that are expanded on each level, and that each node proposes.
    pub width: u32,
    /// Most nodes of the tree, including the root.
    pub nodes: u32,
    /// Least log probability of a path.
    pub floor: f32,
    /// Current number of tokens in the draft vocabulary.
    pub n_draft: u32,
    /// The token after each row's position: the accepted path, and last the root of the next tree. (rows)
    pub tokens: [u32; MAX_ROWS],
}

const _: () = {
    assert!(offset_of!(Verdict, rows) == 0);
    assert!(offset_of!(Verdict, first) == 4);
    assert!(offset_of!(Verdict, grow) == 8);
    assert!(offset_of!(Verdict, depth) == 12);
    assert!(offset_of!(Verdict, width) == 16);
    assert!(offset_of!(Verdict, nodes) == 20);
    assert!(offset_of!(Verdict, floor) == 24);
    assert!(offset_of!(Verdict, n_draft) == 28);
    assert!(offset_of!(Verdict, tokens) == 32);
    assert!(size_of::<Verdict>() == 288 && size_of::<Verdict>().is_multiple_of(16));
};

/// Widths of the rows of verdicts, which determine the layout of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictShape {
    feature: usize,
    hidden: usize,
}

impl VerdictShape {
    /// Features of `feature` numbers and embeddings of `hidden` numbers. `None` if one is 0, not a multiple of 8, or
    /// above 2²⁴.
    pub fn new(feature: usize, hidden: usize) -> Option<VerdictShape> {
        let fits = |width: usize| width > 0 && width.is_multiple_of(8) && width <= 1 << 24;
        (fits(feature) && fits(hidden)).then_some(VerdictShape { feature, hidden })
    }

    /// Length of a message with [`MAX_ROWS`] rows, in bytes.
    pub fn slot_bytes(self) -> usize {
        self.row_at(MAX_ROWS)
    }

    /// Offset of a row's feature in bytes.
    pub fn row_at(self, row: usize) -> usize {
        size_of::<Verdict>() + row * (self.feature + self.hidden) * size_of::<f16>()
    }

    /// The header in a slot.
    ///
    /// # Panics
    /// If the slot is too short or not aligned to 4.
    pub fn header(self, slot: &[u8]) -> &Verdict {
        bytemuck::from_bytes(&slot[..size_of::<Verdict>()])
    }

    /// The header in a slot, for writing.
    ///
    /// # Panics
    /// As [`VerdictShape::header`].
    pub fn header_mut(self, slot: &mut [u8]) -> &mut Verdict {
        bytemuck::from_bytes_mut(&mut slot[..size_of::<Verdict>()])
    }

    /// The feature and the embedding of a row.
    ///
    /// # Panics
    /// If the slot has no such row, or is not aligned to 2.
    pub fn row(self, slot: &[u8], row: usize) -> (&[f16], &[f16]) {
        let bytes = &slot[self.row_at(row)..self.row_at(row + 1)];
        bytemuck::cast_slice(bytes).split_at(self.feature)
    }

    /// The feature and the embedding of a row, for writing: see [`write_halves`].
    ///
    /// # Panics
    /// As [`VerdictShape::row`].
    pub fn row_mut(self, slot: &mut [u8], row: usize) -> (&mut [f16], &mut [f16]) {
        let bytes = &mut slot[self.row_at(row)..self.row_at(row + 1)];
        bytemuck::cast_slice_mut(bytes).split_at_mut(self.feature)
    }
}

/// Rounds to half floats, to nearest even. Larger values become the largest half float, ±65504, as in the kernels: an
/// infinity would turn the next sum into NaN. NaN stays NaN. `halves` is only written, in order, and never read.
///
/// # Panics
/// If the lengths differ.
pub fn write_halves(floats: &[f32], halves: &mut [f16]) {
    assert_eq!(floats.len(), halves.len(), "a half float for each float");
    const MAX_F16: f32 = 65504.0;
    let mut within = [0.0; 64];
    for (floats, halves) in floats.chunks(within.len()).zip(halves.chunks_mut(within.len())) {
        let within = &mut within[..floats.len()];
        for (to, from) in within.iter_mut().zip(floats) {
            *to = from.clamp(-MAX_F16, MAX_F16);
        }
        halves.convert_from_f32_slice(within);
    }
}

/// A draft tree. Node 0 is the root, and parents come before children.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Proposals {
    /// Number of nodes, including the root: 1 to [`MAX_ROWS`].
    pub len: u32,
    /// Aligns the masks.
    pub unused: u32,
    /// Tokens of the target's vocabulary. (len)
    pub tokens: [u32; MAX_ROWS],
    /// Parent of each node; 0 for the root. (len)
    pub parents: [u32; MAX_ROWS],
    /// Number of draft tokens from the root to each node, including the node. (len)
    pub depths: [u32; MAX_ROWS],
    /// Log probability of the path to each node. (len)
    pub log_probs: [f32; MAX_ROWS],
    /// Nodes that each node sees, itself and its ancestors; bit `j` is node `j`. (len)
    pub masks: [u64; MAX_ROWS],
}

const _: () = {
    assert!(offset_of!(Proposals, len) == 0);
    assert!(offset_of!(Proposals, unused) == 4);
    assert!(offset_of!(Proposals, tokens) == 8);
    assert!(offset_of!(Proposals, parents) == 264);
    assert!(offset_of!(Proposals, depths) == 520);
    assert!(offset_of!(Proposals, log_probs) == 776);
    assert!(offset_of!(Proposals, masks) == 1032);
    assert!(size_of::<Proposals>() == 1544);
};

impl Proposals {
    /// Length of a message in bytes.
    pub const SLOT_BYTES: usize = size_of::<Proposals>();

    /// The proposals in a slot.
    ///
    /// # Panics
    /// If the slot is too short or not aligned to 8.
    pub fn of(slot: &[u8]) -> &Proposals {
        bytemuck::from_bytes(&slot[..Self::SLOT_BYTES])
    }

    /// The proposals in a slot, for writing.
    ///
    /// # Panics
    /// As [`Proposals::of`].
    pub fn of_mut(slot: &mut [u8]) -> &mut Proposals {
        bytemuck::from_bytes_mut(&mut slot[..Self::SLOT_BYTES])
    }

    /// Whether this is a valid tree. Data from a device must be checked before use.
    pub fn is_tree(&self) -> bool {
        let len = self.len as usize;
        let follows = |node: usize| {
            let parent = self.parents[node] as usize;
            parent < node
                && self.depths[node] == self.depths[parent] + 1
                && self.masks[node] == self.masks[parent] | 1 << node
        };
        let root = self.parents[0] == 0 && self.depths[0] == 0 && self.masks[0] == 1;
        (1..=MAX_ROWS).contains(&len) && root && (1..len).all(follows)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The largest half float, values around and beyond it, halfway cases, and NaN.
    #[test]
    fn halves_are_rounded_and_stay_finite() {
        let cases = [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (1.0 + 1.0 / 2048.0, 0x3c00), // half way: to even
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (1.0 + 1.1 / 2048.0, 0x3c01),
            (6.0e-8, 0x0001), // the smallest there is
            (2.0e-8, 0x0000),
            (65504.0, 0x7bff),
            (65519.0, 0x7bff),
            (65520.0, 0x7bff),
            (1.0e30, 0x7bff),
            (f32::INFINITY, 0x7bff),
            (-65520.0, 0xfbff),
            (f32::NEG_INFINITY, 0xfbff),
        ];
        // Longer than a chunk, and not a multiple of a register.
        let floats: Vec<f32> = (0..203).map(|i| cases[i % cases.len()].0).collect();
        let mut halves = vec![f16::NAN; floats.len()];
        write_halves(&floats, &mut halves);
        for (i, half) in halves.iter().enumerate() {
            let (float, bits) = cases[i % cases.len()];
            assert_eq!(half.to_bits(), bits, "{float} became {half}");
        }
        let mut half = [f16::ZERO];
        write_halves(&[f32::NAN], &mut half);
        assert!(half[0].is_nan());
    }

    #[test]
    fn rows_stand_behind_the_header() {
        assert_eq!(VerdictShape::new(24, 0), None);
        assert_eq!(VerdictShape::new(12, 8), None);
        assert_eq!(VerdictShape::new(usize::MAX - 7, 8), None);
        let shape = VerdictShape::new(24, 8).unwrap();
        assert_eq!(shape.slot_bytes(), 288 + 64 * 64);
        assert!((0..MAX_ROWS).all(|row| shape.row_at(row).is_multiple_of(16)));

        let mut words = vec![0u64; shape.slot_bytes() / 8];
        let slot: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        let header = Verdict { rows: 64, tokens: [7; MAX_ROWS], ..Verdict::zeroed() };
        *shape.header_mut(slot) = header;
        for row in 0..MAX_ROWS {
            let (feature, embedding) = shape.row_mut(slot, row);
            write_halves(&[row as f32; 24], feature);
            write_halves(&[-(row as f32); 8], embedding);
        }
        assert_eq!(*shape.header(slot), header);
        for row in 0..MAX_ROWS {
            let value = f16::from_f32(row as f32);
            assert_eq!(shape.row(slot, row), (&[value; 24][..], &[-value; 8][..]));
        }
        let first: [u8; 2] = slot[288 + 64 * 3..][..2].try_into().unwrap();
        assert_eq!(f16::from_le_bytes(first), f16::from_f32(3.0), "row 3 is where the map says");
    }

    #[test]
    fn only_a_tree_is_believed() {
        let mut words = [0u64; Proposals::SLOT_BYTES / 8];
        let tree = Proposals::of_mut(bytemuck::cast_slice_mut(&mut words));
        assert!(!tree.is_tree(), "zeros are no tree");
        *tree = Proposals { len: 1, ..Proposals::zeroed() };
        tree.masks[0] = 1;
        assert!(tree.is_tree(), "a root is");
        for node in 1..MAX_ROWS {
            let parent = (node - 1) / 2;
            tree.parents[node] = parent as u32;
            tree.depths[node] = tree.depths[parent] + 1;
            tree.masks[node] = tree.masks[parent] | 1 << node;
        }
        tree.len = MAX_ROWS as u32;
        assert!(tree.is_tree());
        let wrong: [fn(&mut Proposals); 9] = [
            |t| t.len = 0,
            |t| t.len = 65,
            |t| t.parents[0] = 1,
            |t| t.masks[0] = 3,
            |t| t.depths[0] = 1,
            |t| t.parents[5] = 5,
            |t| t.parents[5] = u32::MAX,
            |t| t.depths[6] = 1,
            |t| t.masks[63] ^= 1,
        ];
        for (i, spoil) in wrong.iter().enumerate() {
            let mut tree = *tree;
            spoil(&mut tree);
            assert!(!tree.is_tree(), "case {i}");
        }
        assert_eq!(Proposals::of(bytemuck::cast_slice(&words)).len, 64);
    }
}
