//! The methods of Python's strings. Positions count characters.

use std::collections::HashSet;

use super::super::access::{items, slice};
use super::super::format;
use super::super::given::{Given, count, flag, int, required, text};
use super::super::heap::Heap;
use super::super::lexer::is_space;
use super::super::meter::{Fault, Result};
use super::super::show::show;
use super::super::value::{ListBuilder, ListKind, Value};

/// `receiver.name(given)`; `None` if strings have no such method.
///
/// # Errors
/// If the method fails.
pub fn call(heap: &Heap, receiver: &str, name: &str, given: &Given) -> Result<Option<Value>> {
    let changed = |change: fn(&str) -> String| Value::changed(heap.meter(), receiver, change);
    let found = match name {
        "upper" => changed(str::to_uppercase)?,
        "lower" | "casefold" => changed(str::to_lowercase)?,
        "capitalize" => changed(capitalized)?,
        "title" => changed(titled)?,
        "swapcase" => changed(|text| text.chars().flat_map(swapped).collect())?,
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = given.bind(heap, ["chars"])?;
            trimmed(heap, receiver, chars.as_ref(), name != "rstrip", name != "lstrip")?
        }
        "removeprefix" => {
            let [prefix] = given.bind(heap, ["prefix"])?;
            let prefix = required(prefix, "prefix")?;
            heap.text(receiver.strip_prefix(text(&prefix, "prefix")?).unwrap_or(receiver))?
        }
        "removesuffix" => {
            let [suffix] = given.bind(heap, ["suffix"])?;
            let suffix = required(suffix, "suffix")?;
            heap.text(receiver.strip_suffix(text(&suffix, "suffix")?).unwrap_or(receiver))?
        }
        "replace" => {
            let [old, new, count] = given.bind(heap, ["old", "new", "count"])?;
            let (old, new) = (required(old, "old")?, required(new, "new")?);
            replaced(heap, receiver, text(&old, "old")?, text(&new, "new")?, &count)?
        }
        "split" | "rsplit" => {
            let [separator, limit] = given.bind(heap, ["sep", "maxsplit"])?;
            split(heap, receiver, separator, &limit, name == "rsplit")?
        }
        "splitlines" => {
            let [keeps_ends] = given.bind(heap, ["keepends"])?;
            lines(heap, receiver, flag(&keeps_ends, false))?
        }
        "partition" | "rpartition" => {
            let [separator] = given.bind(heap, ["sep"])?;
            let separator = required(separator, "sep")?;
            partitioned(heap, receiver, text(&separator, "sep")?, name == "rpartition")?
        }
        "startswith" | "endswith" => {
            let [affix, start, end] = given.bind(heap, ["prefix", "start", "end"])?;
            let inside = between(heap, receiver, start, end)?;
            let inside = inside.as_str().unwrap_or_default();
            Value::Bool(has_affix(heap, inside, &required(affix, "prefix")?, name == "startswith")?)
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [part, start, end] = given.bind(heap, ["sub", "start", "end"])?;
            let skipped = start.as_ref().and_then(Value::as_int).unwrap_or(0);
            let inside = between(heap, receiver, start, end)?;
            let inside = inside.as_str().unwrap_or_default();
            let part = required(part, "sub")?;
            let part = text(&part, "sub")?;
            if name == "count" {
                return Ok(Some(Value::Int(inside.matches(part).count() as i64)));
            }
            let byte = if name.starts_with('r') { inside.rfind(part) } else { inside.find(part) };
            match byte {
                Some(byte) => {
                    let length = receiver.chars().count() as i64;
                    let skipped = if skipped < 0 { (skipped + length).max(0) } else { skipped };
                    Value::Int(skipped + inside[..byte].chars().count() as i64)
                }
                None if name.ends_with("index") => {
                    return Err(Fault::new("a string has no such part"));
                }
                None => Value::Int(-1),
            }
        }
        "join" => {
            let [list] = given.bind(heap, ["iterable"])?;
            let list = items(heap, &required(list, "iterable")?)?;
            let mut out = heap.text_builder()?;
            for (index, item) in list.items.iter().enumerate() {
                out.push_str(if index > 0 { receiver } else { "" })?;
                show(heap, item, &mut out)?;
            }
            out.finish()
        }
        "format" => {
            // The names as a dictionary, as a field may go into them.
            let mut named = heap.map_builder()?;
            let mut entries = given.named.entries().iter();
            entries.try_for_each(|(name, value)| named.push(name.clone(), value.clone()))?;
            format::braces(heap, receiver, given.positional.items(), &named.finish())?
        }
        "zfill" => {
            let [width] = given.bind(heap, ["width"])?;
            let missing = missing(receiver, &width)?;
            let digits = receiver.trim_start_matches(['-', '+']);
            let mut out = heap.text_builder()?;
            let sign = if receiver.len() - digits.len() == 1 { &receiver[..1] } else { "" };
            out.push_str(sign)?;
            out.repeat("0", missing)?;
            out.push_str(&receiver[sign.len()..])?;
            out.finish()
        }
        "ljust" | "rjust" | "center" => {
            let [width, fill] = given.bind(heap, ["width", "fillchar"])?;
            let missing = missing(receiver, &width)?;
            let left = match name {
                "ljust" => 0,
                "rjust" => missing,
                // Python leans to the left in an odd way.
                _ => missing / 2 + (missing & (receiver.chars().count() + missing) & 1),
            };
            let fill = fill.as_ref().map_or(Ok(" "), |fill| text(fill, "fillchar"))?;
            surrounded(heap, receiver, fill, left, missing - left)?
        }
        _ => return Ok(tested(receiver, name).map(Value::Bool)),
    };
    Ok(Some(found))
}

