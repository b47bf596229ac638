//! Work of a pass for a sequence, and the place of its rows afterwards.

use crate::tree::Tree;
use dovetail_kernels::cpu::attention::MAX_SEQUENCES;
use smallvec::SmallVec;
use std::ops::{Index, Range};

/// Rows of a run that get logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// No row: the pass only fills the cache.
    None,
    /// The last row.
    Last,
    /// Every row.
    All,
}

/// Work of a pass for one sequence.
#[derive(Clone, Copy, Debug)]
pub enum Work<'a> {
    /// Runs a tree behind the sequence. The sequence stays as it is until [`Target::keep`](super::Target::keep). Each
    /// node has a row of logits.
    Tree(&'a Tree),
    /// Extends the sequence's last tree: the first `done` nodes of `tree` are the last tree, and only the others are
    /// run and have rows of logits.
    More {
        /// All nodes.
        tree: &'a Tree,
        /// Number of nodes that were run before.
        done: usize,
    },
    /// Runs tokens that become part of the sequence.
    Run {
        /// The tokens, for example a part of a prompt.
        tokens: &'a [u32],
        /// The rows that have logits.
        outputs: Outputs,
    },
}

impl<'a> Work<'a> {
    /// The tree and the number of its nodes that were run before, if the work is a tree.
    pub(super) fn tree(&self) -> Option<(&'a Tree, usize)> {
        match *self {
            Work::Tree(tree) => Some((tree, 0)),
            Work::More { tree, done } => Some((tree, done)),
            Work::Run { .. } => None,
        }
    }

    /// The tokens that are run, one a row.
    pub(super) fn tokens(&self) -> &'a [u32] {
        match *self {
            Work::Tree(tree) => tree.tokens(),
            Work::More { tree, done } => &tree.tokens()[done..],
            Work::Run { tokens, outputs: _ } => tokens,
        }
    }

    /// Those of its `n` rows that have logits.
    pub(super) fn outputs(&self, n: usize) -> Range<usize> {
        match self {
            Work::Tree(_) | Work::More { .. } => 0..n,
            Work::Run { outputs, .. } => match outputs {
                Outputs::None => n..n,
                Outputs::Last => n.saturating_sub(1)..n,
                Outputs::All => 0..n,
            },
        }
    }
}

/// The place of each sequence's rows in a pass, in the order of the batch.
#[derive(Clone, Debug, Default)]
pub struct Rows(pub(super) SmallVec<[WorkRows; MAX_SEQUENCES]>);

/// The place of one sequence's rows, valid until the next pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkRows {
    /// Its rows among all rows of the pass; they index [`Features`](super::Features).
    pub rows: Range<usize>,
    /// Its rows among those with logits; they index [`Target::logits`](super::Target::logits).
    pub outputs: Range<usize>,
}

impl Rows {
    /// Number of rows of the whole pass.
    #[allow(clippy::len_without_is_empty, reason = "a pass has rows")]
    pub fn len(&self) -> usize {
        self.0.last().map_or(0, |last| last.rows.end)
    }
}

impl Index<usize> for Rows {
    type Output = WorkRows;

    /// The rows of the batch's `i`-th sequence.
    fn index(&self, i: usize) -> &WorkRows {
        &self.0[i]
    }
}
