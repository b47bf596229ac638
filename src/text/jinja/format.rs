//! Python's two ways of formatting: `'%5.2f' % x` and `'{:>5}'.format(x)`.
//!
//! Widths come from the template, so what is padded is counted before it is written.

use super::access::{attribute, item};
use super::heap::Heap;
use super::meter::{Fault, Result};
use super::show::{float, repr, show};
use super::value::{ListKind, TextBuilder, Value};

/// Most digits after the point.
const PRECISION: usize = 1000;

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

/// `text % values`.
///
/// # Errors
/// If they do not fit each other, or the result is too large.
pub fn percent(heap: &Heap, text: &Value, values: &Value) -> Result<Value> {
    heap.spend(text.cost())?;
    let mut rest = text.as_str().unwrap_or_default();
    let list = match values {
        Value::List(list) if list.kind != ListKind::List => &list.items[..],
        single => std::slice::from_ref(single),
    };
    let mut list = list.iter();
    let mut next =
        || list.next().cloned().ok_or_else(|| Fault::new("not enough values for a format"));
    let mut out = heap.text_builder()?;
    while let Some(at) = rest.find('%') {
        heap.spend(1)?;
        out.push_str(&rest[..at])?;
        rest = &rest[at + 1..];
        let mut named = None;
        if let Some(inner) = rest.strip_prefix('(') {
            let end = inner.find(')').ok_or_else(|| Fault::new("a format's name does not end"))?;
            named = Some(item(heap, values, &heap.text(&inner[..end])?)?);
            rest = &inner[end + 1..];
        }
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
            rest = &rest[1..];
        }
        if spec.align == Some('<') {
            spec.fill = ' ';
        }
        let mut number = |rest: &mut &str| -> Result<usize> {
            if let Some(behind) = rest.strip_prefix('*') {
                *rest = behind;
                let given = next()?.as_int().and_then(|number| usize::try_from(number).ok());
                return given.ok_or_else(|| Fault::new("a format's width is not a number"));
            }
            Ok(digits(rest).unwrap_or(0))
        };
        spec.width = number(&mut rest)?;
        if let Some(behind) = rest.strip_prefix('.') {
            rest = behind;
            spec.precision = Some(number(&mut rest)?);
        }
        rest = rest.trim_start_matches(['h', 'l', 'L']);
        let kind = rest.chars().next().ok_or_else(|| Fault::new("a format ends early"))?;
        rest = &rest[kind.len_utf8()..];
        if kind == '%' {
            out.push('%')?;
            continue;
        }
        let value = named.map_or_else(&mut next, Ok)?;
        spec.kind = Some(kind);
        percent_value(heap, &value, spec, &mut out)?;
    }
    out.push_str(rest)?;
    if list.next().is_some() && !matches!(values, Value::Map(_)) {
        return Err(Fault::new("more values than a format takes"));
    }
    Ok(out.finish())
}

fn percent_value(heap: &Heap, value: &Value, spec: Spec, out: &mut TextBuilder) -> Result<()> {
    let right = Spec { align: spec.align.or(Some('>')), ..spec };
    match spec.kind {
        Some('s' | 'r' | 'a' | 'c') => {
            let mut text = heap.text_builder()?;
            match (spec.kind, value.as_int()) {
                (Some('s'), _) => show(heap, value, &mut text)?,
                (Some('c'), Some(code)) => {
                    let character = u32::try_from(code).ok().and_then(char::from_u32);
                    text.push(character.ok_or_else(|| Fault::new("%c takes a character"))?)?;
                }
                (Some('c'), None) => show(heap, value, &mut text)?,
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
            numeric(&whole, Spec { kind: Some('d'), precision: None, ..right }, out)
        }
        Some('x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G') => numeric(value, right, out),
        kind => Err(Fault::new(format!("a format's type is {:?}", kind.unwrap_or(' ')))),
    }
}

/// `text.format(values, name=value)`.
///
/// # Errors
/// If they do not fit each other, or the result is too large.
pub fn braces(heap: &Heap, text: &str, values: &[Value], named: &Value) -> Result<Value> {
    heap.spend(text.len() / 16)?;
    let mut out = heap.text_builder()?;
    let mut counted = 0;
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        heap.spend(1)?;
        out.push_str(&rest[..at])?;
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(brace) {
            out.push_str(brace)?;
            rest = behind;
            continue;
        }
        let end = rest.find(['{', '}']).filter(|end| brace == "{" && &rest[*end..=*end] == "}");
        let end = end.ok_or_else(|| Fault::new("a format's braces do not match"))?;
        let field = &rest[..end];
        rest = &rest[end + 1..];
        let (field, spec) = field.split_once(':').unwrap_or((field, ""));
        let (field, conversion) = field.split_once('!').unwrap_or((field, ""));
        let mut value = looked_up(heap, field, values, named, &mut counted)?;
        if !conversion.is_empty() {
            let mut text = heap.text_builder()?;
            if conversion == "s" {
                show(heap, &value, &mut text)?
            } else {
                repr(heap, &value, &mut text)?
            }
            value = text.finish();
        }
        brace_value(heap, &value, parsed(spec)?, &mut out)?;
    }
    out.push_str(rest)?;
    Ok(out.finish())
}

