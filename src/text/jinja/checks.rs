//! Tests, by name: `value is name(given)`.

use super::ast::Comparison;
use super::given::{Given, required};
use super::heap::{Heap, Object};
use super::meter::{Fault, Result};
use super::methods::{is_lower, is_upper};
use super::operators::compare;
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

/// `value is name(given)`.
///
/// # Errors
/// If there is no such test, or it fails.
pub fn check(heap: &Heap, name: &str, value: &Value, given: &Given) -> Result<bool> {
    heap.spend(1)?;
    if let Some((_, comparison)) = COMPARISONS.iter().find(|(known, _)| *known == name) {
        let [other] = given.bind(heap, ["other"])?;
        return compare(heap, *comparison, value, &required(other, "other")?);
    }
    let whole = || {
        let number = value.as_int();
        number.ok_or_else(|| Fault::new(format!("{} is not a whole number", value.kind())))
    };
    let is_map = matches!(value, Value::Map(_));
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
        "string" => matches!(value, Value::Text(_)),
        "mapping" => is_map,
        "sequence" => is_map || matches!(value, Value::Text(_) | Value::List(_)),
        "iterable" => is_map || matches!(value, Value::Text(_) | Value::List(_) | Value::Undefined),
        "callable" => match value {
            Value::Function(_) => true,
            Value::Object(index) => {
                heap.with(*index, |object| !matches!(object, Object::Namespace(_)))
            }
            _ => false,
        },
        "odd" => whole()? % 2 != 0,
        "even" => whole()? % 2 == 0,
        "divisibleby" => {
            let [number] = given.bind(heap, ["num"])?;
            let number = required(number, "num")?.as_int().unwrap_or(0);
            whole()?.checked_rem(number).ok_or_else(|| Fault::new("a number is divided by zero"))?
                == 0
        }
        "sameas" => {
            let [other] = given.bind(heap, ["other"])?;
            is_same(value, &required(other, "other")?)
        }
        "lower" => value.as_str().is_some_and(is_lower),
        "upper" => value.as_str().is_some_and(is_upper),
        "escaped" => false,
        "startingwith" | "endingwith" => {
            let [other] = given.bind(heap, ["other"])?;
            let other = required(other, "other")?;
            let (text, affix) = (value.as_str().unwrap_or(""), other.as_str().unwrap_or(""));
            if name == "startingwith" { text.starts_with(affix) } else { text.ends_with(affix) }
        }
        _ => {
            let name: String = name.chars().take(40).collect();
            return Err(Fault::new(format!("unknown test `{name}`")));
        }
    })
}

/// Whether two values are one: the same constant or the same memory.
fn is_same(a: &Value, b: &Value) -> bool {
    use std::rc::Rc;
    match (a, b) {
        (Value::None, Value::None) | (Value::Undefined, Value::Undefined) => true,
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
