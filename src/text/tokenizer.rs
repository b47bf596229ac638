//! Text to token ids and back, for the vocabulary in a model file.
//!
//! A text is first searched for special tokens, the longest first; the text between them goes through the model's own
//! algorithm. Ids equal llama.cpp's with three deliberate exceptions: if a BPE model names no BOS or EOS, there is none,
//! while llama.cpp takes token 11; published patterns stand above llama.cpp's (`pre_tokenizers.rs`); and merges of parts
//! that are no tokens do not count (`bpe.rs`).

use std::ops::Range;

use super::bound::TokenBound;
use super::bpe::Bpe;
use super::pre_tokenizers::{self, AddBos, PreTokenizer};
use super::spm::Spm;
use super::vocab::{Defaults, FillInTokens, Kind, Spelling, Vocab};
use crate::error::{Error, Result};
use crate::gguf::Metadata;

/// The values of `tokenizer.ggml.model` that [`Tokenizer::from_gguf`] accepts.
const MODELS: &[&str] = &["gpt2", "llama", "gemma4"];

/// Further values of `tokenizer.ggml.model`, and the models that they belong to, none of which can be run.
const OTHER_MODELS: &[(&str, &str)] = &[
    ("bert", "BERT and other encoders"),
    ("t5", "T5 and other encoders"),
    ("whitespace", "Jina's encoders"),
    ("rwkv", "RWKV"),
    ("plamo2", "PLaMo 2"),
    ("hybriddna", "models of DNA"),
    ("none", "models without text"),
    ("no_vocab", "models without text"),
];

#[derive(Debug)]
enum Algorithm {
    Bpe(Box<Bpe>),
    Spm(Box<Spm>),
}

/// Encodes and decodes text.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    algorithm: Algorithm,
    add_bos: bool,
    add_eos: bool,
    /// Whether text at the beginning and after a special token gets a space in front.
    add_space: bool,
    spelling: Spelling,
    lacks_pre_tokenizer: bool,
    strips: Strips,
    token_bound: TokenBound,
}

/// Special tokens beside which white space is dropped.
#[derive(Debug, Default)]
struct Strips {
    before: Vec<u32>,
    after: Vec<u32>,
}

/// A part of the input: text still to be tokenised, or a special token found in it.
enum Fragment<'a> {
    /// The text, and the byte of the input at which it begins.
    Text(&'a str, usize),
    Token(u32),
}