/// The value that a field such as `0.name[key]` names.
fn looked_up(
    heap: &Heap,
    field: &str,
    values: &[Value],
    named: &Value,
    counted: &mut usize,
) -> Result<Value> {
    let end = field.find(['.', '[']).unwrap_or(field.len());
    let (first, mut rest) = field.split_at(end);
    let index = if first.is_empty() {
        *counted += 1;
        Some(*counted - 1)
    } else {
        first.parse().ok()
    };
    let mut value = match index {
        Some(index) => values.get(index).cloned().unwrap_or(Value::Undefined),
        None => attribute(heap, named, first)?,
    };
    if value.is_undefined() {
        return Err(Fault::new("not enough values for a format"));
    }
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('.') {
            let end = inner.find(['.', '[']).unwrap_or(inner.len());
            value = attribute(heap, &value, &inner[..end])?;
            rest = &inner[end..];
        } else {
            let wrong = || Fault::new("a format's brackets do not match");
            let inner = rest.strip_prefix('[').ok_or_else(wrong)?;
            let end = inner.find(']').ok_or_else(wrong)?;
            let key = match inner[..end].parse() {
                Ok(index) => Value::Int(index),
                Err(_) => heap.text(&inner[..end])?,
            };
            value = item(heap, &value, &key)?;
            rest = &inner[end + 1..];
        }
    }
    Ok(value)
}

/// The specification after the colon of a field.
fn parsed(text: &str) -> Result<Spec> {
    let mut spec = PLAIN;
    let mut rest = text;
    let mut characters = text.chars();
    let is_align = |c: Option<char>| c.filter(|c| matches!(c, '<' | '>' | '^' | '='));
    let (first, second) = (characters.next(), characters.next());
    if let (Some(fill), Some(align)) = (first, is_align(second)) {
        (spec.fill, spec.align) = (fill, Some(align));
        rest = &rest[fill.len_utf8() + 1..];
    } else if let Some(align) = is_align(first) {
        spec.align = Some(align);
        rest = &rest[1..];
    }
    let mut skip = |signs: &[char]| {
        let found = rest.chars().next().filter(|c| signs.contains(c));
        rest = &rest[found.map_or(0, char::len_utf8)..];
        found
    };
    spec.sign = skip(&['+', ' ', '-']).filter(|sign| *sign != '-');
    spec.is_alternate = skip(&['#']).is_some();
    if skip(&['0']).is_some() && spec.align.is_none() {
        (spec.fill, spec.align) = ('0', Some('='));
    }
    spec.width = digits(&mut rest).unwrap_or(0);
    if let Some(behind) = rest.strip_prefix([',', '_']) {
        spec.grouping = rest.chars().next();
        rest = behind;
    }
    if let Some(behind) = rest.strip_prefix('.') {
        rest = behind;
        spec.precision = digits(&mut rest);
    }
    let mut kinds = rest.chars();
    spec.kind = kinds.next();
    match kinds.next() {
        None => Ok(spec),
        Some(_) => Err(Fault::new("a format is not one of Python's")),
    }
}

