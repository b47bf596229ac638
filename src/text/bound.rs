//! The fewest tokens that a text can have, told without tokenising it.
//!
//! A token stands for a bounded number of the text's bytes, so a text of B bytes has at least B / longest tokens. Bytes that
//! may vanish, for which there is no token or which are dropped after a special one, do not count.

use super::vocab::{BYTE_CHARACTERS, Spelling, Vocab};

/// What bounds the tokens of a text from below.
#[derive(Debug)]
pub(super) struct Bound {
    /// Most bytes of a text that one token stands for; at least 1.
    longest_bytes: usize,
    /// The bytes that do not vanish.
    counted: [bool; 256],
}

impl Bound {
    /// Of a vocabulary, where characters of `stripped`, all ASCII, may be dropped.
    pub(super) fn new(vocab: &Vocab, spelling: Spelling, stripped: &[char]) -> Bound {
        let bytes = |(text, &id): (&String, &u32)| match spelling {
            // One character for each byte, unless the token is found in the text as it stands.
            Spelling::ByteLevel if !vocab.is_matched(id) => text.chars().count(),
            // A space becomes `▁`, which has more bytes, and all else stands for itself.
            Spelling::ByteLevel | Spelling::Sentence => text.len(),
        };
        let longest_bytes = vocab.ids.iter().map(bytes).max().unwrap_or(1).max(1);
        let counted = std::array::from_fn(|byte| {
            let text = BYTE_CHARACTERS[byte].to_string();
            // Byte-level BPE leaves out what is no token; SentencePiece spells it byte by byte.
            let stays = spelling == Spelling::Sentence || vocab.ids.contains_key(&text);
            stays && !stripped.contains(&char::from(byte as u8))
        });
        Bound { longest_bytes, counted }
    }

    /// The fewest tokens that this text can have.
    pub(super) fn fewest_tokens(&self, text: &str) -> usize {
        let counted = text.bytes().filter(|byte| self.counted[usize::from(*byte)]).count();
        counted.div_ceil(self.longest_bytes)
    }
}