impl Tokenizer {
    /// Builds the tokenizer that the model's metadata describe.
    ///
    /// # Errors
    /// If keys are missing or contradict each other, or the kind of tokenizer is unknown.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        let model = metadata.require_str("tokenizer.ggml.model")?;
        let named = metadata.get_str("tokenizer.ggml.pre")?.filter(|name| !name.is_empty());
        let pre = match model {
            "llama" => None,
            "gpt2" => Some(pre_tokenizer(metadata, named.unwrap_or("default"))?),
            "gemma4" => Some(pre_tokenizer(metadata, "gemma4")?),
            other => return Err(unknown_model(metadata, other)),
        };
        let spelling = pre.map_or(Spelling::Sentence, |pre| pre.spelling);
        let defaults = match pre {
            None => Defaults { bos: Some(1), eos: Some(2), unknown: Some(0) },
            Some(_) => Defaults::default(),
        };
        let vocab = Vocab::from_gguf(metadata, spelling, defaults)?;
        let algorithm = match pre {
            None => Algorithm::Spm(Box::new(Spm::from_gguf(metadata, &vocab)?)),
            Some(pre) => Algorithm::Bpe(Box::new(Bpe::from_gguf(metadata, &vocab, pre)?)),
        };
        let add_bos = metadata.get_bool("tokenizer.ggml.add_bos_token")?;
        let add_bos = match pre.map_or(AddBos::Yes, |pre| pre.add_bos) {
            AddBos::No => add_bos.unwrap_or(false),
            AddBos::Yes => add_bos.unwrap_or(true),
            AddBos::Always => true,
        };
        // BPE adds no space: llama.cpp reads the key there but does not use it.
        let add_space =
            pre.is_none() && metadata.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let strips = strips(metadata, &vocab, named.unwrap_or_default())?;
        let may_vanish = |byte| {
            let strips = !strips.before.is_empty() || !strips.after.is_empty();
            strips && STRIPPED.contains(&char::from(byte))
                || matches!(&algorithm, Algorithm::Bpe(bpe) if bpe.may_lose(byte))
        };
        Ok(Self {
            add_bos,
            add_eos: metadata.get_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            add_space,
            spelling,
            lacks_pre_tokenizer: model == "gpt2" && named.is_none(),
            token_bound: TokenBound::new(&vocab, spelling, may_vanish),
            strips,
            vocab,
            algorithm,
        })
    }

    /// Whether the file does not say how text is split into words, so that the default way had to be taken, which is
    /// right for few models.
    pub fn lacks_pre_tokenizer(&self) -> bool {
        self.lacks_pre_tokenizer
    }

    /// The tokens of a text.
    ///
    /// `add_special` adds BOS at the beginning and EOS at the end if the model wants them. With `parse_special` the
    /// texts of control tokens become those tokens; leave it false for text from outside, where they must stay text.
    /// User-defined tokens are always found.
    ///
    /// # Errors
    /// If the vocabulary cannot express a character.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>> {
        let mut out = Vec::with_capacity(text.len() / 3 + 2);
        if add_special && self.add_bos {
            out.extend(self.vocab.bos);
        }
        let is_found = |id| parse_special || self.is_user_defined(id);
        self.encode_to(text, is_found, true, &mut out)?;
        if add_special && self.add_eos {
            out.extend(self.vocab.eos);
        }
        Ok(out)
    }

    /// The tokens of a text that continues another one: no control tokens, and no space in front.
    ///
    /// # Errors
    /// If the vocabulary cannot express a character.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>> {
        let mut out = Vec::new();
        self.encode_to(text, |id| self.is_user_defined(id), false, &mut out)?;
        Ok(out)
    }

    /// Appends the tokens of a text, in which special tokens that `is_found` says are found; a space may come first if
    /// it stands `after_special`.
    fn encode_to(
        &self,
        text: &str,
        is_found: impl Fn(u32) -> bool,
        mut after_special: bool,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        for fragment in self.fragments(text, is_found, |_| true) {
            self.encode_fragment(&fragment, &mut after_special, out)?;
        }
        Ok(())
    }

    /// The tokens of a prompt: a text to be continued. Texts of control tokens become those tokens. BOS comes first,
    /// once, if the model wants it, whether or not the text begins with it; no EOS is added.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        Ok(self.with_bos(self.encode(prompt, false, true)?))
    }

    /// [`encode_prompt`](Self::encode_prompt) for a prompt of which only the ranges that `may_control` says become guarded
    /// tokens.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub(super) fn encode_guarded(
        &self,
        prompt: &str,
        may_control: impl Fn(Range<usize>) -> bool,
    ) -> Result<Vec<u32>> {
        let is_guarded = |id: u32| self.vocab.guarded.binary_search(&id).is_ok();
        let is_compound = |id: u32| self.vocab.compound.binary_search(&id).is_ok();
        let is_text = |id: u32| self.is_user_defined(id) && !is_guarded(id);
        let mut out = Vec::with_capacity(prompt.len() / 3 + 2);
        let mut after_special = true;
        let is_first = |id| is_guarded(id) || is_compound(id);
        for fragment in self.fragments(prompt, is_first, may_control) {
            let Fragment::Text(between, _) = fragment else {
                self.encode_fragment(&fragment, &mut after_special, &mut out)?;
                continue;
            };
            for fragment in self.fragments(between, is_text, |_| true) {
                self.encode_fragment(&fragment, &mut after_special, &mut out)?;
            }
        }
        Ok(self.with_bos(out))
    }

    fn is_user_defined(&self, id: u32) -> bool {
        self.vocab.kinds[id as usize] == Kind::UserDefined
    }

    /// These tokens, with BOS before them if the model wants it and it is not there.
    fn with_bos(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        if let Some(bos) = self.vocab.bos.filter(|_| self.add_bos)
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        tokens
    }

    /// Appends the tokens of a fragment. `after_special` says whether it begins the text or follows a special token.
    fn encode_fragment(
        &self,
        fragment: &Fragment,
        after_special: &mut bool,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let part = match *fragment {
            Fragment::Token(id) => {
                out.push(id);
                *after_special = true;
                return Ok(());
            }
            Fragment::Text(part, _) => part,
        };
        let mut spaced = String::new();
        let part = match self.spelling {
            Spelling::ByteLevel => part,
            Spelling::Sentence => {
                spaced.extend((self.add_space && *after_special).then_some('▁'));
                spaced.extend(part.chars().map(|c| if c == ' ' { '▁' } else { c }));
                &spaced
            }
        };
        *after_special = false;
        match &self.algorithm {
            Algorithm::Bpe(bpe) => bpe.encode(part, out),
            Algorithm::Spm(spm) => spm.encode(part, &self.vocab, out),
        }
    }

    /// Refuses a text that is sure to have more tokens than fit a context of `n_ctx` tokens. It does not tokenise, so
    /// it is fast even for texts of many megabytes. A text that passes may still be too long.
    ///
    /// # Errors
    /// [`Error::Context`] with the least number of tokens that the text can have.
    pub fn check_fits(&self, text: &str, n_ctx: usize) -> Result<()> {
        // A prompt leaves room for one token of its answer.
        let needed = self.token_bound.fewest_tokens(text).saturating_add(1);
        if needed > n_ctx {
            return Err(Error::Context { needed, available: n_ctx });
        }
        Ok(())
    }

    /// The bytes of a whole text. Control tokens are left out unless `special`.
    ///
    /// If the tokenizer adds a space in front of texts, that space is removed. To decode a continuation token by token
    /// use [`piece`](Self::piece).
    pub fn decode(&self, tokens: &[u32], special: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, &id) in tokens.iter().enumerate() {
            let piece = self.piece(id, special);
            let spaced = i == 0 && self.add_space;
            out.extend(piece.strip_prefix(b" ").filter(|_| spaced).unwrap_or(piece));
        }
        out
    }

    /// The bytes of one token, which may be part of a character. Empty for control and unknown tokens unless `special`,
    /// for unused tokens, and for ids outside the vocabulary.
    pub fn piece(&self, id: u32, special: bool) -> &[u8] {
        match self.vocab.kinds.get(id as usize) {
            Some(Kind::Control | Kind::Unknown) if !special => &[],
            _ => self.vocab.piece(id),
        }
    }

    /// The bytes of one token as they appear in text; empty for control tokens.
    pub fn piece_bytes(&self, id: u32) -> &[u8] {
        self.piece(id, false)
    }

    /// The token as the file spells it, such as `Ġthe` or `<0x0A>`. `None` outside the vocabulary, or if it is not
    /// UTF-8.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocab.text(id)
    }

    /// The token as the file spells it, UTF-8 or not; `None` outside the vocabulary.
    pub fn token_text_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocab.text_bytes(id)
    }

    /// The token that the file spells exactly so.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.vocab.ids.get(text).copied()
    }

    /// Number of tokens.
    pub fn n_vocab(&self) -> usize {
        self.vocab.len()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.vocab.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.vocab.eos
    }

    /// The token that ends a turn of a chat.
    pub fn eot(&self) -> Option<u32> {
        self.vocab.eot
    }

    /// The token for text that the vocabulary cannot express.
    pub fn unknown(&self) -> Option<u32> {
        self.vocab.unknown
    }

    /// The token that pads batches.
    pub fn padding(&self) -> Option<u32> {
        self.vocab.padding
    }

    /// The tokens for code between two parts; `None` if the model has not all that are needed.
    pub fn fill_in(&self) -> Option<FillInTokens> {
        self.vocab.fill_in
    }

    /// Whether `encode` with `add_special` begins with BOS.
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.vocab.bos.is_some()
    }

    /// Whether `encode` with `add_special` ends with EOS.
    pub fn adds_eos(&self) -> bool {
        self.add_eos && self.vocab.eos.is_some()
    }

    /// Whether a generation ends with this token.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.vocab.ends.contains(&id)
    }

    /// All tokens that end a generation, in ascending order.
    pub fn ends_of_generation(&self) -> impl Iterator<Item = u32> {
        self.vocab.ends.iter().copied()
    }

    /// Whether the token controls the model and is not text.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocab.kinds.get(id as usize) == Some(&Kind::Control)
    }

    /// Splits the text at the special tokens that `is_found` accepts, where `may_stand` accepts their ranges. Longer tokens
    /// are found first, wherever they are.
    fn fragments<'a>(
        &self,
        text: &'a str,
        is_found: impl Fn(u32) -> bool,
        may_stand: impl Fn(Range<usize>) -> bool,
    ) -> Vec<Fragment<'a>> {
        if text.is_empty() {
            return Vec::new();
        }
        let mut fragments = vec![Fragment::Text(text, 0)];
        for &id in &self.vocab.matched {
            let special = self.vocab.text(id).expect("what is matched is text");
            if !is_found(id) || !text.contains(special) {
                continue;
            }
            let mut cut = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                match fragment {
                    Fragment::Text(text, at) => {
                        let cuts = special_in(text, special, |range| {
                            may_stand(at + range.start..at + range.end)
                        });
                        self.strips.cut((text, at), cuts, id, &mut cut);
                    }
                    token => cut.push(token),
                }
            }
            fragments = cut;
        }
        fragments
    }
}

