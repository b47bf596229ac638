//! Filters of strings. Other values are made strings first.

use super::super::access::iterate;
use super::super::arguments::{Arguments, count, flag, required, text};
use super::super::display::to_text;
use super::super::error::{Result, TemplateError};
use super::super::format;
use super::super::heap::Heap;
use super::super::methods;
use super::super::value::{ListKind, Text, TextBuilder, Value};

/// `value | name(arguments)` for the filters that `names.rs` says are of text.
///
/// # Errors
/// If the filter fails.
pub fn apply(heap: &Heap, name: &str, value: &Value, arguments: &Arguments) -> Result<Value> {
    let string = to_text(heap, value)?;
    heap.spend(string.cost())?;
    let Some(whole) = string.as_text() else { return Ok(string) };
    let receiver = whole.as_str();
    let changed = |change: fn(&str) -> String| Value::changed(heap.meter(), whole, change);
    Ok(match name {
        "upper" => changed(str::to_uppercase)?,
        "lower" => changed(str::to_lowercase)?,
        "title" => changed(titled)?,
        "trim" => {
            let [characters] = arguments.bind(heap, ["chars"])?;
            methods::trimmed(heap, whole, characters.as_ref(), true, true)?
        }
        "replace" => {
            let [old, new, count] = arguments.bind(heap, ["old", "new", "count"])?;
            let (old, new) = (required(old, "old")?, required(new, "new")?);
            let (old, new) = (to_text(heap, &old)?, to_text(heap, &new)?);
            methods::replaced(heap, whole, text(&old, "old")?, &new, &count)?
        }
        "split" => {
            let [separator, limit] = arguments.bind(heap, ["sep", "maxsplit"])?;
            methods::split(heap, whole, separator, &limit, false)?
        }
        // Jinja2 appends a line end first.
        "indent" if value.is_undefined() => {
            return Err(TemplateError::new("an undefined value is indented"));
        }
        "indent" => indented(heap, whole, arguments)?,
        "truncate" => truncated(heap, whole, arguments)?,
        "wordcount" => {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let words = receiver.split(|c| !is_word(c)).filter(|word| !word.is_empty());
            Value::Int(words.count() as i64)
        }
        "center" => {
            let [width] = arguments.bind(heap, ["width"])?;
            methods::center(heap, whole, &width)?
        }
        "urlencode" => encoded(heap, value)?,
        "format" => formatted(heap, whole, arguments)?,
        "escape" | "e" | "forceescape" => escaped(heap, receiver)?,
        // `capitalize`.
        _ => match methods::call(heap, &string, name, arguments)? {
            Some(found) => found,
            None => string.clone(),
        },
    })
}

/// `'%s' | format(values)`: Python's `%` with values by position or by name.
fn formatted(heap: &Heap, format: &Text, arguments: &Arguments) -> Result<Value> {
    let (positional, named) = (arguments.positional.items(), arguments.named.entries());
    let values = match (positional, named) {
        (_, []) => {
            let mut list = heap.list_builder()?;
            list.extend(positional)?;
            list.finish_as(ListKind::Tuple)
        }
        ([], _) => {
            let mut map = heap.map_builder()?;
            named.iter().try_for_each(|(name, value)| map.push(name.clone(), value.clone()))?;
            map.finish()
        }
        _ => return Err(TemplateError::new("a format takes values by position or by name")),
    };
    format::percent(heap, format, &values)
}

/// Words in title case; a word begins after white space, a hyphen or an opening bracket.
fn titled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut begins = true;
    for character in text.chars() {
        if begins {
            out.extend(character.to_uppercase());
        } else {
            out.extend(character.to_lowercase());
        }
        begins = character.is_whitespace() || matches!(character, '-' | '(' | '{' | '[' | '<');
    }
    out
}

