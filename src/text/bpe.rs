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
/// What stands between words: signs with the newlines behind them, and white space.
macro_rules! signs_and_spaces {
    () => {
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    };
}
/// Words that one sign may begin.
macro_rules! signed_words {
    () => {
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##
    };
}
/// Words of Llama 3: any one other character may begin a word, digits come in threes, newlines end a word.
const LLAMA3: &str =
    concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}", signs_and_spaces!());
/// Words of Qwen 2: as in Llama 3, but each digit alone.
const QWEN2: &str =
    concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}", signs_and_spaces!());
/// Words of Qwen 3.5: as in Qwen 2, but combining marks stay with their letters.
const QWEN35: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Words of GPT-4o, without the contractions at their ends: a word is capitals, then small letters.
macro_rules! cased_words {
    ($end:expr, $digits:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $end,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $end,
            "|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}
const GPT4O: &str = cased_words!(concat!("(?:", contractions!(), ")?"), r"\p{N}{1,3}");
const TEKKEN: &str = cased_words!("", r"\p{N}");
/// Words of DeepSeek 3, between digits and the scripts of East Asia.
const DEEPSEEK3: &str =
    concat!(signed_words!(), r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+");
/// Letters of scripts with capitals, in the first models of DeepSeek.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[",
    "A-Za-z\u{b5}\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{1ba}\u{1bc}-\u{1bf}\u{1c4}-\u{293}\u{295}-",
    "\u{2af}\u{370}-\u{373}\u{376}\u{377}\u{37b}-\u{37d}\u{37f}\u{386}\u{388}-\u{38a}\u{38c}\u{38e}-",
    "\u{3a1}\u{3a3}-\u{3f5}\u{3f7}-\u{481}\u{48a}-\u{52f}\u{531}-\u{556}\u{10a0}-\u{10c5}\u{13a0}-",
    "\u{13f5}\u{13f8}-\u{13fd}\u{1c90}-\u{1cba}\u{1cbd}-\u{1cbf}\u{1d00}-\u{1d2b}\u{1d6b}-\u{1d77}",
    "\u{1d79}-\u{1d9a}\u{1e00}-\u{1f15}\u{1f18}-\u{1f1d}\u{1f20}-\u{1f45}\u{1f48}-\u{1f4d}\u{1f50}-",
    "\u{1f57}\u{1f59}\u{1f5b}\u{1f5d}\u{1f5f}-\u{1f7d}\u{1f80}-\u{1fb4}\u{1fb6}-\u{1fbc}\u{1fbe}",
    "\u{1fc2}-\u{1fc4}\u{1fc6}-\u{1fcc}\u{1fd0}-\u{1fd3}\u{1fd6}-\u{1fdb}\u{1fe0}-\u{1fec}\u{1ff2}-",
    "\u{1ff4}\u{1ff6}-\u{1ffc}\u{2102}\u{2107}\u{210a}-\u{2113}\u{2115}\u{2119}-\u{211d}\u{2124}",
    "\u{2126}\u{2128}\u{212a}-\u{212d}\u{212f}-\u{2134}\u{2139}\u{213c}-\u{213f}\u{2145}-\u{2149}",
    "\u{214e}\u{2183}\u{2184}\u{2c00}-\u{2c7b}\u{2c7e}-\u{2ce4}\u{2ceb}-\u{2cee}\u{2cf2}\u{2cf3}",
    "\u{a640}-\u{a66d}\u{a680}-\u{a69b}\u{a722}-\u{a76f}\u{a771}-\u{a787}\u{a78b}-\u{a78e}\u{ab70}-",
    "\u{abbf}\u{fb00}-\u{fb06}\u{fb13}-\u{fb17}\u{ff21}-\u{ff3a}\u{ff41}-\u{ff5a}\u{10400}-\u{1044f}",
    "\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}",
    "\u{1e900}-\u{1e943}",
    "]+"
);
/// Everything but what ends a word, in BLOOM and those after it.
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const EAST_ASIA: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";
const CHINESE_TO_KOREAN: &str = "[一-龥ࠀ-一가-\u{d7ff}]+";
const ONE_TO_THREE: &str = r"\p{N}{1,3}";
const LINES: &str = r"[^\n]+|[\n]+";
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
            "jina-v5-nano",
        ],
        patterns: &[LLAMA3],
        whole_words: true,
        add_bos: true,
    },
    PreTokenizer {
        names: &["glm4", "glm5"],
        patterns: &[LLAMA3],
        whole_words: true,
        add_bos: false,
    },
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
    PreTokenizer { names: &["tekken"], patterns: &[TEKKEN], whole_words: true, add_bos: true },
    PreTokenizer {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        patterns: &[GPT4O],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["deepseek-llm"],
        patterns: &[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            "\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+",
            r"\s+$",
            CHINESE_TO_KOREAN,
            r"\p{N}+",
        ],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        patterns: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CHINESE_TO_KOREAN, DIGIT],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        patterns: &[ONE_TO_THREE, EAST_ASIA, DEEPSEEK3],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["spark2_5"],
        patterns: &[
            ONE_TO_THREE,
            EAST_ASIA,
            concat!(signed_words!(), r"| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"),
            DIGIT,
        ],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["poro-chat", "bloom", "gpt3-finnish"],
        patterns: &[BLOOM],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["viking"],
        patterns: &[BLOOM, DIGIT],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["chameleon"],
        patterns: &[
            r"<sentinel:[0-9]+>",
            "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            DIGIT,
            r"[\p{P}!-/:-@\[-`{-~]",
            GPT2,
        ],
        whole_words: false,
        add_bos: true,
    },
    PreTokenizer {
        names: &["tiny_aya", "cohere2moe"],
        patterns: &[r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["superbpe"],
        patterns: &[r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        patterns: &[concat!(
            r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
        )],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["seed-coder"],
        patterns: &[concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["exaone-moe"],
        patterns: &[concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
        )],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["minicpm5"],
        patterns: &[
            ONE_TO_THREE,
            concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+", signs_and_spaces!()),
        ],
        whole_words: true,
        add_bos: false,
    },
    PreTokenizer {
        names: &["youtu"],
        patterns: &[
            "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u{3040}-ゟ゠-ヿ]+",
            cased_words!(concat!("(?:", contractions!(), ")?"), r"\p{N}"),
        ],
        whole_words: true,
        add_bos: false,
    },
    PreTokenizer {
        names: &["jais-2"],
        patterns: &[concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
            r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)",
            r"|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"
        )],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["ufakzeka"],
        patterns: &[concat!(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}", signs_and_spaces!())],
        whole_words: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["laguna"],
        patterns: &[LINES, QWEN2],
        whole_words: false,
        add_bos: false,
    },
];

/// A byte-level BPE tokenizer.
#[derive(Debug)]
pub(super) struct Bpe {
    model: BPE,
    splits: Vec<SysRegex>,
    /// Whether a text begins with BOS unless the file says otherwise.
    pub(super) add_bos: bool,
    /// Whether the file names its pre-tokenizer.
    pub(super) named: bool,
}

impl Bpe {
    pub(super) fn from_gguf(metadata: &Metadata, vocab: &Vocab) -> Result<Self> {
        let named = metadata.get_str("tokenizer.ggml.pre")?;
        let name = named.unwrap_or("default");
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
        Ok(Self { model, splits, add_bos: pre.add_bos, named: named.is_some() })
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
