//! From the source of a template to tokens, with Jinja's rules for white space around tags.
//!
//! Hugging Face sets `trim_blocks` (the line end after a block tag is dropped) and `lstrip_blocks` (spaces before a
//! block tag that begins its line are dropped). One line end at the end of the source is dropped too.

use super::error::{Result, TemplateError};

/// One token of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Token<'s> {
    /// Text outside of tags.
    Data(&'s str),
    /// `{{` or `{%`.
    Begin(Tag),
    /// `}}` or `%}`.
    End(Tag),
    /// An identifier or a keyword.
    Name(&'s str),
    /// A string's contents.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// One of [`OPERATORS`].
    Op(&'static str),
}

/// The two kinds of tags that hold code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tag {
    /// `{{ expression }}`.
    Print,
    /// `{% statement %}`.
    Block,
}

impl Tag {
    fn end(self) -> &'static str {
        match self {
            Self::Print => "}}",
            Self::Block => "%}",
        }
    }
}

/// Operators and punctuation, longer ones first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";",
];

/// Cuts a source, whose line ends are `\n`, into tokens and their lines, from 1.
///
/// # Errors
/// If a tag, comment, string or bracket does not end, or a character belongs to no token.
pub fn tokens(source: &str) -> Result<Vec<(Token<'_>, u32)>> {
    let source = source.strip_suffix('\n').unwrap_or(source);
    let mut lexer =
        Lexer { source, at: 0, line: 1, counted: 0, begins_line: true, tokens: Vec::new() };
    lexer.run().map_err(|error| {
        let line = lexer.line();
        error.at(line)
    })?;
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    /// The line of byte `counted`.
    line: u32,
    counted: usize,
    /// Whether a line begins at `at`.
    begins_line: bool,
    tokens: Vec<(Token<'s>, u32)>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    /// The line of `at`.
    fn line(&mut self) -> u32 {
        let passed = &self.source.as_bytes()[self.counted..self.at];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u32;
        self.counted = self.at;
        self.line
    }

    fn push(&mut self, token: Token<'s>) {
        let line = self.line();
        self.tokens.push((token, line));
    }

    fn run(&mut self) -> Result<()> {
        while let Some((data, mark)) = self.next_tag() {
            let sign = self.rest()[2..].bytes().next().filter(|byte| matches!(byte, b'-' | b'+'));
            self.push_data(self.stripped(data, mark, sign));
            let inside = self.at + 2 + usize::from(sign.is_some());
            match mark {
                b'#' => self.comment(inside)?,
                b'%' if self.is_word(inside, "raw").is_some() => self.raw(inside)?,
                b'%' => self.code(Tag::Block, inside)?,
                _ => self.code(Tag::Print, inside)?,
            }
        }
        let data = self.rest();
        self.push_data(data);
        Ok(())
    }

    fn push_data(&mut self, data: &'s str) {
        if !data.is_empty() {
            self.push(Token::Data(data));
        }
    }

    /// The data up to the next tag or comment, at which `at` is left, and the character after its brace.
    fn next_tag(&mut self) -> Option<(&'s str, u8)> {
        let bytes = self.rest().as_bytes();
        let is_tag = |pair: &[u8]| pair[0] == b'{' && matches!(pair[1], b'{' | b'%' | b'#');
        let start = bytes.windows(2).position(is_tag)?;
        let (data, mark) = (&self.rest()[..start], bytes[start + 1]);
        // The data's line is that of its start.
        self.line();
        self.at += start;
        Some((data, mark))
    }

    /// The data before a tag, without the white space that the tag drops.
    fn stripped(&self, data: &'s str, mark: u8, sign: Option<u8>) -> &'s str {
        if sign == Some(b'-') {
            return data.trim_end_matches(is_space);
        }
        if sign == Some(b'+') || mark == b'{' {
            return data;
        }
        let line = data.rfind('\n').map(|end| end + 1);
        if line.is_none() && !self.begins_line {
            return data;
        }
        let line = line.unwrap_or(0);
        if data[line..].chars().all(is_space) { &data[..line] } else { data }
    }

    /// Moves past a tag's end, which is at `at` and has `length` bytes, and past the white space that it drops.
    fn end_tag(&mut self, sign: Option<u8>, length: usize, is_trimmed: bool) {
        let end = self.at + length;
        let behind = &self.source[end..];
        let gone = match sign {
            Some(b'-') => behind.len() - behind.trim_start_matches(is_space).len(),
            None if is_trimmed => usize::from(behind.starts_with('\n')),
            _ => 0,
        };
        self.at = end + gone;
        self.begins_line = self.source[..self.at].ends_with('\n');
    }

    /// The sign and length of a tag's end at `at`, if one is there.
    fn is_end(&self, at: usize, end: &str) -> Option<(Option<u8>, usize)> {
        let rest = &self.source[at..];
        let sign = rest.bytes().next().filter(|byte| *byte == b'-' || *byte == b'+');
        // Variable tags have no plus.
        let sign = sign.filter(|sign| *sign == b'-' || end != "}}");
        let length = usize::from(sign.is_some());
        rest[length..].starts_with(end).then_some((sign, length + end.len()))
    }

    fn comment(&mut self, inside: usize) -> Result<()> {
        let end = self.source[inside..].find("#}").map(|end| inside + end);
        let end =
            end.ok_or_else(|| TemplateError::new("unexpected end of the template, expected `#}`"))?;
        let sign = self.source.as_bytes()[inside..end].last().copied();
        let sign = sign.filter(|byte| matches!(byte, b'-' | b'+'));
        self.at = end;
        self.end_tag(sign, 2, true);
        Ok(())
    }

    /// Whether a block tag whose contents begin at `inside` is this word alone. Returns the sign of its end and the
    /// offset after it.
    fn is_word(&self, inside: usize, word: &str) -> Option<(Option<u8>, usize)> {
        let inner = self.source[inside..].trim_start_matches(is_space).strip_prefix(word)?;
        let inner = inner.trim_start_matches(is_space);
        let at = self.source.len() - inner.len();
        let (sign, length) = self.is_end(at, "%}")?;
        Some((sign, at + length))
    }

    /// Everything between `{% raw %}` and `{% endraw %}` is data.
    fn raw(&mut self, inside: usize) -> Result<()> {
        let Some((sign, end)) = self.is_word(inside, "raw") else { return Ok(()) };
        self.at = end;
        self.end_tag(sign, 0, false);
        let start = self.at;
        let mut from = start;
        while let Some(tag) = self.source[from..].find("{%").map(|tag| from + tag) {
            let begin = self.source.as_bytes().get(tag + 2).copied();
            let begin = begin.filter(|byte| matches!(byte, b'-' | b'+'));
            let inside = tag + 2 + usize::from(begin.is_some());
            if let Some((sign, end)) = self.is_word(inside, "endraw") {
                self.push_data(self.stripped(&self.source[start..tag], b'%', begin));
                self.at = end;
                self.end_tag(sign, 0, true);
                return Ok(());
            }
            from = tag + 2;
        }
        Err(TemplateError::new("unexpected end of the template, expected `endraw`"))
    }

    fn code(&mut self, tag: Tag, inside: usize) -> Result<()> {
        self.push(Token::Begin(tag));
        self.at = inside;
        // The expected ends of the open brackets.
        let mut open = Vec::new();
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start_matches(is_space).len();
            if let Some((sign, length)) =
                self.is_end(self.at, tag.end()).filter(|_| open.is_empty())
            {
                self.push(Token::End(tag));
                self.end_tag(sign, length, tag == Tag::Block);
                return Ok(());
            }
            let Some(first) = self.rest().chars().next() else {
                let end = open.pop().unwrap_or(tag.end());
                return Err(TemplateError::new(format!(
                    "unexpected end of the template, expected `{end}`"
                )));
            };
            let (token, length) = match first {
                '0'..='9' => number(self.rest(), self.source[..self.at].ends_with('.'))?,
                '\'' | '"' => self.string(first)?,
                _ if is_name(first) => {
                    let rest = self.rest();
                    let end = rest.find(|c| !is_name(c) && !c.is_numeric()).unwrap_or(rest.len());
                    (Token::Name(&rest[..end]), end)
                }
                _ => self.operator(first, &mut open)?,
            };
            self.push(token);
            self.at += length;
        }
    }

    fn operator(&self, first: char, open: &mut Vec<&'static str>) -> Result<(Token<'s>, usize)> {
        let Some(op) = OPERATORS.into_iter().find(|op| self.rest().starts_with(op)) else {
            return Err(TemplateError::new(format!("unexpected character {first:?}")));
        };
        match op {
            "(" => open.push(")"),
            "[" => open.push("]"),
            "{" => open.push("}"),
            ")" | "]" | "}" if open.pop() != Some(op) => {
                return Err(TemplateError::new(format!("unexpected `{op}`: it was not opened")));
            }
            _ => {}
        }
        Ok((Token::Op(op), op.len()))
    }

    fn string(&self, quote: char) -> Result<(Token<'s>, usize)> {
        let bytes = &self.rest().as_bytes()[1..];
        let mut end = 0;
        while bytes.get(end).is_some_and(|byte| *byte != quote as u8) {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        if end >= bytes.len() {
            return Err(TemplateError::new(
                "unexpected end of the template: a string does not end",
            ));
        }
        Ok((Token::Text(unescaped(&self.rest()[1..=end])?), end + 2))
    }
}

/// White space as in Python.
pub fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\x1c'..='\x1f')
}

fn is_name(character: char) -> bool {
    character == '_' || character.is_alphabetic()
}

/// The number that a text begins with, and its length. Behind a point it is an index: `a.0.1` has two.
fn number(text: &str, is_index: bool) -> Result<(Token<'_>, usize)> {
    let bytes = text.as_bytes();
    let radix = match bytes.get(1).map(u8::to_ascii_lowercase) {
        Some(b'x') if bytes[0] == b'0' => 16,
        Some(b'o') if bytes[0] == b'0' => 8,
        Some(b'b') if bytes[0] == b'0' => 2,
        _ => 10,
    };
    let digits = |from: usize, radix: u32| {
        let is_digit = |byte: &&u8| **byte == b'_' || char::from(**byte).is_digit(radix);
        from + bytes[from.min(bytes.len())..].iter().take_while(is_digit).count()
    };
    if radix != 10 {
        let end = digits(2, radix);
        let value = i64::from_str_radix(&text[2..end].replace('_', ""), radix);
        return value.map(|value| (Token::Int(value), end)).map_err(|_| bad_number(&text[..end]));
    }
    let whole = digits(0, 10);
    let mut end = whole;
    // A point is part of a number only if a digit follows: `1.foo` is an attribute.
    let has_point = bytes.get(end) == Some(&b'.') && !is_index;
    if has_point && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = digits(end + 1, 10);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if bytes.get(signed).is_some_and(u8::is_ascii_digit) {
            end = digits(signed, 10);
        }
    }
    let written = text[..end].replace('_', "");
    let token = match end == whole {
        true => written.parse().ok().map(Token::Int),
        false => written.parse().ok().map(Token::Float),
    };
    token.map(|token| (token, end)).ok_or_else(|| bad_number(&text[..end]))
}

