//! The job of growing one sequence's tree in a round.

use super::CandidateSelector;
use super::constrained::Constrained;
use super::selector::NodeLogits;
use crate::error::{Error, Result};
use crate::infer::{Logits, MAX_SEQUENCES};
use crate::planner::Planner;
use crate::tree::GrowingTree;
use dovetail_kernels::cpu::{Kernels, ThreadPool};
use smallvec::SmallVec;
use std::any::Any;

/// A drafter's state for one sequence.
pub struct DraftState(Box<dyn Any + Send>);

impl DraftState {
    /// Wraps the state of a drafter.
    pub fn new<T: Any + Send>(state: T) -> DraftState {
        DraftState(Box::new(state))
    }

    /// The drafter's state.
    ///
    /// # Panics
    /// If a drafter with another type of state made it.
    pub fn get<T: Any + Send>(&mut self) -> &mut T {
        self.0.downcast_mut().expect("a state goes to drafters of the family that made it")
    }
}

/// The job of growing the tree of one sequence; `S` is the drafter's state for it.
pub struct DraftJob<'a, S = DraftState> {
    /// The whole sequence; its last token is the tree's root, and all others have been committed.
    pub tokens: &'a [u32],
    /// The drafter's state for the sequence.
    pub state: &'a mut S,
    /// The tree, which has only its root at first, and tokens that must follow it.
    pub tree: &'a mut GrowingTree,
    pub(super) selector: &'a mut CandidateSelector,
    pub(super) constrained: Option<&'a mut Constrained>,
    pub(super) failure: &'a mut Option<Error>,
}

impl<'a, S> DraftJob<'a, S> {
    /// A job for a tree that was started; [`DraftJob::fail`] writes to `failure`.
    pub fn new(
        tokens: &'a [u32],
        state: &'a mut S,
        tree: &'a mut GrowingTree,
        selector: &'a mut CandidateSelector,
        failure: &'a mut Option<Error>,
    ) -> DraftJob<'a, S> {
        DraftJob { tokens, state, tree, selector, constrained: None, failure }
    }

    /// The same job, with candidates that this constraint allows.
    pub(crate) fn constrain(self, constrained: Option<&'a mut Constrained>) -> DraftJob<'a, S> {
        DraftJob { constrained, ..self }
    }

    /// The same job with a part of its state; `None` if the state has no such part.
    pub fn with_state<T>(
        &mut self,
        part: impl FnOnce(&mut S) -> Option<&mut T>,
    ) -> Option<DraftJob<'_, T>> {
        let DraftJob { tokens, state, tree, selector, constrained, failure } = self;
        let constrained = constrained.as_deref_mut();
        Some(DraftJob { tokens, state: part(state)?, tree, selector, constrained, failure })
    }

    /// Proposes candidates from the logits of the frontier's node `parent`. `token` maps a token of the drafter to one
    /// of the target, if there is one. The nodes of a level must come in order.
    ///
    /// # Errors
    /// If the logits are not numbers.
    pub fn propose(
        &mut self,
        kernels: &Kernels,
        parent: usize,
        logits: Logits,
        token: impl Fn(u32) -> Option<u32>,
    ) -> Result<()> {
        let DraftJob { tokens, tree, selector, constrained, .. } = self;
        let constraint = constrained.as_deref_mut().map(|constrained| (constrained, *tokens));
        selector.propose(tree, constraint, NodeLogits { parent, logits, kernels }, token)
    }

    /// Ends the growth. Drops what the constraint does not allow, unless the drafter asked for that, and adds what must
    /// follow the rest.
    pub(crate) fn close(&mut self) {
        if let Some(constrained) = &mut self.constrained {
            constrained.prune(self.tokens, self.tree);
            constrained.extend(self.tokens, self.tree);
        }
        self.tree.close();
    }

    /// Ends the tree with its root alone. The sequence goes on without its drafter.
    pub fn fail(&mut self, error: Error) {
        self.tree.stop();
        *self.failure = Some(error);
    }
}

/// Shared resources of the drafters in a round.
pub struct RoundContext<'a> {
    /// Decides how large the trees grow.
    pub planner: &'a mut Planner,
    /// Runs parallel work.
    pub pool: &'a mut ThreadPool,
}

impl RoundContext<'_> {
    /// Lets the planner choose the next level of trees whose level was run. Returns whether any still grows.
    pub fn next_level<S>(&mut self, jobs: &mut [DraftJob<S>]) -> bool {
        let growing = jobs.iter_mut().map(|job| &mut *job.tree).filter(|tree| tree.is_growing());
        let mut trees: SmallVec<[&mut GrowingTree; MAX_SEQUENCES]> = growing.collect();
        if trees.is_empty() {
            return false;
        }
        trees.iter_mut().for_each(|tree| tree.pool_candidates());
        self.planner.next(&mut trees);
        trees.iter_mut().for_each(|tree| tree.go_on());
        trees.iter().any(|tree| tree.is_growing())
    }
}
