//! A constraint along a sequence: it has seen the sequence's tokens up to some length.

use crate::text::{Constraint, TokenMask};
use crate::tree::{MAX_NODES, Tree};
use smallvec::SmallVec;

/// Largest number of tokens that must follow and enter one tree.
pub(super) const MAX_FORCED: usize = 15;

/// The constraint of a generation. See the module.
pub(super) struct Constrained {
    constraint: Constraint,
    /// Number of the sequence's tokens that it has seen, or that came before the generation.
    len: usize,
    /// Length of the sequence at which the parser's limits were exceeded.
    exhausted_at: Option<usize>,
}

impl Constrained {
    /// A constraint of what follows `len` tokens.
    pub fn new(constraint: Constraint, len: usize) -> Constrained {
        Constrained { constraint, len, exhausted_at: None }
    }

    /// Which tokens may follow `tokens`; `None` if all may, or if limits were exceeded.
    pub fn mask(&mut self, tokens: &[u32]) -> Option<TokenMask> {
        if !self.advance(tokens) {
            return None;
        }
        self.constraint.mask().unwrap_or_else(|_| {
            self.exhausted_at = Some(tokens.len());
            None
        })
    }

    /// The tokens that must follow `tokens`, at most `most`.
    pub fn forced(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        if most == 0 || !self.advance(tokens) {
            return Vec::new();
        }
        let mut forced = self.constraint.forced();
        forced.truncate(most);
        forced
    }

    /// Drops the nodes of a tree that may not follow its root, the last of `tokens`.
    pub fn prune(&mut self, tokens: &[u32], tree: &mut Tree) {
        if tree.len() == 1 || !self.advance(tokens) {
            return;
        }
        let mut path = Vec::with_capacity(MAX_NODES);
        let mut value = |node: usize| {
            let to_root = std::iter::successors(Some(node), |node| tree.parent(*node));
            path.clear();
            path.extend(to_root.take_while(|node| *node > 0).map(|node| tree.tokens()[node]));
            path.reverse();
            if self.constraint.count_allowed(&path) == path.len() { 1.0 } else { 0.0 }
        };
        let values: SmallVec<[f32; MAX_NODES]> = (0..tree.len()).map(&mut value).collect();
        let allowed = values.iter().filter(|value| **value > 0.0).count();
        tree.prune_by(allowed, &values);
    }

    /// Length of the sequence behind which the constraint cannot go on.
    pub fn exhausted_at(&self) -> Option<usize> {
        self.exhausted_at
    }

    /// Appends the tokens that it has not seen. Returns whether it can go on.
    fn advance(&mut self, tokens: &[u32]) -> bool {
        while self.exhausted_at.is_none() && self.len < tokens.len() {
            if self.constraint.append(tokens[self.len]).is_err() {
                self.exhausted_at = Some(self.len);
            }
            self.len += 1;
        }
        self.exhausted_at.is_none()
    }
}
