//! `'%5.2f' % x`.

use super::super::access::item;
use super::super::display::{display, repr};
use super::super::error::{Result, TemplateError};
use super::super::heap::Heap;
use super::super::value::{Text, TextBuilder, Value};
use super::number::numeric;
use super::{PLAIN, Spec, ascii, digits, padded, truncated};

/// `whole % values`.
///
/// # Errors
/// If they do not fit each other, or the result is too large.
pub fn percent(heap: &Heap, whole: &Text, values: &Value) -> Result<Value> {
    let mut rest = whole.as_str();
    heap.spend(rest.len() / 16)?;
    let mut list = match values {
        Value::List(list) if list.kind.is_tuple() => list.items.iter(),
        single => std::slice::from_ref(single).iter(),
    };
    let mut out = heap.text_builder()?;
    while let Some(at) = rest.find('%') {
        heap.spend(1)?;
        out.push_part(whole, &rest[..at])?;
        rest = &rest[at + 1..];
        let mut named = None;
        if let Some(inner) = rest.strip_prefix('(') {
            let end = inner.find(')');
            let end = end.ok_or_else(|| TemplateError::new("a format's name does not end"))?;
            let value = item(heap, values, &heap.text(&inner[..end])?)?;
            if value.is_undefined() {
                return Err(TemplateError::new("a format names a value that is not there"));
            }
            named = Some(value);
            rest = &inner[end + 1..];
        }
        let spec = specification(&mut rest, &mut list)?;
        if spec.kind == Some('%') {
            out.push('%')?;
            continue;
        }
        let value = named.map_or_else(|| next(&mut list), Ok)?;
        formatted(heap, &value, spec, &mut out)?;
    }
    out.push_part(whole, rest)?;
    // A dictionary need not be used; Python takes other values with items for one.
    let may_remain = match values {
        Value::List(list) => !list.kind.is_tuple(),
        values => matches!(values, Value::Map(_) | Value::Undefined),
    };
    if list.next().is_some() && !may_remain {
        return Err(TemplateError::new("more values than a format takes"));
    }
    Ok(out.finish())
}

fn next(list: &mut std::slice::Iter<'_, Value>) -> Result<Value> {
    list.next().cloned().ok_or_else(|| TemplateError::new("not enough values for a format"))
}

/// Reads flags, width, precision and type; a `*` takes a number from the values.
fn specification(rest: &mut &str, list: &mut std::slice::Iter<'_, Value>) -> Result<Spec> {
    let mut spec = PLAIN;
    loop {
        match rest.bytes().next() {
            Some(b'-') => spec.align = Some('<'),
            Some(b'0') if spec.align.is_none() => (spec.fill, spec.align) = ('0', Some('=')),
            Some(b'0') => {}
            Some(b'+') => spec.sign = Some('+'),
            Some(b' ') => spec.sign = spec.sign.or(Some(' ')),
            Some(b'#') => spec.is_alternate = true,
            _ => break,
        }
        *rest = &rest[1..];
    }
    if spec.align == Some('<') {
        spec.fill = ' ';
    }
    let mut number = |rest: &mut &str| -> Result<usize> {
        let Some(behind) = rest.strip_prefix('*') else { return Ok(digits(rest).unwrap_or(0)) };
        *rest = behind;
        let number = next(list)?.as_int().and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| TemplateError::new("a format's width is not a number"))
    };
    spec.width = number(rest)?;
    if let Some(behind) = rest.strip_prefix('.') {
        *rest = behind;
        spec.precision = Some(number(rest)?);
    }
    *rest = rest.trim_start_matches(['h', 'l', 'L']);
    let kind = rest.chars().next().ok_or_else(|| TemplateError::new("a format ends early"))?;
    *rest = &rest[kind.len_utf8()..];
    spec.kind = Some(kind);
    Ok(spec)
}

fn formatted(heap: &Heap, value: &Value, spec: Spec, out: &mut TextBuilder) -> Result<()> {
    let right = Spec { align: spec.align.or(Some('>')), ..spec };
    match spec.kind {
        Some('s') if spec.width == 0 && spec.precision.is_none() => display(heap, value, out),
        Some('s' | 'r' | 'a' | 'c') => {
            let mut text = heap.text_builder()?;
            match (spec.kind, value.as_int()) {
                (Some('c'), Some(code)) => text.push(character(code)?)?,
                (Some('c'), None) => text.push(single_character(value)?)?,
                (Some('s'), _) => display(heap, value, &mut text)?,
                (Some('a'), _) => ascii(heap, value, &mut text)?,
                _ => repr(heap, value, &mut text)?,
            }
            let align = if spec.align == Some('<') { '<' } else { '>' };
            let spec = Spec { fill: ' ', align: Some(align), ..spec };
            padded("", truncated(text.as_str(), spec.precision), spec, out)
        }
        Some('d' | 'i' | 'u') => {
            let whole = match value {
                Value::Float(value) => Value::Int(*value as i64),
                _ => value.clone(),
            };
            numeric(heap, &whole, Spec { kind: Some('d'), precision: None, ..right }, out)
        }
        Some('x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G') => {
            numeric(heap, value, right, out)
        }
        kind => Err(TemplateError::new(format!("a format's type is {:?}", kind.unwrap_or(' ')))),
    }
}

/// The character with this number.
pub(super) fn character(code: i64) -> Result<char> {
    u32::try_from(code).ok().and_then(char::from_u32).ok_or_else(no_character)
}

/// The character that a string is.
fn single_character(value: &Value) -> Result<char> {
    let mut characters = value.as_str().unwrap_or_default().chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) => Ok(character),
        _ => Err(no_character()),
    }
}

fn no_character() -> TemplateError {
    TemplateError::new("a format takes a character, by itself or by its number")
}