/// Python's questions about all characters of a string.
fn tested(receiver: &str, name: &str) -> Option<bool> {
    let all = |test: fn(char) -> bool| !receiver.is_empty() && receiver.chars().all(test);
    Some(match name {
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isdigit" | "isnumeric" | "isdecimal" => all(char::is_numeric),
        "isspace" => all(is_space),
        "isascii" => receiver.is_ascii(),
        "isupper" => is_upper(receiver),
        "islower" => is_lower(receiver),
        _ => return None,
    })
}

/// Whether it has upper-case characters and none of lower case.
pub fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// Whether it has lower-case characters and none of upper case.
pub fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters.flat_map(char::to_lowercase)).collect()
}

fn titled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_inside = false;
    for character in text.chars() {
        if is_inside {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        is_inside = character.is_alphabetic();
    }
    out
}

fn swapped(character: char) -> Box<dyn Iterator<Item = char>> {
    if character.is_uppercase() {
        Box::new(character.to_lowercase())
    } else {
        Box::new(character.to_uppercase())
    }
}

/// A text without those characters, or white space, at its start and its end.
///
/// # Errors
/// If no bytes are left.
pub fn trimmed(
    heap: &Heap,
    receiver: &str,
    characters: Option<&Value>,
    start: bool,
    end: bool,
) -> Result<Value> {
    let chosen: Option<HashSet<char>> = match characters {
        None | Some(Value::None) => None,
        Some(characters) => {
            heap.spend((receiver.len() + characters.cost() * 16) / 4)?;
            Some(text(characters, "chars")?.chars().collect())
        }
    };
    let goes = |c: char| chosen.as_ref().map_or_else(|| is_space(c), |chosen| chosen.contains(&c));
    let left = if start { receiver.trim_start_matches(goes) } else { receiver };
    heap.text(if end { left.trim_end_matches(goes) } else { left })
}

/// A text with a part replaced, at most the given number of times.
///
/// # Errors
/// If it becomes too large.
pub fn replaced(
    heap: &Heap,
    receiver: &str,
    old: &str,
    new: &str,
    limit: &Option<Value>,
) -> Result<Value> {
    let limit = usize::try_from(int(limit, "count", -1)?).unwrap_or(usize::MAX);
    let mut out = heap.text_builder()?;
    let mut end = 0;
    for (at, _) in receiver.match_indices(old).take(limit) {
        heap.spend(1)?;
        out.push_str(&receiver[end..at])?;
        out.push_str(new)?;
        end = at + old.len();
    }
    out.push_str(&receiver[end..])?;
    Ok(out.finish())
}

