//! The fields of a request, taken one by one; those that are left say how it is answered, or have no effect.

use crate::error::ApiError;
use crate::generation_fields;
use crate::grammar_flags;
use crate::state::Ready;
use crate::unsupported;
use dovetail::{Drafting, Generation};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Most stop texts, and the most bytes of one: each piece of an answer is searched for all of them.
const STOPS: usize = 64;
const STOP_BYTES: usize = 1024;
/// Most tokens that log probabilities are given of.
pub const LOGPROBS: usize = 256;

/// The fields of a request.
pub struct Fields(Map<String, Value>);

impl Fields {
    /// These fields; those that are null count as absent.
    pub fn new(mut object: Map<String, Value>) -> Fields {
        object.retain(|_, value| !value.is_null());
        Fields(object)
    }

    /// Takes a field away; `None` if it is absent.
    ///
    /// # Errors
    /// If it has another type.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        let wrong = |error| ApiError::field(name, &format!("has a wrong value: {error}"));
        serde_json::from_value(value).map(Some).map_err(wrong)
    }

    /// Takes a field away that must be there.
    ///
    /// # Errors
    /// If it is absent or has another type.
    pub fn require<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, ApiError> {
        self.take(name)?.ok_or_else(|| ApiError::field(name, "is missing; give it"))
    }

    /// Takes a switch away, which is off if it is absent.
    ///
    /// # Errors
    /// If it is neither true nor false.
    pub fn switch(&mut self, name: &str) -> Result<bool, ApiError> {
        Ok(self.take(name)?.unwrap_or(false))
    }

    /// A field, which stays; `None` if it is absent.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Sets a field.
    pub fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Gives a field another name, unless there is one of that name.
    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(value) = self.0.remove(from) {
            self.0.entry(to).or_insert(value);
        }
    }

    /// Sets a field to what another one has under `key`, if that is there.
    pub fn lift(&mut self, from: &str, key: &str, to: &str) {
        let value = self.0.get(from).and_then(|value| value.get(key)).cloned();
        if let Some(value) = value.filter(|value| !value.is_null()) {
            self.set(to, value);
        }
    }

    /// Whether the page asks for what each round did.
    pub fn wants_rounds(&self) -> bool {
        self.0.get("dovetail").is_some_and(|of_page| of_page["rounds"] == true)
    }

    /// The generation that the fields ask for.
    ///
    /// # Errors
    /// If a field has a value that cannot be, or would change the answer and is not supported; the error names it.
    pub fn generation(self, ready: &Ready) -> Result<Generation, ApiError> {
        let (mut generation, mut grammar) = (ready.generation(), None);
        for (name, value) in &self.0 {
            let of_grammar = grammar_flags::field(name, value);
            if let Some(given) = of_grammar.map_err(|what| ApiError::field(name, &what))? {
                if grammar.is_some() && given.is_some() {
                    return Err(ApiError::field(name, "is a second grammar; give one"));
                }
                grammar = given.or(grammar);
                continue;
            }
            match name.as_str() {
                "dovetail" => generation.drafting = drafting(value)?,
                name => {
                    let known = generation_fields::set(&mut generation, name, value);
                    if !known.map_err(|what| ApiError::field(name, &what))? {
                        unsupported::check(name, value)?;
                    }
                }
            }
        }
        check(&generation, ready)?;
        if let Some(grammar) = grammar {
            generation.constraint = Some(ready.model.constraint(&grammar)?);
        }
        Ok(generation)
    }
}

/// When the drafter is used, as the page asks for it.
fn drafting(value: &Value) -> Result<Drafting, ApiError> {
    match value.get("drafting").map(|value| value.as_str().unwrap_or_default()) {
        None | Some("auto") => Ok(Drafting::Auto),
        Some("on") => Ok(Drafting::On),
        Some("off") => Ok(Drafting::Off),
        Some(_) => Err(ApiError::field("dovetail.drafting", "is none of auto, on and off")),
    }
}

/// Refuses what the engine would refuse, and what would take too long at each token.
fn check(generation: &Generation, ready: &Ready) -> Result<(), ApiError> {
    generation.sampling.check()?;
    if generation.stop.len() > STOPS || generation.stop.iter().any(|stop| stop.len() > STOP_BYTES) {
        let what = format!("has more than {STOPS} texts, or one of more than {STOP_BYTES} bytes");
        return Err(ApiError::field("stop", &what));
    }
    for stop in &generation.stop {
        ready.tokenizer().encode(stop, false, true)?;
    }
    let n_vocab = ready.tokenizer().n_vocab();
    let tokens = generation.sampling.logit_bias.iter().map(|(token, _)| *token);
    if let Some(token) = tokens.into_iter().find(|token| *token as usize >= n_vocab) {
        let what = format!("names {token}, which is no token; there are {n_vocab}, from 0 on");
        return Err(ApiError::field("logit_bias", &what));
    }
    Ok(())
}
