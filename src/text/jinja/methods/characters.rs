//! The methods of Python's strings that look at one character at a time: case, and properties that all of them have.

use super::super::display::is_printable;
use super::super::error::Result;
use super::super::heap::Heap;
use super::super::lexer::is_space;
use super::super::value::{Text, Value};
use super::digits::{is_decimal, is_digit, is_numeric};

/// `receiver.name()` for the methods that change the case; `None` for others.
///
/// # Errors
/// If no bytes are left.
pub fn cased(heap: &Heap, receiver: &Text, name: &str) -> Result<Option<Value>> {
    let change: fn(&str) -> String = match name {
        "upper" => str::to_uppercase,
        "lower" => str::to_lowercase,
        // Case folding is the lower case of the upper case, but for this one character.
        "casefold" => |text| text.chars().flat_map(folded).collect(),
        "capitalize" => capitalized,
        "title" => titled,
        "swapcase" => |text| text.chars().flat_map(swapped).collect(),
        _ => return Ok(None),
    };
    Value::changed(heap.meter(), receiver, change).map(Some)
}

/// `receiver.name()` for the methods that ask for a property of all characters; `None` for others.
pub fn has_all(receiver: &str, name: &str) -> Option<bool> {
    let all = |test: fn(char) -> bool| !receiver.is_empty() && receiver.chars().all(test);
    let is_name = |c: char| c == '_' || c.is_alphanumeric();
    Some(match name {
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isdecimal" => all(is_decimal),
        "isdigit" => all(is_digit),
        "isnumeric" => all(is_numeric),
        "isspace" => all(is_space),
        "isascii" => receiver.is_ascii(),
        "isprintable" => receiver.chars().all(is_printable),
        "isidentifier" => {
            receiver.chars().all(is_name) && receiver.starts_with(|c: char| !c.is_numeric())
        }
        "isupper" => is_upper(receiver),
        "islower" => is_lower(receiver),
        "istitle" => is_title(receiver),
        _ => return None,
    })
}

/// Spends the steps for looking at each character of a text. Those that are not ASCII are looked up in tables.
///
/// # Errors
/// If no steps are left.
pub fn spend_for_characters(heap: &Heap, text: &str) -> Result<()> {
    heap.spend(text.len() / if text.is_ascii() { 16 } else { 6 })
}

/// Whether it has upper-case characters and none of lower case.
pub fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// Whether it has lower-case characters and none of upper case.
pub fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

/// Whether upper case begins each of its words, and only those.
fn is_title(text: &str) -> bool {
    let (mut is_inside, mut has_words) = (false, false);
    for character in text.chars() {
        if character.is_uppercase() == is_inside && is_cased(character) {
            return false;
        }
        is_inside = is_cased(character);
        has_words |= is_inside;
    }
    has_words
}

fn is_cased(character: char) -> bool {
    character.is_uppercase() || character.is_lowercase()
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(title_case);
    first.chain(characters.as_str().to_lowercase().chars()).collect()
}

/// Words in title case, as `str.title` sees words: between characters without a case.
fn titled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_inside = false;
    for character in text.chars() {
        if is_inside {
            out.extend(character.to_lowercase());
        } else {
            out.extend(title_case(character));
        }
        is_inside = is_cased(character);
    }
    out
}

/// A character in title case: `ﬁ` is `Fi`.
fn title_case(character: char) -> impl Iterator<Item = char> {
    let mut upper = character.to_uppercase();
    upper.next().into_iter().chain(upper.flat_map(char::to_lowercase))
}

fn folded(character: char) -> Box<dyn Iterator<Item = char>> {
    match character {
        'ı' => Box::new(std::iter::once(character)),
        _ => Box::new(character.to_uppercase().flat_map(char::to_lowercase)),
    }
}

fn swapped(character: char) -> Box<dyn Iterator<Item = char>> {
    if character.is_uppercase() {
        Box::new(character.to_lowercase())
    } else {
        Box::new(character.to_uppercase())
    }
}
