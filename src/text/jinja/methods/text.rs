//! The methods of Python's strings. Positions count characters. `characters.rs` has those that look at one
//! character at a time.

use std::collections::HashSet;

use super::super::access::{iterate, place_or_end};
use super::super::arguments::{Arguments, count, flag, int, required, text};
use super::super::display::display;
use super::super::error::{Result, TemplateError};
use super::super::format;
use super::super::heap::Heap;
use super::super::lexer::is_space;
use super::super::value::{ListBuilder, ListKind, Text, Value};
use super::characters::{cased, has_all, spend_for_characters};

/// `receiver.name(arguments)`; `None` if strings have no such method.
///
/// # Errors
/// If the method fails.
pub fn call(heap: &Heap, whole: &Text, name: &str, arguments: &Arguments) -> Result<Option<Value>> {
    let receiver = whole.as_str();
    if !["split", "rsplit", "splitlines", "expandtabs", "format"].contains(&name) {
        arguments.no_names()?;
    }
    let found = match name {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = arguments.bind(heap, ["chars"])?;
            trimmed(heap, whole, chars.as_ref(), name != "rstrip", name != "lstrip")?
        }
        "removeprefix" | "removesuffix" => without_affix(heap, whole, name, arguments)?,
        "replace" => {
            let [old, new, count] = arguments.bind(heap, ["old", "new", "count"])?;
            let (old, new) = (required(old, "old")?, required(new, "new")?);
            text(&new, "new")?;
            replaced(heap, whole, text(&old, "old")?, &new, &count)?
        }
        "split" | "rsplit" => {
            let [separator, limit] = arguments.bind(heap, ["sep", "maxsplit"])?;
            split(heap, whole, separator, &limit, name == "rsplit")?
        }
        "splitlines" => {
            let [keeps_ends] = arguments.bind(heap, ["keepends"])?;
            line_list(heap, whole, flag(&keeps_ends, false))?
        }
        "partition" | "rpartition" => {
            let [separator] = arguments.bind(heap, ["sep"])?;
            let separator = required(separator, "sep")?;
            partitioned(heap, whole, text(&separator, "sep")?, name == "rpartition")?
        }
        "startswith" | "endswith" => {
            let [affix, start, end] = arguments.bind(heap, ["prefix", "start", "end"])?;
            let affix = required(affix, "prefix")?;
            let part = part(receiver, &start, &end)?.map(|(_, part)| part);
            Value::Bool(has_affix(heap, part, &affix, name == "startswith")?)
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            searched(heap, receiver, name, arguments)?
        }
        "join" => joined(heap, whole, arguments)?,
        "format" => {
            // The names as a dictionary, as a field may go into them.
            let mut named = heap.map_builder()?;
            let mut entries = arguments.named.entries().iter();
            entries.try_for_each(|(name, value)| named.push(name.clone(), value.clone()))?;
            format::braces(heap, whole, arguments.positional.items(), &named.finish())?
        }
        "format_map" => {
            let [named] = arguments.bind(heap, ["mapping"])?;
            format::braces(heap, whole, &[], &required(named, "mapping")?)?
        }
        "zfill" => zero_filled(heap, receiver, arguments)?,
        "ljust" | "rjust" | "center" => justified(heap, whole, name, arguments)?,
        "expandtabs" => {
            let [width] = arguments.bind(heap, ["tabsize"])?;
            tabs_expanded(heap, receiver, count(&width, "tabsize", 8)?)?
        }
        _ => {
            arguments.none(heap)?;
            spend_for_characters(heap, receiver)?;
            return match cased(heap, whole, name)? {
                None => Ok(has_all(receiver, name).map(Value::Bool)),
                found => Ok(found),
            };
        }
    };
    Ok(Some(found))
}

/// `removeprefix` and `removesuffix`.
fn without_affix(heap: &Heap, whole: &Text, name: &str, arguments: &Arguments) -> Result<Value> {
    let receiver = whole.as_str();
    let [affix] = arguments.bind(heap, ["affix"])?;
    let affix = required(affix, "affix")?;
    let affix = text(&affix, "affix")?;
    let rest = match name {
        "removeprefix" => receiver.strip_prefix(affix),
        _ => receiver.strip_suffix(affix),
    };
    heap.part(whole, rest.unwrap_or(receiver))
}

/// Strings with this one between them.
fn joined(heap: &Heap, separator: &Text, arguments: &Arguments) -> Result<Value> {
    let [list] = arguments.bind(heap, ["iterable"])?;
    let list = iterate(heap, &required(list, "iterable")?)?;
    let mut out = heap.text_builder()?;
    for (index, item) in list.items.iter().enumerate() {
        if index > 0 {
            out.push_text(separator)?;
        }
        text(item, "iterable")?;
        display(heap, item, &mut out)?;
    }
    Ok(out.finish())
}

