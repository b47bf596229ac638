//! BPE: splits the text into words, then merges each word's characters by rank.
//!
//! The `tokenizers` crate does the merging. How a text is split depends on the model: `pre_tokenizers.rs` has the table.
//! In most vocabularies a character stands for a byte; in others a word is UTF-8, and characters that are no tokens are
//! spelled in byte tokens.

use std::borrow::Cow;
use std::collections::HashSet;

use fancy_regex::{Regex, RegexBuilder};
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Merges, Vocab as BpeVocab};

use super::pre_tokenizers::{PreTokenizer, Whole};
use super::vocab::{BYTE_CHARACTERS, Spelling, Vocab};
use crate::error::{Error, Result};
use crate::gguf::Metadata;

/// A BPE tokenizer.
#[derive(Debug)]
pub(super) struct Bpe {
    model: BPE,
    splits: Vec<Regex>,
    spelling: Spelling,
    whole: Whole,
    /// The characters that are tokens; `None` if all of a word's are.
    characters: Option<HashSet<char>>,
    /// The byte tokens, for characters that are no tokens.
    bytes: [Option<u32>; 256],
    /// Bytes of a text that may be part of no token.
    lost: [bool; 256],
}

impl Bpe {
    pub(super) fn from_gguf(
        metadata: &Metadata,
        vocab: &Vocab,
        pre: &PreTokenizer,
    ) -> Result<Self> {
        // A run of white space takes as many steps back as it has characters; the engine's memory is the limit.
        let compile = |pattern: &&str| {
            let regex = RegexBuilder::new(pattern).backtrack_limit(usize::MAX).build();
            regex.expect("the table's patterns compile")
        };
        let merges = merges(metadata, vocab)?;
        let ids: BpeVocab = vocab.ids.iter().map(|(text, &id)| (text.clone(), id)).collect();
        let model = BPE::builder()
            .vocab_and_merges(ids, merges)
            .build()
            .map_err(|error| Error::gguf(metadata.path(), format!("bad merges: {error}")))?;
        let characters: HashSet<char> = vocab.ids.keys().filter_map(|text| only(text)).collect();
        let is_lost = |character| !characters.contains(&character);
        let (bytes, lost) = match pre.spelling {
            Spelling::ByteLevel => ([None; 256], BYTE_CHARACTERS.map(is_lost)),
            Spelling::Sentence => {
                let bytes = vocab.byte_tokens();
                (bytes, [bytes.contains(&None); 256])
            }
        };
        let complete = pre.spelling == Spelling::ByteLevel && !lost.contains(&true);
        Ok(Self {
            model,
            splits: pre.patterns.iter().map(compile).collect(),
            spelling: pre.spelling,
            whole: pre.whole,
            characters: (!complete).then_some(characters),
            bytes,
            lost,
        })
    }

    /// Whether this byte of a text may be part of no token.
    pub(super) fn may_lose(&self, byte: u8) -> bool {
        self.lost[usize::from(byte)]
    }

    /// Appends the tokens of a text to `out`. In a vocabulary of sentences its spaces are already `▁`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        self.split(text, 0, &mut |word| self.encode_word(word, out))
    }

    /// Splits a text by the patterns from `depth` on. Both the matches and the text between them are words.
    fn split(
        &self,
        text: &str,
        depth: usize,
        word: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let Some(pattern) = self.splits.get(depth) else { return word(text) };
        let mut end = 0;
        for found in pattern.find_iter(text) {
            let found = found.map_err(|error| {
                Error::Invalid(format!(
                    "the text has too long a run of white space to find its words ({error}); \
                     shorten it"
                ))
            })?;
            self.split(&text[end..found.start()], depth + 1, word)?;
            self.split(found.as_str(), depth + 1, word)?;
            end = found.end();
        }
        self.split(&text[end..], depth + 1, word)
    }

    fn encode_word(&self, word: &str, out: &mut Vec<u32>) -> Result<()> {
        let spelled: Cow<str> = match self.spelling {
            Spelling::ByteLevel => {
                word.bytes().map(|byte| BYTE_CHARACTERS[usize::from(byte)]).collect()
            }
            Spelling::Sentence => word.into(),
        };
        let whole = match self.whole {
            Whole::None => false,
            Whole::All => true,
            Whole::Newlines => word.bytes().all(|byte| byte == b'\n'),
        };
        if whole && let Some(id) = self.model.token_to_id(&spelled) {
            out.push(id);
            return Ok(());
        }
        // Nothing is merged across a character that is no token, so the word is cut there.
        let is_unknown = |character: &char| {
            self.characters.as_ref().is_some_and(|tokens| !tokens.contains(character))
        };
        let mut rest = &spelled[..];
        while let Some(unknown) = rest.chars().find(is_unknown) {
            let (before, after) = rest.split_once(unknown).expect("the character was found");
            self.merge(before, out)?;
            let mut utf8 = [0; 4];
            let bytes = unknown.encode_utf8(&mut utf8).bytes();
            out.extend(bytes.filter_map(|byte| self.bytes[usize::from(byte)]));
            rest = after;
        }
        self.merge(rest, out)
    }

    /// Appends the tokens of a word whose characters are tokens.
    fn merge(&self, word: &str, out: &mut Vec<u32>) -> Result<()> {
        let tokens = self.model.tokenize(word);
        let tokens = tokens.map_err(|error| Error::Invalid(format!("cannot tokenise: {error}")))?;
        out.extend(tokens.iter().map(|token| token.id));
        Ok(())
    }
}

/// The character of a text of one character.
fn only(text: &str) -> Option<char> {
    let mut characters = text.chars();
    characters.next().filter(|_| characters.next().is_none())
}

/// The merges, best first. A pair is listed once, at its best rank, and only if both halves and the whole are tokens:
/// the library refuses any other.
fn merges(metadata: &Metadata, vocab: &Vocab) -> Result<Merges> {
    let listed = metadata.require_byte_strings("tokenizer.ggml.merges")?;
    let mut seen = HashSet::with_capacity(listed.len());
    let mut merges = Merges::with_capacity(listed.len());
    for (i, merge) in listed.into_iter().enumerate() {
        // A merge that is not UTF-8 cannot occur in a text.
        let Ok(merge) = std::str::from_utf8(merge) else { continue };
        // A half may begin with a space, but not contain one later.
        let second =
            merge.char_indices().nth(1).and_then(|(at, _)| Some(at + merge[at..].find(' ')?));
        let Some((left, right)) = second.map(|at| (&merge[..at], &merge[at + 1..])) else {
            let what = format!("merge {i} is {merge:?}, not two parts with a space between");
            return Err(Error::gguf(metadata.path(), what));
        };
        let known = |text: &str| vocab.ids.contains_key(text);
        if known(left) && known(right) && known(&format!("{left}{right}")) && seen.insert(merge) {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(merges)
}
