//! Filters of lists.

use std::rc::Rc;

use super::super::access::{item, iterate};
use super::super::arguments::{Arguments, count, flag, required, text};
use super::super::ast::Binary;
use super::super::compare::{equal, order, sorted};
use super::super::display::{display, to_text};
use super::super::error::{Result, TemplateError};
use super::super::heap::Heap;
use super::super::methods::pair;
use super::super::operators::binary;
use super::super::value::{List, ListKind, Value, is_hashable};

/// `value | name(arguments)`; `None` if there is no such filter here.
///
/// # Errors
/// If the filter fails.
pub fn apply(
    heap: &Heap,
    name: &str,
    value: &Value,
    arguments: &Arguments,
) -> Result<Option<Value>> {
    Ok(Some(match name {
        "length" | "count" => length(value)?,
        "first" | "last" => end_of(heap, value, name == "first")?,
        "list" => Value::List(as_list(heap, value)?),
        "items" => items(heap, value)?,
        "reverse" => reversed(heap, value)?,
        "join" => joined(heap, value, arguments)?,
        "sort" => sorted_by(heap, value, arguments)?,
        "unique" => unique(heap, value, arguments)?,
        "min" | "max" => extreme(heap, value, arguments, name == "max")?,
        "sum" => sum(heap, value, arguments)?,
        "batch" => batch(heap, value, arguments)?,
        "slice" => sliced(heap, value, arguments)?,
        "dictsort" => dictionary_sorted(heap, value, arguments)?,
        "groupby" => grouped(heap, value, arguments)?,
        _ => return Ok(None),
    }))
}

/// How many items, keys or characters a value has.
fn length(value: &Value) -> Result<Value> {
    Ok(Value::Int(match value {
        Value::Undefined => 0,
        Value::Text(_) => value.as_str().map_or(0, |text| text.chars().count() as i64),
        Value::List(list) if list.kind != ListKind::Iterator => list.items.len() as i64,
        Value::Map(map) => map.entries.len() as i64,
        _ => return Err(TemplateError::new(format!("{} has no length", value.kind()))),
    }))
}

/// The first or the last item.
fn end_of(heap: &Heap, value: &Value, is_first: bool) -> Result<Value> {
    match value {
        Value::List(list) if list.kind == ListKind::Iterator => match is_first {
            true => Ok(list.next_item().unwrap_or(Value::Undefined)),
            false => Err(TemplateError::new("an iterator has no last item")),
        },
        Value::Text(_) => item(heap, value, &Value::Int(if is_first { 0 } else { -1 })),
        _ => {
            let list = iterate(heap, value)?;
            let found = if is_first { list.items.first() } else { list.items.last() };
            Ok(found.cloned().unwrap_or(Value::Undefined))
        }
    }
}

/// The pairs of a dictionary.
fn items(heap: &Heap, value: &Value) -> Result<Value> {
    match value {
        Value::Undefined => iterator(heap, &[]),
        Value::Map(map) => {
            let pairs = map.entries.iter().map(|(key, value)| pair(heap, key, value));
            iterator(heap, &pairs.collect::<Result<Vec<_>>>()?)
        }
        _ => Err(TemplateError::new(format!("{} has no items", value.kind()))),
    }
}

/// A text or the items of a value from the end to the start.
fn reversed(heap: &Heap, value: &Value) -> Result<Value> {
    if let Some(text) = value.as_text() {
        return Value::changed(heap.meter(), text, |text| text.chars().rev().collect());
    }
    let mut reversed = heap.list_builder()?;
    let list = iterate(heap, value)?;
    list.items.iter().rev().try_for_each(|item| reversed.push(item.clone()))?;
    Ok(match list.kind {
        // Python reverses a copy of it.
        ListKind::Iterator => reversed.finish(),
        _ => reversed.finish_as(ListKind::Iterator),
    })
}

/// The items of a value, as a list.
fn as_list(heap: &Heap, value: &Value) -> Result<Rc<List>> {
    let list = iterate(heap, value)?;
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

/// The keys that items are compared by: themselves or an attribute, in lower case unless the case matters.
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
        keys.push(match key.as_text() {
            Some(text) if !is_cased => Value::changed(heap.meter(), text, str::to_lowercase)?,
            _ => key,
        })?;
    }
    Ok(keys.into_list(ListKind::List))
}

/// The keys by several attributes, whose paths have commas between them.
fn several_keys(heap: &Heap, values: &[Value], paths: &str, is_cased: bool) -> Result<Rc<List>> {
    let paths = paths.split(',').map(|path| heap.text(path)).collect::<Result<Vec<_>>>()?;
    let mut all = heap.list_builder()?;
    for value in values {
        let mut key = heap.list_builder()?;
        for path in &paths {
            let one = std::slice::from_ref(value);
            key.extend(&keys(heap, one, &Some(path.clone()), is_cased)?.items)?;
        }
        all.push(key.finish())?;
    }
    Ok(all.into_list(ListKind::List))
}

/// The values as an iterator.
fn iterator(heap: &Heap, values: &[Value]) -> Result<Value> {
    let mut list = heap.list_builder()?;
    list.extend(values)?;
    Ok(list.finish_as(ListKind::Iterator))
}