/// A number's digits with zeros behind the sign, up to a width.
fn zero_filled(heap: &Heap, receiver: &str, arguments: &Arguments) -> Result<Value> {
    let [width] = arguments.bind(heap, ["width"])?;
    let missing = missing(receiver, &Some(required(width, "width")?))?;
    let (sign, digits) = receiver.split_at(usize::from(receiver.starts_with(['-', '+'])));
    let mut out = heap.text_builder()?;
    out.push_str(sign)?;
    out.repeat("0", missing)?;
    out.push_str(digits)?;
    Ok(out.finish())
}

/// A string on the left, on the right or in the middle of a field.
fn justified(heap: &Heap, whole: &Text, name: &str, arguments: &Arguments) -> Result<Value> {
    let receiver = whole.as_str();
    let [width, fill] = arguments.bind(heap, ["width", "fillchar"])?;
    let missing = missing(receiver, &Some(required(width, "width")?))?;
    let left = match name {
        "ljust" => 0,
        "rjust" => missing,
        _ => left_of_center(receiver, missing),
    };
    let fill = fill.as_ref().map_or(Ok(" "), |fill| text(fill, "fillchar"))?;
    if fill.chars().count() != 1 {
        return Err(TemplateError::new("argument `fillchar` is not one character"));
    }
    surrounded(heap, whole, fill, left, missing - left)
}

/// `splitlines`.
fn line_list(heap: &Heap, whole: &Text, keeps_ends: bool) -> Result<Value> {
    let mut found = heap.list_builder()?;
    let mut lines = lines(whole.as_str(), keeps_ends);
    lines.try_for_each(|line| found.push(heap.part(whole, line)?))?;
    Ok(found.finish())
}

/// `find`, `index`, `count` and the like.
fn searched(heap: &Heap, receiver: &str, name: &str, arguments: &Arguments) -> Result<Value> {
    let [wanted, start, end] = arguments.bind(heap, ["sub", "start", "end"])?;
    let wanted = required(wanted, "sub")?;
    let wanted = text(&wanted, "sub")?;
    let place = part(receiver, &start, &end)?;
    if name == "count" {
        let n = place.map_or(0, |(_, part)| part.matches(wanted).count());
        return Ok(Value::Int(n as i64));
    }
    let found = place.and_then(|(skipped, part)| {
        let byte = if name.starts_with('r') { part.rfind(wanted) } else { part.find(wanted) };
        byte.map(|byte| skipped + part[..byte].chars().count())
    });
    match found {
        Some(index) => Ok(Value::Int(index as i64)),
        None if name.ends_with("index") => Err(TemplateError::new("a string has no such part")),
        None => Ok(Value::Int(-1)),
    }
}

/// `receiver[start:end]` and the number of characters before it; `None` if `start` is behind `end`.
fn part<'a>(
    receiver: &'a str,
    start: &Option<Value>,
    end: &Option<Value>,
) -> Result<Option<(usize, &'a str)>> {
    if start.is_none() && end.is_none() {
        return Ok(Some((0, receiver)));
    }
    let length = receiver.chars().count();
    let (from, to) = (place_or_end(start, 0, length)?, place_or_end(end, length, length)?);
    if from > to || int(start, "start", 0)? > length as i64 {
        return Ok(None);
    }
    let byte = |at: usize| receiver.char_indices().nth(at).map_or(receiver.len(), |(at, _)| at);
    Ok(Some((from, &receiver[byte(from)..byte(to)])))
}

fn tabs_expanded(heap: &Heap, receiver: &str, width: usize) -> Result<Value> {
    let mut out = heap.text_builder()?;
    let mut column = 0;
    for character in receiver.chars() {
        match character {
            '\t' => {
                let missing = if width > 0 { width - column % width } else { 0 };
                out.repeat(" ", missing)?;
                column += missing;
            }
            '\n' | '\r' => {
                out.push(character)?;
                column = 0;
            }
            _ => {
                out.push(character)?;
                column += 1;
            }
        }
    }
    Ok(out.finish())
}

/// A text without those characters, or white space, at its start and its end.
///
/// # Errors
/// If no bytes are left.
pub fn trimmed(
    heap: &Heap,
    whole: &Text,
    characters: Option<&Value>,
    start: bool,
    end: bool,
) -> Result<Value> {
    let receiver = whole.as_str();
    let chosen: Option<HashSet<char>> = match characters {
        None | Some(Value::None) => None,
        Some(characters) => {
            heap.spend((receiver.len() + characters.cost() * 16) / 4)?;
            Some(text(characters, "chars")?.chars().collect())
        }
    };
    let goes = |c: char| chosen.as_ref().map_or_else(|| is_space(c), |chosen| chosen.contains(&c));
    let left = if start { receiver.trim_start_matches(goes) } else { receiver };
    heap.part(whole, if end { left.trim_end_matches(goes) } else { left })
}

/// A text with a part replaced, at most the given number of times.
///
/// # Errors
/// If it becomes too large.
pub fn replaced(
    heap: &Heap,
    whole: &Text,
    old: &str,
    new: &Value,
    limit: &Option<Value>,
) -> Result<Value> {
    let receiver = whole.as_str();
    let limit = usize::try_from(int(limit, "count", -1)?).unwrap_or(usize::MAX);
    let mut out = heap.text_builder()?;
    let mut end = 0;
    for (at, _) in receiver.match_indices(old).take(limit) {
        heap.spend(1)?;
        out.push_part(whole, &receiver[end..at])?;
        display(heap, new, &mut out)?;
        end = at + old.len();
    }
    out.push_part(whole, &receiver[end..])?;
    Ok(out.finish())
}

