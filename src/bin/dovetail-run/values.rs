//! Values of flags: their ranges, and escapes in texts.

use crate::words;
use dovetail::infer::MAX_SEQUENCES;
use dovetail::setting::Setting;
use std::ops::RangeInclusive;

/// A value, or a text that says what to give instead.
pub type Checked<T> = std::result::Result<T, String>;

pub fn integer(text: &str, range: RangeInclusive<i64>, what: &str) -> Checked<i64> {
    let found = text.parse().ok().filter(|n| range.contains(n));
    found.ok_or_else(|| format!("give {what}"))
}

pub fn threads(text: &str) -> Checked<usize> {
    words::whole(Setting::Threads, text).map(|n| n as usize)
}

pub fn parallel(text: &str) -> Checked<usize> {
    let range = 1..=MAX_SEQUENCES as i64;
    integer(text, range, "a number of sequences from 1 to 16").map(|n| n as usize)
}

pub fn context(text: &str) -> Checked<usize> {
    let range = 0..=i64::from(i32::MAX);
    integer(text, range, "a number of tokens, or 0 for the model's own").map(|n| n as usize)
}

pub fn predict(text: &str) -> Checked<i64> {
    integer(text, -1..=i64::MAX, "a number of tokens, or -1 for no limit")
}

pub fn pass(text: &str) -> Checked<usize> {
    words::whole(Setting::PassSize, text).map(|n| n as usize)
}

pub fn top_k(text: &str) -> Checked<usize> {
    integer(text, 0..=i64::MAX, "a number of tokens, or 0 for all").map(|n| n as usize)
}

pub fn last_n(text: &str) -> Checked<i32> {
    words::whole(Setting::RepeatLastN, text).map(|n| n as i32)
}

pub fn seed(text: &str) -> Checked<i128> {
    let found = text.parse().ok().filter(|n| (-1..=i128::from(u64::MAX)).contains(n));
    found.ok_or_else(|| "give a whole number of at most 64 bits, or -1 for a random one".into())
}

pub fn temperature(text: &str) -> Checked<f32> {
    words::number(Setting::Temperature, text)
}

pub fn top_p(text: &str) -> Checked<f32> {
    words::number(Setting::TopP, text)
}

pub fn min_p(text: &str) -> Checked<f32> {
    words::number(Setting::MinP, text)
}

pub fn repeat_penalty(text: &str) -> Checked<f32> {
    words::number(Setting::RepeatPenalty, text)
}

pub fn presence_penalty(text: &str) -> Checked<f32> {
    words::number(Setting::PresencePenalty, text)
}

pub fn frequency_penalty(text: &str) -> Checked<f32> {
    words::number(Setting::FrequencyPenalty, text)
}

/// Replaces the escapes that llama.cpp knows; unknown ones stay as they are.
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let mut chars = after.chars();
        let known = match chars.next() {
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some(c @ ('\'' | '"' | '\\')) => Some(c),
            Some('x') => {
                let hex = after.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                let ascii = hex.filter(u8::is_ascii).map(char::from);
                chars = if ascii.is_some() { after[3..].chars() } else { chars };
                ascii
            }
            _ => None,
        };
        match known {
            Some(c) => {
                out.push(c);
                rest = chars.as_str();
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}
