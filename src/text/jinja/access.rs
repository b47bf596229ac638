//! Parts of values: attributes, items, slices, and the items of a loop.

use std::rc::Rc;

use super::compare::{find, find_name};
use super::heap::{Heap, Object};
use super::meter::{Fault, Result};
use super::value::{List, ListKind, Value};

/// `value.name` of a value that is not an object of the template.
///
/// # Errors
/// If the value is undefined.
pub fn attribute(heap: &Heap, value: &Value, name: &str) -> Result<Value> {
    match value {
        Value::Map(map) => {
            let index = find_name(heap, &map.entries, name)?;
            Ok(index.map_or(Value::Undefined, |index| map.entries[index].1.clone()))
        }
        Value::List(list) if list.kind == ListKind::Group => Ok(match name {
            "grouper" => list.items[0].clone(),
            "list" => list.items[1].clone(),
            _ => Value::Undefined,
        }),
        Value::Object(index) => heap.with(*index, |object| match object {
            Object::Namespace(entries) => {
                let index = find_name(heap, entries, name)?;
                Ok(index.map_or(Value::Undefined, |index| entries[index].1.clone()))
            }
            _ => Ok(Value::Undefined),
        }),
        Value::Undefined => {
            let name: String = name.chars().take(40).collect();
            Err(Fault::new(format!("`.{name}` of an undefined value")))
        }
        _ => Ok(Value::Undefined),
    }
}

/// `value[key]`.
///
/// # Errors
/// If the value is undefined.
pub fn item(heap: &Heap, value: &Value, key: &Value) -> Result<Value> {
    match (value, key) {
        (Value::List(list), _) if key.as_int().is_some() => {
            let index = place(key.as_int().unwrap_or(0), list.items.len());
            Ok(index.map_or(Value::Undefined, |index| list.items[index].clone()))
        }
        (Value::Text(_), _) if key.as_int().is_some() => {
            let text = value.as_str().unwrap_or_default();
            heap.spend(value.cost())?;
            let length = text.chars().count();
            let found =
                place(key.as_int().unwrap_or(0), length).and_then(|at| text.chars().nth(at));
            found.map_or(Ok(Value::Undefined), |c| heap.text(c.encode_utf8(&mut [0; 4])))
        }
        (Value::Map(map), _) => {
            let index = find(heap, &map.entries, key)?;
            Ok(index.map_or(Value::Undefined, |index| map.entries[index].1.clone()))
        }
        (Value::Undefined, _) => Err(Fault::new("an item of an undefined value")),
        (_, Value::Text(_)) => attribute(heap, value, key.as_str().unwrap_or_default()),
        _ => Ok(Value::Undefined),
    }
}

/// An index that may count from the end.
fn place(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(length as i64)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < length)
}

/// `value[start:stop:step]`; each of the three is `None` if it is not written.
///
/// # Errors
/// If the value is undefined, or a bound is no number.
pub fn slice(heap: &Heap, value: &Value, bounds: [Option<&Value>; 3]) -> Result<Value> {
    let bound = |bound: Option<&Value>| match bound {
        None | Some(Value::None) => Ok(None),
        Some(value) => match value.as_int() {
            None => Err(Fault::new(format!("{} bounds no slice", value.kind()))),
            found => Ok(found),
        },
    };
    let [start, stop, step] = bounds;
    let (start, stop, step) = (bound(start)?, bound(stop)?, bound(step)?.unwrap_or(1));
    if step == 0 {
        return Err(Fault::new("the step of a slice is zero"));
    }
    heap.spend(value.cost())?;
    match value {
        Value::Text(_) => {
            let text = value.as_str().unwrap_or_default();
            let length = text.chars().count();
            let mut out = heap.text_builder()?;
            if step == 1 {
                let (from, to) = forward(start, stop, length);
                out.push_str(&text[byte_of(text, from)..byte_of(text, to)])?;
                return Ok(out.finish());
            }
            heap.spend(length)?;
            let characters = heap.meter().hold(length * size_of::<char>())?;
            let all: Vec<char> = text.chars().collect();
            indices(start, stop, step, length).try_for_each(|at| out.push(all[at]))?;
            drop(characters);
            Ok(out.finish())
        }
        Value::List(list) => {
            let mut found = heap.list_builder()?;
            let mut places = indices(start, stop, step, list.items.len());
            places.try_for_each(|at| found.push(list.items[at].clone()))?;
            Ok(found.finish_as(if list.kind == ListKind::List {
                list.kind
            } else {
                ListKind::Tuple
            }))
        }
        Value::Undefined => Err(Fault::new("a slice of an undefined value")),
        _ => Ok(Value::Undefined),
    }
}

/// The byte at which character `at` begins.
fn byte_of(text: &str, at: usize) -> usize {
    text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte)
}

/// The range of a slice in steps of one.
fn forward(start: Option<i64>, stop: Option<i64>, length: usize) -> (usize, usize) {
    let length = length as i64;
    let clamp = |bound: i64| {
        if bound < 0 { bound.saturating_add(length).max(0) } else { bound.min(length) }
    };
    let (from, to) = (clamp(start.unwrap_or(0)), clamp(stop.unwrap_or(length)));
    (from as usize, to.max(from) as usize)
}

/// The indices of a slice.
fn indices(
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
    length: usize,
) -> Box<dyn Iterator<Item = usize>> {
    let stride = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    if step > 0 {
        let (from, to) = forward(start, stop, length);
        return Box::new((from..to).step_by(stride));
    }
    // Downwards, from `start` to just before `stop`.
    let length = length as i64;
    let clamp = |bound: i64| {
        if bound < 0 { bound.saturating_add(length).max(-1) } else { bound.min(length - 1) }
    };
    let (from, to) = (start.map_or(length - 1, clamp), stop.map_or(-1, clamp));
    Box::new((to + 1..from + 1).rev().step_by(stride).map(|at| at as usize))
}

/// The values that a loop goes through: items, keys, or characters.
///
/// # Errors
/// If it cannot be gone through, or no bytes are left.
pub fn items(heap: &Heap, value: &Value) -> Result<Rc<List>> {
    let mut list = heap.list_builder()?;
    match value {
        Value::List(list) => return Ok(list.clone()),
        Value::Undefined => {}
        Value::Map(map) => map.entries.iter().try_for_each(|(key, _)| list.push(key.clone()))?,
        Value::Text(_) => {
            let text = value.as_str().unwrap_or_default();
            let mut buffer = [0; 4];
            text.chars().try_for_each(|c| list.push(heap.text(c.encode_utf8(&mut buffer))?))?;
        }
        _ => return Err(Fault::new(format!("{} is not a list", value.kind()))),
    }
    Ok(list.into_list(ListKind::List))
}
