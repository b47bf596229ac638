//! The methods of Python's lists and dictionaries. `text.rs` has those of strings.

mod text;

pub use text::{center, is_lower, is_upper, replaced, split, trimmed};

use super::compare::{equal, find};
use super::given::{Given, required};
use super::heap::Heap;
use super::meter::{Fault, Result};
use super::value::{ListKind, Value};

/// `value.name(given)`; `None` if it has no such method.
///
/// # Errors
/// If the method fails.
pub fn call(heap: &Heap, value: &Value, name: &str, given: &Given) -> Result<Option<Value>> {
    heap.spend(value.cost() + given.cost())?;
    match value {
        Value::Text(_) => text::call(heap, value.as_str().unwrap_or_default(), name, given),
        Value::List(list) => match name {
            "index" => {
                let [item] = given.bind(heap, ["value"])?;
                let item = required(item, "value")?;
                for (index, known) in list.items.iter().enumerate() {
                    if equal(heap, known, &item)? {
                        return Ok(Some(Value::Int(index as i64)));
                    }
                }
                Err(Fault::new("a list has no such item"))
            }
            "count" => {
                let [item] = given.bind(heap, ["value"])?;
                let item = required(item, "value")?;
                let mut found = 0;
                for known in &list.items {
                    found += i64::from(equal(heap, known, &item)?);
                }
                Ok(Some(Value::Int(found)))
            }
            "copy" => Ok(Some(value.clone())),
            "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort" | "reverse" => {
                Err(Fault::new(format!("`{name}` would change a list")))
            }
            _ => Ok(None),
        },
        Value::Map(map) => match name {
            "items" => {
                given.none(heap)?;
                let pair = |(key, value): &(Value, Value)| pair(heap, key, value);
                let mut items = heap.list_builder()?;
                map.entries.iter().try_for_each(|entry| items.push(pair(entry)?))?;
                Ok(Some(items.finish()))
            }
            "keys" => Ok(Some(heap.list(map.entries.iter().map(|(key, _)| key.clone()))?)),
            "values" => Ok(Some(heap.list(map.entries.iter().map(|(_, value)| value.clone()))?)),
            "get" => {
                let [key, default] = given.bind(heap, ["key", "default"])?;
                let index = find(heap, &map.entries, &required(key, "key")?)?;
                let found = index.map(|index| map.entries[index].1.clone());
                Ok(Some(found.or(default).unwrap_or(Value::None)))
            }
            "copy" => Ok(Some(value.clone())),
            "clear" | "pop" | "popitem" | "setdefault" | "update" => {
                Err(Fault::new(format!("`{name}` would change a dict")))
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    }
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