impl Strips {
    /// Cuts a text, which stands at a byte of the input, at the places of the token `id`.
    fn cut<'a>(
        &self,
        (text, at): (&'a str, usize),
        places: impl Iterator<Item = Range<usize>>,
        id: u32,
        out: &mut Vec<Fragment<'a>>,
    ) {
        let (before_it, after_it) = (self.before.contains(&id), self.after.contains(&id));
        let mut done = 0;
        for place in places {
            let before = &text[done..place.start];
            let before = if before_it { before.trim_end_matches(STRIPPED) } else { before };
            if !before.is_empty() {
                out.push(Fragment::Text(before, at + done));
            }
            out.push(Fragment::Token(id));
            let after = &text[place.end..];
            let stripped = if after_it { after.trim_start_matches(STRIPPED) } else { after };
            done = text.len() - stripped.len();
        }
        if done < text.len() {
            out.push(Fragment::Text(&text[done..], at + done));
        }
    }
}

/// The places of a special token in a text, from left to right, where it `may_stand`.
fn special_in(
    text: &str,
    special: &str,
    may_stand: impl Fn(Range<usize>) -> bool,
) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let start = from + text[from..].find(special)?;
            let place = start..start + special.len();
            if may_stand(place.clone()) {
                from = place.end;
                return Some(place);
            }
            from = start + text[start..].chars().next().map_or(1, char::len_utf8);
        }
    })
}

