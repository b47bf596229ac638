//! A drafter with one sequence and no target, for measurements and tests.

use super::{CandidateSelector, DraftJob, DraftState, Drafter, RoundContext};
use crate::error::Result;
use crate::planner::{Planner, TreeLimits};
use crate::tree::{GrowingTree, Tree, TreeShape};
use dovetail_kernels::cpu::ThreadPool;

/// A drafter's state for one sequence, and a tree.
pub struct SoloDraft {
    state: DraftState,
    tree: GrowingTree,
    selector: CandidateSelector,
    planner: Planner,
}

impl SoloDraft {
    /// With a new state of this drafter.
    ///
    /// # Errors
    /// Those of [`Drafter::state`].
    pub fn new(drafter: &mut dyn Drafter) -> Result<SoloDraft> {
        let (tree, selector) = (GrowingTree::default(), CandidateSelector::default());
        Ok(SoloDraft { state: drafter.state()?, tree, selector, planner: Planner::default() })
    }

    /// The drafter's state.
    pub fn state(&mut self) -> &mut DraftState {
        &mut self.state
    }

    /// See [`Drafter::commit`].
    ///
    /// # Errors
    /// Those of the drafter.
    pub fn commit<'a>(
        &mut self,
        drafter: &mut dyn Drafter,
        first: usize,
        tokens: &[u32],
        mut features: impl Iterator<Item = &'a [f32]>,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        drafter.commit(&mut self.state, first, tokens, &mut features, pool)
    }

    /// Grows a tree of up to this shape behind `tokens`; all but the last of them were committed.
    ///
    /// # Errors
    /// Those of the drafter.
    pub fn expand(
        &mut self,
        drafter: &mut dyn Drafter,
        tokens: &[u32],
        shape: TreeShape,
        pool: &mut ThreadPool,
    ) -> Result<&Tree> {
        let root = *tokens.last().expect("a sequence is not empty");
        self.planner.begin(1, tokens.len(), true);
        self.planner.start(&mut self.tree, root, &TreeLimits::of(shape));
        let SoloDraft { state, tree, selector, planner } = self;
        let mut failure = None;
        let job = DraftJob::new(tokens, state, tree, selector, &mut failure);
        drafter.expand(&mut [job], &mut RoundContext { planner, pool });
        failure.map_or_else(|| Ok(self.tree.tree()), Err)
    }
}
