//! The tokens in a model file, and which of them are special.
//!
//! Files often leave special tokens unnamed or mark them as plain text, so some are known by their texts, as in
//! llama.cpp. The lists below are data, to be extended as models appear.
//!
//! A token's text need not be UTF-8. Such a token keeps its bytes, since the model may write it, but it never occurs in
//! a tokenised text, which is UTF-8.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use crate::error::{Error, Result};
use crate::gguf::Metadata;

/// The kind of a token: `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Normal,
    /// Stands for text that the vocabulary cannot express.
    Unknown,
    /// Controls the model; not part of the text.
    Control,
    /// Text that is matched first, as it stands.
    UserDefined,
    /// An unused id; shown as nothing.
    Unused,
    /// One byte, written `<0x0A>`.
    Byte,
}

/// How texts of tokens represent bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Each byte is a printable character (GPT-2's table).
    ByteLevel,
    /// UTF-8, with `▁` for the space.
    Sentence,
}

/// Special tokens of a vocabulary whose file names none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unknown: Option<u32>,
}

/// All tokens of a model.
#[derive(Debug)]
pub(super) struct Vocab {
    /// The text of each token in the file.
    texts: Vec<Vec<u8>>,
    pub(super) kinds: Vec<Kind>,
    /// The tokens whose text is UTF-8.
    pub(super) ids: HashMap<String, u32>,
    /// The bytes of all tokens, one after another; token `i` ends at `piece_ends[i]`.
    pieces: Vec<u8>,
    piece_ends: Vec<usize>,
    /// Tokens that are matched in the text before tokenisation, the longest text first.
    pub(super) matched: Vec<u32>,
    /// Those of them that what messages contain never becomes, in ascending order.
    pub(super) guarded: Vec<u32>,
    /// Others whose texts contain one of those, in ascending order.
    pub(super) compound: Vec<u32>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) padding: Option<u32>,
    pub(super) fill_in: Option<FillInTokens>,
    /// Tokens that end a generation.
    pub(super) ends: BTreeSet<u32>,
}

/// The tokens with which a code model is asked for code between two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillInTokens {
    /// Stands before the code in front of the gap.
    pub prefix: u32,
    /// Stands before the code behind the gap.
    pub suffix: u32,
    /// Stands before the code in the gap.
    pub middle: u32,
    /// Stands before the name of a file.
    pub file: Option<u32>,
}

/// Texts of the token that ends a turn, in order of preference.
const TURN_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// Texts of tokens that end a generation whatever the file says.
const GENERATION_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// A role of tokens in code that a code model fills in.
struct FillIn {
    /// The keys that name the token, without what they share; the last one counts.
    keys: &'static [&'static str],
    /// Whether the token also ends a generation: padding, next repository, next file.
    ends: bool,
    /// Texts of the token if no key names it: the first one found is a control token.
    texts: &'static [&'static str],
}

/// In the order of [`Vocab::find_fill_in`].
const FILL_IN: [FillIn; 6] = [
    FillIn {
        keys: &["fim_pre", "prefix"],
        ends: false,
        texts: &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    },
    FillIn {
        keys: &["fim_suf", "suffix"],
        ends: false,
        texts: &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    },
    FillIn {
        keys: &["fim_mid", "middle"],
        ends: false,
        texts: &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    },
    FillIn {
        keys: &["fim_pad"],
        ends: true,
        texts: &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    },
    FillIn {
        keys: &["fim_rep"],
        ends: true,
        texts: &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    },
    FillIn { keys: &["fim_sep"], ends: true, texts: &["<|file_sep|>"] },
];

/// Texts of tokens that are shown although they look like control tokens.
const ALWAYS_SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// The text of a token that ends a generation in some vocabularies, and separates messages in others.
const SEPARATOR: &str = "<|end|>";

