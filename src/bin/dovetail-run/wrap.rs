//! Breaks lines between words where a terminal would break them inside one.
//!
//! Text is shown as it comes. A word that has begun and does not fit its line is erased and written again on the next one.

use unicode_width::UnicodeWidthChar;

/// The terminal's code that ends a colour.
const PLAIN: &str = "\x1b[0m";

/// Columns from one tab stop to the next.
const TAB: usize = 8;

/// The code of a colour, if there is one.
pub type Colour = Option<&'static str>;

/// The last line of a text on a terminal.
#[derive(Default)]
pub struct Wrap {
    /// Columns that are used; 0 if lines are not broken.
    width: usize,
    /// Columns that are taken.
    column: usize,
    /// The word at the end of the line, and its columns.
    word: Vec<(char, Colour)>,
    word_width: usize,
}

/// What is written to a terminal.
#[derive(Default)]
struct Output {
    text: String,
    colour: Colour,
}

impl Output {
    fn put(&mut self, c: char, colour: Colour) {
        if self.colour != colour {
            self.text.push_str(self.colour.map_or("", |_| PLAIN));
            self.text.push_str(colour.unwrap_or_default());
            self.colour = colour;
        }
        self.text.push(c);
    }
}

impl Wrap {
    /// Sets the number of columns of the terminal; `None` if lines are not broken. The last column stays empty: where the
    /// cursor stands behind it differs between terminals.
    pub fn set_columns(&mut self, columns: Option<usize>) {
        self.width = columns.map_or(0, |columns| columns.saturating_sub(1));
    }

    /// What is to be written to show more text, in which `\n` and `\t` alone are control characters.
    pub fn push(&mut self, text: &str, colour: Colour) -> String {
        let mut out = Output::default();
        for c in text.chars() {
            match c {
                '\n' => self.begin_line(&mut out),
                ' ' | '\t' => self.push_space(c, colour, &mut out),
                c => self.push_char(c, colour, &mut out),
            }
        }
        out.text.push_str(out.colour.map_or("", |_| PLAIN));
        out.text
    }

    fn begin_line(&mut self, out: &mut Output) {
        out.put('\n', None);
        self.column = 0;
        self.end_word();
    }

    fn end_word(&mut self) {
        self.word.clear();
        self.word_width = 0;
    }

    fn push_space(&mut self, c: char, colour: Colour, out: &mut Output) {
        let width = if c == '\t' { TAB - self.column % TAB } else { 1 };
        self.end_word();
        if self.fits(width) {
            out.put(c, colour);
            self.column += width;
        } else {
            // The end of the line stands for it.
            self.begin_line(out);
        }
    }

    fn push_char(&mut self, c: char, colour: Colour, out: &mut Output) {
        let width = c.width().unwrap_or(0);
        // Scripts with wide characters have no spaces.
        let is_word = width > 1;
        if is_word {
            self.end_word();
        }
        if !self.fits(width) {
            self.break_line(width, out);
        }
        out.put(c, colour);
        self.column += width;
        if !is_word && self.width > 0 {
            self.word.push((c, colour));
            self.word_width += width;
        }
    }

    /// Begins a line with the word at the end of this one, if both `width` and that fit there.
    fn break_line(&mut self, width: usize, out: &mut Output) {
        let word_width = self.word_width;
        let moves = word_width < self.column && word_width + width <= self.width;
        let word = if moves { std::mem::take(&mut self.word) } else { Vec::new() };
        if !word.is_empty() {
            out.text.push_str(&format!("\x1b[{word_width}D\x1b[K"));
        }
        self.begin_line(out);
        if moves {
            word.iter().for_each(|&(c, colour)| out.put(c, colour));
            (self.word, self.word_width, self.column) = (word, word_width, word_width);
        }
    }

    /// Whether as many columns are left.
    fn fits(&self, width: usize) -> bool {
        self.width == 0 || self.column + width <= self.width
    }
}

