//! Equality and order of values, as in Python, and look-ups and sorting based on them.
//!
//! Each value that is read costs a step: a small value may share its parts so often that reading all of it would never
//! end.

use std::cmp::Ordering;
use std::rc::Rc;

use super::error::{Result, TemplateError};
use super::heap::Heap;
use super::value::{List, ListKind, MapBuilder, Value};

/// Whether two values are equal.
///
/// # Errors
/// If no steps are left.
pub fn equal(heap: &Heap, a: &Value, b: &Value) -> Result<bool> {
    heap.spend(1)?;
    Ok(match (a, b) {
        (Value::Undefined, Value::Undefined) | (Value::None, Value::None) => true,
        (Value::Text(_), Value::Text(_)) => {
            let (a, b) = (a.as_str(), b.as_str());
            heap.meter().read(a.map_or(0, str::len))?;
            a == b
        }
        (Value::List(a), Value::List(b)) => {
            if Rc::ptr_eq(a, b) {
                return Ok(true);
            }
            if !are_alike(a, b) || a.items.len() != b.items.len() {
                return Ok(false);
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(heap, a, b)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.entries.len() != b.entries.len() {
                return Ok(false);
            }
            for (key, value) in &a.entries {
                match find(heap, &b.entries, key)? {
                    Some(index) if equal(heap, value, &b.entries[index].1)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Function(a), Value::Function(b)) => a == b,
        (Value::Object(a), Value::Object(b)) => a == b,
        _ => number_order(a, b) == Some(Ordering::Equal),
    })
}

/// Whether both are lists, or both are tuples.
pub fn are_alike(a: &List, b: &List) -> bool {
    let is_sequence = a.kind.is_sequence() && b.kind.is_sequence();
    is_sequence && a.kind.is_tuple() == b.kind.is_tuple()
}

/// The order of two numbers; `None` for other values, or if one is NaN.
fn number_order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a.as_int(), b.as_int()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_float()?.partial_cmp(&b.as_float()?),
    }
}

/// The order of two values; `None` if one is NaN.
///
/// # Errors
/// If they have none, or no steps are left.
pub fn order(heap: &Heap, a: &Value, b: &Value) -> Result<Option<Ordering>> {
    heap.spend(1)?;
    match (a, b) {
        (Value::Text(_), Value::Text(_)) => {
            let (a, b) = (a.as_str(), b.as_str());
            heap.meter().read(a.map_or(0, str::len))?;
            Ok(Some(a.cmp(&b)))
        }
        (Value::List(a), Value::List(b)) if are_alike(a, b) => {
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(heap, a, b)? {
                    return order(heap, a, b);
                }
            }
            Ok(Some(a.items.len().cmp(&b.items.len())))
        }
        _ if a.as_float().is_some() && b.as_float().is_some() => Ok(number_order(a, b)),
        _ => Err(TemplateError::new(format!("{} and {} have no order", a.kind(), b.kind()))),
    }
}

/// The index of a key.
///
/// # Errors
/// If no steps are left.
pub fn find(heap: &Heap, entries: &[(Value, Value)], key: &Value) -> Result<Option<usize>> {
    if let Some(key) = key.as_str() {
        return find_name(heap, entries, key);
    }
    for (index, (known, _)) in entries.iter().enumerate() {
        if equal(heap, known, key)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// The index of a key that is a string.
///
/// # Errors
/// If no steps are left.
pub fn find_name(heap: &Heap, entries: &[(Value, Value)], key: &str) -> Result<Option<usize>> {
    heap.spend(entries.len() / 8 + key.len() / 64)?;
    let mut compared = 0;
    let found = entries.iter().position(|(known, _)| {
        let is_as_long = known.as_str().is_some_and(|known| known.len() == key.len());
        compared += usize::from(is_as_long);
        is_as_long && known.as_str() == Some(key)
    });
    heap.meter().read(compared * key.len())?;
    Ok(found)
}

/// Sets a key of a dictionary in the making.
///
/// # Errors
/// As for [`MapBuilder::push`].
pub fn insert(heap: &Heap, map: &mut MapBuilder, key: Value, value: Value) -> Result<()> {
    match find(heap, map.entries(), &key)? {
        Some(index) => map.replace(index, value),
        None => map.push(key, value),
    }
}

/// Whether a value is among the items of a list, the keys of a dictionary, or the parts of a string. An iterator is read up
/// to that value.
///
/// # Errors
/// If the container is none, or no steps are left.
pub fn contains(heap: &Heap, container: &Value, item: &Value) -> Result<bool> {
    match container {
        Value::Text(_) => {
            let Some(part) = item.as_str() else {
                return Err(TemplateError::new(format!("{} is not part of a string", item.kind())));
            };
            heap.spend(container.cost() + item.cost())?;
            Ok(container.as_str().is_some_and(|text| text.contains(part)))
        }
        Value::List(list) if list.kind == ListKind::Iterator => {
            while let Some(known) = list.next_item() {
                if equal(heap, &known, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::List(list) => {
            for known in &list.items {
                if equal(heap, known, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Map(map) => Ok(find(heap, &map.entries, item)?.is_some()),
        Value::Undefined => Ok(false),
        _ => Err(TemplateError::new(format!("{} contains nothing", container.kind()))),
    }
}

/// The order of the keys as indices, stable for equal ones; descending if `is_reversed`.
///
/// # Errors
/// As for [`order`].
pub fn sorted(heap: &Heap, keys: &[Value], is_reversed: bool) -> Result<Vec<usize>> {
    heap.spend(keys.len())?;
    let mut from: Vec<usize> = (0..keys.len()).collect();
    let mut to = from.clone();
    let mut run = 1;
    // A merge sort, because the library's sort cannot be stopped and may panic for NaN.
    while run < keys.len() {
        for (from, to) in from.chunks(2 * run).zip(to.chunks_mut(2 * run)) {
            let (left, right) = from.split_at(run.min(from.len()));
            let (mut i, mut j) = (0, 0);
            for place in to {
                let takes_right = match (left.get(i), right.get(j)) {
                    (Some(left), Some(right)) => {
                        let order = order(heap, &keys[*right], &keys[*left])?;
                        order == Some(if is_reversed { Ordering::Greater } else { Ordering::Less })
                    }
                    (left, _) => left.is_none(),
                };
                (*place, i, j) =
                    if takes_right { (right[j], i, j + 1) } else { (left[i], i + 1, j) };
            }
        }
        std::mem::swap(&mut from, &mut to);
        run *= 2;
    }
    Ok(from)
}

#[cfg(test)]
mod tests {
    use super::super::meter::Meter;
    use super::*;

    #[test]
    fn sorting_is_stable_and_bears_nan() {
        let heap = Heap::new(Meter::new(0, 0)).unwrap();
        for length in 0..40usize {
            let keys: Vec<_> = (0..length).map(|i| Value::Int((i * 7 % 5) as i64)).collect();
            for is_reversed in [false, true] {
                let mut expected: Vec<_> = (0..length).collect();
                let key = |i: &usize| (*i * 7 % 5) as i64 * if is_reversed { -1 } else { 1 };
                expected.sort_by_key(key);
                assert_eq!(sorted(&heap, &keys, is_reversed).unwrap(), expected);
            }
        }
        let keys = [f64::NAN, 1.0, f64::NAN, 0.0].map(Value::Float);
        assert_eq!(sorted(&heap, &keys, false).unwrap().len(), 4);
        assert!(sorted(&heap, &[Value::None, Value::Int(1)], false).is_err());
    }
}
