//! How an answer is generated, from its options.

use super::options::dovetail_sampling;
use super::pointer;
use super::status::Failure;
use crate::model::Model;
use crate::sample::Sampling;
use crate::speculate::{Drafting, Generation};
use crate::text::{Constraint, Grammar};
use std::ffi::c_char;

/// Reads how an answer is generated; the defaults if `from` is NULL.
///
/// # Safety
/// See `pointer.rs`.
pub(super) unsafe fn generation(
    from: *const dovetail_sampling,
    n_predict: usize,
    model: &Model,
) -> Result<Generation, Failure> {
    // SAFETY: as `pointer.rs` requires.
    let s = unsafe { pointer::read(from) }?.unwrap_or_default();
    // SAFETY: the same.
    let bias = unsafe { pointer::slice(s.logit_bias, s.n_logit_bias, "logit_bias") }?;
    // SAFETY: the same.
    let stops = unsafe { pointer::slice(s.stop, s.n_stop, "stop") }?;
    // SAFETY: the same.
    let stop = |stop: &*const c_char| unsafe { pointer::name(*stop, "stop") };
    let stop = stops.iter().map(stop).filter_map(Result::transpose);
    let stop = stop.map(|stop| stop.map(str::to_owned)).collect::<Result<_, Failure>>()?;
    let sampling = Sampling {
        temperature: s.temperature,
        top_k: s.top_k as usize,
        top_p: s.top_p,
        min_p: s.min_p,
        repeat_penalty: s.repeat_penalty,
        repeat_last_n: s.repeat_last_n,
        presence_penalty: s.presence_penalty,
        frequency_penalty: s.frequency_penalty,
        logit_bias: bias.iter().map(|one| (one.token, one.bias)).collect(),
        seed: s.seed,
    };
    sampling.check()?;
    let drafting = match s.drafting {
        0 => Drafting::Auto,
        1 => Drafting::Off,
        2 => Drafting::On,
        other => {
            let line = format!("drafting is {other}; give one of dovetail_drafting");
            return Err(Failure::argument(line));
        }
    };
    Ok(Generation {
        sampling,
        n_predict,
        ignore_end: s.ignore_eos,
        stop,
        logprobs: s.logprobs.then_some(s.n_top_logprobs as usize),
        drafting,
        // SAFETY: as `pointer.rs` requires.
        constraint: unsafe { constraint(&s, model) }?,
        until_call: None,
        special: false,
    })
}

/// The constraint of an answer, if it has one.
///
/// # Safety
/// See `pointer.rs`.
unsafe fn constraint(s: &dovetail_sampling, model: &Model) -> Result<Option<Constraint>, Failure> {
    // SAFETY: as `pointer.rs` requires.
    let text = |from, field| unsafe { pointer::name(from, field) };
    let Some(grammar) = text(s.grammar, "grammar")? else { return Ok(None) };
    let grammar = grammar.to_owned();
    let grammar = match s.grammar_type {
        0 => Grammar::JsonSchema(grammar),
        1 => Grammar::Gbnf(grammar),
        2 => Grammar::Regex(grammar),
        3 => Grammar::Lark(grammar),
        other => {
            let line = format!("grammar_type is {other}; give one of dovetail_grammar");
            return Err(Failure::argument(line));
        }
    };
    let constraint = model.constraint(&grammar)?;
    Ok(Some(match text(s.grammar_after, "grammar_after")? {
        Some(marker) => constraint.after(marker),
        None => constraint,
    }))
}
