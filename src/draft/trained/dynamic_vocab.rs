//! Dynamic vocabulary: tokens of the sequence that are not in the draft vocabulary.
//!
//! A text repeats its own names and rare words. The draft head consists of the target's rows, so rows for these tokens
//! can be added, and a drafter can draft tokens outside its trained vocabulary.

/// Largest number of tokens added to a draft vocabulary.
pub(in crate::draft) const MOST: usize = 2048;

/// The tokens that a sequence adds to a draft vocabulary, in order of first occurrence.
pub(in crate::draft) struct DynamicVocab {
    /// Whether a token is in the vocabulary or was added: (n_vocab).
    known: Vec<bool>,
    /// First position and token, in ascending order.
    added: Vec<(usize, u32)>,
    /// Whether a tree was grown since the last call of `hear`, and whether tokens came without one, as a prompt does.
    grown: bool,
    prompted: bool,
}

impl DynamicVocab {
    /// For a vocabulary of these tokens of the target's `n_vocab`.
    pub fn new(tokens: &[u32], n_vocab: usize) -> DynamicVocab {
        let mut known = vec![false; n_vocab];
        tokens.iter().for_each(|token| known[*token as usize] = true);
        DynamicVocab { known, added: Vec::with_capacity(MOST), grown: false, prompted: false }
    }

    /// Notifies it of the sequence's tokens at positions `first..`; later positions are dropped.
    pub fn hear(&mut self, first: usize, tokens: &[u32]) {
        // The last round of an answer may need no tree, for one token.
        self.prompted |= !std::mem::take(&mut self.grown) && tokens.len() > 1;
        while let Some((_, token)) = self.added.pop_if(|(position, _)| *position >= first) {
            self.known[token as usize] = false;
        }
        for (position, &token) in (first..).zip(tokens) {
            if self.added.len() < MOST && !std::mem::replace(&mut self.known[token as usize], true)
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
        let mut spoken = DynamicVocab::new(&[], 100);
        spoken.hear(0, &[1, 2, 3]);
        spoken.hear(3, &[4]);
        assert!(spoken.is_due() && !spoken.is_due());
        spoken.hear(4, &[5, 6]);
        assert!(!spoken.is_due(), "a round is no prompt");
        spoken.hear(6, &[7]);
        spoken.hear(7, &[8]);
        assert!(!spoken.is_due(), "nor is its last token");
        spoken.hear(8, &[9]);
        spoken.hear(9, &[1, 2]);
        assert!(spoken.is_due());
    }

    #[test]
    fn what_a_sequence_adds_depends_on_the_sequence_alone() {
        let mut spoken = DynamicVocab::new(&[1, 4], 10_000);
        let mut hear = |first: usize, tokens: &[u32], expected: &[u32]| {
            spoken.hear(first, tokens);
            assert_eq!(spoken.tokens().collect::<Vec<_>>(), expected);
        };
        hear(0, &[5, 1, 7, 5], &[5, 7]);
        hear(4, &[9, 7], &[5, 7, 9]);
        hear(2, &[9, 8], &[5, 9, 8]);
        hear(0, &[], &[]);
        hear(3, &[5], &[5]);
        let many: Vec<u32> = (0..3000).collect();
        spoken.hear(0, &many);
        assert_eq!(spoken.tokens().count(), MOST);
        assert!(spoken.tokens().all(|token| token != 1 && token != 4));
        spoken.hear(0, &[2999]);
        assert_eq!(spoken.tokens().collect::<Vec<_>>(), [2999]);
    }
}