fn indented(heap: &Heap, whole: &Text, arguments: &Arguments) -> Result<Value> {
    let [width, first, blank] = arguments.bind(heap, ["width", "first", "blank"])?;
    let (first, blank) = (flag(&first, false), flag(&blank, false));
    // As in Jinja2, too wide an indentation is wrong even where no line needs it.
    let indentation = match &width {
        Some(text @ Value::Text(_)) => text.clone(),
        _ => {
            let mut spaces = heap.text_builder()?;
            spaces.repeat(" ", count(&width, "width", 4)?)?;
            spaces.finish()
        }
    };
    let indentation = indentation.as_str().unwrap_or_default();
    let mut out = heap.text_builder()?;
    let receiver = whole.as_str();
    // Jinja2 appends a line end: behind another one, but for the first half of `\r\n`, it ends an empty line.
    let ends_one = receiver.is_empty() || receiver.ends_with(methods::LINE_ENDS);
    let last = (ends_one && !receiver.ends_with('\r')).then_some("");
    for (index, line) in methods::lines(receiver, false).chain(last).enumerate() {
        heap.spend(1)?;
        out.push_str(if index > 0 { "\n" } else { "" })?;
        let is_indented = if index == 0 { first } else { blank || !line.is_empty() };
        out.push_str(if is_indented { indentation } else { "" })?;
        out.push_part(whole, line)?;
    }
    Ok(out.finish())
}

fn truncated(heap: &Heap, whole: &Text, arguments: &Arguments) -> Result<Value> {
    let receiver = whole.as_str();
    let [length, cuts_words, end, leeway] =
        arguments.bind(heap, ["length", "killwords", "end", "leeway"])?;
    let (length, leeway) = (count(&length, "length", 255)?, count(&leeway, "leeway", 5)?);
    let end = end.as_ref().map_or(Ok("..."), |end| text(end, "end"))?;
    if length < end.chars().count() {
        return Err(TemplateError::new("a truncated text is shorter than its end"));
    }
    if receiver.chars().count() <= length.saturating_add(leeway) {
        return heap.part(whole, receiver);
    }
    let kept = length.saturating_sub(end.chars().count());
    let byte = receiver.char_indices().nth(kept).map_or(receiver.len(), |(byte, _)| byte);
    let cut = &receiver[..byte];
    let cut = match cut.rfind(' ') {
        Some(space) if !flag(&cuts_words, false) => &cut[..space],
        _ => cut,
    };
    let mut out = heap.text_builder()?;
    out.push_part(whole, cut)?;
    out.push_str(end)?;
    Ok(out.finish())
}

/// A value as a part of a URL's path; pairs as a URL's query.
fn encoded(heap: &Heap, value: &Value) -> Result<Value> {
    let mut out = heap.text_builder()?;
    let pairs = match value {
        Value::Map(map) => {
            let pairs = map.entries.iter().map(|(key, value)| methods::pair(heap, key, value));
            heap.list(pairs.collect::<Result<Vec<_>>>()?)?
        }
        Value::List(_) => value.clone(),
        _ => {
            encode(heap, value, false, &mut out)?;
            return Ok(out.finish());
        }
    };
    for (index, pair) in iterate(heap, &pairs)?.items.iter().enumerate() {
        let pair = iterate(heap, pair)?;
        let [key, value] = &pair.items[..] else {
            return Err(TemplateError::new("a part of a query is not a pair"));
        };
        out.push_str(if index > 0 { "&" } else { "" })?;
        encode(heap, key, true, &mut out)?;
        out.push('=')?;
        encode(heap, value, true, &mut out)?;
    }
    Ok(out.finish())
}

/// Appends a value with `%` and two digits for each byte that a URL does not have. A query has no slashes, and `+` for blanks.
fn encode(heap: &Heap, value: &Value, is_query: bool, out: &mut TextBuilder) -> Result<()> {
    let text = to_text(heap, value)?;
    for byte in text.as_str().unwrap_or_default().bytes() {
        match byte {
            b' ' if is_query => out.push('+')?,
            b'/' if !is_query => out.push('/')?,
            b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte))?,
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte))?,
            _ => {
                heap.spend(4)?;
                out.push_str(&format!("%{byte:02X}"))?;
            }
        }
    }
    Ok(())
}

fn escaped(heap: &Heap, receiver: &str) -> Result<Value> {
    let mut out = heap.text_builder()?;
    let mut rest = receiver;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        out.push_str(&rest[..at])?;
        out.push_str(match &rest[at..=at] {
            "&" => "&amp;",
            "<" => "&lt;",
            ">" => "&gt;",
            "\"" => "&#34;",
            _ => "&#39;",
        })?;
        rest = &rest[at + 1..];
    }
    out.push_str(rest)?;
    Ok(out.finish())
}
