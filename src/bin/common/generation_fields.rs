//! Fields of a request that say how it is answered, under the names of OpenAI's interface and of llama.cpp's server.
//!
//! A number means what it means behind the flag. To add a field: an arm in [`set`].

use crate::values::{self, Checked};
use dovetail::Generation;
use serde_json::Value;

/// Sets what a field asks for. Returns whether there is such a field.
///
/// # Errors
/// What is wrong with the value; the sentence begins behind the field's name.
pub fn set(generation: &mut Generation, name: &str, value: &Value) -> Checked<bool> {
    let s = &mut generation.sampling;
    match name {
        "max_tokens" | "max_completion_tokens" | "n_predict" => {
            let n = number(value, values::predict)?;
            generation.n_predict = usize::try_from(n).unwrap_or(usize::MAX);
        }
        "temperature" => s.temperature = number(value, values::temperature)?,
        "top_k" => s.top_k = number(value, values::top_k)?,
        "top_p" => s.top_p = number(value, values::top_p)?,
        "min_p" => s.min_p = number(value, values::min_p)?,
        "repeat_penalty" => s.repeat_penalty = number(value, values::repeat_penalty)?,
        "repeat_last_n" => s.repeat_last_n = number(value, values::last_n)?,
        "presence_penalty" => s.presence_penalty = number(value, values::presence_penalty)?,
        "frequency_penalty" => s.frequency_penalty = number(value, values::frequency_penalty)?,
        // A negative one asks for the seed of the flags.
        "seed" => s.seed = u64::try_from(number(value, values::seed)?).unwrap_or(s.seed),
        "logit_bias" => s.logit_bias = biases(value)?,
        "ignore_eos" => {
            generation.ignore_end = value.as_bool().ok_or_else(|| wrong(value, "true or false"))?;
        }
        "stop" => generation.stop.extend(texts(value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// A number that a flag could have.
fn number<T>(value: &Value, parse: fn(&str) -> Checked<T>) -> Checked<T> {
    let text = if value.is_number() { value.to_string() } else { String::new() };
    parse(&text).map_err(|give| format!("is {value}; {give}"))
}

/// A text, or an array of texts.
fn texts(value: &Value) -> Checked<Vec<String>> {
    let all = match value {
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    };
    let texts = all.into_iter().map(|text| text.as_str().map(str::to_owned)).collect();
    let texts: Option<Vec<_>> = texts;
    texts.ok_or_else(|| wrong(value, "a text or an array of texts"))
}

/// An object of tokens and what is added to their logits.
fn biases(value: &Value) -> Checked<Vec<(u32, f32)>> {
    let all = value.as_object().into_iter().flatten();
    let all: Option<Vec<_>> =
        all.map(|(token, bias)| Some((token.parse().ok()?, bias.as_f64()? as f32))).collect();
    let all = all.filter(|_| value.is_object());
    all.ok_or_else(|| wrong(value, "an object of token numbers and numbers"))
}

fn wrong(value: &Value, give: &str) -> String {
    format!("is {value}; give {give}")
}
