//! Keeps what messages contain from becoming control tokens: only the template's own text can.
//!
//! Before a template is rendered, a *mark*, a noncharacter that the conversation does not contain, is put into each text
//! that could become a control token:
//!
//! - behind the first character of a control token;
//! - behind the first character of the beginning of one at the end of a text, and before the rest of one at the beginning,
//!   because a template may join texts;
//! - before a key that a control token has between its brackets, because a template may write `<key>`; the names of fields
//!   that templates look for are no such keys.
//!
//! A template may take `<think>` and `</think>` out of a text: what is left counts as well. One that takes other characters
//! out of the middle can still join the pieces.
//!
//! The rendered prompt is then cut at control tokens, none of which has a mark in it, and the marks are taken out of the
//! text between them. A template that writes JSON in ASCII writes the mark as an escape, which is taken out as well.

use std::borrow::Cow;
use std::collections::HashSet;

use super::conversation::{Checked, Place};
use crate::error::{Error, Result};
use crate::text::tokenizer::Tokenizer;

/// A conversation whose texts become no control token, and its mark.
#[derive(Debug)]
pub struct Guarded {
    /// The conversation with the marks.
    pub conversation: Checked,
    mark: Mark,
}

impl Guarded {
    /// Marks a conversation for a vocabulary and a template's source.
    ///
    /// # Errors
    /// If every character that could be the mark occurs in it.
    pub fn new(tokenizer: &Tokenizer, source: &str, conversation: &Checked) -> Result<Self> {
        let controls = Controls::new(tokenizer);
        let mark = Mark::new(source, conversation)?;
        let conversation =
            conversation.map_texts(&|text, place| controls.marked(text, place, mark.character));
        Ok(Self { conversation, mark })
    }

    /// A rendered text without the marks.
    pub fn unmarked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.mark.remove(text)
    }
}

/// The character that is put into texts, and its escape.
#[derive(Debug)]
struct Mark {
    character: char,
    escape: String,
}

impl Mark {
    /// A mark that neither the template nor the conversation contains.
    fn new(source: &str, conversation: &Checked) -> Result<Self> {
        let mut used = HashSet::new();
        find_used(source, &mut used);
        conversation.visit_texts(&mut |text| find_used(text, &mut used));
        let character =
            candidates().find(|character| !used.contains(character)).ok_or_else(|| {
                let what = "the conversation has all noncharacters and characters for private use";
                Error::Invalid(format!("{what}; leave some out"))
            })?;
        Ok(Self { character, escape: format!("u{:04x}", u32::from(character)) })
    }

    fn remove<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let has_escape = text.contains(&self.escape);
        if !has_escape && !text.contains(self.character) {
            return Cow::Borrowed(text);
        }
        let mut rest = text;
        let mut out = String::with_capacity(text.len());
        // An escape in JSON that was quoted as JSON again has several backslashes.
        while let Some(at) = rest.find(&self.escape).filter(|_| has_escape) {
            out.push_str(rest[..at].trim_end_matches('\\'));
            rest = &rest[at + self.escape.len()..];
        }
        out.push_str(rest);
        out.retain(|character| character != self.character);
        Cow::Owned(out)
    }
}

/// Names of fields that templates look for: they stay as they are.
const FIELDS: &[&str] = &[
    "$defs",
    "$ref",
    "additionalProperties",
    "anyOf",
    "arguments",
    "const",
    "content",
    "default",
    "description",
    "enum",
    "format",
    "function",
    "id",
    "items",
    "maximum",
    "minimum",
    "name",
    "oneOf",
    "parameters",
    "properties",
    "reasoning_content",
    "required",
    "response",
    "return",
    "role",
    "strict",
    "text",
    "thinking",
    "title",
    "tool_call_id",
    "tool_calls",
    "type",
];

/// Noncharacters, then characters for private use.
fn candidates() -> impl Iterator<Item = char> {
    ('\u{fdd0}'..='\u{fdef}').chain('\u{e000}'..='\u{f8ff}')
}

/// Adds the candidates that occur in a text, as they are or as an escape.
fn find_used(text: &str, used: &mut HashSet<char>) {
    let is_candidate = |c: &char| matches!(c, '\u{fdd0}'..='\u{fdef}' | '\u{e000}'..='\u{f8ff}');
    used.extend(text.chars().filter(is_candidate));
    let escapes = text.match_indices('u').filter_map(|(at, _)| text.get(at + 1..at + 5));
    let codes = escapes.filter_map(|digits| u32::from_str_radix(digits, 16).ok());
    used.extend(codes.filter_map(char::from_u32).filter(is_candidate));
}