impl Vocab {
    pub(super) fn from_gguf(
        metadata: &Metadata,
        spelling: Spelling,
        defaults: Defaults,
    ) -> Result<Self> {
        let listed = metadata.require_byte_strings("tokenizer.ggml.tokens")?;
        let malformed = |what: String| Error::gguf(metadata.path(), what);
        if listed.is_empty() || u32::try_from(listed.len()).is_err() {
            return Err(malformed(format!("has a vocabulary of {} tokens", listed.len())));
        }
        let mut texts = Vec::with_capacity(listed.len());
        let mut all = HashMap::with_capacity(listed.len());
        let mut ids = HashMap::with_capacity(listed.len());
        for (id, bytes) in (0u32..).zip(listed) {
            let bytes: Cow<[u8]> = match bytes {
                [] => format!("[EMPTY_{id}]").into_bytes().into(),
                bytes => bytes.into(),
            };
            if let Some(first) = all.insert(bytes.clone(), id) {
                let text = String::from_utf8_lossy(&bytes);
                return Err(malformed(format!("tokens {first} and {id} are both {text:?}")));
            }
            ids.extend(std::str::from_utf8(&bytes).ok().map(|text| (text.to_owned(), id)));
            texts.push(bytes.into_owned());
        }
        let kinds = kinds(metadata, texts.len())?;
        let mut vocab = Self {
            texts,
            kinds,
            ids,
            pieces: Vec::new(),
            piece_ends: Vec::new(),
            matched: Vec::new(),
            guarded: Vec::new(),
            compound: Vec::new(),
            bos: None,
            eos: None,
            eot: None,
            unknown: None,
            padding: None,
            fill_in: None,
            ends: BTreeSet::new(),
        };
        vocab.find_special(metadata, defaults)?;
        vocab.find_matched();
        vocab.find_guarded();
        vocab.spell(spelling);
        Ok(vocab)
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// A token's text in the file; `None` outside the vocabulary.
    pub(super) fn text_bytes(&self, id: u32) -> Option<&[u8]> {
        self.texts.get(id as usize).map(Vec::as_slice)
    }

    /// A token's text in the file, if it is UTF-8.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        std::str::from_utf8(self.text_bytes(id)?).ok()
    }

    /// The tokens that are written `<0x0A>`, by their bytes.
    pub(super) fn byte_tokens(&self) -> [Option<u32>; 256] {
        std::array::from_fn(|byte| self.ids.get(&format!("<0x{byte:02X}>")).copied())
    }

    /// The id that a key names; ids outside the vocabulary count as absent.
    fn named(&self, metadata: &Metadata, key: &str, default: Option<u32>) -> Result<Option<u32>> {
        let inside = |id: u32| (id as usize) < self.texts.len();
        let key = format!("tokenizer.ggml.{key}_token_id");
        // Some writers store −1 for "none".
        let named = match metadata.get_u32(&key) {
            Err(_) if metadata.get_i32(&key).is_ok() => None,
            other => other?,
        };
        Ok(named.filter(|&id| inside(id)).or(default.filter(|&id| inside(id))))
    }

    /// The first of `texts` that is a token; it becomes a control token.
    fn first_control(&mut self, texts: &[&str]) -> Option<u32> {
        let id = texts.iter().find_map(|&text| self.ids.get(text).copied())?;
        self.kinds[id as usize] = Kind::Control;
        Some(id)
    }

    fn find_special(&mut self, metadata: &Metadata, defaults: Defaults) -> Result<()> {
        self.bos = self.named(metadata, "bos", defaults.bos)?;
        self.eos = self.named(metadata, "eos", defaults.eos)?;
        self.unknown = self.named(metadata, "unknown", defaults.unknown)?;
        self.padding = self.named(metadata, "padding", None)?;
        self.eot = match self.named(metadata, "eot", None)? {
            Some(id) => Some(id),
            None => self.first_control(TURN_ENDS),
        };
        let eom = match self.named(metadata, "eom", None)? {
            Some(id) => Some(id),
            None => self.first_control(&["<|eom_id|>"]),
        };
        self.find_fill_in(metadata)?;
        for &text in GENERATION_ENDS {
            let id = self.first_control(&[text]);
            self.ends.extend(id);
        }
        for &text in ALWAYS_SHOWN {
            if let Some(&id) = self.ids.get(text) {
                self.kinds[id as usize] = Kind::UserDefined;
            }
        }
        self.ends.extend(self.eos.into_iter().chain(self.eot).chain(eom));
        self.undo_false_ends();
        Ok(())
    }