fn brace_value(heap: &Heap, value: &Value, spec: Spec, out: &mut TextBuilder) -> Result<()> {
    let is_number = matches!(value, Value::Int(_) | Value::Float(_))
        || matches!((value, spec.kind), (Value::Bool(_), Some(_)));
    if is_number && spec.kind != Some('s') {
        return numeric(value, Spec { align: spec.align.or(Some('>')), ..spec }, out);
    }
    if !matches!(spec.kind, None | Some('s')) {
        return Err(Fault::new(format!("a format does not take {}", value.kind())));
    }
    let mut text = heap.text_builder()?;
    show(heap, value, &mut text)?;
    let align = spec.align.filter(|align| *align != '=').or(Some('<'));
    padded("", truncated(text.as_str(), spec.precision), Spec { align, ..spec }, out)
}

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

/// Appends a number.
fn numeric(value: &Value, spec: Spec, out: &mut TextBuilder) -> Result<()> {
    let kind = spec.kind.unwrap_or(' ');
    if spec.precision.is_some_and(|precision| precision > PRECISION) {
        return Err(Fault::new(format!("a format asks for more than {PRECISION} digits")));
    }
    let whole = value.as_int().filter(|_| matches!(kind, ' ' | 'd' | 'n' | 'x' | 'X' | 'o' | 'b'));
    let (is_negative, text) = match (whole, value.as_float()) {
        (Some(value), _) => {
            (value < 0, whole_digits(value.unsigned_abs(), kind, spec.is_alternate))
        }
        (None, Some(value)) => (value.is_sign_negative(), real_digits(value.abs(), kind, spec)?),
        (None, None) => {
            return Err(Fault::new(format!("a format takes a number, not {}", value.kind())));
        }
    };
    let mut buffer = [0; 4];
    let sign = match spec.sign {
        _ if is_negative => "-",
        Some(sign) => sign.encode_utf8(&mut buffer),
        None => "",
    };
    let text = match spec.grouping {
        Some(separator) => grouped(&text, separator),
        None => text,
    };
    padded(sign, &text, spec, out)
}

fn whole_digits(value: u64, kind: char, is_alternate: bool) -> String {
    match (kind, is_alternate) {
        ('x', false) => format!("{value:x}"),
        ('x', true) => format!("{value:#x}"),
        ('X', false) => format!("{value:X}"),
        ('X', true) => format!("0X{value:X}"),
        ('o', false) => format!("{value:o}"),
        ('o', true) => format!("{value:#o}"),
        ('b', false) => format!("{value:b}"),
        ('b', true) => format!("{value:#b}"),
        _ => value.to_string(),
    }
}

/// The digits of a number that is not negative.
fn real_digits(value: f64, kind: char, spec: Spec) -> Result<String> {
    let precision = spec.precision.unwrap_or(6);
    if !value.is_finite() {
        return Ok(float(value));
    }
    Ok(match kind {
        'f' | 'F' => format!("{value:.precision$}"),
        '%' => format!("{:.precision$}%", value * 100.0),
        'e' => exponential(value, precision),
        'E' => exponential(value, precision).to_uppercase(),
        'g' => general(value, precision, spec.is_alternate),
        'G' => general(value, precision, spec.is_alternate).to_uppercase(),
        ' ' | 'n' if spec.precision.is_some() => general(value, precision, false),
        ' ' | 'n' => float(value),
        _ => return Err(Fault::new(format!("a format of type {kind:?} takes a whole number"))),
    })
}

/// `d.ddde+dd`.
fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// So many digits, in whichever form is shorter.
fn general(value: f64, precision: usize, keeps_zeros: bool) -> String {
    let precision = precision.max(1);
    let scientific = exponential(value, precision - 1);
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = power.parse().unwrap_or(0);
    let trim = |digits: &str| match digits.contains('.') && !keeps_zeros {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        return format!("{}e{power}", trim(digits));
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trim(&format!("{value:.decimals$}"))
}

/// Digits with a separator between thousands.
fn grouped(text: &str, separator: char) -> String {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let mut out = String::new();
    for (index, digit) in text[..end].char_indices() {
        if index > 0 && (end - index).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(digit);
    }
    out + &text[end..]
}
