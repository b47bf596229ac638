//! Text from files and models, made safe to show.
//!
//! Names in a file, and what a model writes, may be anything: control characters that move the cursor, change colours or
//! the window's title, or end a line and begin another that looks like ours.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// A text that shows control characters, line separators and changes of direction as escapes: `\u{1b}`, `\n`.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaping(f).write_str(self.0)
    }
}

/// Writes what it is given as [`Printable`] does.
pub(crate) struct Escaping<'a, 'b>(pub(crate) &'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| steers(*c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", c.escape_debug())?;
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Some lines with all escaped that [`Printable`] escapes, but for the ends of lines and tabs.
pub fn lines(text: &str) -> Cow<'_, str> {
    let escaped = |c| steers(c) && !"\n\t".contains(c);
    if !text.contains(escaped) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if escaped(c) {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// What a model writes, for a terminal: a control character becomes the picture of it, `␛`; ends of lines and tabs stay,
/// and a carriage return, which would let a line be written over, is left out.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    let replaced = |c: char| c.is_control() && !"\n\t".contains(c);
    if !text.contains(replaced) {
        return text.into();
    }
    let picture = |c: char| match c {
        '\r' => None,
        '\n' | '\t' => Some(c),
        '\0'..' ' => char::from_u32(0x2400 + u32::from(c)),
        '\x7f' => Some('\u{2421}'),
        c if c.is_control() => Some(char::REPLACEMENT_CHARACTER),
        c => Some(c),
    };
    text.chars().filter_map(picture).collect::<String>().into()
}

/// Whether a character does something to a terminal instead of being shown.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown() {
        for (text, shown) in [
            ("plain é 🙂", "plain é 🙂"),
            ("\x1b]0;owned\x07", r"\u{1b}]0;owned\u{7}"),
            ("a\nb\tc\r", r"a\nb\tc\r"),
            ("\x7f\u{9b}2J", r"\u{7f}\u{9b}2J"),
            ("\u{202e}gnp\u{2028}", r"\u{202e}gnp\u{2028}"),
            ("", ""),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
        }
        assert_eq!(lines("a\n\tb\x1b\u{202e}"), "a\n\tb\\u{1b}\\u{202e}");
        assert!(matches!(lines("a\nb"), Cow::Borrowed("a\nb")));
    }

    #[test]
    fn a_terminal_is_not_given_control_characters() {
        assert_eq!(for_terminal("a\x1b[2Jb\x07\x08\x7f\u{9b}"), "a␛[2Jb␇␈␡\u{fffd}");
        assert_eq!(for_terminal("one\r\ntwo\rthree\t\0"), "one\ntwothree\t␀");
        assert!(matches!(for_terminal("plain é\n"), Cow::Borrowed(_)));
    }
}
