//! What a pass does for a sequence, and where its rows are afterwards.

use crate::tree::Tree;
use dovetail_kernels::cpu::attention::MAX_SEQUENCES;
use smallvec::SmallVec;
use std::ops::{Index, Range};

/// Which rows of a run the head is computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// No row: the pass only fills the cache.
    None,
    /// The last row.
    Last,
    /// Every row.
    All,
}

/// What a pass does for one sequence.
#[derive(Clone, Copy, Debug)]
pub enum Work<'a> {
    /// Runs a tree of guesses behind the sequence, which stays as it is until
    /// [`Target::keep`](super::Target::keep). Each node has a row of logits.
    Tree(&'a Tree),
    /// The same for a tree whose first `done` nodes are the sequence's last tree: only the others are run
    /// and have rows of logits.
    More {
        /// All nodes.
        tree: &'a Tree,
        /// How many of them were run before.
        done: usize,
    },
    /// Runs tokens that become part of the sequence.
    Run {
        /// Part of a prompt, say.
        tokens: &'a [u32],
        /// Which of them have rows of logits.
        outputs: Outputs,
    },
}

impl<'a> Work<'a> {
    /// Its tree, and how many nodes of that were run before.
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

    /// Which of its `n` rows have logits.
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

/// Where the rows of each sequence's work are, in the order of the batch.
#[derive(Clone, Debug, Default)]
pub struct Rows(pub(super) SmallVec<[WorkRows; MAX_SEQUENCES]>);

/// Where the rows of one sequence's work are, until the next pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkRows {
    /// Its rows among all of the pass: those of the hidden states that were tapped.
    pub rows: Range<usize>,
    /// Its rows among those with logits: what [`Target::logits`](super::Target::logits) takes.
    pub outputs: Range<usize>,
}

impl Rows {
    /// Rows of the whole pass.
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