/// The items in the order of themselves or of attributes.
fn sorted_by(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let [is_reversed, is_cased, attribute] =
        arguments.bind(heap, ["reverse", "case_sensitive", "attribute"])?;
    let list = iterate(heap, value)?;
    let keys = match attribute.as_ref().and_then(Value::as_str) {
        Some(paths) if paths.contains(',') => {
            several_keys(heap, &list.items, paths, flag(&is_cased, false))?
        }
        _ => keys(heap, &list.items, &attribute, flag(&is_cased, false))?,
    };
    let order = sorted(heap, &keys.items, flag(&is_reversed, false))?;
    heap.list(order.into_iter().map(|index| list.items[index].clone()))
}

/// The first of each group of equal items.
fn unique(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let [is_cased, attribute] = arguments.bind(heap, ["case_sensitive", "attribute"])?;
    let list = iterate(heap, value)?;
    let keys = keys(heap, &list.items, &attribute, flag(&is_cased, false))?;
    let (mut seen, mut found) = (heap.list_builder()?, heap.list_builder()?);
    for (key, item) in keys.items.iter().zip(&list.items) {
        if !is_hashable(key) {
            return Err(TemplateError::new(format!("{} cannot be compared", key.kind())));
        }
        if !among(heap, seen.items(), key)? {
            seen.push(key.clone())?;
            found.push(item.clone())?;
        }
    }
    Ok(found.finish_as(ListKind::Iterator))
}

fn sum(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let [attribute, start] = arguments.bind(heap, ["attribute", "start"])?;
    let mut sum = start.unwrap_or(Value::Int(0));
    for value in &iterate(heap, value)?.items {
        heap.spend(1)?;
        let value = match &attribute {
            Some(attribute) => attribute_of(heap, value, attribute)?,
            None => value.clone(),
        };
        sum = binary(heap, Binary::Add, &sum, &value)?;
    }
    Ok(sum)
}

fn among(heap: &Heap, values: &[Value], value: &Value) -> Result<bool> {
    for known in values {
        if equal(heap, known, value)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn joined(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let [separator, attribute] = arguments.bind(heap, ["d", "attribute"])?;
    let separator = separator.map(|separator| to_text(heap, &separator)).transpose()?;
    let separator = separator.as_ref().and_then(Value::as_text);
    let mut out = heap.text_builder()?;
    for (index, value) in iterate(heap, value)?.items.iter().enumerate() {
        heap.spend(1)?;
        if let Some(separator) = separator.filter(|_| index > 0) {
            out.push_text(separator)?;
        }
        match &attribute {
            Some(attribute) => display(heap, &attribute_of(heap, value, attribute)?, &mut out)?,
            None => display(heap, value, &mut out)?,
        }
    }
    Ok(out.finish())
}

fn extreme(heap: &Heap, value: &Value, arguments: &Arguments, is_max: bool) -> Result<Value> {
    let [is_cased, attribute] = arguments.bind(heap, ["case_sensitive", "attribute"])?;
    let list = iterate(heap, value)?;
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
fn batch(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let [length, fill] = arguments.bind(heap, ["linecount", "fill_with"])?;
    let length = count(&length, "linecount", 0)?;
    if length == 0 {
        return Err(TemplateError::new("a batch of no items"));
    }
    let mut found = heap.list_builder()?;
    for items in iterate(heap, value)?.items.chunks(length) {
        let mut list = heap.list_builder()?;
        list.extend(items)?;
        if let Some(fill) = &fill {
            (items.len()..length).try_for_each(|_| list.push(fill.clone()))?;
        }
        found.push(list.finish())?;
    }
    Ok(found.finish_as(ListKind::Iterator))
}

/// The given number of lists of about the same length.
fn sliced(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let [slices, fill] = arguments.bind(heap, ["slices", "fill_with"])?;
    let slices = count(&slices, "slices", 0)?;
    if slices == 0 {
        return Err(TemplateError::new("a list in no slices"));
    }
    let list = iterate(heap, value)?;
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
    Ok(found.finish_as(ListKind::Iterator))
}

fn dictionary_sorted(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let [is_cased, by, is_reversed] = arguments.bind(heap, ["case_sensitive", "by", "reverse"])?;
    let Value::Map(map) = value else {
        return Err(TemplateError::new(format!("{} is not a dict", value.kind())));
    };
    let by_value = match by.as_ref().map_or(Ok("key"), |by| text(by, "by"))? {
        "key" => false,
        "value" => true,
        _ => return Err(TemplateError::new("a dict is sorted by key or value")),
    };
    let part = |(key, value): &(Value, Value)| if by_value { value.clone() } else { key.clone() };
    let parts = heap.list(map.entries.iter().map(part))?;
    let keys = keys(heap, &iterate(heap, &parts)?.items, &None, flag(&is_cased, false))?;
    let mut found = heap.list_builder()?;
    for index in sorted(heap, &keys.items, flag(&is_reversed, false))? {
        let (key, value) = &map.entries[index];
        found.push(pair(heap, key, value)?)?;
    }
    Ok(found.finish())
}

/// Pairs of an attribute's value and the items that have it.
fn grouped(heap: &Heap, value: &Value, arguments: &Arguments) -> Result<Value> {
    let [attribute, default, is_cased] =
        arguments.bind(heap, ["attribute", "default", "case_sensitive"])?;
    let attribute = required(attribute, "attribute")?;
    let list = iterate(heap, value)?;
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
