//! Which nodes of a tree see which.
//!
//! Nodes come parents before children. A node sees itself and its ancestors, one bit each: bit `j` of a
//! mask is node `j`. So its depth is the number of its bits less one, and a path from a root is a chain
//! exactly if its nodes are the bits of its last one's mask.

use crate::error::{Error, Result};
use dovetail_kernels::cpu::attention::MAX_TREE;

/// The ancestors of every node of a tree, in memory of a fixed size.
#[derive(Clone, Copy)]
pub(super) struct Masks {
    masks: [u64; MAX_TREE],
    len: usize,
}

impl Masks {
    /// Of no tree.
    pub const NONE: Masks = Masks { masks: [0; MAX_TREE], len: 0 };

    /// Of the tree in which node `i` is a child of `parents[i]`, or a root.
    ///
    /// # Errors
    /// When a parent does not come before its child, or there are more than [`MAX_TREE`] nodes.
    pub fn new(parents: &[Option<usize>]) -> Result<Masks> {
        let n = parents.len();
        if n > MAX_TREE {
            return Err(Error::Invalid(format!("a tree of {n} nodes; at most {MAX_TREE} fit")));
        }
        let mut tree = Masks { len: n, ..Masks::NONE };
        for (node, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent.filter(|parent| *parent >= node) {
                return Err(Error::Invalid(format!(
                    "node {node} of a tree has the parent {parent}; parents come first"
                )));
            }
            tree.masks[node] = parent.map_or(0, |parent| tree.masks[parent]) | 1 << node;
        }
        Ok(tree)
    }

    /// What each node sees.
    pub fn masks(&self) -> &[u64] {
        &self.masks[..self.len]
    }

    /// # Errors
    /// When `path` is not some root, a child of it, a child of that, and so on.
    pub fn check_path(&self, path: &[usize]) -> Result<()> {
        let ascending = path.windows(2).all(|pair| pair[0] < pair[1]);
        let is_path = match path.last() {
            None => true,
            Some(last) if *last >= self.len || !ascending => false,
            Some(last) => path.iter().fold(0, |bits, node| bits | 1 << node) == self.masks[*last],
        };
        let n = self.len;
        let wrong =
            || Error::Invalid(format!("{path:?} is no path from a root of the last tree's {n}"));
        is_path.then_some(()).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_see_their_ancestors() {
        //   0 ── 1 ── 3
        //   └─── 2 ── 4 ── 5        6 ── 7
        let parents = [None, Some(0), Some(0), Some(1), Some(2), Some(4), None, Some(6)];
        let tree = Masks::new(&parents).unwrap();
        assert_eq!(tree.masks(), [1, 3, 5, 11, 21, 53, 64, 192]);
        for path in [&[][..], &[0], &[0, 1, 3], &[0, 2, 4, 5], &[6, 7]] {
            tree.check_path(path).unwrap();
        }
        for path in [&[1][..], &[0, 3], &[0, 1, 2], &[1, 0], &[0, 0], &[0, 7], &[8], &[0, 64], &[7]]
        {
            assert!(tree.check_path(path).unwrap_err().is_usage(), "{path:?}");
        }
    }

    #[test]
    fn impossible_trees_are_refused() {
        for parents in [&[Some(0)][..], &[None, Some(2), Some(0)], &[None; 65]] {
            assert!(Masks::new(parents).err().expect("no tree").is_usage());
        }
        let chain: Vec<_> = (0..MAX_TREE).map(|i| i.checked_sub(1)).collect();
        assert_eq!(Masks::new(&chain).unwrap().masks()[63], u64::MAX);
        assert!(Masks::NONE.check_path(&[0]).is_err() && Masks::NONE.check_path(&[]).is_ok());
    }
}
