//! `tojson`: JSON as Python's `json.dumps` writes it.

use super::compare::sorted;
use super::display::float;
use super::error::{Result, TemplateError};
use super::heap::Heap;
use super::meter::VALUE_DEPTH;
use super::value::{TextBuilder, Value};

/// The options of `json.dumps`.
pub struct Options<'a> {
    /// One level of indentation; without it everything is on one line.
    pub indent: Option<&'a str>,
    /// The texts between items, and between key and value.
    pub separators: (&'a str, &'a str),
    /// Whether keys are sorted.
    pub sort_keys: bool,
    /// Whether characters beyond ASCII are escaped.
    pub ensure_ascii: bool,
}

/// Appends a value as JSON.
///
/// # Errors
/// If JSON has no such value, or the result is too large.
pub fn write(heap: &Heap, value: &Value, options: &Options, out: &mut TextBuilder) -> Result<()> {
    Writer { heap, options, depth: 0 }.value(value, out)
}

struct Writer<'a> {
    heap: &'a Heap,
    options: &'a Options<'a>,
    depth: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, out: &mut TextBuilder) -> Result<()> {
        self.heap.spend(1)?;
        match value {
            Value::None => out.push_str("null"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Int(value) => out.push_str(&value.to_string()),
            Value::Float(value) => out.push_str(&number(*value)),
            Value::Text(_) => self.string(value.as_str().unwrap_or_default(), out),
            Value::List(list) if list.kind.is_sequence() => {
                self.items("[]", list.items.len(), out, |writer, index, out| {
                    writer.value(&list.items[index], out)
                })
            }
            Value::Map(map) => {
                let order = if self.options.sort_keys {
                    let keys: Vec<_> = map.entries.iter().map(|(key, _)| key.clone()).collect();
                    sorted(self.heap, &keys, false)?
                } else {
                    Vec::new()
                };
                self.items("{}", map.entries.len(), out, |writer, index, out| {
                    let (key, value) = &map.entries[order.get(index).copied().unwrap_or(index)];
                    writer.key(key, out)?;
                    out.push_str(writer.options.separators.1)?;
                    writer.value(value, out)
                })
            }
            Value::Undefined | Value::List(_) | Value::Function(_) | Value::Object(_) => {
                Err(TemplateError::new(format!("{} is not JSON", value.kind())))
            }
        }
    }

    /// Brackets, and the items between them.
    fn items(
        &mut self,
        brackets: &str,
        length: usize,
        out: &mut TextBuilder,
        item: impl Fn(&mut Self, usize, &mut TextBuilder) -> Result<()>,
    ) -> Result<()> {
        out.push_str(&brackets[..1])?;
        self.depth += 1;
        if self.depth > VALUE_DEPTH as usize {
            return Err(TemplateError::new("a value is nested too deeply for JSON"));
        }
        for index in 0..length {
            out.push_str(if index > 0 { self.options.separators.0 } else { "" })?;
            self.new_line(out)?;
            item(self, index, out)?;
        }
        self.depth -= 1;
        if length > 0 {
            self.new_line(out)?;
        }
        out.push_str(&brackets[1..])
    }

    fn new_line(&self, out: &mut TextBuilder) -> Result<()> {
        let Some(indent) = self.options.indent else { return Ok(()) };
        out.push('\n')?;
        out.repeat(indent, self.depth)
    }

    /// A key, which is always a string.
    fn key(&self, key: &Value, out: &mut TextBuilder) -> Result<()> {
        match key {
            Value::Text(_) => self.string(key.as_str().unwrap_or_default(), out),
            Value::None => out.push_str("\"null\""),
            Value::Bool(value) => out.push_str(if *value { "\"true\"" } else { "\"false\"" }),
            Value::Int(value) => out.push_str(&format!("\"{value}\"")),
            Value::Float(value) => out.push_str(&format!("\"{}\"", number(*value))),
            _ => Err(TemplateError::new(format!("{} is not a key of JSON", key.kind()))),
        }
    }

    fn string(&self, text: &str, out: &mut TextBuilder) -> Result<()> {
        out.push('"')?;
        let mut rest = text;
        let is_escaped =
            |c: char| c < ' ' || c == '"' || c == '\\' || (self.options.ensure_ascii && c > '~');
        while let Some(at) = rest.find(is_escaped) {
            out.push_str(&rest[..at])?;
            let Some(character) = rest[at..].chars().next() else { break };
            match character {
                '"' => out.push_str("\\\"")?,
                '\\' => out.push_str("\\\\")?,
                '\n' => out.push_str("\\n")?,
                '\r' => out.push_str("\\r")?,
                '\t' => out.push_str("\\t")?,
                '\u{8}' => out.push_str("\\b")?,
                '\u{c}' => out.push_str("\\f")?,
                other => {
                    self.heap.spend(4)?;
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"))?;
                    }
                }
            }
            rest = &rest[at + character.len_utf8()..];
        }
        out.push_str(rest)?;
        out.push('"')
    }
}

/// A number as Python's JSON has it.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    float(value)
}
