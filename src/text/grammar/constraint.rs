//! A compiled grammar behind the tokens of a text.

use super::vocabulary::Vocabulary;
use crate::text::thoughts::THOUGHTS;
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use std::fmt;
use std::sync::Arc;

/// Which tokens may follow.
pub(crate) enum TokenMask {
    /// This one alone.
    One(u32),
    /// Those of a set.
    Set(SimpleVob),
}

impl TokenMask {
    /// Whether this token may follow.
    #[inline]
    pub fn allows(&self, token: u32) -> bool {
        match self {
            TokenMask::One(only) => token == *only,
            TokenMask::Set(set) => (token as usize) < set.len() && set.is_allowed(token),
        }
    }

    /// The tokens of a set of at most `most`.
    pub fn few(&self, most: usize) -> Option<impl Iterator<Item = u32>> {
        match self {
            TokenMask::One(_) => None,
            TokenMask::Set(set) => (set.num_set() <= most).then(|| set.iter()),
        }
    }

    #[cfg(test)]
    pub fn of(n_vocab: usize, tokens: &[u32]) -> TokenMask {
        let mut mask = SimpleVob::alloc(n_vocab);
        tokens.iter().for_each(|token| mask.allow_token(*token));
        TokenMask::Set(mask)
    }
}

/// Largest number of tokens of a text that begins a thought, and of white space behind it.
const MARKER_TOKENS: usize = 16;

/// The grammar cannot go on: it exceeds the parser's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// A grammar, compiled for a model's vocabulary, and its state behind a text. Made by [`crate::Model::constraint`].
pub struct Constraint {
    matcher: Matcher,
    vocabulary: Arc<Vocabulary>,
    /// The text that must come before the grammar begins, and the end of what has come.
    marker: Option<(String, Vec<u8>)>,
}

impl Clone for Constraint {
    /// A constraint of its own behind the same text.
    fn clone(&self) -> Constraint {
        let Constraint { matcher, vocabulary, marker } = self;
        let (vocabulary, marker) = (vocabulary.clone(), marker.clone());
        Constraint { matcher: matcher.deep_clone(), vocabulary, marker }
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").field("marker", &self.marker).finish_non_exhaustive()
    }
}

impl Constraint {
    pub(super) fn new(matcher: Matcher, vocabulary: Arc<Vocabulary>) -> Constraint {
        Constraint { matcher, vocabulary, marker: None }
    }

    /// The same, but any text may come first, up to and including `marker`, such as the end of what a model thinks. If
    /// the marker ends within a token, the rest of that token is free.
    #[must_use]
    pub fn after(self, marker: &str) -> Constraint {
        Constraint { marker: Some((marker.to_owned(), Vec::new())), ..self }
    }

    /// The same for the answer to a prompt: where the prompt leaves the model in the middle of a thought, the grammar
    /// begins behind the thought.
    #[must_use]
    pub fn behind(self, prompt: &[u32]) -> Constraint {
        let tail = &prompt[prompt.len().saturating_sub(MARKER_TOKENS)..];
        let tail = self.vocabulary.tokenizer.decode(tail, true);
        let tail = String::from_utf8_lossy(&tail);
        let thought = THOUGHTS.iter().find(|(begin, _)| tail.trim_end().ends_with(begin));
        match thought {
            Some((_, end)) => self.after(end),
            None => self,
        }
    }

    /// The tokens that may follow; `None` if all may. Where the text is complete, they are those that end it.
    ///
    /// # Errors
    /// If the parser's limits are exceeded.
    pub(crate) fn mask(&mut self) -> Result<Option<TokenMask>, Exhausted> {
        if self.marker.is_some() {
            return Ok(None);
        }
        let mask = self.matcher.compute_mask_or_eos().map_err(|_| Exhausted)?;
        Ok(Some(TokenMask::Set(mask)))
    }

    /// Appends a token to the text.
    ///
    /// # Errors
    /// If it may not follow.
    pub(crate) fn append(&mut self, token: u32) -> Result<(), Exhausted> {
        let Some((marker, text)) = &mut self.marker else {
            return self.matcher.consume_token(token).map_err(|_| Exhausted);
        };
        text.extend_from_slice(self.vocabulary.tokenizer.piece(token, true));
        let marker = marker.as_bytes();
        if text.windows(marker.len().max(1)).any(|part| part == marker) || marker.is_empty() {
            self.marker = None;
        } else {
            text.drain(..text.len().saturating_sub(marker.len() - 1));
        }
        Ok(())
    }

    /// The tokens that must follow, one after another; often none.
    pub(crate) fn forced(&mut self) -> Vec<u32> {
        if self.marker.is_some() { Vec::new() } else { self.matcher.compute_ff_tokens() }
    }

    /// How many of these tokens may follow, one after another.
    pub(crate) fn count_allowed(&mut self, tokens: &[u32]) -> usize {
        if self.is_free() {
            return tokens.len();
        }
        let known = tokens.iter().take_while(|token| self.is_known(**token)).count();
        self.matcher.validate_tokens(&tokens[..known]).unwrap_or(0)
    }

    /// Whether this token may follow; true of end tokens where the text is complete.
    pub(crate) fn allows(&mut self, token: u32) -> bool {
        self.count_allowed(&[token]) == 1 || (self.matcher.is_stopped() && self.is_end(token))
    }

    /// Whether all tokens may follow, since the grammar has not begun.
    pub(crate) fn is_free(&self) -> bool {
        self.marker.is_some()
    }

    /// Whether a token ends the text.
    pub(crate) fn is_end(&self, token: u32) -> bool {
        self.vocabulary.tokenizer.ends_of_generation().any(|end| end == token)
    }

    /// Whether the vocabulary has this token.
    fn is_known(&self, token: u32) -> bool {
        (token as usize) < self.vocabulary.tokenizer.n_vocab()
    }

    /// Takes back the last `n` tokens, none of which came before the grammar or ends the text.
    ///
    /// # Errors
    /// If the grammar does not allow it.
    pub(crate) fn rollback(&mut self, n: usize) -> Result<(), Exhausted> {
        self.matcher.rollback(n).map_err(|_| Exhausted)
    }
}
