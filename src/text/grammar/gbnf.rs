//! llama.cpp's GBNF as a Lark grammar in llguidance's dialect.
//!
//! A GBNF grammar describes texts character by character. The Lark grammar does the same: each of its terminals is one
//! character, so that no terminal can be longer than another and take its text.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Parentheses may be nested so deep.
const MAX_DEPTH: usize = 100;

/// Largest size of a Lark grammar in bytes.
const MAX_BYTES: usize = 1 << 20;

/// The Lark grammar of a GBNF grammar.
///
/// # Errors
/// If it is malformed, names a rule that it does not define, or is too large; the line says where.
pub(super) fn to_lark(gbnf: &str) -> Result<String, String> {
    let mut parser = Parser { rest: gbnf, whole: gbnf, out: String::new(), depth: 0 };
    let (mut defined, mut used) = (BTreeSet::new(), BTreeSet::from(["root".to_owned()]));
    parser.skip_space(true);
    while !parser.rest.is_empty() {
        let name = parser.name()?;
        parser.skip_space(true);
        parser.expect("::=")?;
        write!(parser.out, "{}: ", rule(&name)).expect("a string takes all");
        parser.alternatives(&mut used)?;
        parser.out.push('\n');
        if !defined.insert(name.clone()) {
            return Err(format!("rule `{name}` is defined twice"));
        }
        parser.skip_space(true);
    }
    match used.difference(&defined).next() {
        Some(name) => Err(format!("rule `{name}` is not defined")),
        None => Ok(parser.out),
    }
}

/// A rule's name in Lark: lower case, distinct for distinct names.
fn rule(name: &str) -> String {
    if name == "root" {
        return "start".to_owned();
    }
    let mut out = "r_".to_owned();
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' => out.push(c),
            other => write!(out, "_{:x}_", u32::from(other)).expect("a string takes all"),
        }
    }
    out
}

struct Parser<'a> {
    rest: &'a str,
    whole: &'a str,
    out: String,
    depth: usize,
}

