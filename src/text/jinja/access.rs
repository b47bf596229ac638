//! Parts of values: attributes, items, slices, and iteration.

use std::rc::Rc;

use super::arguments::int;
use super::compare::{find, find_name};
use super::error::{Result, TemplateError};
use super::heap::{Heap, Object};
use super::names::{Method, find_method};
use super::value::{List, ListKind, Value};

/// `value.name` of a value whose attributes are not the interpreter's: a method, or else an item.
///
/// # Errors
/// If the value is undefined, or no bytes are left.
pub fn attribute(heap: &Heap, value: &Value, name: &str) -> Result<Value> {
    if let Some(found) = method(heap, value, name)? {
        return Ok(found);
    }
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
            Err(TemplateError::new(format!("`.{name}` of an undefined value")))
        }
        _ => Ok(Value::Undefined),
    }
}

/// A method as a value; `None` if there is none of this name. One that would change the value is undefined, as in Jinja2's
/// sandbox.
///
/// # Errors
/// If no bytes are left.
pub fn method(heap: &Heap, value: &Value, name: &str) -> Result<Option<Value>> {
    Ok(match find_method(value, name) {
        None => None,
        Some(Method::Changes) => Some(Value::Undefined),
        Some(Method::Reads(name)) => Some(heap.add(Object::Method(value.clone(), name))?),
    })
}

/// `value[key]`: an item, or else a method.
///
/// # Errors
/// If the value is undefined, or no bytes are left.
pub fn item(heap: &Heap, value: &Value, key: &Value) -> Result<Value> {
    match (value, key) {
        (Value::List(list), _) if key.as_int().is_some() => {
            let length = if list.kind.is_sequence() { list.items.len() } else { 0 };
            let index = place(key.as_int().unwrap_or(0), length);
            Ok(index.map_or(Value::Undefined, |index| list.items[index].clone()))
        }
        (Value::Text(whole), _) if key.as_int().is_some() => {
            let text = whole.as_str();
            heap.spend(value.cost())?;
            let length = text.chars().count();
            let Some(at) = place(key.as_int().unwrap_or(0), length) else {
                return Ok(Value::Undefined);
            };
            heap.part(whole, &text[byte_of(text, at)..byte_of(text, at + 1)])
        }
        (Value::Map(map), _) => match (find(heap, &map.entries, key)?, key.as_str()) {
            (Some(index), _) => Ok(map.entries[index].1.clone()),
            (None, Some(name)) => Ok(method(heap, value, name)?.unwrap_or(Value::Undefined)),
            (None, None) => Ok(Value::Undefined),
        },
        (Value::Undefined, _) => Err(TemplateError::new("an item of an undefined value")),
        (_, Value::Text(_)) => attribute(heap, value, key.as_str().unwrap_or_default()),
        _ => Ok(Value::Undefined),
    }
}

/// An index that may count from the end.
fn place(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(length as i64)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < length)
}

/// `value[start:stop:step]`; each of the three is `None` if it is not written. The result is undefined if one is no
/// number, or the value has no slices.
///
/// # Errors
/// If the value is undefined, the step is zero, or no bytes are left.
pub fn slice(heap: &Heap, value: &Value, bounds: [Option<&Value>; 3]) -> Result<Value> {
    if value.is_undefined() {
        return Err(TemplateError::new("a slice of an undefined value"));
    }
    let bounds = bounds.map(|bound| bound.filter(|bound| !matches!(bound, Value::None)));
    if bounds.iter().flatten().any(|bound| bound.as_int().is_none()) {
        return Ok(Value::Undefined);
    }
    let [start, stop, step] = bounds.map(|bound| bound.and_then(Value::as_int));
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(TemplateError::new("the step of a slice is zero"));
    }
    heap.spend(value.cost())?;
    match value {
        Value::Text(whole) => {
            let text = whole.as_str();
            let length = text.chars().count();
            let mut out = heap.text_builder()?;
            if step == 1 {
                let (from, to) = forward(start, stop, length);
                out.push_part(whole, &text[byte_of(text, from)..byte_of(text, to)])?;
                return Ok(out.finish());
            }
            heap.spend(length)?;
            let characters = heap.meter().hold(length * size_of::<char>())?;
            let all: Vec<char> = text.chars().collect();
            indices(start, stop, step, length).try_for_each(|at| out.push(all[at]))?;
            drop(characters);
            Ok(out.finish())
        }
        Value::List(list) if list.kind.is_sequence() => {
            let mut found = heap.list_builder()?;
            let mut places = indices(start, stop, step, list.items.len());
            places.try_for_each(|at| found.push(list.items[at].clone()))?;
            let kind = if list.kind.is_tuple() { ListKind::Tuple } else { ListKind::List };
            Ok(found.finish_as(kind))
        }
        _ => Ok(Value::Undefined),
    }
}

/// The byte at which character `at` begins.
fn byte_of(text: &str, at: usize) -> usize {
    text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte)
}

/// An argument that is an index of `length` items as slices take it: it may count from the end, and lies within them.
///
/// # Errors
/// If it is no whole number.
pub fn place_or_end(index: &Option<Value>, default: usize, length: usize) -> Result<usize> {
    let index = int(index, "index", default as i64)?;
    let index = if index < 0 { index.saturating_add(length as i64).max(0) } else { index };
    Ok((index as usize).min(length))
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

/// The values that a loop goes through: items, keys, or characters. An iterator has none after that.
///
/// # Errors
/// If the value is not iterable, or no bytes are left.
pub fn iterate(heap: &Heap, value: &Value) -> Result<Rc<List>> {
    let mut list = heap.list_builder()?;
    match value {
        Value::List(iterator) if iterator.kind == ListKind::Iterator => {
            match iterator.take_rest() {
                0 => return Ok(iterator.clone()),
                next => list.extend(&iterator.items[next..])?,
            }
        }
        Value::List(list) => return Ok(list.clone()),
        Value::Undefined => {}
        Value::Map(map) => map.entries.iter().try_for_each(|(key, _)| list.push(key.clone()))?,
        Value::Text(_) => {
            let text = value.as_str().unwrap_or_default();
            let mut buffer = [0; 4];
            text.chars().try_for_each(|c| list.push(heap.text(c.encode_utf8(&mut buffer))?))?;
        }
        _ => return Err(TemplateError::new(format!("{} is not iterable", value.kind()))),
    }
    Ok(list.into_list(ListKind::List))
}
