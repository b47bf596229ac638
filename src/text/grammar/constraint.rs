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
    /// The tokens that must follow; `None` until that is asked for.
    forced: Option<Vec<u32>>,
}

impl Clone for Constraint {
    /// A constraint of its own behind the same text.
    fn clone(&self) -> Constraint {
        let Constraint { matcher, vocabulary, marker, forced } = self;
        Constraint {
            matcher: matcher.deep_clone(),
            vocabulary: vocabulary.clone(),
            marker: marker.clone(),
            forced: forced.clone(),
        }
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").field("marker", &self.marker).finish_non_exhaustive()
    }
}

impl Constraint {
    pub(super) fn new(matcher: Matcher, vocabulary: Arc<Vocabulary>) -> Constraint {
        Constraint { matcher, vocabulary, marker: None, forced: None }
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

    /// The tokens that may follow; `None` if all may. Where the text is complete, that is [`Constraint::end`].
    ///
    /// # Errors
    /// If the parser's limits are exceeded.
    pub(crate) fn mask(&mut self) -> Result<Option<TokenMask>, Exhausted> {
        if self.marker.is_some() {
            return Ok(None);
        }
        if let Some(end) = self.end() {
            return Ok(Some(TokenMask::One(end)));
        }
        let mask = self.matcher.compute_mask_or_eos().map_err(|_| Exhausted)?;
        Ok(Some(TokenMask::Set(mask)))
    }

    /// Appends a token to the text.
    ///
    /// # Errors
    /// If it may not follow.
    pub(crate) fn append(&mut self, token: u32) -> Result<(), Exhausted> {
        self.forced = None;
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
    pub(crate) fn forced(&mut self) -> &[u32] {
        let Constraint { matcher, marker, forced, .. } = self;
        forced.get_or_insert_with(|| match marker {
            Some(_) => Vec::new(),
            None => matcher.compute_ff_tokens(),
        })
    }

    /// How many of these tokens may follow, one after another.
    pub(crate) fn count_allowed(&mut self, tokens: &[u32]) -> usize {
        if self.is_free() {
            return tokens.len();
        }
        let known = tokens.iter().take_while(|token| self.is_known(**token)).count();
        self.matcher.validate_tokens(&tokens[..known]).unwrap_or(0)
    }

    /// Whether this token may follow.
    pub(crate) fn allows(&mut self, token: u32) -> bool {
        match self.end() {
            Some(end) => token == end,
            None => self.count_allowed(&[token]) == 1,
        }
    }

    /// The token that ends the text, if it is complete and nothing else may follow.
    pub(crate) fn end(&self) -> Option<u32> {
        if !self.is_complete() {
            return None;
        }
        let tokenizer = &self.vocabulary.tokenizer;
        let end = tokenizer.eos().filter(|eos| self.is_end(*eos));
        end.or_else(|| tokenizer.ends_of_generation().next())
    }

    /// Whether the text is complete, and nothing but an end may follow.
    fn is_complete(&self) -> bool {
        self.marker.is_none() && self.matcher.is_stopped() && !self.matcher.is_error()
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
        self.forced = None;
        // The parser keeps its last mask by the number of a row, which another row may get now.
        self.matcher.invalidate_bias_cache();
        self.matcher.rollback(n).map_err(|_| Exhausted)
    }
}

#[cfg(test)]
mod tests {
    use crate::gguf::{Array, Metadata, Value};
    use crate::text::Tokenizer;
    use crate::text::grammar::{Constraint, Grammar, GrammarCompiler};

    /// Tokens of one letter each; the first one and the last end a text.
    const LETTERS: &str = ".abxyz5!";

    fn constraint(lark: &str) -> Constraint {
        let tokens = LETTERS.chars().map(String::from).collect();
        let mut kinds = vec![1; LETTERS.len()];
        (kinds[0], kinds[LETTERS.len() - 1]) = (3, 3);
        let values = [
            ("tokenizer.ggml.model", Value::String("gpt2".into())),
            ("tokenizer.ggml.pre", Value::String("default".into())),
            ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens))),
            ("tokenizer.ggml.merges", Value::Array(Array::String(Vec::new()))),
            ("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds))),
            ("tokenizer.ggml.eos_token_id", Value::U32(0)),
            ("tokenizer.ggml.eot_token_id", Value::U32(LETTERS.len() as u32 - 1)),
        ];
        let values = values.map(|(key, value)| (key.to_owned(), value));
        let tokenizer = Tokenizer::from_gguf(&Metadata::from_values("made up", values)).unwrap();
        let compiler = GrammarCompiler::new(tokenizer.into()).unwrap();
        compiler.compile(&Grammar::Lark(lark.into())).unwrap()
    }

    fn token(letter: char) -> u32 {
        LETTERS.find(letter).unwrap() as u32
    }

    /// The letters that may follow, by the mask and asked one by one.
    fn next(constraint: &mut Constraint) -> String {
        let mask = constraint.mask().unwrap().unwrap();
        let masked: String = LETTERS.chars().filter(|one| mask.allows(token(*one))).collect();
        let asked: String = LETTERS.chars().filter(|one| constraint.allows(token(*one))).collect();
        assert_eq!(masked, asked);
        masked
    }

    #[test]
    fn what_may_follow_does_not_depend_on_what_was_taken_back() {
        let mut constraint = constraint("start: \"a\" NUM \"x\" | \"b\" NUM \"y\"\nNUM: /[5]+/");
        assert_eq!(next(&mut constraint), "ab");
        let mut read = |text: &str, back: usize| {
            constraint.rollback(back).unwrap();
            text.chars().for_each(|one| constraint.append(token(one)).unwrap());
            next(&mut constraint)
        };
        assert_eq!(read("a5", 0), "x5");
        assert_eq!(read("b5", 2), "y5");
        // Of two tokens that end a text, a complete one has one only, however it is sampled.
        assert_eq!(read("55y", 0), ".");
    }
}