/// White space that is dropped beside some special tokens.
const STRIPPED: [char; 6] = [' ', '\t', '\n', '\x0b', '\x0c', '\r'];

/// The special tokens that drop white space beside them, which no key marks: llama.cpp knows their models by name.
fn strips(metadata: &Metadata, vocab: &Vocab, pre: &str) -> Result<Strips> {
    let name = metadata.get_str("general.name")?.unwrap_or_default().to_ascii_lowercase();
    let is_any = |text: &str, parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let mask = |text: &str| Strips {
        before: vocab.ids.get(text).copied().into_iter().collect(),
        after: Vec::new(),
    };
    if is_any(pre, &["jina-v2-de", "jina-v2-es", "jina-v2-code"]) {
        return Ok(mask("<mask>"));
    }
    if is_any(&name, &["phi-3", "phi3"]) {
        let kept = ["<unk>", "<s>", "<|endoftext|>"];
        let strips = |&id: &u32| vocab.text(id).is_none_or(|text| !kept.contains(&text));
        let after = vocab.matched.iter().copied().filter(strips).collect();
        return Ok(Strips { before: Vec::new(), after });
    }
    Ok(if name.contains("modern-bert") { mask("[MASK]") } else { Strips::default() })
}

fn pre_tokenizer(metadata: &Metadata, name: &str) -> Result<&'static PreTokenizer> {
    pre_tokenizers::find(name).ok_or_else(|| {
        let known: Vec<_> = pre_tokenizers::names().collect();
        Error::Unsupported(format!(
            "{}: pre-tokenizer `{name}` is not known; known are {}",
            metadata.path().display(),
            known.join(", ")
        ))
    })
}

fn unknown_model(metadata: &Metadata, model: &str) -> Error {
    let path = metadata.path().display();
    let why = match OTHER_MODELS.iter().find(|(name, _)| *name == model) {
        Some((_, models)) => format!("belongs to {models}, which cannot be run"),
        None => "is not known".to_owned(),
    };
    let known = MODELS.join(", ");
    Error::Unsupported(format!("{path}: tokenizer `{model}` {why}; known are {known}"))
}
