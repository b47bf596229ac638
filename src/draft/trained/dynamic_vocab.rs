//! Dynamic vocabulary: tokens of the sequence that are not in the draft vocabulary.
//!
//! A text repeats its own names and rare words. The draft head consists of the target's rows, so rows for these tokens
//! can be added, and a drafter can draft tokens outside its trained vocabulary.

/// Largest number of tokens added to a draft vocabulary.
pub(in crate::draft) const MAX_ADDED: usize = 2048;

/// The tokens that a sequence adds to a draft vocabulary, in order of first occurrence.
pub(in crate::draft) struct DynamicVocab {
    /// Whether a token is in the vocabulary or was added: (n_vocab).
    known: Vec<bool>,
    /// First position and token, in ascending order.
    added: Vec<(usize, u32)>,
    /// Whether a tree was grown since the last call of `commit`, and whether tokens came without one, as a prompt does.
    grown: bool,
    prompted: bool,
}

impl DynamicVocab {
    /// For a vocabulary of these tokens of the target's `n_vocab`.
    pub fn new(tokens: &[u32], n_vocab: usize) -> DynamicVocab {
        let mut known = vec![false; n_vocab];
        tokens.iter().for_each(|token| known[*token as usize] = true);
        DynamicVocab { known, added: Vec::with_capacity(MAX_ADDED), grown: false, prompted: false }
    }

    /// Notifies it of the sequence's tokens at positions `first..`; later positions are dropped.
    pub fn commit(&mut self, first: usize, tokens: &[u32]) {
        // The last round of an answer may need no tree, for one token.
        self.prompted |= !std::mem::take(&mut self.grown) && tokens.len() > 1;
        while let Some((_, token)) = self.added.pop_if(|(position, _)| *position >= first) {
            self.known[token as usize] = false;
        }
        for (position, &token) in (first..).zip(tokens) {
            if self.added.len() < MAX_ADDED
                && !std::mem::replace(&mut self.known[token as usize], true)
            {
                self.added.push((position, token));
            }
        }
    }

    /// Must be called when a tree is grown. Returns whether the vocabulary should change now, before the first tree
    /// behind a prompt: changing it in every round would cost more than it gains.
    pub fn is_due(&mut self) -> bool {
        self.grown = true;
        std::mem::take(&mut self.prompted)
    }

    /// The added tokens.
    pub fn tokens(&self) -> impl Iterator<Item = u32> {
        self.added.iter().map(|(_, token)| *token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_due_behind_a_prompt() {
        let mut vocab = DynamicVocab::new(&[], 100);
        vocab.commit(0, &[1, 2, 3]);
        vocab.commit(3, &[4]);
        assert!(vocab.is_due() && !vocab.is_due());
        vocab.commit(4, &[5, 6]);
        assert!(!vocab.is_due(), "a round is no prompt");
        vocab.commit(6, &[7]);
        vocab.commit(7, &[8]);
        assert!(!vocab.is_due(), "nor is its last token");
        vocab.commit(8, &[9]);
        vocab.commit(9, &[1, 2]);
        assert!(vocab.is_due());
    }

    #[test]
    fn what_a_sequence_adds_depends_on_the_sequence_alone() {
        let mut vocab = DynamicVocab::new(&[1, 4], 10_000);
        let mut commit = |first: usize, tokens: &[u32], expected: &[u32]| {
            vocab.commit(first, tokens);
            assert_eq!(vocab.tokens().collect::<Vec<_>>(), expected);
        };
        commit(0, &[5, 1, 7, 5], &[5, 7]);
        commit(4, &[9, 7], &[5, 7, 9]);
        commit(2, &[9, 8], &[5, 9, 8]);
        commit(0, &[], &[]);
        commit(3, &[5], &[5]);
        let many: Vec<u32> = (0..3000).collect();
        vocab.commit(0, &many);
        assert_eq!(vocab.tokens().count(), MAX_ADDED);
        assert!(vocab.tokens().all(|token| token != 1 && token != 4));
        vocab.commit(0, &[2999]);
        assert_eq!(vocab.tokens().collect::<Vec<_>>(), [2999]);
    }
}