    fn find_fill_in(&mut self, metadata: &Metadata) -> Result<()> {
        let mut found = [None; FILL_IN.len()];
        for (found, fill_in) in found.iter_mut().zip(&FILL_IN) {
            let mut id = None;
            for key in fill_in.keys {
                id = self.named(metadata, key, id)?;
            }
            *found = id.or_else(|| self.first_control(fill_in.texts));
            self.ends.extend(found.filter(|_| fill_in.ends));
        }
        let [prefix, suffix, middle, _padding, _repository, file] = found;
        let all = prefix.zip(suffix).zip(middle);
        let tokens = |((prefix, suffix), middle)| FillInTokens { prefix, suffix, middle, file };
        self.fill_in = all.map(tokens);
        Ok(())
    }

    /// Corrects vocabularies that use a well-known end for something else.
    fn undo_false_ends(&mut self) {
        let ends = |text| self.ids.get(text).is_some_and(|id| self.ends.contains(id));
        // OpenAI's harmony and Solar: `<|end|>` only separates messages.
        let separates = (ends("<|return|>") && (ends("<|call|>") || ends("<|calls|>")))
            || (ends("<|flush|>") && (ends("<|call|>") || ends("<|calls|>")));
        // Gemma 4 and PLaMo: `</s>` is text.
        let is_text = ends("<|tool_response>") || ends("<|plamo:eos|>");
        for (applies, text, kind) in
            [(separates, SEPARATOR, Kind::UserDefined), (is_text, "</s>", Kind::Normal)]
        {
            if let Some(&id) = self.ids.get(text).filter(|_| applies)
                && self.ends.remove(&id)
            {
                self.kinds[id as usize] = kind;
            }
        }
    }

    /// Whether a token is matched in a text as it stands.
    pub(super) fn is_matched(&self, id: u32) -> bool {
        let kind = self.kinds[id as usize];
        matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown) && self.text(id).is_some()
    }

    fn find_matched(&mut self) {
        let ids = 0..self.texts.len() as u32;
        let mut matched: Vec<u32> = ids.filter(|id| self.is_matched(*id)).collect();
        matched.sort_by_key(|&id| std::cmp::Reverse(self.texts[id as usize].len()));
        self.matched = matched;
    }

    /// Control tokens are guarded even where they are shown. A token of one character is not told from text.
    fn find_guarded(&mut self) {
        let is_guarded = |id: &u32| {
            let text = self.text(*id).unwrap_or_default();
            let is_shown = ALWAYS_SHOWN.contains(&text) || text == SEPARATOR;
            let controls = self.kinds[*id as usize] != Kind::UserDefined || is_shown;
            controls && text.chars().count() > 1
        };
        let mut guarded: Vec<u32> = self.matched.iter().copied().filter(is_guarded).collect();
        guarded.sort_unstable();
        self.guarded = guarded;
        let is_guarded = |text: &str| {
            self.ids.get(text).is_some_and(|id| self.guarded.binary_search(id).is_ok())
        };
        let is_compound = |id: &u32| {
            let text = self.text(*id).unwrap_or_default();
            let signs = text.char_indices().filter(|(_, c)| !c.is_alphanumeric());
            let mut rests = signs.map(|(at, _)| &text[at..]);
            let is_begun_by_one =
                |rest: &str| (1..=rest.len()).any(|end| rest.get(..end).is_some_and(is_guarded));
            !is_guarded(text) && rests.any(is_begun_by_one)
        };
        let mut compound: Vec<u32> = self.matched.iter().copied().filter(is_compound).collect();
        compound.sort_unstable();
        self.compound = compound;
    }

    fn spell(&mut self, spelling: Spelling) {
        for (text, kind) in self.texts.iter().zip(&self.kinds) {
            match (kind, spelling) {
                (Kind::Unused, _) => {}
                (Kind::Control | Kind::Unknown | Kind::UserDefined, _) => self.pieces.extend(text),
                (Kind::Byte, _) => self.pieces.extend(byte_of(text)),
                (Kind::Normal, Spelling::Sentence) => spell_sentence(text, &mut self.pieces),
                (Kind::Normal, Spelling::ByteLevel) => spell_byte_level(text, &mut self.pieces),
            }
            self.piece_ends.push(self.pieces.len());
        }
    }

    /// The bytes that a token stands for, special or not; empty outside the vocabulary.
    pub(super) fn piece(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.piece_ends.get(id) else { return &[] };
        let start = id.checked_sub(1).map_or(0, |before| self.piece_ends[before]);
        &self.pieces[start..end]
    }
}

