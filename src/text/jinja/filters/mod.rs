//! Filters, by name. `text.rs` and `sequence.rs` have those of strings and lists; here are the others,
//! and those that apply a filter or a test themselves.

mod sequence;
mod text;

use std::rc::Rc;

use super::access::{item, items};
use super::checks;
use super::given::{Given, count, flag, required, text as text_argument};
use super::heap::Heap;
use super::json;
use super::meter::{Fault, Result};
use super::show::{repr, text_of};
use super::value::{List, Value};

/// `value | name(given)`.
///
/// # Errors
/// If there is no such filter, or it fails.
pub fn apply(heap: &Heap, name: &str, value: &Value, given: &Given) -> Result<Value> {
    // `map` may apply itself.
    heap.meter().enter()?;
    heap.spend(value.cost() + given.cost())?;
    let found = match name {
        "default" | "d" => {
            let [default, also_false] = given.bind(heap, ["default_value", "boolean"])?;
            let is_missing = value.is_undefined() || flag(&also_false, false) && !value.is_true();
            if is_missing { default.map_or_else(|| heap.text(""), Ok)? } else { value.clone() }
        }
        "string" => text_of(heap, value)?,
        "pprint" => {
            let mut out = heap.text_builder()?;
            repr(heap, value, &mut out)?;
            out.finish()
        }
        "safe" => value.clone(),
        "bool" => Value::Bool(value.is_true()),
        "attr" => {
            let [name] = given.bind(heap, ["name"])?;
            item(heap, value, &required(name, "name")?)?
        }
        "int" => integer(heap, value, given)?,
        "float" => {
            let [default] = given.bind(heap, ["default"])?;
            let read = value.as_str().and_then(|text| text.trim().replace('_', "").parse().ok());
            match value.as_float().or(read) {
                Some(found) => Value::Float(found),
                None => default.unwrap_or(Value::Float(0.0)),
            }
        }
        "abs" => match (value, value.as_int()) {
            (Value::Float(value), _) => Value::Float(value.abs()),
            (_, Some(value)) if value.checked_abs().is_some() => Value::Int(value.abs()),
            _ => return Err(Fault::new(format!("{} has no absolute value", value.kind()))),
        },
        "round" => round(heap, value, given)?,
        "tojson" => to_json(heap, value, given)?,
        "map" => map(heap, value, given)?,
        "select" | "reject" | "selectattr" | "rejectattr" => select(heap, name, value, given)?,
        _ => {
            let found = match text::apply(heap, name, value, given)? {
                None => sequence::apply(heap, name, value, given)?,
                found => found,
            };
            let short = || name.chars().take(40).collect::<String>();
            found.ok_or_else(|| Fault::new(format!("unknown filter `{}`", short())))?
        }
    };
    heap.meter().leave();
    Ok(found)
}

fn integer(heap: &Heap, value: &Value, given: &Given) -> Result<Value> {
    let [default, base] = given.bind(heap, ["default", "base"])?;
    let base = count(&base, "base", 10)? as u32;
    let default = default.unwrap_or(Value::Int(0));
    let whole = |value: f64| (value.abs() < 9e18).then_some(value as i64);
    let found = match value {
        Value::Float(value) => whole(*value),
        Value::Text(_) => {
            let text = value.as_str().unwrap_or_default().trim().replace('_', "");
            let prefix = match base {
                16 => "0x",
                8 => "0o",
                2 => "0b",
                3..=36 => "",
                _ => return Err(Fault::new("a base is from 2 to 36")),
            };
            let digits = text.strip_prefix(prefix).unwrap_or(&text);
            let read = i64::from_str_radix(digits, base).ok();
            read.or_else(|| text.parse().ok().and_then(whole))
        }
        _ => value.as_int(),
    };
    Ok(found.map_or(default, Value::Int))
}

fn round(heap: &Heap, value: &Value, given: &Given) -> Result<Value> {
    let [precision, method] = given.bind(heap, ["precision", "method"])?;
    let precision = count(&precision, "precision", 0)?.min(300);
    let Some(number) = value.as_float() else {
        return Err(Fault::new(format!("{} is not rounded", value.kind())));
    };
    let scale = 10f64.powi(precision as i32);
    Ok(Value::Float(match method.as_ref().and_then(Value::as_str).unwrap_or("common") {
        // Through decimal digits, which round what the number is, not its product.
        "common" => format!("{number:.precision$}").parse().unwrap_or(number),
        "ceil" => (number * scale).ceil() / scale,
        "floor" => (number * scale).floor() / scale,
        _ => return Err(Fault::new("a number is rounded by common, ceil or floor")),
    }))
}

fn to_json(heap: &Heap, value: &Value, given: &Given) -> Result<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = given.bind(heap, names)?;
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
        Some(separators) => Some(items(heap, separators)?),
    };
    let separators = match separators.as_ref().map(|list| &list.items[..]) {
        None => (if spaces.is_some() { "," } else { ", " }, ": "),
        Some([item, key]) => (item.as_str().unwrap_or_default(), key.as_str().unwrap_or_default()),
        Some(_) => return Err(Fault::new("the separators of JSON are two")),
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
fn rest_of(heap: &Heap, given: &Given, n: usize) -> Result<Given> {
    let mut rest = Given::new(heap)?;
    rest.positional.extend(given.positional.items().get(n..).unwrap_or_default())?;
    let mut named = given.named.entries().iter();
    named.try_for_each(|(name, value)| rest.named.push(name.clone(), value.clone()))?;
    Ok(rest)
}

/// The items of a list; of `none` there are none, for `map` and `select` alone.
fn items_or_none(heap: &Heap, value: &Value) -> Result<Rc<List>> {
    items(heap, if matches!(value, Value::None) { &Value::Undefined } else { value })
}

/// An attribute of each item, or each item through a filter.
fn map(heap: &Heap, value: &Value, given: &Given) -> Result<Value> {
    let list = items_or_none(heap, value)?;
    let mut found = heap.list_builder()?;
    if let Some(attribute) = given.named(heap, "attribute")? {
        let default = given.named(heap, "default")?;
        for item in &list.items {
            let value = sequence::attribute_of(heap, item, &attribute)?;
            let value = if value.is_undefined() { default.clone().unwrap_or(value) } else { value };
            found.push(value)?;
        }
        return Ok(found.finish());
    }
    let name = required(given.positional.items().first().cloned(), "name")?;
    let rest = rest_of(heap, given, 1)?;
    for item in &list.items {
        found.push(apply(heap, text_argument(&name, "name")?, item, &rest)?)?;
    }
    Ok(found.finish())
}

/// The items for which a test of them, or of an attribute of theirs, holds or does not hold.
fn select(heap: &Heap, name: &str, value: &Value, given: &Given) -> Result<Value> {
    let list = items_or_none(heap, value)?;
    let mut first = given.positional.items().iter();
    let attribute = match name.ends_with("attr") {
        true => Some(required(first.next().cloned(), "attribute")?),
        false => None,
    };
    let test = first.next().map(|test| text_argument(test, "name")).transpose()?;
    let rest = rest_of(heap, given, 1 + usize::from(attribute.is_some()))?;
    let mut found = heap.list_builder()?;
    for item in &list.items {
        let looked_at = match &attribute {
            Some(attribute) => sequence::attribute_of(heap, item, attribute)?,
            None => item.clone(),
        };
        let holds = match test {
            Some(test) => checks::check(heap, test, &looked_at, &rest)?,
            None => looked_at.is_true(),
        };
        if holds == name.starts_with("select") {
            found.push(item.clone())?;
        }
    }
    Ok(found.finish())
}
