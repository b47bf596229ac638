//! Prompt look-up: drafts what followed the last tokens when they occurred before.
//!
//! Positions with the same two last tokens are chained, latest first, as LZ77 coders find their matches. The drafter
//! copies from the earlier places that agree with the end of the sequence over the most tokens; several places make a
//! tree. It costs almost nothing and is accepted often where a text repeats itself: summaries, code, answers from a
//! document.
//!
//! # Source
//! Saxena, "Prompt lookup decoding", 2023.

use super::constrained::Allowed;
use super::{DraftJob, DraftState, Drafter, DrafterKind, FileFrom, RoundContext};
use crate::error::Result;
use crate::infer::common_prefix;
use crate::tree::TreeShape;
use std::collections::HashMap;

pub(super) const KIND: DrafterKind = DrafterKind {
    name: "ngram",
    growth: TreeShape { depth: 7, width: 2, nodes: 8 },
    p_min: 0.0,
    file: FileFrom::Nowhere,
    open: |_| Ok(Box::new(NGram)),
};

/// Number of last tokens that are looked up.
const KEY: usize = 2;
/// Largest number of earlier places, and of tokens that are compared at each.
const PLACES: usize = 64;
const LONGEST: usize = 16;

/// The drafter. See the module.
#[derive(Default)]
pub struct NGram;

/// A sequence and the earlier places of its tokens.
#[derive(Default)]
struct History {
    tokens: Vec<u32>,
    /// For each position the previous one with the same last tokens; the position itself if there is none.
    earlier: Vec<u32>,
    /// The last position with these last tokens.
    latest: HashMap<[u32; KEY], u32>,
    places: Vec<(usize, usize)>,
    copied: Vec<u32>,
}

impl History {
    /// Updates the history to the sequence `tokens`, followed by `more`.
    fn follow(&mut self, tokens: &[u32], more: &[u32]) {
        let mut same = common_prefix(&self.tokens, tokens);
        if same == tokens.len() {
            same += common_prefix(&self.tokens[same..], more);
        }
        while self.tokens.len() > same {
            let position = self.tokens.len() - 1;
            if let Some(key) = self.tokens.last_chunk::<KEY>() {
                match self.earlier[position] as usize {
                    earlier if earlier == position => self.latest.remove(key),
                    earlier => self.latest.insert(*key, earlier as u32),
                };
            }
            self.tokens.pop();
            self.earlier.pop();
        }
        for &token in tokens.iter().chain(more).skip(same) {
            let position = self.tokens.len() as u32;
            self.tokens.push(token);
            let earlier = match self.tokens.last_chunk::<KEY>() {
                Some(key) => self.latest.insert(*key, position).unwrap_or(position),
                None => position,
            };
            self.earlier.push(earlier);
        }
    }

    /// Finds the places that agree with the end of the sequence: (number of tokens that agree, position of the last of
    /// them), the longest first, and of equal ones the latest.
    fn find(&mut self) {
        self.places.clear();
        let tokens = &self.tokens[..];
        let Some(last) = tokens.len().checked_sub(1) else { return };
        let mut position = last;
        for _ in 0..PLACES {
            let earlier = self.earlier[position] as usize;
            if earlier == position {
                break;
            }
            position = earlier;
            let ends = tokens.iter().rev().zip(tokens[..=position].iter().rev());
            let agree = ends.take(LONGEST).take_while(|(a, b)| a == b).count();
            self.places.push((agree, position));
        }
        // The sort is stable, and the places are in order of age.
        self.places.sort_by_key(|(agree, _)| std::cmp::Reverse(*agree));
    }

    /// Copies the `n` tokens behind a place. Returns how many tokens before them agree with the end of the sequence.
    fn copy(&mut self, place: usize, n: usize) -> usize {
        let (agree, position) = self.places[place];
        self.copied.clear();
        for at in (position + 1..).take(n) {
            // A copy that reaches the end of the text continues with what it copied, as in LZ77.
            let token = match at.checked_sub(self.tokens.len()) {
                None => self.tokens[at],
                Some(copied) => self.copied[copied],
            };
            self.copied.push(token);
        }
        agree
    }
}

impl Drafter for NGram {
    fn state(&mut self) -> Result<DraftState> {
        Ok(DraftState::new(History::default()))
    }