impl Parser<'_> {
    /// Alternatives up to the end of a rule or of a group.
    fn alternatives(&mut self, used: &mut BTreeSet<String>) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("is nested too deep"));
        }
        self.skip_space(true);
        loop {
            self.sequence(used)?;
            if !self.take("|") {
                break;
            }
            self.out.push_str(" | ");
            self.skip_space(true);
        }
        self.depth -= 1;
        Ok(())
    }

    /// Items one after another.
    fn sequence(&mut self, used: &mut BTreeSet<String>) -> Result<(), String> {
        let before = self.out.len();
        loop {
            if self.out.len() > MAX_BYTES {
                return Err("it is too large".to_owned());
            }
            let start = self.out.len();
            match self.rest.chars().next() {
                Some('"') => self.literal()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.take(".");
                    self.out.push_str("/(?s:.)/");
                }
                Some('(') => {
                    self.take("(");
                    self.out.push('(');
                    self.alternatives(used)?;
                    self.expect(")")?;
                    self.out.push(')');
                }
                Some(c) if is_name(c) => {
                    let name = self.name()?;
                    self.out.push_str(&rule(&name));
                    used.insert(name);
                }
                _ => break,
            }
            self.repetition(start)?;
            self.out.push(' ');
            // Within a group a sequence may go on in the next line.
            self.skip_space(self.depth > 1);
        }
        if self.out.len() == before {
            self.out.push_str("\"\"");
        }
        Ok(())
    }

    /// What says how often the item from `start` on is repeated.
    fn repetition(&mut self, start: usize) -> Result<(), String> {
        let Some(c @ ('*' | '+' | '?' | '{')) = self.rest.chars().next() else { return Ok(()) };
        self.out.insert(start, '(');
        self.out.push(')');
        if c != '{' {
            self.rest = &self.rest[1..];
            self.out.push(c);
            return Ok(());
        }
        let (range, rest) =
            self.rest[1..].split_once('}').ok_or_else(|| self.error("lacks `}`"))?;
        let number = |text: &str| text.trim().parse::<u16>().ok();
        let bounds = match range.split_once(',') {
            None => number(range).map(|n| (n, Some(n))),
            Some((least, most)) if most.trim().is_empty() => number(least).map(|n| (n, None)),
            Some((least, most)) => {
                let least = if least.trim().is_empty() { Some(0) } else { number(least) };
                least.zip(number(most)).map(|(least, most)| (least, Some(most)))
            }
        };
        match bounds {
            Some((_, Some(0))) => self.out.replace_range(start.., "\"\""),
            Some((least, None)) => write!(self.out, "{{{least},}}").expect("a string takes all"),
            Some((least, Some(most))) if least <= most => {
                write!(self.out, "{{{least},{most}}}").expect("a string takes all");
            }
            _ => return Err(self.error("has a repetition that is no range of numbers below 65536")),
        }
        self.rest = rest;
        Ok(())
    }

    /// A text in quotes, as its characters.
    fn literal(&mut self) -> Result<(), String> {
        self.take("\"");
        self.out.push('(');
        let mut is_empty = true;
        while !self.rest.starts_with('"') {
            let c = self.character()?;
            let quoted = serde_json::to_string(&c.to_string()).expect("a character is JSON");
            write!(self.out, "{quoted} ").expect("a string takes all");
            is_empty = false;
        }
        self.take("\"");
        self.out.push_str(if is_empty { "\"\")" } else { ")" });
        Ok(())
    }

    /// A class of characters, as a regular expression of one character.
    fn class(&mut self) -> Result<(), String> {
        self.take("[");
        self.out.push_str("/[");
        if self.take("^") {
            self.out.push('^');
        }
        let mut is_empty = true;
        while !self.rest.starts_with(']') {
            let first = self.character()?;
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            let last = if is_range {
                self.take("-");
                self.character()?
            } else {
                first
            };
            if last < first {
                return Err(self.error("has a range whose end is before its start"));
            }
            let (first, last) = (u32::from(first), u32::from(last));
            write!(self.out, "\\x{{{first:x}}}-\\x{{{last:x}}}").expect("a string takes all");
            is_empty = false;
        }
        if is_empty {
            return Err(self.error("has an empty class"));
        }
        self.take("]");
        self.out.push_str("]/");
        Ok(())
    }

    /// A character of a text or a class, which may be escaped.
    fn character(&mut self) -> Result<char, String> {
        let next = |parser: &mut Self| {
            let c = parser.rest.chars().next().ok_or_else(|| parser.error("ends too early"))?;
            parser.rest = &parser.rest[c.len_utf8()..];
            Ok::<char, String>(c)
        };
        match next(self)? {
            '\\' => {}
            '\n' => return Err(self.error("has a line break within a text")),
            c => return Ok(c),
        }
        let digits = match next(self)? {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            c => return Ok(c),
        };
        let code = self.rest.get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let c = code.and_then(char::from_u32);
        let c = c.ok_or_else(|| self.error("has an escape that is no character"))?;
        self.rest = &self.rest[digits..];
        Ok(c)
    }

    fn name(&mut self) -> Result<String, String> {
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(self.error("has no rule's name where one belongs"));
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(name.to_owned())
    }

    /// Skips white space and comments; line breaks too if they do not end anything.
    fn skip_space(&mut self, breaks: bool) {
        loop {
            let space = |c: char| c == ' ' || c == '\t' || (breaks && (c == '\n' || c == '\r'));
            self.rest = self.rest.trim_start_matches(space);
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..];
        }
    }

    /// Skips this text and white space behind it, if it comes next.
    fn take(&mut self, text: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(text) else { return false };
        self.rest = rest;
        if text == "|" || text == "(" {
            self.skip_space(true);
        }
        true
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        if self.take(text) { Ok(()) } else { Err(self.error(&format!("lacks `{text}`"))) }
    }

    fn error(&self, what: &str) -> String {
        let read = &self.whole[..self.whole.len() - self.rest.len()];
        format!("line {} {what}", read.matches('\n').count() + 1)
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}