fn bad_number(text: &str) -> TemplateError {
    let short: String = text.chars().take(40).collect();
    TemplateError::new(format!("unexpected number {short}: it is too large or not one"))
}

/// A string's contents with Python's escapes resolved.
fn unescaped(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(kind) = rest.chars().next() else { break };
        rest = &rest[kind.len_utf8()..];
        let simple = match kind {
            'n' => "\n",
            't' => "\t",
            'r' => "\r",
            'a' => "\x07",
            'b' => "\x08",
            'f' => "\x0c",
            'v' => "\x0b",
            '\n' => "",
            '\\' => "\\",
            '\'' => "'",
            '"' => "\"",
            'x' | 'u' | 'U' => {
                let (character, behind) = hexadecimal(kind, rest)?;
                out.push(character);
                rest = behind;
                continue;
            }
            '0'..='7' => {
                let digits = rest.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
                let octal = format!("{kind}{}", &rest[..digits]);
                rest = &rest[digits..];
                out.extend(u32::from_str_radix(&octal, 8).ok().and_then(char::from_u32));
                continue;
            }
            // Python keeps unknown escapes.
            other => {
                out.extend(['\\', other]);
                continue;
            }
        };
        out.push_str(simple);
    }
    out.push_str(rest);
    Ok(out)
}

