//! Values as text: Python's `str` (`display`) and `repr`.

use super::error::{Result, TemplateError};
use super::heap::{Heap, Object};
use super::meter::VALUE_DEPTH;
use super::value::{ListKind, TextBuilder, Value};

/// Appends a value as `{{ }}` writes it.
///
/// # Errors
/// If no bytes or steps are left.
pub fn display(heap: &Heap, value: &Value, out: &mut TextBuilder) -> Result<()> {
    match value {
        Value::Undefined => Ok(()),
        Value::Text(text) => out.push_text(text),
        _ => Repr { heap, depth: 0 }.write(value, out),
    }
}

/// The text of a value as `{{ }}` writes it.
///
/// # Errors
/// If no bytes or steps are left.
pub fn to_text(heap: &Heap, value: &Value) -> Result<Value> {
    if matches!(value, Value::Text(_)) {
        return Ok(value.clone());
    }
    let mut out = heap.text_builder()?;
    display(heap, value, &mut out)?;
    Ok(out.finish())
}

/// Appends a value as it stands inside a list.
///
/// # Errors
/// If no bytes or steps are left.
pub fn repr(heap: &Heap, value: &Value, out: &mut TextBuilder) -> Result<()> {
    Repr { heap, depth: 0 }.write(value, out)
}

struct Repr<'a> {
    heap: &'a Heap,
    /// Values are nested so deep at most, but a namespace may contain itself.
    depth: u32,
}

impl Repr<'_> {
    fn write(&mut self, value: &Value, out: &mut TextBuilder) -> Result<()> {
        self.heap.spend(1)?;
        match value {
            Value::Undefined => out.push_str("Undefined"),
            Value::None => out.push_str("None"),
            Value::Bool(true) => out.push_str("True"),
            Value::Bool(false) => out.push_str("False"),
            Value::Int(value) => out.push_str(&value.to_string()),
            Value::Float(value) => out.push_str(&float(*value)),
            Value::Text(_) => quoted(self.heap, value.as_str().unwrap_or_default(), out),
            Value::List(list) if list.kind == ListKind::Iterator => {
                out.push_str("<generator object>")
            }
            Value::List(list) => {
                if let ListKind::View(name) = list.kind {
                    out.push_str(name)?;
                    out.push_str("(")?;
                }
                let (open, close) = match list.kind {
                    ListKind::Tuple | ListKind::Group => ("(", ")"),
                    ListKind::View(_) => ("[", "])"),
                    _ => ("[", "]"),
                };
                out.push_str(open)?;
                for (index, item) in list.items.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" })?;
                    self.inside(item, out)?;
                }
                // A tuple of one has a comma.
                let is_alone = list.kind.is_tuple() && list.items.len() == 1;
                out.push_str(if is_alone { "," } else { "" })?;
                out.push_str(close)
            }
            Value::Map(map) => self.entries(|index| map.entries.get(index).cloned(), out),
            Value::Function(function) => out.push_str(&format!("<function {function:?}>")),
            Value::Object(index) => {
                let name = self.heap.with(*index, |object| match object {
                    Object::Namespace(_) => "Namespace",
                    Object::Loop(_) => "LoopContext",
                    Object::Macro(_) => "Macro",
                    Object::Joiner(..) => "Joiner",
                    Object::Cycler(..) => "Cycler",
                    Object::Method(..) => "built-in method",
                });
                out.push_str("<")?;
                out.push_str(name)?;
                if name == "Namespace" {
                    out.push_str(" ")?;
                    let heap = self.heap;
                    self.entries(|entry| heap.entry(*index, entry), out)?;
                }
                out.push_str(">")
            }
        }
    }

    fn inside(&mut self, value: &Value, out: &mut TextBuilder) -> Result<()> {
        self.depth += 1;
        if self.depth > VALUE_DEPTH {
            return Err(TemplateError::new("a value that contains itself has no text"));
        }
        self.write(value, out)?;
        self.depth -= 1;
        Ok(())
    }

    fn entries(
        &mut self,
        entry: impl Fn(usize) -> Option<(Value, Value)>,
        out: &mut TextBuilder,
    ) -> Result<()> {
        out.push_str("{")?;
        let mut index = 0;
        while let Some((key, value)) = entry(index) {
            out.push_str(if index > 0 { ", " } else { "" })?;
            self.inside(&key, out)?;
            out.push_str(": ")?;
            self.inside(&value, out)?;
            index += 1;
        }
        out.push_str("}")
    }
}

/// A string in quotes, as Python writes it.
fn quoted(heap: &Heap, text: &str, out: &mut TextBuilder) -> Result<()> {
    let quote = if text.contains('\'') && !text.contains('"') { "\"" } else { "'" };
    if !text.is_ascii() {
        heap.spend(text.len() / 8)?;
    }
    out.push_str(quote)?;
    let mut rest = text;
    let needs_escape = |c: char| c == '\\' || !is_printable(c) || quote.starts_with(c);
    while let Some(at) = rest.find(needs_escape) {
        out.push_str(&rest[..at])?;
        let Some(character) = rest[at..].chars().next() else { break };
        match character {
            '\n' => out.push_str("\\n")?,
            '\r' => out.push_str("\\r")?,
            '\t' => out.push_str("\\t")?,
            other if !is_printable(other) => {
                heap.spend(4)?;
                out.push_str(&escaped(other))?;
            }
            other => {
                out.push('\\')?;
                out.push(other)?;
            }
        }
        rest = &rest[at + character.len_utf8()..];
    }
    out.push_str(rest)?;
    out.push_str(quote)
}

/// The escape of a character in a string of Python.
pub fn escaped(character: char) -> String {
    match u32::from(character) {
        code @ 0..=0xff => format!("\\x{code:02x}"),
        code @ 0x100..=0xffff => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    }
}

/// Python's `isprintable`: an assigned character that is neither a control character nor white space but a space.
pub fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    // `Debug` escapes the same characters, and combining ones at the beginning.
    let mut buffer = *b"a\0\0\0\0";
    let length = 1 + character.encode_utf8(&mut buffer[1..]).len();
    str::from_utf8(&buffer[..length]).is_ok_and(|text| text.escape_debug().count() == 2)
}

/// A number as Python writes it: the shortest digits that are read as the same number.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_pythons() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e20, "1e+20"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float(value), expected);
        }
    }
}
