//! Jinja as Hugging Face's templates expect it, for templates that are not trusted.
//!
//! A template is part of a model's file. It must end soon, in little memory and on a small stack, whatever it contains.
//! A general interpreter does not count the costs of values that share their parts, lazy lists, operators and the
//! dropping of nested values. This interpreter counts everything that costs with a [`Meter`]: steps, bytes of values,
//! and frames of the stack.
//!
//! ```text
//! meter.rs error.rs              the limits and what is left of them; why a template is refused
//! lexer.rs parser/ ast.rs        source to program; chains are flat, so only brackets and blocks nest
//! value.rs heap.rs spans.rs      values that do not change, the objects that do, and who wrote what of a text
//! access.rs compare.rs operators.rs display.rs json.rs format/ time.rs    what can be done with values
//! filters/ methods/ jinja_tests.rs    filters, Python's methods and Jinja's tests by name; arguments.rs names.rs
//! interpreter/                   runs a program
//! ```
//!
//! To add a filter, a method or a test, add a row to the `match` of its file, its name to `names.rs`, and lines to
//! `tests/data/templates/constructs.txt`. Create text and lists only with the builders of the heap, which count; a function
//! that reads a value more than once spends steps for it, and one that copies parts of a text says so (`push_part`).

mod access;
mod arguments;
mod ast;
mod compare;
mod display;
mod error;
mod filters;
mod format;
mod heap;
mod interpreter;
mod jinja_tests;
mod json;
mod lexer;
mod meter;
mod methods;
mod names;
mod operators;
mod parser;
mod spans;
mod time;
mod value;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use jiff::civil::DateTime;

use ast::Program;
use heap::Heap;
use interpreter::Interpreter;
use meter::Meter;
use value::Value;

pub use error::{Result, TemplateError};
pub use spans::Rendered;

/// A value that is passed to a template.
#[derive(Clone, Debug)]
pub enum Data<'a> {
    /// `none`.
    None,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A string.
    Text(&'a str),
    /// A string that counts as the template's own.
    Own(&'a str),
    /// A list.
    List(Vec<Data<'a>>),
    /// A dictionary.
    Map(Vec<(&'a str, Data<'a>)>),
}

impl<'a> From<&'a serde_json::Value> for Data<'a> {
    fn from(value: &'a serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::None,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(value) => Self::Int(value),
                None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(entries) => {
                Self::Map(entries.iter().map(|(key, value)| (&**key, value.into())).collect())
            }
        }
    }
}

impl Data<'_> {
    /// Lists, dictionaries and other values; bytes of text.
    fn size(&self) -> (usize, usize) {
        let sum = |sizes: &mut dyn Iterator<Item = (usize, usize)>| {
            sizes.fold((1, 0), |(n, bytes), (more_n, more)| (n + more_n, bytes + more))
        };
        match self {
            Self::None | Self::Bool(_) | Self::Int(_) | Self::Float(_) => (1, 0),
            Self::Text(text) | Self::Own(text) => (1, text.len()),
            Self::List(items) => sum(&mut items.iter().map(Self::size)),
            Self::Map(entries) => sum(&mut entries.iter().map(|(_, value)| value.size())),
        }
    }

    fn value(&self, heap: &Heap) -> Result<Value> {
        Ok(match self {
            Self::None => Value::None,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Text(text) => heap.text(text)?,
            Self::Own(text) => heap.literal(text)?,
            Self::List(items) => {
                let mut list = heap.list_builder()?;
                items.iter().try_for_each(|item| list.push(item.value(heap)?))?;
                list.finish()
            }
            Self::Map(entries) => {
                let mut map = heap.map_builder()?;
                for (key, value) in entries {
                    map.push(heap.text(key)?, value.value(heap)?)?;
                }
                map.finish()
            }
        })
    }
}

/// A parsed template.
#[derive(Debug)]
pub struct Template(Program);

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// If it is not a template, or is larger or more nested than real templates are.
    pub fn parse(source: &str) -> Result<Self> {
        let source = if source.contains('\r') {
            Cow::Owned(source.replace("\r\n", "\n").replace('\r', "\n"))
        } else {
            Cow::Borrowed(source)
        };
        parser::parse(&source).map(Self)
    }

    /// Renders the template with these variables. `now` is the local time that `strftime_now` writes.
    ///
    /// # Errors
    /// If the template fails, refuses the variables, or takes too many steps or bytes.
    pub fn render(&self, variables: &[(&str, Data)], now: DateTime) -> Result<Rendered> {
        let sizes = variables.iter().map(|(_, data)| data.size());
        let (n, bytes) = sizes.fold((0, 0), |(n, bytes), size| (n + size.0, bytes + size.1));
        let heap = Heap::new(Meter::new(n, bytes))?;
        let mut values = Vec::new();
        for (name, data) in variables {
            values.push((*name, data.value(&heap)?));
        }
        self.run(&heap, &values, now)
    }

    fn run(&self, heap: &Heap, variables: &[(&str, Value)], now: DateTime) -> Result<Rendered> {
        Interpreter::new(&self.0, heap, variables, now)?.run()
    }
}
