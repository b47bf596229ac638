//! Filters, by name. `text.rs` and `sequence.rs` have those of strings and lists; here are the others,
//! and those that apply a filter or a test themselves.

mod sequence;
mod text;

use std::rc::Rc;

use super::access::{attribute, iterate, method};
use super::arguments::{Arguments, count, flag, int, required, text as text_argument};
use super::display::{repr, to_text};
use super::error::{Result, TemplateError};
use super::format::n_exact_digits;
use super::heap::Heap;
use super::jinja_tests;
use super::json;
use super::names::find_filter;
use super::value::{List, ListKind, Value};

/// `value | name(arguments)`.
///
/// # Errors
/// If there is no such filter, or it fails.
pub fn apply(heap: &Heap, name: &str, value: &Value, arguments: &Arguments) -> Result<Value> {
    // `map` may apply itself.
    heap.meter().enter()?;
    heap.spend(value.cost() + arguments.cost())?;
    let unknown = || {
        let short: String = name.chars().take(40).collect();
        TemplateError::new(format!("unknown filter `{short}`"))
    };
    let filter = find_filter(name).ok_or_else(unknown)?;
    if !filter.takes_arguments {
        arguments.none(heap)?;
    }
    let found = match name {
        _ if filter.is_of_text => text::apply(heap, name, value, arguments)?,
        "default" | "d" => {
            let [default, is_also_for_false] =
                arguments.bind(heap, ["default_value", "boolean"])?;
            let is_missing =
                value.is_undefined() || flag(&is_also_for_false, false) && !value.is_true();
            if is_missing { default.map_or_else(|| heap.text(""), Ok)? } else { value.clone() }
        }
        "string" => to_text(heap, value)?,
        "pprint" => {
            let mut out = heap.text_builder()?;
            repr(heap, value, &mut out)?;
            out.finish()
        }
        "safe" => value.clone(),
        "bool" => Value::Bool(value.is_true()),
        "attr" => {
            let [name] = arguments.bind(heap, ["name"])?;
            let name = required(name, "name")?;
            let name = text_argument(&name, "name")?;
            match value {
                // Its items are no attributes.
                Value::Map(_) => method(heap, value, name)?.unwrap_or(Value::Undefined),
                _ => attribute(heap, value, name)?,
            }
        }
        "int" => integer(heap, value, arguments)?,
        "float" => {
            let [default] = arguments.bind(heap, ["default"])?;
            let read = value.as_str().and_then(|text| text.trim().replace('_', "").parse().ok());
            match value.as_float().or(read) {
                _ if value.is_undefined() => return Err(not_a_number(value)),
                Some(found) => Value::Float(found),
                None => default.unwrap_or(Value::Float(0.0)),
            }
        }
        "abs" => match (value, value.as_int()) {
            (Value::Float(value), _) => Value::Float(value.abs()),
            (_, Some(value)) if value.checked_abs().is_some() => Value::Int(value.abs()),
            _ => return Err(not_a_number(value)),
        },
        "round" => round(heap, value, arguments)?,
        "tojson" => to_json(heap, value, arguments)?,
        "map" => map(heap, value, arguments)?,
        "select" | "reject" | "selectattr" | "rejectattr" => select(heap, name, value, arguments)?,
        _ => sequence::apply(heap, name, value, arguments)?.ok_or_else(unknown)?,
    };
    heap.meter().leave();
    Ok(found)
}

fn integer(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let [default, base] = arguments.bind(heap, ["default", "base"])?;
    let base = count(&base, "base", 10)? as u32;
    let default = default.unwrap_or(Value::Int(0));
    let whole = |value: f64| (value.abs() < 9e18).then_some(value as i64);
    let found = match value {
        Value::Undefined => return Err(not_a_number(value)),
        Value::Float(value) => whole(*value),
        Value::Text(_) => {
            let text = value.as_str().unwrap_or_default().trim().replace('_', "");
            let prefix = match base {
                16 => "0x",
                8 => "0o",
                2 => "0b",
                3..=36 => "",
                _ => return Err(TemplateError::new("a base is from 2 to 36")),
            };
            let digits = text.strip_prefix(prefix).unwrap_or(&text);
            let read = i64::from_str_radix(digits, base).ok();
            read.or_else(|| text.parse().ok().and_then(whole))
        }
        _ => value.as_int(),
    };
    Ok(found.map_or(default, Value::Int))
}

fn not_a_number(value: &Value) -> TemplateError {
    TemplateError::new(format!("{} is not a number", value.kind()))
}

fn round(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let [precision, method] = arguments.bind(heap, ["precision", "method"])?;
    let precision = int(&precision, "precision", 0)?.clamp(-300, 300);
    let number = value.as_float().ok_or_else(|| not_a_number(value))?;
    let scale = 10f64.powi(precision as i32);
    let method = method.as_ref().map_or(Ok("common"), |method| text_argument(method, "method"))?;
    Ok(match (method, value.as_int()) {
        ("common", Some(whole)) => Value::Int(rounded_whole(whole, precision)?),
        ("common", None) if precision < 0 => {
            Value::Float((number * scale).round_ties_even() / scale)
        }
        // Through decimal digits, which round what the number is, not its product.
        ("common", None) => {
            let digits = precision as usize;
            heap.spend(n_exact_digits(number, digits))?;
            Value::Float(format!("{number:.digits$}").parse().unwrap_or(number))
        }
        ("ceil", _) => Value::Float((number * scale).ceil() / scale),
        ("floor", _) => Value::Float((number * scale).floor() / scale),
        _ => return Err(TemplateError::new("a number is rounded by common, ceil or floor")),
    })
}