/// The control tokens of a vocabulary.
struct Controls<'a> {
    /// Their texts, sorted.
    texts: Vec<&'a str>,
    /// Their first characters.
    firsts: Vec<char>,
    /// Their other characters that belong to no word.
    others: Vec<char>,
    /// What follows their first signs, such as `im_end|>`, sorted.
    tails: Vec<&'a str>,
    /// What they have between their first and their last character.
    insides: HashSet<&'a str>,
}

impl<'a> Controls<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Self {
        let mut texts: Vec<&str> = tokenizer.guarded_texts().collect();
        texts.sort_unstable();
        let mut firsts: Vec<char> = texts.iter().filter_map(|text| text.chars().next()).collect();
        firsts.dedup();
        let others = texts.iter().flat_map(|text| text.chars().skip(1));
        let mut others: Vec<char> = others.filter(|c| !is_word(*c) && *c != ' ').collect();
        others.sort_unstable();
        others.dedup();
        let tails = texts.iter().flat_map(|text| {
            let signs = text.char_indices().filter(|(_, c)| !is_word(*c));
            signs.map(|(at, sign)| &text[at + sign.len_utf8()..])
        });
        let mut tails: Vec<&str> =
            tails.filter(|tail| tail.starts_with(is_word) && !tail.chars().all(is_word)).collect();
        tails.sort_unstable();
        let inside = |text: &&'a str| {
            let mut characters = text.chars();
            let has_both = characters.next().is_some() && characters.next_back().is_some();
            Some(characters.as_str()).filter(|inside| has_both && !inside.is_empty())
        };
        let insides = texts.iter().filter_map(inside).collect();
        Self { texts, firsts, others, tails, insides }
    }

    fn marked(&self, text: &str, place: Place, mark: char) -> String {
        let mut out = String::with_capacity(text.len() + 4);
        let begin = text.len() - text.trim_start().len();
        let trimmed = text.trim_end();
        out.push_str(&text[..begin]);
        out.extend(self.may_end_one(text[begin..].trim_end(), place).then_some(mark));
        let mut done = begin;
        for (at, first) in trimmed.match_indices(&*self.firsts).filter(|(at, _)| *at >= begin) {
            let end = at + first.len();
            let without_tags = first.bytes().chain(without_tags(&trimmed[end..]));
            if self.begins(trimmed[at..].bytes()) || self.begins(without_tags) {
                out.push_str(&text[done..end]);
                out.push(mark);
                done = end;
            }
        }
        out.push_str(&text[done..]);
        out
    }

    /// Whether a text begins with a control token, or is the beginning of one.
    fn begins(&self, text: impl Iterator<Item = u8>) -> bool {
        matches!(common_prefix(&self.texts, text), Prefix::Whole | Prefix::Part)
    }

    /// Whether a text may be the rest of a control token whose beginning a template writes.
    fn may_end_one(&self, text: &str, place: Place) -> bool {
        text.starts_with(&*self.others)
            || matches!(common_prefix(&self.tails, text.bytes()), Prefix::Whole)
            || place == Place::Key && self.insides.contains(text) && !FIELDS.contains(&text)
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric()
}

/// The bytes of a text without the tags of thoughts.
fn without_tags(text: &str) -> impl Iterator<Item = u8> {
    const TAGS: [&[u8]; 2] = [b"<think>", b"</think>"];
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        while let Some(behind) = TAGS.iter().find_map(|tag| rest.strip_prefix(*tag)) {
            rest = behind;
        }
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        Some(*byte)
    })
}

/// What a text and one of a list have in common.
enum Prefix {
    /// The text begins with one of the list.
    Whole,
    /// The text is the beginning of one.
    Part,
    /// Neither.
    None,
}

/// Looks a text up in a sorted list.
fn common_prefix(sorted: &[&str], text: impl Iterator<Item = u8>) -> Prefix {
    let mut found = sorted;
    for (i, byte) in text.enumerate() {
        let at = |text: &&str| text.as_bytes().get(i).copied();
        found = &found[found.partition_point(|text| at(text) < Some(byte))..];
        found = &found[..found.partition_point(|text| at(text) == Some(byte))];
        match found.first() {
            None => return Prefix::None,
            Some(first) if first.len() == i + 1 => return Prefix::Whole,
            Some(_) => {}
        }
    }
    Prefix::Part
}