/// The columns of the terminal that standard output is, if lines can be broken there.
pub fn columns() -> Option<usize> {
    #[cfg(unix)]
    {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0 && !dumb)
    }
    #[cfg(not(unix))]
    {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GREEN: Colour = Some("\x1b[32m");

    /// A terminal that is as wide as it must be: its lines, with a `*` behind each coloured character.
    #[derive(Default)]
    struct Terminal {
        lines: Vec<Vec<(char, bool)>>,
        column: usize,
    }

    impl Terminal {
        fn write(&mut self, text: &str) {
            let mut coloured = false;
            let mut rest = text;
            self.lines.resize_with(self.lines.len().max(1), Vec::new);
            while let Some(c) = rest.chars().next() {
                let line = self.lines.last_mut().unwrap();
                if let Some(code) = rest.strip_prefix("\x1b[") {
                    let end = code.find(|c: char| c.is_alphabetic()).unwrap();
                    match (&code[..end], &code[end..end + 1]) {
                        (n, "D") => self.column -= n.parse::<usize>().unwrap(),
                        ("", "K") => line.truncate(self.column),
                        (n, "m") => coloured = n != "0",
                        other => panic!("{other:?}"),
                    }
                    rest = &code[end + 1..];
                    continue;
                }
                match c {
                    '\n' => self.lines.push(Vec::new()),
                    c => line.push((c, coloured)),
                }
                self.column = self.lines.last().unwrap().len();
                rest = &rest[c.len_utf8()..];
            }
            assert!(!coloured, "{text:?} ends in a colour");
        }

        fn lines(&self) -> Vec<String> {
            let star = |(c, coloured): &(char, bool)| {
                if *coloured { vec![*c, '*'] } else { vec![*c] }
            };
            self.lines.iter().map(|line| line.iter().flat_map(star).collect()).collect()
        }
    }

    fn shown(columns: usize, pieces: &[(&str, Colour)]) -> Vec<String> {
        let mut wrap = Wrap::default();
        wrap.set_columns(Some(columns));
        let mut terminal = Terminal::default();
        pieces.iter().for_each(|(piece, colour)| terminal.write(&wrap.push(piece, *colour)));
        terminal.lines()
    }

    #[test]
    fn lines_are_broken_between_words() {
        for (pieces, lines) in [
            (&["one two three"][..], &["one two ", "three"][..]),
            (&["one two th", "ree f", "our"], &["one two ", "three four"]),
            (&["one two thr\nee"], &["one two thr", "ee"]),
            (&["abcdefghijklmno"], &["abcdefghijk", "lmno"]),
            (&["a bcdefghijklmno"], &["a ", "bcdefghijkl", "mno"]),
            (&["abcdefghijk lm"], &["abcdefghijk", "lm"]),
            (&["a\tbcdefg"], &["a\t", "bcdefg"]),
        ] {
            let pieces: Vec<_> = pieces.iter().map(|piece| (*piece, None)).collect();
            // A tab is one character of this terminal's lines.
            assert_eq!(shown(12, &pieces), lines, "{pieces:?}");
        }
    }

    #[test]
    fn a_word_keeps_its_colours_and_wide_characters_are_words() {
        let lines = shown(12, &[("one two ", None), ("th", GREEN), ("ree", None), (" a", GREEN)]);
        assert_eq!(lines, ["one two ", "t*h*ree *a*"]);
        let mut wrap = Wrap::default();
        wrap.set_columns(Some(8));
        assert_eq!(wrap.push("ab中中中中", None), "ab中中\n中中");
        wrap.set_columns(None);
        assert_eq!(wrap.push("one two three four", None), "one two three four");
    }

    proptest! {
        /// Nothing is lost, no line is longer than the terminal, and how the text is cut does not show.
        #[test]
        fn any_text_is_shown(pieces in prop::collection::vec("[ab \n]{0,9}", 1..12), columns in 2usize..20) {
            let each: Vec<_> = pieces.iter().map(|piece| (&piece[..], None)).collect();
            let (lines, text) = (shown(columns, &each), pieces.concat());
            prop_assert_eq!(&lines, &shown(columns, &[(&text, None)]));
            prop_assert!(lines.iter().all(|line| line.len() < columns), "{lines:?}");
            let without = |text: &str| text.replace(['\n', ' '], "");
            prop_assert_eq!(without(&lines.concat()), without(&text));
        }
    }
}
