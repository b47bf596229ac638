//! The methods of Python's lists, dictionaries and numbers. `text.rs` has those of strings.

mod characters;
mod digits;
mod text;

pub use characters::{is_lower, is_upper, spend_for_characters};
pub use text::{LINE_ENDS, center, lines, replaced, split, trimmed};

use super::access::place_or_end;
use super::arguments::{Arguments, required};
use super::compare::{equal, find};
use super::error::{Result, TemplateError};
use super::heap::Heap;
use super::names::{Method, find_method};
use super::value::{List, ListKind, Map, Value};

/// `value.name(arguments)`; `None` if it has no such method.
///
/// # Errors
/// If the method fails, or would change the value.
pub fn call(
    heap: &Heap,
    value: &Value,
    name: &str,
    arguments: &Arguments,
) -> Result<Option<Value>> {
    heap.spend(value.cost() + arguments.cost())?;
    match find_method(value, name) {
        None => return Ok(None),
        Some(Method::Changes) => {
            let kind = value.kind();
            return Err(TemplateError::new(format!("`{name}` would change {kind}")));
        }
        Some(Method::Reads(_)) => {}
    }
    match value {
        Value::Text(whole) => text::call(heap, whole, name, arguments),
        Value::List(list) => list_method(heap, list, name, arguments),
        Value::Map(map) => map_method(heap, map, name, arguments),
        Value::Float(number) => {
            arguments.none(heap)?;
            Ok((name == "is_integer").then(|| Value::Bool(number.fract() == 0.0)))
        }
        _ => Ok(None),
    }
}

fn list_method(
    heap: &Heap,
    list: &List,
    name: &str,
    arguments: &Arguments,
) -> Result<Option<Value>> {
    arguments.no_names()?;
    Ok(Some(match name {
        "index" => {
            let [item, start, stop] = arguments.bind(heap, ["value", "start", "stop"])?;
            let item = required(item, "value")?;
            let start = place_or_end(&start, 0, list.items.len())?;
            let stop = place_or_end(&stop, list.items.len(), list.items.len())?;
            for (index, known) in list.items.iter().enumerate().take(stop).skip(start) {
                if equal(heap, known, &item)? {
                    return Ok(Some(Value::Int(index as i64)));
                }
            }
            return Err(TemplateError::new("a list has no such item"));
        }
        "count" => {
            let [item] = arguments.bind(heap, ["value"])?;
            let item = required(item, "value")?;
            let mut found = 0;
            for known in &list.items {
                found += i64::from(equal(heap, known, &item)?);
            }
            Value::Int(found)
        }
        "copy" => {
            arguments.none(heap)?;
            heap.list(list.items.iter().cloned())?
        }
        _ => return Ok(None),
    }))
}

fn map_method(heap: &Heap, map: &Map, name: &str, arguments: &Arguments) -> Result<Option<Value>> {
    arguments.no_names()?;
    if name == "get" {
        let [key, default] = arguments.bind(heap, ["key", "default"])?;
        let index = find(heap, &map.entries, &required(key, "key")?)?;
        let found = index.map(|index| map.entries[index].1.clone());
        return Ok(Some(found.or(default).unwrap_or(Value::None)));
    }
    arguments.none(heap)?;
    if name == "copy" {
        let mut copy = heap.map_builder()?;
        for (key, value) in &map.entries {
            copy.push(key.clone(), value.clone())?;
        }
        return Ok(Some(copy.finish()));
    }
    let mut items = heap.list_builder()?;
    for (key, value) in &map.entries {
        items.push(match name {
            "keys" => key.clone(),
            "values" => value.clone(),
            _ => pair(heap, key, value)?,
        })?;
    }
    let kind = match name {
        "keys" => "dict_keys",
        "values" => "dict_values",
        _ => "dict_items",
    };
    Ok(Some(items.finish_as(ListKind::View(kind))))
}

/// A tuple of two.
///
/// # Errors
/// If no bytes are left, or they are nested too deeply.
pub fn pair(heap: &Heap, first: &Value, second: &Value) -> Result<Value> {
    let mut pair = heap.list_builder()?;
    pair.push(first.clone())?;
    pair.push(second.clone())?;
    Ok(pair.finish_as(ListKind::Tuple))
}
