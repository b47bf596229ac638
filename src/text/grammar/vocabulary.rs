//! The vocabulary as the parser sees it: the bytes of each token.

use crate::text::Tokenizer;
use llguidance::toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use std::sync::Arc;

/// The tokens of a tokenizer as a trie of their bytes.
pub(super) struct Vocabulary {
    pub(super) tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl Vocabulary {
    pub(super) fn new(tokenizer: Arc<Tokenizer>) -> Vocabulary {
        let n_vocab = tokenizer.n_vocab() as u32;
        let words: Vec<Vec<u8>> = (0..n_vocab).map(|id| word(&tokenizer, id)).collect();
        let ends: Vec<u32> = tokenizer.ends_of_generation().collect();
        let eos = tokenizer.eos().or(ends.first().copied());
        let info = TokRxInfo::new(n_vocab, eos.unwrap_or(TokenId::MAX));
        let trie = TokTrie::from(&info, &words);
        let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) };
        Vocabulary { tokenizer, trie }
    }
}

/// The bytes of a token. A control token is no text: its name stands behind a byte that no text has.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let piece = tokenizer.piece(id, true);
    if tokenizer.piece(id, false).is_empty() && !piece.is_empty() {
        [&[TokTrie::SPECIAL_TOKEN_MARKER], piece].concat()
    } else {
        piece.to_vec()
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let encode = |text: &str| self.tokenizer.encode_continuation(text).unwrap_or_default();
        self.trie.tokenize_with_greedy_fallback(bytes, encode)
    }
}
