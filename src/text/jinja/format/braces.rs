//! `'{:>5}'.format(x)`.

use super::super::access::{attribute, item};
use super::super::compare::find_name;
use super::super::display::{display, repr};
use super::super::error::{Result, TemplateError};
use super::super::heap::Heap;
use super::super::value::{Text, TextBuilder, Value};
use super::number::numeric;
use super::percent::character;
use super::{PLAIN, Spec, ascii, digits, padded, truncated};

/// `text.format(values, name=value)`.
///
/// # Errors
/// If they do not fit each other, or the result is too large.
pub fn braces(heap: &Heap, whole: &Text, values: &[Value], named: &Value) -> Result<Value> {
    let mut fields = Fields { heap, whole, values, named, n_counted: 0, has_numbers: false };
    let mut out = heap.text_builder()?;
    fields.replaced(whole.as_str(), 0, &mut out)?;
    Ok(out.finish())
}

/// A specification of a field may have fields, and those no further ones.
const DEPTH: usize = 1;

/// The values that fields name.
struct Fields<'a> {
    heap: &'a Heap,
    /// The whole format.
    whole: &'a Text,
    values: &'a [Value],
    named: &'a Value,
    /// The number of fields without a number or a name.
    n_counted: usize,
    /// Whether there were fields with a number.
    has_numbers: bool,
}

impl Fields<'_> {
    /// Appends a text whose fields are replaced by values.
    fn replaced(&mut self, text: &str, depth: usize, out: &mut TextBuilder) -> Result<()> {
        let wrong = || TemplateError::new("a format's braces do not match");
        self.heap.meter().read(text.len())?;
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            self.heap.spend(1)?;
            out.push_part(self.whole, &rest[..at])?;
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix(brace) {
                out.push_part(self.whole, brace)?;
                rest = behind;
                continue;
            }
            let end = field_end(rest).filter(|_| brace == "{" && depth <= DEPTH);
            let end = end.ok_or_else(wrong)?;
            self.field(&rest[..end], depth, out)?;
            rest = &rest[end + 1..];
        }
        out.push_part(self.whole, rest)
    }

    /// Appends the value of what stands between two braces.
    fn field(&mut self, field: &str, depth: usize, out: &mut TextBuilder) -> Result<()> {
        let heap = self.heap;
        let (field, spec) = field.split_once(':').unwrap_or((field, ""));
        let (field, conversion) = field.split_once('!').unwrap_or((field, ""));
        let mut value = self.value(field)?;
        if !conversion.is_empty() {
            let mut text = heap.text_builder()?;
            match conversion {
                "s" => display(heap, &value, &mut text)?,
                "r" => repr(heap, &value, &mut text)?,
                "a" => ascii(heap, &value, &mut text)?,
                _ => return Err(TemplateError::new("a format converts with s, r or a")),
            }
            value = text.finish();
        }
        let mut written = heap.text_builder()?;
        self.replaced(spec, depth + 1, &mut written)?;
        formatted(heap, &value, written.as_str(), out)
    }

    /// The value that a field such as `0.name[key]` names.
    fn value(&mut self, field: &str) -> Result<Value> {
        let heap = self.heap;
        let end = field.find(['.', '[']).unwrap_or(field.len());
        let (first, mut rest) = field.split_at(end);
        let mut value = self.first(first)?;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('.') {
                let end = inner.find(['.', '[']).unwrap_or(inner.len());
                value = attribute(heap, &value, &inner[..end])?;
                rest = &inner[end..];
            } else {
                let wrong = || TemplateError::new("a format's brackets do not match");
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

    /// The value that the first part of a field selects: by number, by name, or by the field's place if it is empty.
    fn first(&mut self, name: &str) -> Result<Value> {
        let index = match name {
            "" => Some(self.n_counted),
            name => name.parse().ok(),
        };
        self.n_counted += usize::from(name.is_empty());
        self.has_numbers |= !name.is_empty() && index.is_some();
        if self.has_numbers && self.n_counted > 0 {
            return Err(TemplateError::new("only some fields of a format have a number"));
        }
        let found = match (index, self.named) {
            (Some(index), _) => self.values.get(index).cloned(),
            (None, Value::Map(map)) => {
                find_name(self.heap, &map.entries, name)?.map(|index| map.entries[index].1.clone())
            }
            (None, _) => None,
        };
        found.ok_or_else(|| TemplateError::new("not enough values for a format"))
    }
}

/// The end of a field, which may have fields inside.
fn field_end(text: &str) -> Option<usize> {
    let mut open = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

/// Reads a specification such as `>5.2f`.
fn specification(text: &str) -> Result<Spec> {
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
        Some(_) => Err(TemplateError::new("a format is not one of Python's")),
    }
}

fn formatted(heap: &Heap, value: &Value, spec: &str, out: &mut TextBuilder) -> Result<()> {
    if spec.is_empty() {
        return display(heap, value, out);
    }
    let spec = specification(spec)?;
    let wrong = || TemplateError::new(format!("a format does not take {}", value.kind()));
    let right = Spec { align: spec.align.or(Some('>')), ..spec };
    match value {
        Value::Int(_) | Value::Bool(_) | Value::Float(_) if spec.kind == Some('s') => Err(wrong()),
        Value::Int(_) | Value::Bool(_) if spec.kind == Some('c') => {
            let code = value.as_int().unwrap_or_default();
            let text = character(code)?.to_string();
            padded("", &text, Spec { align: spec.align.or(Some('<')), ..spec }, out)
        }
        Value::Int(_) | Value::Bool(_)
            if spec.precision.is_some()
                && matches!(spec.kind, None | Some('d' | 'n' | 'x' | 'X' | 'o' | 'b')) =>
        {
            Err(TemplateError::new("a whole number has no precision"))
        }
        Value::Int(_) | Value::Bool(_) | Value::Float(_) => numeric(heap, value, right, out),
        Value::Text(_) if matches!(spec.kind, None | Some('s')) && spec.align != Some('=') => {
            let text = value.as_str().unwrap_or_default();
            let align = spec.align.or(Some('<'));
            padded("", truncated(text, spec.precision), Spec { align, ..spec }, out)
        }
        _ => Err(wrong()),
    }
}