fn kinds(metadata: &Metadata, n_tokens: usize) -> Result<Vec<Kind>> {
    let Some(numbers) = metadata.get_i32_array("tokenizer.ggml.token_type")? else {
        return Ok(vec![Kind::Normal; n_tokens]);
    };
    if numbers.len() < n_tokens {
        let what = format!("types {} of {n_tokens} tokens; convert it anew", numbers.len());
        return Err(Error::gguf(metadata.path(), what));
    }
    let kind = |&number: &i32| match number {
        1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        6 => Kind::Byte,
        // 5 is "unused", 0 "undefined"; neither is shown.
        _ => Kind::Unused,
    };
    Ok(numbers.iter().take(n_tokens).map(kind).collect())
}

/// The byte of a text such as `<0x0A>`.
fn byte_of(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text).ok()?.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}

/// The character that GPT-2 writes for each byte: printable Latin-1 as itself; the other 68 bytes, in order, as the
/// characters from U+0100 on.
pub(super) static BYTE_CHARACTERS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut others = '\u{100}'..;
    std::array::from_fn(|byte| match byte as u8 {
        byte @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..) => char::from(byte),
        _ => others.next().expect("the range has no end"),
    })
});

/// Appends the bytes that a text in GPT-2's characters stands for. Other characters, and bytes that are not UTF-8,
/// stand for themselves.
fn spell_byte_level(text: &[u8], out: &mut Vec<u8>) {
    static BYTES: LazyLock<HashMap<char, u8>> =
        LazyLock::new(|| BYTE_CHARACTERS.iter().copied().zip(0..=u8::MAX).collect());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match BYTES.get(&character) {
                Some(&byte) => out.push(byte),
                None => out.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out.extend(chunk.invalid());
    }
}

/// Appends a text of SentencePiece, in which `▁` is a space. Bytes that are not UTF-8 stand for themselves.
fn spell_sentence(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        out.extend(chunk.valid().replace('▁', " ").as_bytes());
        out.extend(chunk.invalid());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_character() {
        let some = [b' ', b'\n', b'a', 0xad].map(|byte| BYTE_CHARACTERS[usize::from(byte)]);
        assert_eq!(some, ['Ġ', 'Ċ', 'a', 'Ń']);
        let mut out = Vec::new();
        let text: String = BYTE_CHARACTERS.iter().collect();
        spell_byte_level(text.as_bytes(), &mut out);
        assert_eq!(out, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn byte_tokens_are_two_hex_digits() {
        assert_eq!(byte_of(b"<0x0A>"), Some(10));
        for none in [&b"<0xA>"[..], b"<0x+A>", b"x", b"<0x\xff>"] {
            assert_eq!(byte_of(none), None);
        }
    }

    #[test]
    fn bytes_that_are_no_characters_stand_for_themselves() {
        let spelled = |spell: fn(&[u8], &mut Vec<u8>), text: &[u8]| {
            let mut out = Vec::new();
            spell(text, &mut out);
            out
        };
        let space = "Ġ".as_bytes();
        let text = [space, b"\xe4\xb8", space, b"\xff"].concat();
        assert_eq!(spelled(spell_byte_level, &text), b" \xe4\xb8 \xff");
        let space = "▁".as_bytes();
        let text = [space, b"\xe4\xb8", space, b"\xff"].concat();
        assert_eq!(spelled(spell_sentence, &text), b" \xe4\xb8 \xff");
    }
}
