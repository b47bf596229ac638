//! A lower bound on the number of tokens of a text, without tokenising it.
//!
//! A token stands for a limited number of the text's bytes, so a text of B bytes has at least B / longest tokens. Bytes
//! that may produce no token, because the vocabulary lacks them or they are dropped after a special token, do not
//! count.

use super::vocab::{Spelling, Vocab};

/// A lower bound on the tokens of a text, for one vocabulary.
#[derive(Debug)]
pub(super) struct TokenBound {
    /// Most bytes of a text that one token stands for; at least 1.
    longest_bytes: usize,
    /// Whether each byte is sure to be part of a token.
    counted: [bool; 256],
}

impl TokenBound {
    /// For a vocabulary. A byte that `may_vanish` may be part of no token.
    pub(super) fn new(
        vocab: &Vocab,
        spelling: Spelling,
        may_vanish: impl Fn(u8) -> bool,
    ) -> TokenBound {
        let bytes = |(text, &id): (&String, &u32)| match spelling {
            // One character for each byte, unless the token is matched in the text as it stands.
            Spelling::ByteLevel if !vocab.is_matched(id) => text.chars().count(),
            // A space becomes `▁`, which has more bytes; all other text stands for itself.
            Spelling::ByteLevel | Spelling::Sentence => text.len(),
        };
        let longest_bytes = vocab.ids.iter().map(bytes).max().unwrap_or(1).max(1);
        let counted = std::array::from_fn(|byte| !may_vanish(byte as u8));
        TokenBound { longest_bytes, counted }
    }

    /// The least number of tokens that this text can have.
    pub(super) fn fewest_tokens(&self, text: &str) -> usize {
        let counted = text.bytes().filter(|byte| self.counted[usize::from(*byte)]).count();
        counted.div_ceil(self.longest_bytes)
    }
}