/// The parts between separators, or between white space, split at most the given number of times.
///
/// # Errors
/// If no bytes are left.
pub fn split(
    heap: &Heap,
    receiver: &str,
    separator: Option<Value>,
    limit: &Option<Value>,
    from_end: bool,
) -> Result<Value> {
    let limit = usize::try_from(int(limit, "maxsplit", -1)?).unwrap_or(usize::MAX);
    let mut parts = heap.list_builder()?;
    let separator = separator.filter(|separator| !matches!(separator, Value::None));
    let separator = separator.as_ref().map(|separator| text(separator, "sep")).transpose()?;
    let mut rest = receiver;
    // Without a separator, runs of white space separate, and empty parts do not count.
    let trim = |rest| match (separator, from_end) {
        (Some(_), _) => rest,
        (None, false) => str::trim_start_matches(rest, is_space),
        (None, true) => str::trim_end_matches(rest, is_space),
    };
    while parts.items().len() < limit {
        rest = trim(rest);
        let found = match (separator, from_end) {
            (Some(""), _) => return Err(Fault::new("the separator of a split is empty")),
            (Some(separator), false) => rest.split_once(separator),
            (Some(separator), true) => rest.rsplit_once(separator),
            (None, false) => rest.split_once(is_space),
            (None, true) => rest.rsplit_once(is_space),
        };
        let Some((left, right)) = found else { break };
        let (part, behind) = if from_end { (right, left) } else { (left, right) };
        parts.push(heap.text(part)?)?;
        rest = behind;
    }
    rest = trim(rest);
    if separator.is_some() || !rest.is_empty() {
        parts.push(heap.text(rest)?)?;
    }
    Ok(if from_end { reversed(heap, &parts)? } else { parts.finish() })
}

fn reversed(heap: &Heap, parts: &ListBuilder) -> Result<Value> {
    heap.list(parts.items().iter().rev().cloned())
}

/// The lines of a text, with or without their ends.
fn lines(heap: &Heap, receiver: &str, keeps_ends: bool) -> Result<Value> {
    let mut found = heap.list_builder()?;
    let mut rest = receiver;
    while !rest.is_empty() {
        let at = rest.find(['\n', '\r', '\x0b', '\x0c', '\u{85}', '\u{2028}', '\u{2029}']);
        let (line, behind) = rest.split_at(at.unwrap_or(rest.len()));
        let first = behind.chars().next().map_or(0, char::len_utf8);
        let end = if behind.starts_with("\r\n") { 2 } else { first };
        found.push(heap.text(if keeps_ends { &rest[..line.len() + end] } else { line })?)?;
        rest = &behind[end..];
    }
    Ok(found.finish())
}

fn partitioned(heap: &Heap, receiver: &str, separator: &str, from_end: bool) -> Result<Value> {
    if separator.is_empty() {
        return Err(Fault::new("the separator of a partition is empty"));
    }
    let at = if from_end { receiver.rfind(separator) } else { receiver.find(separator) };
    let parts = match at {
        Some(at) => [&receiver[..at], separator, &receiver[at + separator.len()..]],
        None if from_end => ["", "", receiver],
        None => [receiver, "", ""],
    };
    let mut list = heap.list_builder()?;
    parts.into_iter().try_for_each(|part| list.push(heap.text(part)?))?;
    Ok(list.finish_as(ListKind::Tuple))
}

/// `receiver[start:end]`.
fn between(heap: &Heap, receiver: &str, start: Option<Value>, end: Option<Value>) -> Result<Value> {
    let whole = heap.text(receiver)?;
    match (&start, &end) {
        (None, None) => Ok(whole),
        _ => slice(heap, &whole, [start.as_ref(), end.as_ref(), None]),
    }
}

/// Whether a text begins, or ends, with this, or with one of these.
fn has_affix(heap: &Heap, inside: &str, affix: &Value, at_start: bool) -> Result<bool> {
    let has =
        |affix: &str| if at_start { inside.starts_with(affix) } else { inside.ends_with(affix) };
    let Value::List(list) = affix else { return Ok(has(text(affix, "prefix")?)) };
    for affix in &list.items {
        heap.spend(1 + affix.cost())?;
        if has(text(affix, "prefix")?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The characters that a text lacks to a width.
fn missing(receiver: &str, width: &Option<Value>) -> Result<usize> {
    Ok(count(width, "width", 0)?.saturating_sub(receiver.chars().count()))
}

fn surrounded(heap: &Heap, text: &str, fill: &str, left: usize, right: usize) -> Result<Value> {
    let mut out = heap.text_builder()?;
    out.repeat(fill, left)?;
    out.push_str(text)?;
    out.repeat(fill, right)?;
    Ok(out.finish())
}

/// A text in the middle of a field of spaces.
///
/// # Errors
/// If it becomes too large.
pub fn center(heap: &Heap, receiver: &str, width: &Option<Value>) -> Result<Value> {
    let width = Some(Value::Int(int(width, "width", 80)?));
    let missing = missing(receiver, &width)?;
    let left = missing / 2 + (missing & (receiver.chars().count() + missing) & 1);
    surrounded(heap, receiver, " ", left, missing - left)
}
