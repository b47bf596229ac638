//! Filters of lists.

use std::rc::Rc;

use super::super::access::{item, items};
use super::super::ast::Binary;
use super::super::compare::{equal, order, sorted};
use super::super::given::{Given, count, flag, required, text};
use super::super::heap::Heap;
use super::super::meter::{Fault, Result};
use super::super::methods::{self, pair};
use super::super::operators::binary;
use super::super::show::show;
use super::super::value::{List, ListKind, Value};

/// `value | name(given)`; `None` if there is no such filter here.
///
/// # Errors
/// If the filter fails.
pub fn apply(heap: &Heap, name: &str, value: &Value, given: &Given) -> Result<Option<Value>> {
    Ok(Some(match name {
        "length" | "count" => length(value)?,
        "first" | "last" => match value {
            Value::Text(_) => item(heap, value, &Value::Int(if name == "first" { 0 } else { -1 }))?,
            _ => {
                let list = items(heap, value)?;
                let found = if name == "first" { list.items.first() } else { list.items.last() };
                found.cloned().unwrap_or(Value::Undefined)
            }
        },
        "list" => Value::List(as_list(heap, value)?),
        "items" => match value {
            Value::Undefined => heap.list([])?,
            Value::Map(_) => {
                methods::call(heap, value, "items", given)?.unwrap_or(Value::Undefined)
            }
            _ => return Err(Fault::new(format!("{} has no items", value.kind()))),
        },
        "reverse" => match value.as_str() {
            Some(text) => Value::changed(heap.meter(), text, |text| text.chars().rev().collect())?,
            None => heap.list(items(heap, value)?.items.iter().rev().cloned())?,
        },
        "join" => joined(heap, value, given)?,
        "sort" => {
            let [is_reversed, is_cased, attribute] =
                given.bind(heap, ["reverse", "case_sensitive", "attribute"])?;
            let list = items(heap, value)?;
            let keys = keys(heap, &list.items, &attribute, flag(&is_cased, false))?;
            let order = sorted(heap, &keys.items, flag(&is_reversed, false))?;
            heap.list(order.into_iter().map(|index| list.items[index].clone()))?
        }
        "unique" => {
            let [is_cased, attribute] = given.bind(heap, ["case_sensitive", "attribute"])?;
            let list = items(heap, value)?;
            let keys = keys(heap, &list.items, &attribute, flag(&is_cased, false))?;
            let (mut seen, mut found) = (heap.list_builder()?, heap.list_builder()?);
            for (key, item) in keys.items.iter().zip(&list.items) {
                if !among(heap, seen.items(), key)? {
                    seen.push(key.clone())?;
                    found.push(item.clone())?;
                }
            }
            found.finish()
        }
        "min" | "max" => extreme(heap, value, given, name == "max")?,
        "sum" => {
            let [attribute, start] = given.bind(heap, ["attribute", "start"])?;
            let mut sum = start.unwrap_or(Value::Int(0));
            for value in &items(heap, value)?.items {
                heap.spend(1)?;
                let value = match &attribute {
                    Some(attribute) => attribute_of(heap, value, attribute)?,
                    None => value.clone(),
                };
                sum = binary(heap, Binary::Add, &sum, &value)?;
            }
            sum
        }
        "batch" => batch(heap, value, given)?,
        "slice" => sliced(heap, value, given)?,
        "dictsort" => dictionary_sorted(heap, value, given)?,
        "groupby" => grouped(heap, value, given)?,
        _ => return Ok(None),
    }))
}

/// How many items, keys or characters a value has.
fn length(value: &Value) -> Result<Value> {
    Ok(Value::Int(match value {
        Value::Undefined => 0,
        Value::Text(_) => value.as_str().map_or(0, |text| text.chars().count() as i64),
        Value::List(list) => list.items.len() as i64,
        Value::Map(map) => map.entries.len() as i64,
        _ => return Err(Fault::new(format!("{} has no length", value.kind()))),
    }))
}

/// A list of what a value contains.
fn as_list(heap: &Heap, value: &Value) -> Result<Rc<List>> {
    let list = items(heap, value)?;
    if list.kind == ListKind::List {
        return Ok(list);
    }
    let mut copy = heap.list_builder()?;
    copy.extend(&list.items)?;
    Ok(copy.into_list(ListKind::List))
}

/// An attribute of an attribute and so on, by a path such as `a.b.0`, or an item by its index.
///
/// # Errors
/// If something on the way is undefined.
pub fn attribute_of(heap: &Heap, value: &Value, path: &Value) -> Result<Value> {
    let Some(path) = path.as_str() else { return item(heap, value, path) };
    let mut value = value.clone();
    for part in path.split('.') {
        heap.spend(1)?;
        value = match part.parse() {
            Ok(index) => item(heap, &value, &Value::Int(index))?,
            Err(_) => item(heap, &value, &heap.text(part)?)?,
        };
    }
    Ok(value)
}

/// What items are compared by: themselves or an attribute, in lower case unless the case matters.
fn keys(
    heap: &Heap,
    values: &[Value],
    attribute: &Option<Value>,
    is_cased: bool,
) -> Result<Rc<List>> {
    let mut keys = heap.list_builder()?;
    for value in values {
        let key = match attribute {
            None | Some(Value::None) => value.clone(),
            Some(attribute) => attribute_of(heap, value, attribute)?,
        };
        heap.spend(key.cost())?;
        keys.push(match key.as_str() {
            Some(text) if !is_cased => Value::changed(heap.meter(), text, str::to_lowercase)?,
            _ => key,
        })?;
    }
    Ok(keys.into_list(ListKind::List))
}

