//! Jinja's tests, by name: `value is name(arguments)`.

use std::rc::Rc;

use super::arguments::{Arguments, required};
use super::ast::{Binary, Comparison};
use super::compare::equal;
use super::display::to_text;
use super::error::{Result, TemplateError};
use super::heap::{Heap, Object};
use super::methods::{is_lower, is_upper, spend_for_characters};
use super::names::{find_filter, find_test};
use super::operators::{binary, compare};
use super::value::Value;

/// Comparisons that are tests as well.
const COMPARISONS: [(&str, Comparison); 16] = [
    ("eq", Comparison::Equal),
    ("equalto", Comparison::Equal),
    ("==", Comparison::Equal),
    ("ne", Comparison::NotEqual),
    ("!=", Comparison::NotEqual),
    ("lt", Comparison::Less),
    ("lessthan", Comparison::Less),
    ("<", Comparison::Less),
    ("le", Comparison::LessOrEqual),
    ("<=", Comparison::LessOrEqual),
    ("gt", Comparison::Greater),
    ("greaterthan", Comparison::Greater),
    (">", Comparison::Greater),
    ("ge", Comparison::GreaterOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("in", Comparison::In),
];

/// `value is name(arguments)`.
///
/// # Errors
/// If there is no such test, or it fails.
pub fn test(heap: &Heap, name: &str, value: &Value, arguments: &Arguments) -> Result<bool> {
    heap.spend(1)?;
    if let Some((_, comparison)) = COMPARISONS.iter().find(|(known, _)| *known == name) {
        let [other] = arguments.bind(heap, ["other"])?;
        return compare(heap, *comparison, value, &required(other, "other")?);
    }
    let unknown = || {
        let short: String = name.chars().take(40).collect();
        TemplateError::new(format!("unknown test `{short}`"))
    };
    if !find_test(name).ok_or_else(unknown)?.takes_arguments {
        arguments.none(heap)?;
    }
    let is_text = matches!(value, Value::Text(_));
    let is_map = matches!(value, Value::Map(_));
    let is_indexed = match value {
        Value::List(list) => list.kind.is_sequence(),
        Value::Undefined => true,
        _ => is_map || is_text,
    };
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" | "int" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "string" => is_text,
        "mapping" => is_map,
        "sequence" => is_indexed,
        "iterable" => is_indexed || matches!(value, Value::List(_)),
        "callable" => is_callable(heap, value),
        "odd" => is_remainder(heap, value, 2, 1)?,
        "even" => is_remainder(heap, value, 2, 0)?,
        "divisibleby" => {
            let [number] = arguments.bind(heap, ["num"])?;
            let rest = binary(heap, Binary::Remainder, value, &required(number, "num")?)?;
            equal(heap, &rest, &Value::Int(0))?
        }
        "sameas" => {
            let [other] = arguments.bind(heap, ["other"])?;
            is_same(value, &required(other, "other")?)
        }
        "lower" | "upper" => {
            let text = to_text(heap, value)?;
            let text = text.as_str().unwrap_or_default();
            spend_for_characters(heap, text)?;
            if name == "lower" { is_lower(text) } else { is_upper(text) }
        }
        "filter" => value.as_str().and_then(find_filter).is_some_and(|filter| filter.is_jinjas),
        "test" => value.as_str().and_then(find_test).is_some_and(|test| test.is_jinjas),
        // Nothing is: what `escape` returns is a plain string.
        "escaped" => false,
        "startingwith" | "endingwith" => {
            let [other] = arguments.bind(heap, ["other"])?;
            let other = required(other, "other")?;
            heap.spend(value.cost().min(other.cost()))?;
            let (text, affix) = (value.as_str().unwrap_or(""), other.as_str().unwrap_or(""));
            if name == "startingwith" { text.starts_with(affix) } else { text.ends_with(affix) }
        }
        _ => return Err(unknown()),
    })
}

/// Whether division by `divisor` leaves this remainder.
fn is_remainder(heap: &Heap, value: &Value, divisor: i64, remainder: i64) -> Result<bool> {
    let rest = binary(heap, Binary::Remainder, value, &Value::Int(divisor))?;
    equal(heap, &rest, &Value::Int(remainder))
}

/// Whether a value can be called. Jinja2 says so of an undefined value, too.
fn is_callable(heap: &Heap, value: &Value) -> bool {
    match value {
        Value::Function(_) | Value::Undefined => true,
        Value::Object(index) => {
            heap.with(*index, |object| !matches!(object, Object::Namespace(_) | Object::Cycler(..)))
        }
        _ => false,
    }
}

/// Whether two values are one: the same constant or the same memory.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => Rc::ptr_eq(a, b),
        (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
        (Value::Map(a), Value::Map(b)) => Rc::ptr_eq(a, b),
        (Value::Object(a), Value::Object(b)) => a == b,
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => false,
    }
}
