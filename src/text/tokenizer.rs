//! Text to token ids and back, for the vocabulary in a model file.
//!
//! A text is first searched for special tokens, the longest first; the text between them goes through the model's own
//! algorithm. Ids equal llama.cpp's with one deliberate exception: if a BPE model names no BOS or EOS, there is none,
//! while llama.cpp takes token 11.

use super::bound::TokenBound;
use super::bpe::Bpe;
use super::spm::Spm;
use super::vocab::{Kind, Spelling, Vocab};
use crate::error::{Error, Result};
use crate::gguf::Metadata;

/// The values of `tokenizer.ggml.model` that [`Tokenizer::from_gguf`] accepts.
const MODELS: &[&str] = &["gpt2", "llama"];

#[derive(Debug)]
enum Algorithm {
    Bpe(Box<Bpe>),
    Spm(Spm),
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
    /// Special tokens after which white space is dropped, as in Phi 3.
    strip_after: Vec<u32>,
    token_bound: TokenBound,
}

/// A part of the input: text still to be tokenised, or a special token found in it.
enum Fragment<'a> {
    Text(&'a str),
    Token(u32),
}

impl Tokenizer {
    /// Builds the tokenizer that the model's metadata describe.
    ///
    /// # Errors
    /// If keys are missing or contradict each other, or the kind of tokenizer is unknown.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        let model = metadata.require_str("tokenizer.ggml.model")?;
        let spelling = match model {
            "gpt2" => Spelling::ByteLevel,
            "llama" => Spelling::Sentence,
            other => {
                return Err(Error::Unsupported(format!(
                    "{}: tokenizer `{other}` is not known; known are {}",
                    metadata.path().display(),
                    MODELS.join(", ")
                )));
            }
        };
        let vocab = Vocab::from_gguf(metadata, spelling)?;
        let (algorithm, bos_default, space_default) = match spelling {
            Spelling::ByteLevel => {
                let bpe = Bpe::from_gguf(metadata, &vocab)?;
                let add_bos = bpe.add_bos;
                (Algorithm::Bpe(Box::new(bpe)), add_bos, false)
            }
            Spelling::Sentence => (Algorithm::Spm(Spm::from_gguf(metadata, &vocab)?), true, true),
        };
        // BPE adds no space: llama.cpp reads the key there but does not use it.
        let add_space = space_default
            && metadata.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(space_default);
        let strip_after = strip_after(metadata, &vocab)?;
        let stripped: &[char] = if strip_after.is_empty() { &[] } else { &STRIPPED };
        Ok(Self {
            add_bos: metadata.get_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(bos_default),
            add_eos: metadata.get_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            add_space,
            strip_after,
            token_bound: TokenBound::new(&vocab, spelling, stripped),
            vocab,
            algorithm,
        })
    }

    /// Whether the file does not say how text is split into words, so that the default way had to be taken, which is
    /// right for few models.
    pub fn lacks_pre_tokenizer(&self) -> bool {
        matches!(&self.algorithm, Algorithm::Bpe(bpe) if !bpe.named)
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
        let mut after_special = true;
        let mut spaced = String::new();
        for fragment in self.fragments(text, parse_special) {
            match (fragment, &self.algorithm) {
                (Fragment::Token(id), _) => {
                    out.push(id);
                    after_special = true;
                    continue;
                }
                (Fragment::Text(part), Algorithm::Bpe(bpe)) => bpe.encode(part, &mut out)?,
                (Fragment::Text(part), Algorithm::Spm(spm)) => {
                    spaced.clear();
                    if self.add_space && after_special {
                        spaced.push('▁');
                    }
                    spaced.extend(part.chars().map(|c| if c == ' ' { '▁' } else { c }));
                    spm.encode(&spaced, &self.vocab, &mut out)?;
                }
            }
            after_special = false;
        }
        if add_special && self.add_eos {
            out.extend(self.vocab.eos);
        }
        Ok(out)
    }

    /// The tokens of a prompt that a chat template rendered. Special tokens are parsed. BOS comes first, once, if the
    /// model wants it, whether or not the template wrote it; no EOS is added.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub fn encode_chat(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut tokens = self.encode(prompt, false, true)?;
        if let Some(bos) = self.vocab.bos.filter(|_| self.add_bos)
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        Ok(tokens)
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

    /// Splits the text at special tokens. Longer tokens are found first, wherever they are.
    fn fragments<'a>(&self, text: &'a str, parse_special: bool) -> Vec<Fragment<'a>> {
        if text.is_empty() {
            return Vec::new();
        }
        let mut fragments = vec![Fragment::Text(text)];
        for &id in &self.vocab.matched {
            let hidden = self.vocab.kinds[id as usize] != Kind::UserDefined;
            let special = self.vocab.text(id).expect("what is matched is text");
            if (hidden && !parse_special) || !text.contains(special) {
                continue;
            }
            let strip = self.strip_after.contains(&id);
            let mut cut = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                match fragment {
                    Fragment::Text(text) => cut_at(text, special, id, strip, &mut cut),
                    token => cut.push(token),
                }
            }
            fragments = cut;
        }
        fragments
    }
}

fn cut_at<'a>(mut text: &'a str, special: &str, id: u32, strip: bool, out: &mut Vec<Fragment<'a>>) {
    while let Some((before, after)) = text.split_once(special) {
        if !before.is_empty() {
            out.push(Fragment::Text(before));
        }
        out.push(Fragment::Token(id));
        text = if strip { after.trim_start_matches(STRIPPED) } else { after };
    }
    if !text.is_empty() {
        out.push(Fragment::Text(text));
    }
}

/// White space that is dropped after some special tokens.
const STRIPPED: [char; 6] = [' ', '\t', '\n', '\x0b', '\x0c', '\r'];

/// The special tokens that drop the white space after them: those of Phi 3, which no key marks.
fn strip_after(metadata: &Metadata, vocab: &Vocab) -> Result<Vec<u32>> {
    let name = metadata.get_str("general.name")?.unwrap_or_default().to_ascii_lowercase();
    if !name.contains("phi-3") && !name.contains("phi3") {
        return Ok(Vec::new());
    }
    let kept = ["<unk>", "<s>", "<|endoftext|>"];
    let strips = |&id: &u32| vocab.text(id).is_none_or(|text| !kept.contains(&text));
    Ok(vocab.matched.iter().copied().filter(strips).collect())
}