fn among(heap: &Heap, values: &[Value], value: &Value) -> Result<bool> {
    for known in values {
        if equal(heap, known, value)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn joined(heap: &Heap, value: &Value, given: &Given) -> Result<Value> {
    let [separator, attribute] = given.bind(heap, ["d", "attribute"])?;
    let separator = separator.as_ref().map_or(Ok(""), |separator| text(separator, "d"))?;
    let mut out = heap.text_builder()?;
    for (index, value) in items(heap, value)?.items.iter().enumerate() {
        heap.spend(1)?;
        out.push_str(if index > 0 { separator } else { "" })?;
        match &attribute {
            Some(attribute) => show(heap, &attribute_of(heap, value, attribute)?, &mut out)?,
            None => show(heap, value, &mut out)?,
        }
    }
    Ok(out.finish())
}

fn extreme(heap: &Heap, value: &Value, given: &Given, is_max: bool) -> Result<Value> {
    let [is_cased, attribute] = given.bind(heap, ["case_sensitive", "attribute"])?;
    let list = items(heap, value)?;
    let keys = keys(heap, &list.items, &attribute, flag(&is_cased, false))?;
    let mut best = 0;
    for index in 1..keys.items.len() {
        let order = order(heap, &keys.items[index], &keys.items[best])?;
        if order.is_some_and(|order| if is_max { order.is_gt() } else { order.is_lt() }) {
            best = index;
        }
    }
    Ok(list.items.get(best).cloned().unwrap_or(Value::Undefined))
}

/// Lists of the given length, the last one padded.
fn batch(heap: &Heap, value: &Value, given: &Given) -> Result<Value> {
    let [length, fill] = given.bind(heap, ["linecount", "fill_with"])?;
    let length = count(&length, "linecount", 0)?;
    if length == 0 {
        return Err(Fault::new("a batch of no items"));
    }
    let mut found = heap.list_builder()?;
    for items in items(heap, value)?.items.chunks(length) {
        let mut list = heap.list_builder()?;
        list.extend(items)?;
        if let Some(fill) = &fill {
            (items.len()..length).try_for_each(|_| list.push(fill.clone()))?;
        }
        found.push(list.finish())?;
    }
    Ok(found.finish())
}

/// The given number of lists of about the same length.
fn sliced(heap: &Heap, value: &Value, given: &Given) -> Result<Value> {
    let [slices, fill] = given.bind(heap, ["slices", "fill_with"])?;
    let slices = count(&slices, "slices", 0)?;
    if slices == 0 {
        return Err(Fault::new("a list in no slices"));
    }
    let list = items(heap, value)?;
    let (each, longer) = (list.items.len() / slices, list.items.len() % slices);
    let mut rest = &list.items[..];
    let mut found = heap.list_builder()?;
    for index in 0..slices {
        let (items, behind) = rest.split_at(each + usize::from(index < longer));
        rest = behind;
        let mut list = heap.list_builder()?;
        list.extend(items)?;
        if let (Some(fill), true) = (&fill, longer > 0 && index >= longer) {
            list.push(fill.clone())?;
        }
        found.push(list.finish())?;
    }
    Ok(found.finish())
}

fn dictionary_sorted(heap: &Heap, value: &Value, given: &Given) -> Result<Value> {
    let [is_cased, by, is_reversed] = given.bind(heap, ["case_sensitive", "by", "reverse"])?;
    let Value::Map(map) = value else {
        return Err(Fault::new(format!("{} is not a dict", value.kind())));
    };
    let by_value = by.as_ref().and_then(Value::as_str) == Some("value");
    let part = |(key, value): &(Value, Value)| if by_value { value.clone() } else { key.clone() };
    let parts = heap.list(map.entries.iter().map(part))?;
    let keys = keys(heap, &items(heap, &parts)?.items, &None, flag(&is_cased, false))?;
    let mut found = heap.list_builder()?;
    for index in sorted(heap, &keys.items, flag(&is_reversed, false))? {
        let (key, value) = &map.entries[index];
        found.push(pair(heap, key, value)?)?;
    }
    Ok(found.finish())
}

/// Pairs of an attribute's value and the items that have it.
fn grouped(heap: &Heap, value: &Value, given: &Given) -> Result<Value> {
    let [attribute, default, is_cased] =
        given.bind(heap, ["attribute", "default", "case_sensitive"])?;
    let attribute = required(attribute, "attribute")?;
    let list = items(heap, value)?;
    let mut groupers = heap.list_builder()?;
    for value in &list.items {
        let grouper = attribute_of(heap, value, &attribute)?;
        let is_missing = grouper.is_undefined();
        groupers.push(if is_missing { default.clone().unwrap_or(grouper) } else { grouper })?;
    }
    let keys = keys(heap, groupers.items(), &None, flag(&is_cased, false))?;
    let order = sorted(heap, &keys.items, false)?;
    let mut found = heap.list_builder()?;
    let mut rest = &order[..];
    while let Some(first) = rest.first() {
        let mut group = heap.list_builder()?;
        while let Some((index, behind)) = rest.split_first() {
            if !equal(heap, &keys.items[*index], &keys.items[*first])? {
                break;
            }
            group.push(list.items[*index].clone())?;
            rest = behind;
        }
        let mut both = heap.list_builder()?;
        both.push(groupers.items()[*first].clone())?;
        both.push(group.finish())?;
        found.push(both.finish_as(ListKind::Group))?;
    }
    Ok(found.finish())
}
