//! Operators of values: arithmetic and comparisons.

use super::ast::{Binary, Comparison, Unary};
use super::compare::{are_alike, contains, equal, order};
use super::display::display;
use super::error::{Result, TemplateError};
use super::format;
use super::heap::Heap;
use super::value::{ListKind, Value};

/// `a op b`.
///
/// # Errors
/// If the values do not allow it, or are too large.
pub fn binary(heap: &Heap, op: Binary, a: &Value, b: &Value) -> Result<Value> {
    match op {
        Binary::Concatenate => {
            let mut out = heap.text_builder()?;
            display(heap, a, &mut out)?;
            display(heap, b, &mut out)?;
            return Ok(out.finish());
        }
        Binary::Remainder => {
            if let Some(whole) = a.as_text() {
                return format::percent(heap, whole, b);
            }
        }
        _ => {}
    }
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
        return integers(op, a, b);
    }
    if let (Some(a), Some(b)) = (a.as_float(), b.as_float()) {
        return floats(op, a, b);
    }
    match (op, a, b) {
        (Binary::Add, Value::Text(a), Value::Text(b)) => {
            let mut out = heap.text_builder()?;
            out.push_text(a)?;
            out.push_text(b)?;
            Ok(out.finish())
        }
        (Binary::Add, Value::List(a), Value::List(b)) if are_alike(a, b) => {
            let mut list = heap.list_builder()?;
            list.extend(&a.items)?;
            list.extend(&b.items)?;
            Ok(list.finish_as(if a.kind.is_tuple() { ListKind::Tuple } else { ListKind::List }))
        }
        (Binary::Multiply, _, _) if is_repeatable(a) && b.as_int().is_some() => {
            repeated(heap, a, b.as_int().unwrap_or(0))
        }
        (Binary::Multiply, _, _) if is_repeatable(b) && a.as_int().is_some() => {
            repeated(heap, b, a.as_int().unwrap_or(0))
        }
        _ => {
            let sign = match op {
                Binary::Add => "+",
                Binary::Subtract => "-",
                Binary::Multiply => "*",
                Binary::Divide => "/",
                Binary::FloorDivide => "//",
                Binary::Remainder => "%",
                Binary::Power => "**",
                Binary::Concatenate => "~",
            };
            Err(TemplateError::new(format!("{} {sign} {} is not possible", a.kind(), b.kind())))
        }
    }
}

fn is_repeatable(value: &Value) -> bool {
    match value {
        Value::List(list) => list.kind.is_sequence(),
        _ => value.as_str().is_some(),
    }
}

fn repeated(heap: &Heap, value: &Value, times: i64) -> Result<Value> {
    let times = usize::try_from(times).unwrap_or(0);
    if let Some(text) = value.as_text() {
        let mut out = heap.text_builder()?;
        out.repeat_text(text, times)?;
        return Ok(out.finish());
    }
    let mut list = heap.list_builder()?;
    if let Value::List(value) = value {
        if !value.items.is_empty() {
            (0..times).try_for_each(|_| list.extend(&value.items))?;
        }
        return Ok(list.finish_as(value.kind));
    }
    Ok(list.finish())
}

fn integers(op: Binary, a: i64, b: i64) -> Result<Value> {
    let found = match op {
        Binary::Add => a.checked_add(b),
        Binary::Subtract => a.checked_sub(b),
        Binary::Multiply => a.checked_mul(b),
        Binary::Divide | Binary::FloorDivide | Binary::Remainder if b == 0 => {
            return Err(TemplateError::new("a number is divided by zero"));
        }
        Binary::Power if a == 0 && b < 0 => {
            return Err(TemplateError::new("zero has no negative power"));
        }
        Binary::Divide => return Ok(Value::Float(a as f64 / b as f64)),
        // Python rounds down, Rust towards zero.
        Binary::FloorDivide => {
            a.checked_div(b).map(|q| q - i64::from(a % b != 0 && (a < 0) != (b < 0)))
        }
        Binary::Remainder => {
            let rest = a.wrapping_rem(b);
            Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        }
        Binary::Power if b < 0 => return floats(op, a as f64, b as f64),
        Binary::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        Binary::Concatenate => None,
    };
    found.map(Value::Int).ok_or_else(|| TemplateError::new("a number is too large"))
}

fn floats(op: Binary, a: f64, b: f64) -> Result<Value> {
    if b == 0.0 && matches!(op, Binary::Divide | Binary::FloorDivide | Binary::Remainder) {
        return Err(TemplateError::new("a number is divided by zero"));
    }
    let rest = a % b;
    let floored = if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest };
    Ok(Value::Float(match op {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
        Binary::FloorDivide => ((a - floored) / b).round(),
        Binary::Remainder => floored,
        Binary::Power => a.powf(b),
        Binary::Concatenate => return Err(TemplateError::new("numbers are not concatenated")),
    }))
}

/// `op a`.
///
/// # Errors
/// If it is a sign and the value no number.
pub fn unary(op: Unary, value: &Value) -> Result<Value> {
    match (op, value) {
        (Unary::Not, _) => Ok(Value::Bool(!value.is_true())),
        (Unary::Negative, Value::Float(value)) => Ok(Value::Float(-value)),
        (Unary::Positive, Value::Float(value)) => Ok(Value::Float(*value)),
        _ => {
            let Some(number) = value.as_int() else {
                return Err(TemplateError::new(format!("{} has no sign", value.kind())));
            };
            let signed = if op == Unary::Negative { number.checked_neg() } else { Some(number) };
            signed.map(Value::Int).ok_or_else(|| TemplateError::new("a number is too large"))
        }
    }
}

/// Whether `a op b` holds.
///
/// # Errors
/// If the values have no order, or no steps are left.
pub fn compare(heap: &Heap, op: Comparison, a: &Value, b: &Value) -> Result<bool> {
    Ok(match op {
        Comparison::Equal => equal(heap, a, b)?,
        Comparison::NotEqual => !equal(heap, a, b)?,
        Comparison::In => contains(heap, b, a)?,
        Comparison::NotIn => !contains(heap, b, a)?,
        Comparison::Less => order(heap, a, b)?.is_some_and(|order| order.is_lt()),
        Comparison::LessOrEqual => order(heap, a, b)?.is_some_and(|order| order.is_le()),
        Comparison::Greater => order(heap, a, b)?.is_some_and(|order| order.is_gt()),
        Comparison::GreaterOrEqual => order(heap, a, b)?.is_some_and(|order| order.is_ge()),
    })
}