/// The character that the digits after `\x`, `\u` or `\U` name, and the text after them.
fn hexadecimal(kind: char, text: &str) -> Result<(char, &str)> {
    let digits = |kind: char| match kind {
        'x' => 2,
        'u' => 4,
        _ => 8,
    };
    let code = |kind: char, text: &str| {
        let text = text.get(..digits(kind)).filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(text, 16).ok()
    };
    let wrong = || TemplateError::new(format!("unexpected escape \\{kind} in a string"));
    let first = code(kind, text).ok_or_else(wrong)?;
    let rest = &text[digits(kind)..];
    // Two surrogates of UTF-16.
    if (0xd800..0xdc00).contains(&first) {
        let second = rest.strip_prefix("\\u").and_then(|text| code('u', text));
        if let Some(second @ 0xdc00..0xe000) = second {
            let both = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return Ok((char::from_u32(both).ok_or_else(wrong)?, &rest[6..]));
        }
    }
    Ok((char::from_u32(first).ok_or_else(wrong)?, rest))
}

#[cfg(test)]
mod tests {
    use super::Token::{Data, Float, Int, Name, Op, Text};
    use super::*;

    fn plain(source: &str) -> Vec<Token<'_>> {
        let all = tokens(source).unwrap().into_iter().map(|(token, _)| token);
        all.filter(|token| !matches!(token, Token::Begin(_) | Token::End(_))).collect()
    }

    #[test]
    fn tags_take_white_space_as_hugging_face_sets_it() {
        for (source, expected) in [
            ("a\n\n", vec![Data("a\n")]),
            ("a \n {%- x -%} \n b", vec![Data("a"), Name("x"), Data("b")]),
            ("a\n  {% x %}\nb", vec![Data("a\n"), Name("x"), Data("b")]),
            ("a\n  {%+ x +%}\nb", vec![Data("a\n  "), Name("x"), Data("\nb")]),
            ("  {% x %}  {% x %}", vec![Name("x"), Data("  "), Name("x")]),
            ("  {{ x }}\nb", vec![Data("  "), Name("x"), Data("\nb")]),
            ("a  {# x #}\n  {#- y -#}\n b", vec![Data("a  "), Data("b")]),
            ("{% raw %}\n{{ x }} {%- endraw %}\nb", vec![Data("\n{{ x }}"), Data("b")]),
            ("{%- raw -%} {% x\n  {% endraw -%} b", vec![Data("{% x\n"), Data("b")]),
            ("{{ {'a': {}}}}", {
                let ops = [Op("{"), Text("a".into()), Op(":"), Op("{"), Op("}"), Op("}")];
                ops.to_vec()
            }),
        ] {
            assert_eq!(plain(source), expected, "{source:?}");
        }
    }

    #[test]
    fn literals_are_pythons() {
        for (source, expected) in [
            ("{{ 12 }}", Int(12)),
            ("{{ 1_000 }}", Int(1000)),
            ("{{ 0xfF }}", Int(255)),
            ("{{ 1.5e3 }}", Float(1500.0)),
            ("{{ 2e-1 }}", Float(0.2)),
            (r"{{ 'a\n\x41\u00e9\U0001F600\101\'\q' }}", Text("a\nAé😀A'\\q".into())),
            (r#"{{ "\ud83d\ude00é" }}"#, Text("😀é".into())),
        ] {
            assert_eq!(plain(source), [expected], "{source:?}");
        }
        assert_eq!(plain("{{ 1.x }}"), [Int(1), Op("."), Name("x")]);
    }

    #[test]
    fn faults_have_their_line() {
        for (source, line) in [
            ("\n{{ 'a", 2),
            ("\n\n{{ (1 ", 3),
            ("{{ ) }}", 1),
            ("\n{# ", 2),
            ("{% raw %}\n", 1),
            ("{{ \u{1b} }}", 1),
            ("\n{{ 99999999999999999999 }}", 2),
            (r"{{ '\x4é' }}", 1),
            (r"{{ '\ud800' }}", 1),
            ("{{ 'a\\", 1),
            ("{{ 0x }}", 1),
            ("{{ x", 1),
        ] {
            let error = tokens(source).unwrap_err();
            assert_eq!(error.line(), Some(line), "{source:?} {error:?}");
        }
    }
}