/// The parts between separators, or between white space, split at most the given number of times.
///
/// # Errors
/// If no bytes are left.
pub fn split(
    heap: &Heap,
    whole: &Text,
    separator: Option<Value>,
    limit: &Option<Value>,
    from_end: bool,
) -> Result<Value> {
    let limit = usize::try_from(int(limit, "maxsplit", -1)?).unwrap_or(usize::MAX);
    let mut parts = heap.list_builder()?;
    let separator = separator.filter(|separator| !matches!(separator, Value::None));
    let separator = separator.as_ref().map(|separator| text(separator, "sep")).transpose()?;
    let mut rest = whole.as_str();
    // Without a separator, runs of white space separate, and empty parts do not count.
    let trim = |rest| match (separator, from_end) {
        (Some(_), _) => rest,
        (None, false) => str::trim_start_matches(rest, is_space),
        (None, true) => str::trim_end_matches(rest, is_space),
    };
    while parts.items().len() < limit {
        rest = trim(rest);
        let found = match (separator, from_end) {
            (Some(""), _) => return Err(TemplateError::new("the separator of a split is empty")),
            (Some(separator), false) => rest.split_once(separator),
            (Some(separator), true) => rest.rsplit_once(separator),
            (None, false) => rest.split_once(is_space),
            (None, true) => rest.rsplit_once(is_space),
        };
        let Some((left, right)) = found else { break };
        let (part, behind) = if from_end { (right, left) } else { (left, right) };
        parts.push(heap.part(whole, part)?)?;
        rest = behind;
    }
    rest = trim(rest);
    if separator.is_some() || !rest.is_empty() {
        parts.push(heap.part(whole, rest)?)?;
    }
    Ok(if from_end { reversed(heap, &parts)? } else { parts.finish() })
}

fn reversed(heap: &Heap, parts: &ListBuilder) -> Result<Value> {
    heap.list(parts.items().iter().rev().cloned())
}

/// What ends a line.
pub const LINE_ENDS: [char; 10] =
    ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];

/// The lines of a text, with or without their ends.
pub fn lines(text: &str, keeps_ends: bool) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, behind) = rest.split_at(rest.find(LINE_ENDS).unwrap_or(rest.len()));
        let first = behind.chars().next().map_or(0, char::len_utf8);
        let end = if behind.starts_with("\r\n") { 2 } else { first };
        let whole = &rest[..line.len() + end];
        rest = &behind[end..];
        Some(if keeps_ends { whole } else { line })
    })
}

fn partitioned(heap: &Heap, whole: &Text, separator: &str, from_end: bool) -> Result<Value> {
    let receiver = whole.as_str();
    if separator.is_empty() {
        return Err(TemplateError::new("the separator of a partition is empty"));
    }
    let at = if from_end { receiver.rfind(separator) } else { receiver.find(separator) };
    let parts = match at {
        Some(at) => {
            let end = at + separator.len();
            [&receiver[..at], &receiver[at..end], &receiver[end..]]
        }
        None if from_end => ["", "", receiver],
        None => [receiver, "", ""],
    };
    let mut list = heap.list_builder()?;
    parts.into_iter().try_for_each(|part| list.push(heap.part(whole, part)?))?;
    Ok(list.finish_as(ListKind::Tuple))
}

/// Whether a text begins or ends with this, or with one of these; never if there is no text.
fn has_affix(heap: &Heap, inside: Option<&str>, affix: &Value, at_start: bool) -> Result<bool> {
    let has = |affix: &str| match inside {
        Some(inside) if at_start => inside.starts_with(affix),
        Some(inside) => inside.ends_with(affix),
        None => false,
    };
    let affixes = match affix {
        Value::List(list) if list.kind.is_tuple() => &list.items[..],
        single => std::slice::from_ref(single),
    };
    for affix in affixes {
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

/// The part of the missing characters that stands on the left. Python leans to the left in an odd way.
fn left_of_center(receiver: &str, missing: usize) -> usize {
    missing / 2 + (missing & (receiver.chars().count() + missing) & 1)
}

fn surrounded(heap: &Heap, text: &Text, fill: &str, left: usize, right: usize) -> Result<Value> {
    let mut out = heap.text_builder()?;
    out.repeat(fill, left)?;
    out.push_text(text)?;
    out.repeat(fill, right)?;
    Ok(out.finish())
}

/// A text in the middle of a field of spaces.
///
/// # Errors
/// If it becomes too large.
pub fn center(heap: &Heap, whole: &Text, width: &Option<Value>) -> Result<Value> {
    let receiver = whole.as_str();
    let width = Some(Value::Int(int(width, "width", 80)?));
    let missing = missing(receiver, &width)?;
    let left = left_of_center(receiver, missing);
    surrounded(heap, whole, " ", left, missing - left)
}