    fn expand_one(&mut self, job: &mut DraftJob, _: &mut RoundContext) -> Result<()> {
        let (shape, last) = (job.tree.shape(), job.tree.n_forced());
        let DraftJob { tokens, state, tree, constrained, .. } = job;
        let history = state.get::<History>();
        history.follow(tokens, &tree.tree().path(last));
        history.find();
        let allowed = match constrained {
            Some(constrained) => constrained.go_to(tokens, tree.tree(), last),
            None => Allowed::All,
        };
        let (mut copies, tree) = (0, tree.tree_mut());
        for place in 0..history.places.len() {
            let agree = history.copy(place, shape.depth);
            let n = match (allowed, &mut *constrained) {
                (Allowed::Nothing, _) => 0,
                (Allowed::One(only), _) if history.copied.first() != Some(&only) => 0,
                (Allowed::Some | Allowed::One(_), Some(constrained)) => {
                    constrained.count_allowed(&history.copied)
                }
                _ => history.copied.len(),
            };
            let mut node = last;
            for (i, token) in history.copied[..n].iter().enumerate() {
                // The more tokens agree, the likelier the next one agrees too: about half the time after two tokens,
                // nine times in ten after sixteen.
                let agree = (agree + i) as f32;
                let Some(child) = tree.push(node, *token, -(1.0 / (agree + 0.5)).ln_1p()) else {
                    break;
                };
                node = child;
            }
            copies += usize::from(n > 0);
            if copies == shape.width {
                break;
            }
        }
        job.tree.prune();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::CandidateSelector;
    use crate::planner::Planner;
    use crate::tree::{GrowingTree, Tree};
    use dovetail_kernels::cpu::ThreadPool;
    use proptest::prelude::*;

    fn expand(state: &mut DraftState, tokens: &[u32], shape: &str) -> Tree {
        let (mut tree, mut selector) = (GrowingTree::default(), CandidateSelector::default());
        let last = *tokens.last().unwrap();
        tree.start(last, shape.parse().unwrap(), f32::NEG_INFINITY, false);
        let mut failure = None;
        let mut job = DraftJob::new(tokens, state, &mut tree, &mut selector, &mut failure);
        let (planner, pool) = (&mut Planner::default(), &mut ThreadPool::new(1));
        NGram.expand_one(&mut job, &mut RoundContext { planner, pool }).unwrap();
        *tree.tree()
    }

    fn new_state() -> DraftState {
        NGram.state().unwrap()
    }

    #[test]
    fn a_repeated_phrase_is_continued() {
        let text = [1, 2, 3, 4, 5, 6, 7, 9, 9, 1, 2, 3];
        let tree = expand(&mut new_state(), &text, "chain:3");
        assert_eq!(tree.tokens(), [3, 4, 5, 6]);
        assert_eq!(tree.masks(), [1, 3, 7, 15]);
    }

    #[test]
    fn the_longest_match_comes_first_and_others_branch_off() {
        let text = [5, 1, 2, 8, 8, 1, 2, 6, 6, 5, 1, 2];
        let tree = expand(&mut new_state(), &text, "beam:2,2,8");
        assert_eq!(tree.tokens(), [2, 8, 8, 6, 6]);
        assert_eq!(tree.masks(), [1, 3, 7, 9, 25]);
        assert!(tree.log_probs()[1] > tree.log_probs()[3]);
        assert_eq!(expand(&mut new_state(), &text, "chain:1").tokens(), [2, 8]);
    }

    #[test]
    fn a_text_that_repeats_itself_is_continued_past_its_end() {
        let tree = expand(&mut new_state(), &[7, 1, 2, 1, 2, 1, 2], "chain:5");
        assert_eq!(tree.tokens(), [2, 1, 2, 1, 2, 1]);
        assert_eq!(expand(&mut new_state(), &[4; 6], "chain:7").tokens(), [4; 8]);
    }

    #[test]
    fn nothing_seen_before_is_no_draft() {
        for text in [&[1][..], &[1, 2], &[1, 2, 3, 4], &[2, 2]] {
            assert_eq!(expand(&mut new_state(), text, "chain:3").len(), 1, "{text:?}");
        }
    }

    proptest! {
        /// The draft after a sequence does not depend on sequences seen before.
        #[test]
        fn a_sequence_that_changed_leaves_no_trace(
            texts in prop::collection::vec((0usize..40, prop::collection::vec(0u32..4, 1..40)), 1..6),
        ) {
            let (mut drafter, mut text) = (new_state(), Vec::new());
            for (kept, more) in texts {
                text.truncate(kept);
                text.extend(more);
                let found = expand(&mut drafter, &text, "beam:5,4,20");
                prop_assert_eq!(found, expand(&mut new_state(), &text, "beam:5,4,20"));
            }
        }
    }
}
