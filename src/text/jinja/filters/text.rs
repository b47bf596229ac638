//! Filters of strings. What is no string is taken as the text that it shows.

use super::super::format;
use super::super::given::{Given, count, flag, required, text};
use super::super::heap::Heap;
use super::super::meter::Result;
use super::super::methods;
use super::super::show::text_of;
use super::super::value::{ListKind, Value};

/// `value | name(given)`; `None` if there is no such filter here.
///
/// # Errors
/// If the filter fails.
pub fn apply(heap: &Heap, name: &str, value: &Value, given: &Given) -> Result<Option<Value>> {
    const NAMES: [&str; 16] = [
        "upper",
        "lower",
        "capitalize",
        "title",
        "trim",
        "replace",
        "indent",
        "truncate",
        "wordcount",
        "center",
        "escape",
        "e",
        "forceescape",
        "urlencode",
        "format",
        "split",
    ];
    if !NAMES.contains(&name) {
        return Ok(None);
    }
    let shown = text_of(heap, value)?;
    heap.spend(shown.cost())?;
    let shown_text = shown.as_str().unwrap_or_default();
    let changed = |change: fn(&str) -> String| Value::changed(heap.meter(), shown_text, change);
    Ok(Some(match name {
        "upper" => changed(str::to_uppercase)?,
        "lower" => changed(str::to_lowercase)?,
        "title" => changed(titled)?,
        "trim" => {
            let [characters] = given.bind(heap, ["chars"])?;
            methods::trimmed(heap, shown_text, characters.as_ref(), true, true)?
        }
        "replace" => {
            let [old, new, count] = given.bind(heap, ["old", "new", "count"])?;
            let (old, new) = (required(old, "old")?, required(new, "new")?);
            let (old, new) = (text_of(heap, &old)?, text_of(heap, &new)?);
            methods::replaced(heap, shown_text, text(&old, "old")?, text(&new, "new")?, &count)?
        }
        "split" => {
            let [separator, limit] = given.bind(heap, ["sep", "maxsplit"])?;
            methods::split(heap, shown_text, separator, &limit, false)?
        }
        "indent" => indented(heap, shown_text, given)?,
        "truncate" => truncated(heap, shown_text, given)?,
        "wordcount" => {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let words = shown_text.split(|c| !is_word(c)).filter(|word| !word.is_empty());
            Value::Int(words.count() as i64)
        }
        "center" => {
            let [width] = given.bind(heap, ["width"])?;
            methods::center(heap, shown_text, &width)?
        }
        "urlencode" => encoded(heap, shown_text)?,
        "format" => {
            let values = if given.named.entries().is_empty() {
                let mut list = heap.list_builder()?;
                list.extend(given.positional.items())?;
                list.finish_as(ListKind::Tuple)
            } else {
                let mut map = heap.map_builder()?;
                let mut named = given.named.entries().iter();
                named.try_for_each(|(name, value)| map.push(name.clone(), value.clone()))?;
                map.finish()
            };
            format::percent(heap, &shown, &values)?
        }
        "escape" | "e" | "forceescape" => escaped(heap, shown_text)?,
        // `capitalize`.
        _ => match methods::call(heap, &shown, name, given)? {
            Some(found) => found,
            None => shown,
        },
    }))
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

fn indented(heap: &Heap, shown: &str, given: &Given) -> Result<Value> {
    let [width, first, blank] = given.bind(heap, ["width", "first", "blank"])?;
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
    for (index, line) in shown.split('\n').enumerate() {
        heap.spend(1)?;
        out.push_str(if index > 0 { "\n" } else { "" })?;
        let is_indented = if index == 0 { first } else { blank || !line.is_empty() };
        out.push_str(if is_indented { indentation } else { "" })?;
        out.push_str(line)?;
    }
    Ok(out.finish())
}

fn truncated(heap: &Heap, shown: &str, given: &Given) -> Result<Value> {
    let [length, kills_words, end, leeway] =
        given.bind(heap, ["length", "killwords", "end", "leeway"])?;
    let (length, leeway) = (count(&length, "length", 255)?, count(&leeway, "leeway", 5)?);
    let end = end.as_ref().map_or(Ok("..."), |end| text(end, "end"))?;
    if shown.chars().count() <= length.saturating_add(leeway) {
        return heap.text(shown);
    }
    let kept = length.saturating_sub(end.chars().count());
    let byte = shown.char_indices().nth(kept).map_or(shown.len(), |(byte, _)| byte);
    let cut = &shown[..byte];
    let cut = match cut.rfind(' ') {
        Some(space) if !flag(&kills_words, false) => &cut[..space],
        _ => cut,
    };
    let mut out = heap.text_builder()?;
    out.push_str(cut)?;
    out.push_str(end)?;
    Ok(out.finish())
}

fn encoded(heap: &Heap, shown: &str) -> Result<Value> {
    let mut out = heap.text_builder()?;
    for byte in shown.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-~/".contains(&byte) {
            out.push(char::from(byte))?;
        } else {
            heap.spend(4)?;
            out.push_str(&format!("%{byte:02X}"))?;
        }
    }
    Ok(out.finish())
}

fn escaped(heap: &Heap, shown: &str) -> Result<Value> {
    let mut out = heap.text_builder()?;
    let mut rest = shown;
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
