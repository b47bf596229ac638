//! Fields of a line of prompts that say how it is answered; the flags say the rest.
//!
//! Names are those of OpenAI's interface and of llama.cpp's server. To add a field: an arm in `generation_fields.rs`, or a
//! name in [`REFUSED`].

use crate::generation_fields;
use crate::grammar_flags;
use crate::prompts::Prompt;
use crate::values::Checked;
use dovetail::{Error, Generation, Grammar, Result};
use serde_json::Value;

/// Fields that would change the answer in a way that this program does not know.
const REFUSED: &[&str] = &[
    "best_of",
    "dry_multiplier",
    "dynatemp_range",
    "echo",
    "function_call",
    "functions",
    "logprobs",
    "mirostat",
    "n",
    "n_probs",
    "samplers",
    "suffix",
    "tool_choice",
    "tools",
    "top_logprobs",
    "typical_p",
    "xtc_probability",
];

/// Fields that are the prompt, or data about it.
const DATA: &[&str] =
    &["category", "id", "messages", "prompt", "question_id", "reference", "turns"];

/// How a prompt is answered.
#[derive(Clone, Debug, Default)]
pub struct Answering {
    pub generation: Generation,
    pub grammar: Option<Grammar>,
}

/// How a prompt asks to be answered, where `flags` is what the flags ask for.
///
/// # Errors
/// If a field has a value that cannot be, or is not supported; the error names the line and the field.
pub fn answering(prompt: &Prompt, flags: Answering) -> Result<Answering> {
    let mut answering = flags;
    for (name, value) in fields(prompt) {
        set(&mut answering, name, value)
            .map_err(|what| Error::Invalid(format!("{}: \"{name}\" {what}", prompt.place)))?;
    }
    Ok(answering)
}

/// The fields of some prompts that have no effect, each once.
pub fn without_effect(prompts: &[Prompt]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, value) in prompts.iter().flat_map(fields) {
        let is_unknown = set(&mut Answering::default(), name, value) == Ok(false);
        if is_unknown && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The fields of a line that may say how it is answered.
fn fields(prompt: &Prompt) -> impl Iterator<Item = (&str, &Value)> {
    let all = prompt.line.as_object().into_iter().flatten();
    let all = all.map(|(name, value)| (&name[..], value));
    all.filter(|(name, value)| !(DATA.contains(name) || value.is_null()))
}

/// Sets what a field asks for. Returns whether there is such a field.
fn set(answering: &mut Answering, name: &str, value: &Value) -> Checked<bool> {
    if let Some(grammar) = grammar_flags::field(name, value)? {
        answering.grammar = grammar;
        return Ok(true);
    }
    if generation_fields::set(&mut answering.generation, name, value)? {
        return Ok(true);
    }
    if REFUSED.contains(&name) && !asks_for_nothing(name, value) {
        return Err("is not supported; leave it out".into());
    }
    Ok(REFUSED.contains(&name))
}

/// Whether a field that is not supported has a value that changes nothing.
fn asks_for_nothing(name: &str, value: &Value) -> bool {
    match value {
        Value::Bool(on) => !on,
        Value::Number(n) => {
            let one = ["n", "best_of", "typical_p"].contains(&name);
            n.as_f64() == Some(f64::from(u8::from(one)))
        }
        Value::String(text) => text.is_empty() || (name == "tool_choice" && text == "none"),
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::Null => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_honoured_or_refused_by_name() {
        let mut asked = Answering::default();
        for (name, value) in [
            ("max_tokens", json!(5)),
            ("temperature", json!(0.5)),
            ("top_k", json!(-1)),
            ("top_p", json!(0.25)),
            ("min_p", json!(0)),
            ("repeat_penalty", json!(1.5)),
            ("repeat_last_n", json!(-1)),
            ("presence_penalty", json!(-0.5)),
            ("frequency_penalty", json!(2)),
            ("seed", json!(u64::MAX)),
            ("logit_bias", json!({"7": -100, "8": 1.5})),
            ("ignore_eos", json!(true)),
            ("stop", json!("a")),
            ("stop", json!(["b", "c"])),
            ("n", json!(1)),
            ("tools", json!([])),
            ("response_format", json!({"type": "text"})),
        ] {
            assert_eq!(set(&mut asked, name, &value), Ok(true), "{name}");
        }
        let g = &asked.generation;
        let s = &g.sampling;
        assert_eq!((g.n_predict, g.ignore_end, g.stop.concat()), (5, true, "abc".into()));
        assert_eq!((s.temperature, s.top_k, s.top_p, s.min_p), (0.5, 0, 0.25, 0.0));
        assert_eq!((s.repeat_penalty, s.repeat_last_n, s.seed), (1.5, -1, u64::MAX));
        assert_eq!((s.presence_penalty, s.frequency_penalty), (-0.5, 2.0));
        assert_eq!(s.logit_bias, [(7, -100.0), (8, 1.5)]);
        assert_eq!(asked.grammar, None);
        set(&mut asked, "response_format", &json!({"type": "json_object"})).unwrap();
        assert_eq!(asked.grammar, Some(Grammar::JsonObject));
        set(&mut asked, "max_tokens", &json!(-1)).unwrap();
        set(&mut asked, "seed", &json!(-1)).unwrap();
        let g = &asked.generation;
        assert_eq!((g.n_predict, g.sampling.seed), (usize::MAX, u64::MAX));

        for (name, value, part) in [
            ("max_tokens", json!("5"), "is \"5\"; give a number of tokens"),
            ("max_tokens", json!(5.5), "is 5.5; give"),
            ("temperature", json!("hot"), "give 0 or a positive number"),
            ("repeat_penalty", json!(0), "is 0; give a positive number"),
            ("stop", json!([1]), "a text or an array of texts"),
            ("ignore_eos", json!(1), "true or false"),
            ("logit_bias", json!({"the": 1}), "token numbers"),
            ("logit_bias", json!([]), "token numbers"),
            ("n", json!(2), "is not supported"),
            ("tools", json!([{}]), "is not supported"),
            ("response_format", json!({"type": "xml"}), "give {\"type\": \"json_schema\""),
            ("grammar", json!(1), "a grammar in GBNF"),
        ] {
            let line = set(&mut asked, name, &value).unwrap_err();
            assert!(line.contains(part), "{name}: {line}");
        }
        assert_eq!(set(&mut asked, "colour", &json!(1)), Ok(false));
    }
}