/// A whole number without its last `-precision` digits; a half goes to the even side.
fn rounded_whole(value: i64, precision: i64) -> Result<i64> {
    let power = u32::try_from(-precision).unwrap_or(0);
    // Everything rounds to zero where 128 bits do not hold the unit.
    let Some(unit) = 10i128.checked_pow(power) else { return Ok(0) };
    let (below, rest) = (i128::from(value).div_euclid(unit), i128::from(value).rem_euclid(unit));
    let half = rest.cmp(&(unit - rest));
    let goes_up = half.is_gt() || half.is_eq() && below % 2 != 0;
    let rounded = (below + i128::from(goes_up)) * unit;
    i64::try_from(rounded).map_err(|_| TemplateError::new("a number is too large"))
}

fn to_json(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = arguments.bind(heap, names)?;
    let spaces = match &indent {
        None | Some(Value::None) => None,
        Some(Value::Text(_)) => indent.clone(),
        number => {
            let mut spaces = heap.text_builder()?;
            spaces.repeat(" ", count(number, "indent", 0)?)?;
            Some(spaces.finish())
        }
    };
    let separators = match &separators {
        None | Some(Value::None) => None,
        Some(separators) => Some(iterate(heap, separators)?),
    };
    let separators = match separators.as_ref().map(|list| &list.items[..]) {
        None => (if spaces.is_some() { "," } else { ", " }, ": "),
        Some([item, key]) => (item.as_str().unwrap_or_default(), key.as_str().unwrap_or_default()),
        Some(_) => return Err(TemplateError::new("the separators of JSON are two")),
    };
    let options = json::Options {
        indent: spaces.as_ref().and_then(Value::as_str),
        separators,
        sort_keys: flag(&sort_keys, false),
        ensure_ascii: flag(&ensure_ascii, false),
    };
    let mut out = heap.text_builder()?;
    json::write(heap, value, &options, &mut out)?;
    Ok(out.finish())
}

/// The arguments after the first `n`.
fn rest_of(heap: &Heap, arguments: &Arguments, n: usize) -> Result<Arguments> {
    let mut rest = Arguments::new(heap)?;
    rest.positional.extend(arguments.positional.items().get(n..).unwrap_or_default())?;
    let mut named = arguments.named.entries().iter();
    named.try_for_each(|(name, value)| rest.named.push(name.clone(), value.clone()))?;
    Ok(rest)
}

/// The items of a value; `map` and `select` alone find none in `none`.
fn items_or_none(heap: &Heap, value: &Value) -> Result<Rc<List>> {
    iterate(heap, if matches!(value, Value::None) { &Value::Undefined } else { value })
}

/// An attribute of each item, or each item through a filter.
fn map(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let list = items_or_none(heap, value)?;
    let mut found = heap.list_builder()?;
    if let Some(attribute) = arguments.named(heap, "attribute")? {
        let default = arguments.named(heap, "default")?;
        for item in &list.items {
            let value = sequence::attribute_of(heap, item, &attribute)?;
            let value = if value.is_undefined() { default.clone().unwrap_or(value) } else { value };
            found.push(value)?;
        }
        return Ok(found.finish_as(ListKind::Iterator));
    }
    let name = required(arguments.positional.items().first().cloned(), "name")?;
    let rest = rest_of(heap, arguments, 1)?;
    for item in &list.items {
        found.push(apply(heap, text_argument(&name, "name")?, item, &rest)?)?;
    }
    Ok(found.finish_as(ListKind::Iterator))
}

/// The items that pass, or do not pass, a test; the test looks at each item or at an attribute of it.
fn select(heap: &Heap, name: &str, value: &Value, arguments: &Arguments) -> Result<Value> {
    let list = items_or_none(heap, value)?;
    let mut first = arguments.positional.items().iter();
    let attribute = match name.ends_with("attr") {
        true => Some(required(first.next().cloned(), "attribute")?),
        false => None,
    };
    let test = first.next().map(|test| text_argument(test, "name")).transpose()?;
    let rest = rest_of(heap, arguments, 1 + usize::from(attribute.is_some()))?;
    let mut found = heap.list_builder()?;
    for item in &list.items {
        let looked_at = match &attribute {
            Some(attribute) => sequence::attribute_of(heap, item, attribute)?,
            None => item.clone(),
        };
        let holds = match test {
            Some(test) => jinja_tests::test(heap, test, &looked_at, &rest)?,
            None => looked_at.is_true(),
        };
        if holds == name.starts_with("select") {
            found.push(item.clone())?;
        }
    }
    Ok(found.finish_as(ListKind::Iterator))
}
