//! What templates written for Hugging Face expect to find: Jinja2 as `transformers` sets it up.
//!
//! Block tags swallow their line, Python's string and dictionary methods work, and there are
//! `raise_exception`, `strftime_now` and a `tojson` that writes JSON as Python does.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

/// Steps after which a template is stopped: a conversation takes some dozens a message.
const FUEL: u64 = 20_000_000;

/// An environment without templates. `now` is what `strftime_now` shows; `None` is the clock.
pub(super) fn environment(now: Option<SystemTime>) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters do not conflict"));
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| {
        strftime(&format, now.unwrap_or_else(SystemTime::now))
    });
    environment.add_filter("tojson", |value: Value, options: Kwargs| -> Result<String, Error> {
        let indent = options.get::<Option<usize>>("indent")?.map(|spaces| spaces.min(16));
        // Others, such as ensure_ascii=False, ask for what is done anyway.
        let mut out = String::new();
        write_json(&value, indent, 0, &mut out)?;
        Ok(out)
    });
    environment
}

/// Replaces `{% generation %}` and `{% endgeneration %}`, by which trainers mark the model's part of a
/// conversation, by tags without effect.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag, after)) = rest.find("{%").and_then(|start| {
        // The delimiters may not share a character: `{%}` opens and does not close.
        let inside = start + 2;
        let end = inside + rest[inside..].find("%}")? + 2;
        Some((&rest[..start], &rest[start..end], &rest[end..]))
    }) {
        out.push_str(before);
        let word = tag[2..tag.len() - 2].trim_matches(['-', '+']).trim();
        match word {
            "generation" => out.push_str(&tag.replace(word, "if true")),
            "endgeneration" => out.push_str(&tag.replace(word, "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn write_json(
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    if depth > 64 {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested too deeply"));
    }
    let (open, close, between) = match value.kind() {
        ValueKind::Undefined | ValueKind::None => return push(out, "null"),
        ValueKind::Bool => return push(out, if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => return push(out, &value.to_string()),
        ValueKind::Map => ('{', '}', ": "),
        ValueKind::Seq | ValueKind::Iterable => ('[', ']', ""),
        _ => {
            write_json_string(&value.to_string(), out);
            return Ok(());
        }
    };
    let new_line = |out: &mut String, depth: usize| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    out.push(open);
    let mut is_empty = true;
    for item in value.try_iter()? {
        if !is_empty {
            out.push_str(if indent.is_some() { "," } else { ", " });
        }
        is_empty = false;
        new_line(out, depth + 1);
        if between.is_empty() {
            write_json(&item, indent, depth + 1, out)?;
        } else {
            write_json_string(&item.to_string(), out);
            out.push_str(between);
            write_json(&value.get_item(&item)?, indent, depth + 1, out)?;
        }
    }
    if !is_empty {
        new_line(out, depth);
    }
    out.push(close);
    Ok(())
}

fn push(out: &mut String, text: &str) -> Result<(), Error> {
    out.push_str(text);
    Ok(())
}

fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// C's `strftime` in UTC for the fields that templates use; others are kept as they are written.
fn strftime(format: &str, at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day, day_of_year) = civil(days);
    let month_name = MONTHS[month - 1];
    let weekday = WEEKDAYS[(days as usize + 4) % 7];
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        // Writing to a String cannot fail.
        let _ = match characters.next() {
            Some('Y') => write!(out, "{year}"),
            Some('y') => write!(out, "{:02}", year % 100),
            Some('m') => write!(out, "{month:02}"),
            Some('B') => write!(out, "{month_name}"),
            Some('b') => write!(out, "{}", &month_name[..3]),
            Some('d') => write!(out, "{day:02}"),
            Some('e') => write!(out, "{day:2}"),
            Some('j') => write!(out, "{day_of_year:03}"),
            Some('A') => write!(out, "{weekday}"),
            Some('a') => write!(out, "{}", &weekday[..3]),
            Some('H') => write!(out, "{:02}", second / 3600),
            Some('M') => write!(out, "{:02}", second / 60 % 60),
            Some('S') => write!(out, "{:02}", second % 60),
            Some('F') => write!(out, "{year}-{month:02}-{day:02}"),
            Some('Z') => write!(out, "UTC"),
            Some('%') => write!(out, "%"),
            Some(other) => write!(out, "%{other}"),
            None => write!(out, "%"),
        };
    }
    out
}

/// Year, month, day and day of the year, from 1 each, of a day counted from 1970-01-01.
fn civil(mut days: u64) -> (u64, usize, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Whole cycles of 400 years first, so that the loop is short whatever the clock says.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let day_of_year = days + 1;
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1, day_of_year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(strftime("%d %b %Y", at(0)), "01 Jan 1970");
        assert_eq!(
            strftime("%A %F %H:%M:%S %j", at(1_709_251_199)),
            "Thursday 2024-02-29 23:59:59 060"
        );
        assert_eq!(strftime("%a %e %B %y %% %q %", at(4_102_444_800)), "Fri  1 January 00 % %q %");
    }

    #[test]
    fn generation_tags_have_no_effect() {
        for (source, expected) in [
            ("a{%- generation -%}b{% endgeneration %}c", "a{%- if true -%}b{% endif %}c"),
            ("{%}{% generation", "{%}{% generation"),
            ("{% set generation = 1 %}", "{% set generation = 1 %}"),
            ("{%%}{%", "{%%}{%"),
        ] {
            assert_eq!(without_generation_tags(source), expected);
        }
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let environment = environment(None);
        for (source, expected) in [
            (
                r#"{{ {"a": [1, 2.5, true, none], "b": "<é\"\n>"} | tojson }}"#,
                r#"{"a": [1, 2.5, true, null], "b": "<é\"\n>"}"#,
            ),
            ("{{ [] | tojson }}{{ {} | tojson(indent=2) }}", "[]{}"),
            ("{{ {'a': [1]} | tojson(indent=2) }}", "{\n  \"a\": [\n    1\n  ]\n}"),
        ] {
            assert_eq!(environment.render_str(source, ()).unwrap(), expected);
        }
    }
}
