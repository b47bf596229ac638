//! Values of flags and of fields of requests: their ranges. Numbers out of range mean what they mean in llama.cpp, where they
//! mean something there.

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

pub fn parallel(text: &str) -> Checked<usize> {
    let range = 1..=MAX_SEQUENCES as i64;
    integer(text, range, "a number of sequences from 1 to 16").map(|n| n as usize)
}

pub fn context(text: &str) -> Checked<usize> {
    let range = 0..=i64::from(i32::MAX);
    integer(text, range, "a number of tokens, or 0 for the model's own").map(|n| n as usize)
}

pub fn predict(text: &str) -> Checked<i64> {
    integer(text, i64::MIN..=i64::MAX, "a number of tokens, or -1 for no limit").map(|n| n.max(-1))
}

pub fn batch(text: &str) -> Checked<usize> {
    words::whole(Setting::PassSize, text).map(|n| n as usize)
}

/// As many tokens as a batch has for 0 and below.
pub fn ubatch(text: &str) -> Checked<usize> {
    match text.parse::<i64>() {
        Ok(..=0) => Ok(usize::MAX),
        _ => batch(text),
    }
}

/// All tokens for 0 and below.
pub fn top_k(text: &str) -> Checked<usize> {
    let n = integer(text, i64::MIN..=i64::MAX, "a number of tokens, or 0 for all")?;
    Ok(n.max(0) as usize)
}

pub fn last_n(text: &str) -> Checked<i32> {
    words::whole(Setting::RepeatLastN, text).map(|n| n as i32)
}

/// A seed, or -1 for another one each time. Other negative numbers are seeds of 32 bits.
pub fn seed(text: &str) -> Checked<i128> {
    let bits = i128::from(i64::MIN)..=i128::from(u64::MAX);
    match text.parse::<i128>() {
        Ok(n @ ..=-2) if bits.contains(&n) => Ok(i128::from(n as u32)),
        Ok(n) if bits.contains(&n) => Ok(n),
        _ => Err("give a whole number of at most 64 bits, or -1 for a random one".into()),
    }
}

/// The most likely token for 0 and below.
pub fn temperature(text: &str) -> Checked<f32> {
    number(Setting::Temperature, text, 0.0, f32::MAX)
}

/// All tokens for 1 and above.
pub fn top_p(text: &str) -> Checked<f32> {
    number(Setting::TopP, text, 0.0, 1.0)
}

/// All tokens for 0 and below.
pub fn min_p(text: &str) -> Checked<f32> {
    number(Setting::MinP, text, 0.0, 1.0)
}

/// A number that stands for the nearest one from `least` to `most`.
fn number(setting: Setting, text: &str, least: f32, most: f32) -> Checked<f32> {
    match text.parse::<f32>() {
        Ok(x) if x.is_finite() => Ok(x.clamp(least, most)),
        _ => words::number(setting, text),
    }
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
