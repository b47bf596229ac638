//! Byte-level BPE: splits the text into words, then merges each word's bytes by rank.
//!
//! The `tokenizers` crate does the merging. The splitting patterns belong to the models and are selected by the name in
//! `tokenizer.ggml.pre`.
//!
//! To add a pre-tokenizer: a row in [`PRE_TOKENIZERS`] with the patterns that llama.cpp uses for it, and its ids in
//! `tests/data` (see `scripts/make_tokenizer_reference.py`).

use std::collections::HashSet;

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Merges, Vocab as BpeVocab};
use tokenizers::utils::SysRegex;

use super::vocab::{BYTE_CHARACTERS, Vocab};
use crate::error::{Error, Result};
use crate::gguf::Metadata;

/// Words of GPT-2: contractions, then letters, digits or other characters with one space before them.
const GPT2: &str =
    concat!(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+", r"| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+");
/// Contractions in either case, written out because `(?i)` would also match the long s.
macro_rules! contractions {
    () => {
        r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    };
}
/// Words of Llama 3: any one other character may begin a word, digits come in threes, newlines end a word.
const LLAMA3: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Words of Qwen 2: as in Llama 3, but each digit alone.
const QWEN2: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Words of Qwen 3.5: as in Qwen 2, but combining marks stay with their letters.
const QWEN35: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const DIGIT: &str = r"\p{N}";
const THREE_DIGITS: &str = "[0-9][0-9][0-9]";

/// How a family of models splits text.
#[derive(Debug)]
struct PreTokenizer {
    /// Values of `tokenizer.ggml.pre`.
    names: &'static [&'static str],
    /// Each pattern splits the parts that the previous ones left.
    patterns: &'static [&'static str],
    /// Whether a word that is a token is taken whole, even if merging would not produce it.
    whole_words: bool,
    /// Whether a text begins with BOS unless the file says otherwise.
    add_bos: bool,
}

static PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", THREE_DIGITS],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
        ],
        patterns: &[GPT2],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        patterns: &[DIGIT, GPT2],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["falcon"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, THREE_DIGITS],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        patterns: &[LLAMA3],
        whole_words: true,
        add_bos: true,
    },
    PreTokenizer { names: &["glm4"], patterns: &[LLAMA3], whole_words: true, add_bos: false },
    PreTokenizer {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        patterns: &[LLAMA3],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "kormo",
            "f2llmv2",
            "megrez",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        patterns: &[QWEN2],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer { names: &["qwen35"], patterns: &[QWEN35], whole_words: false, add_bos: false },
];

/// A byte-level BPE tokenizer.
#[derive(Debug)]
pub(super) struct Bpe {
    model: BPE,
    splits: Vec<SysRegex>,
    /// Whether a text begins with BOS unless the file says otherwise.
    pub(super) add_bos: bool,
}

impl Bpe {
    pub(super) fn from_gguf(metadata: &Metadata, vocab: &Vocab) -> Result<Self> {
        let name = metadata.get_str("tokenizer.ggml.pre")?.unwrap_or("default");
        let pre = PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name)).ok_or_else(|| {
            let known: Vec<_> = PRE_TOKENIZERS.iter().flat_map(|pre| pre.names).copied().collect();
            Error::Unsupported(format!(
                "{}: pre-tokenizer `{name}` is not known; known are {}",
                metadata.path().display(),
                known.join(", ")
            ))
        })?;
        let compile =
            |pattern: &&str| SysRegex::new(pattern).expect("the table's patterns compile");
        let merges = merges(metadata, vocab)?;
        let ids: BpeVocab = vocab.ids.iter().map(|(text, &id)| (text.clone(), id)).collect();
        let model = BPE::builder()
            .vocab_and_merges(ids, merges)
            .ignore_merges(pre.whole_words)
            .build()
            .map_err(|error| Error::gguf(metadata.path(), format!("bad merges: {error}")))?;
        let splits = pre.patterns.iter().map(compile).collect();
        Ok(Self { model, splits, add_bos: pre.add_bos })
    }

    /// Appends the tokens of a text to `out`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        let mut word = String::new();
        self.split(text, 0, &mut |part| {
            word.clear();
            word.extend(part.bytes().map(|byte| BYTE_CHARACTERS[usize::from(byte)]));
            let tokens = self.model.tokenize(&word);
            let tokens =
                tokens.map_err(|error| Error::Invalid(format!("cannot tokenise: {error}")))?;
            out.extend(tokens.iter().map(|token| token.id));
            Ok(())
        })
    }

    /// Splits a text by the patterns from `depth` on. Both the matches and the text between them are parts.
    fn split(
        &self,
        text: &str,
        depth: usize,
        part: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let Some(pattern) = self.splits.get(depth) else { return part(text) };
        let mut end = 0;
        for (match_start, match_end) in pattern.find_iter(text) {
            self.split(&text[end..match_start], depth + 1, part)?;
            self.split(&text[match_start..match_end], depth + 1, part)?;
            end = match_end;
        }
        self.split(&text[end..], depth + 1, part)
    }
}

/// The merges, best first. A pair is listed once, at its best rank, and only if both halves and the whole are tokens:
/// no text can use another pair.
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
