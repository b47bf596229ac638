//! Numbers as digits.

use super::super::display::float;
use super::super::error::{Result, TemplateError};
use super::super::heap::Heap;
use super::super::value::{TextBuilder, Value};
use super::{Spec, padded};

/// Most digits after the point.
const PRECISION: usize = 1000;

/// Appends a number.
pub(super) fn numeric(heap: &Heap, value: &Value, spec: Spec, out: &mut TextBuilder) -> Result<()> {
    let kind = spec.kind.unwrap_or(' ');
    if spec.precision.is_some_and(|precision| precision > PRECISION) {
        return Err(TemplateError::new(format!("a format asks for more than {PRECISION} digits")));
    }
    let whole = value.as_int().filter(|_| matches!(kind, ' ' | 'd' | 'n' | 'x' | 'X' | 'o' | 'b'));
    let (is_negative, text) = match (whole, value.as_float()) {
        (Some(value), _) => (value < 0, whole_digits(value.unsigned_abs(), kind)),
        (None, Some(value)) => {
            heap.spend(n_exact_digits(value, spec.precision.unwrap_or(6)))?;
            (value.is_sign_negative(), real_digits(value.abs(), kind, spec)?)
        }
        (None, None) => {
            return Err(TemplateError::new(format!(
                "a format takes a number, not {}",
                value.kind()
            )));
        }
    };
    let mut sign = String::new();
    match spec.sign {
        _ if is_negative => sign.push('-'),
        Some(shown) => sign.push(shown),
        None => {}
    }
    if whole.is_some() && spec.is_alternate {
        sign.push_str(prefix(kind));
    }
    match spec.grouping {
        Some(_) => grouped(heap, &sign, &text, spec, out),
        None => padded(&sign, &text, spec, out),
    }
}

/// At least the number of digits of a number with this many behind the point: their exact values take long.
pub fn n_exact_digits(value: f64, precision: usize) -> usize {
    let in_front = if value.is_finite() { value.abs().max(1.0).log10() as usize } else { 0 };
    1 + in_front + precision
}

/// What stands in front of digits that are not decimal.
fn prefix(kind: char) -> &'static str {
    match kind {
        'x' => "0x",
        'X' => "0X",
        'o' => "0o",
        'b' => "0b",
        _ => "",
    }
}

fn whole_digits(value: u64, kind: char) -> String {
    match kind {
        'x' => format!("{value:x}"),
        'X' => format!("{value:X}"),
        'o' => format!("{value:o}"),
        'b' => format!("{value:b}"),
        _ => value.to_string(),
    }
}

/// The digits of a number that is not negative.
fn real_digits(value: f64, kind: char, spec: Spec) -> Result<String> {
    let precision = spec.precision.unwrap_or(6);
    if !value.is_finite() {
        return Ok(float(value));
    }
    Ok(match kind {
        'f' | 'F' => format!("{value:.precision$}"),
        '%' => format!("{:.precision$}%", value * 100.0),
        'e' => exponential(value, precision),
        'E' => exponential(value, precision).to_uppercase(),
        'g' | 'n' => general(value, precision, precision.max(1), spec.is_alternate),
        'G' => general(value, precision, precision.max(1), spec.is_alternate).to_uppercase(),
        ' ' if spec.precision.is_some() => {
            // With a point, so that it is seen to be no whole number.
            let text = general(value, precision, precision.max(1) - 1, spec.is_alternate);
            if text.contains(['.', 'e']) { text } else { text + ".0" }
        }
        ' ' => float(value),
        _ => {
            return Err(TemplateError::new(format!(
                "a format of type {kind:?} takes a whole number"
            )));
        }
    })
}

/// `d.ddde+dd`.
fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// The given number of digits, with an exponent if that is below -4 or at least `limit`.
fn general(value: f64, precision: usize, limit: usize, keeps_zeros: bool) -> String {
    let precision = precision.max(1);
    let scientific = exponential(value, precision - 1);
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = power.parse().unwrap_or(0);
    let trim = |digits: &str| match digits.contains('.') && !keeps_zeros {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    if exponent < -4 || exponent >= limit as i32 {
        return format!("{}e{power}", trim(digits));
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trim(&format!("{value:.decimals$}"))
}

/// Appends sign and digits with a separator between groups of digits. Zeros that fill the width are grouped as well.
fn grouped(heap: &Heap, sign: &str, text: &str, spec: Spec, out: &mut TextBuilder) -> Result<()> {
    let separator = spec.grouping.unwrap_or(',');
    let size = match spec.kind {
        Some('x' | 'X' | 'o' | 'b') if separator == ',' => {
            return Err(TemplateError::new("commas are for decimal digits"));
        }
        Some('x' | 'X' | 'o' | 'b') => 4,
        _ => 3,
    };
    let is_digit = |c: char| if size == 4 { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
    let end = text.find(|c| !is_digit(c)).unwrap_or(text.len());
    let (digits, behind) = text.split_at(end);
    let mut n = digits.len();
    if spec.fill == '0' && spec.align == Some('=') {
        let room = spec.width.saturating_sub(sign.len() + behind.len());
        // The least n with n + (n - 1) / size >= room.
        n = n.max(room - room.saturating_sub(1) / (size + 1));
    }
    let _held = heap.meter().hold(n.saturating_mul(2))?;
    let mut written = String::with_capacity(n + n / size);
    for index in 0..n {
        if index > 0 && (n - index).is_multiple_of(size) {
            written.push(separator);
        }
        let digit =
            (index + digits.len()).checked_sub(n).and_then(|at| digits[at..].chars().next());
        written.push(digit.unwrap_or('0'));
    }
    written.push_str(behind);
    padded(sign, &written, spec, out)
}
