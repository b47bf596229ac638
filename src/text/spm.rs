//! SentencePiece by score, as llama.cpp does it.
//!
//! A text begins as single characters. The two neighbours whose union is the token with the highest score are joined,
//! the leftmost of equals first, until there are none; characters that never became part of a token are spelled in byte
//! tokens.
//!
//! This is not byte-pair encoding: there are only scores, no list of pairs. Different tokens may have equal scores
//! (then the position decides), and a character may be part of a token without being one. No ranked list of merges can
//! express that, so the library's BPE cannot be used.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::vocab::Vocab;
use crate::error::{Error, Result};
use crate::gguf::Metadata;

/// The scores of a vocabulary.
#[derive(Debug)]
pub(super) struct Spm {
    scores: Vec<f32>,
    /// Longer unions need not be looked up.
    longest_bytes: usize,
    /// The token for a byte: `<0x0A>`, else the byte itself, else the unknown token.
    bytes: [Option<u32>; 256],
}

/// A part of the text that is one token so far; empty once joined to its left neighbour.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that could be joined; the best union is the greatest.
struct Union {
    score: f32,
    left: usize,
    right: usize,
    /// Length in bytes when it was found. Another length now means that either side has changed.
    len: usize,
}

impl Ord for Union {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Union {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Union {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Union {}

impl Spm {
    pub(super) fn from_gguf(metadata: &Metadata, vocab: &Vocab) -> Result<Self> {
        let n_tokens = vocab.len();
        let malformed = |what: String| Error::gguf(metadata.path(), what);
        let mut scores = match metadata.get_f32_array("tokenizer.ggml.scores") {
            Ok(scores) => scores.unwrap_or_else(|| vec![0.0; n_tokens]),
            Err(error) => match metadata.get_i32_array("tokenizer.ggml.scores") {
                Ok(Some(scores)) => scores.iter().map(|&score| score as f32).collect(),
                _ => return Err(error),
            },
        };
        if scores.len() < n_tokens {
            return Err(malformed(format!("scores {} of {n_tokens} tokens", scores.len())));
        }
        if scores.iter().any(|score| score.is_nan()) {
            return Err(malformed("has a token whose score is not a number".into()));
        }
        // Zeros of either sign are equal as scores, but not for `total_cmp`.
        scores.iter_mut().for_each(|score| *score += 0.0);
        let longest_bytes = vocab.ids.keys().map(String::len).max().unwrap_or(0);
        let mut bytes = [vocab.unknown; 256];
        for id in 0..n_tokens as u32 {
            if let Some(&[byte]) = vocab.text_bytes(id) {
                bytes[usize::from(byte)] = Some(id);
            }
        }
        for (byte, named) in bytes.iter_mut().zip(vocab.byte_tokens()) {
            *byte = named.or(*byte);
        }
        Ok(Self { scores, longest_bytes, bytes })
    }

    /// Appends the tokens of a text whose spaces are already `▁` to `out`.
    pub(super) fn encode(&self, text: &str, vocab: &Vocab, out: &mut Vec<u32>) -> Result<()> {
        let mut symbols = characters(text);
        let mut queue = BinaryHeap::new();
        for left in 1..symbols.len() {
            queue.extend(self.union(text, vocab, &symbols, left - 1));
        }
        while let Some(best) = queue.pop() {
            let (left, right) = (symbols[best.left], symbols[best.right]);
            let gone = left.start == left.end || right.start == right.end;
            if gone || right.end - left.start != best.len {
                continue;
            }
            symbols[best.left].end = right.end;
            symbols[best.left].next = right.next;
            symbols[best.right].start = right.end;
            if let Some(next) = right.next {
                symbols[next].previous = Some(best.left);
            }
            if let Some(previous) = left.previous {
                queue.extend(self.union(text, vocab, &symbols, previous));
            }
            queue.extend(self.union(text, vocab, &symbols, best.left));
        }
        for symbol in symbols.iter().filter(|symbol| symbol.start < symbol.end) {
            let part = &text[symbol.start..symbol.end];
            match vocab.ids.get(part) {
                Some(&id) => out.push(id),
                None => self.spell(part, out)?,
            }
        }
        Ok(())
    }

    /// The union of a symbol with its right neighbour, if it is a token.
    fn union(&self, text: &str, vocab: &Vocab, symbols: &[Symbol], left: usize) -> Option<Union> {
        let right = symbols[left].next?;
        let (start, end) = (symbols[left].start, symbols[right].end);
        if end - start > self.longest_bytes {
            return None;
        }
        let id = *vocab.ids.get(&text[start..end])?;
        Some(Union { score: self.scores[id as usize], left, right, len: end - start })
    }

    /// Appends the tokens of a text byte by byte.
    fn spell(&self, part: &str, out: &mut Vec<u32>) -> Result<()> {
        for byte in part.bytes() {
            let id = self.bytes[usize::from(byte)].ok_or_else(|| {
                Error::Unsupported(format!(
                    "the vocabulary has no token for the byte 0x{byte:02X} of {part:?}, \
                     nor one for the unknown; leave that character out"
                ))
            })?;
            out.push(id);
        }
        Ok(())
    }
}

fn characters(text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = text
        .char_indices()
        .enumerate()
        .map(|(i, (start, character))| Symbol {
            start,
            end: start + character.len_utf8(),
            previous: i.checked_sub(1),
            next: Some(i + 1),
        })
        .collect();
    if let Some(last) = symbols.last_mut() {
        last.next = None;
    }
    symbols
}
