//! Python's two ways of formatting: `'%5.2f' % x` (`percent.rs`) and `'{:>5}'.format(x)` (`braces.rs`).
//!
//! Widths come from the template, so what is padded is counted before it is written.

mod braces;
mod number;
mod percent;

pub use braces::braces;
pub use number::n_exact_digits;
pub use percent::percent;

use super::display::{escaped, repr};
use super::error::Result;
use super::heap::Heap;
use super::value::{TextBuilder, Value};

/// How a value is to be written.
#[derive(Clone, Copy)]
struct Spec {
    fill: char,
    /// `<`, `>`, `^`, or `=` (between sign and digits).
    align: Option<char>,
    /// Written in front of what is not negative: ` ` or `+`.
    sign: Option<char>,
    is_alternate: bool,
    width: usize,
    /// Between thousands.
    grouping: Option<char>,
    precision: Option<usize>,
    /// The type's letter.
    kind: Option<char>,
}

const PLAIN: Spec = Spec {
    fill: ' ',
    align: None,
    sign: None,
    is_alternate: false,
    width: 0,
    grouping: None,
    precision: None,
    kind: None,
};

/// The digits that a text begins with, as a number; a larger one than fits is the largest.
fn digits(rest: &mut &str) -> Option<usize> {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    *rest = behind;
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(usize::MAX))
}

fn truncated(text: &str, characters: Option<usize>) -> &str {
    let end = characters.and_then(|n| text.char_indices().nth(n)).map(|(at, _)| at);
    &text[..end.unwrap_or(text.len())]
}

/// Appends sign and text, filled up to the width.
fn padded(sign: &str, text: &str, spec: Spec, out: &mut TextBuilder) -> Result<()> {
    let mut buffer = [0; 4];
    let fill: &str = spec.fill.encode_utf8(&mut buffer);
    let missing = spec.width.saturating_sub(sign.chars().count() + text.chars().count());
    let (left, middle, right) = match spec.align {
        Some('<') => (0, 0, missing),
        Some('^') => (missing / 2, 0, missing - missing / 2),
        Some('=') => (0, missing, 0),
        _ => (missing, 0, 0),
    };
    out.repeat(fill, left)?;
    out.push_str(sign)?;
    out.repeat(fill, middle)?;
    out.push_str(text)?;
    out.repeat(fill, right)
}

/// Python's `ascii`: a value as it stands inside a list, with escapes for what is not ASCII.
fn ascii(heap: &Heap, value: &Value, out: &mut TextBuilder) -> Result<()> {
    let mut text = heap.text_builder()?;
    repr(heap, value, &mut text)?;
    heap.meter().read(text.as_str().len())?;
    for character in text.as_str().chars() {
        match character.is_ascii() {
            true => out.push(character)?,
            false => {
                heap.spend(4)?;
                out.push_str(&escaped(character))?;
            }
        }
    }
    Ok(())
}
