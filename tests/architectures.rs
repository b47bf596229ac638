//! Each architecture computes what its formulas say, which agree with llama.cpp; and all that a file says counts.

mod common;

use common::alone::Alone;
use common::bits::logits;
use common::gguf::Parts;
use common::reference::{N_CTX, Reference, references};
use dovetail::gguf::Value;
use dovetail::infer::{CacheType, CacheTypes};
use dovetail::model::arch::ARCHITECTURES;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The largest distance from the formulas, as a part of the largest logit.
const NEAR: f64 = 1e-4;

/// Logits of the last rows, the tokens being fed `width` at a time; or why there are none.
fn last_logits(
    parts: &Parts,
    tokens: &[u32],
    rows: usize,
    width: usize,
) -> dovetail::Result<Vec<Vec<f64>>> {
    let model = Arc::new(parts.load()?);
    let n_vocab = model.config().n_vocab;
    // Nothing is rounded but the numbers themselves.
    let cache = CacheTypes { keys: CacheType::F32, values: CacheType::F32 };
    let bits = logits(&mut Alone::with_cache(model, N_CTX, 2, tokens.len(), cache), tokens, width);
    let rows = bits.chunks(n_vocab).skip(tokens.len() - rows);
    let number = |bits: &u32| f64::from(f32::from_bits(*bits));
    Ok(rows.map(|row| row.iter().map(number).collect()).collect())
}

/// The largest difference, as a part of the largest expected number.
fn distance(found: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    let (found, expected) = (found.concat(), expected.concat());
    let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    assert_eq!(found.len(), expected.len());
    differences.fold(0.0, f64::max) / largest
}

#[test]
fn logits_are_those_of_the_formulas() {
    let references = references();
    for Reference { name, parts, tokens, logits, .. } in &references {
        for width in [tokens.len(), 1, 7] {
            let distance =
                distance(&last_logits(parts, tokens, logits.len(), width).unwrap(), logits);
            println!("{name:16} {width:2} at a time: {distance:.1e}");
            assert!(distance < NEAR, "{name}, {width} at a time: {distance:.1e}");
        }
    }
    let tested: BTreeSet<&str> = references.iter().map(|of| &of.arch[..]).collect();
    let all: BTreeSet<&str> = ARCHITECTURES.iter().map(|arch| arch.name).collect();
    assert_eq!(tested, all, "each architecture has a model");
}

/// Without this part of a model there are other logits, or no model.
fn counts(of: &Reference, what: &str, change: impl FnOnce(&mut Parts)) {
    let mut parts = of.parts.clone();
    change(&mut parts);
    let Ok(found) = last_logits(&parts, &of.tokens, of.logits.len(), of.tokens.len()) else {
        return;
    };
    let distance = distance(&found, &of.logits);
    assert!(distance > 3.0 * NEAR, "{}: {what} does not count: {distance:.1e}", of.name);
}

#[test]
fn every_tensor_counts() {
    for of in references() {
        let kind =
            |name: &str| match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
                Some((_, part)) => part.to_owned(),
                None => name.to_owned(),
            };
        let kinds: BTreeSet<String> = of.parts.tensors.iter().map(|t| kind(&t.name)).collect();
        for part in kinds {
            // Of Phi-3's two lists of factors the length of the context chooses one.
            let unused =
                [("phi3", "rope_factors_short.weight"), ("phi3-short", "rope_factors_long.weight")];
            if unused.contains(&(&of.name, &part)) {
                continue;
            }
            counts(&of, &part, |parts| parts.tensors.retain(|tensor| kind(&tensor.name) != part));
        }
    }
}

#[test]
fn every_key_counts() {
    // What text does not need, what is not obeyed (`arch/phi3.rs`), and what only says how much there is.
    const WITHOUT_EFFECT: [&str; 7] = [
        "qwen3vl.rope.dimension_sections",
        "qwen3vl.n_deepstack_layers",
        "phi3.attention.sliding_window",
        "attention.key_length",
        "attention.value_length",
        "attention.value_length_swa",
        "context_length",
    ];
    for of in references() {
        for (key, value) in of.parts.keys.iter().filter(|(key, _)| key.starts_with(&of.arch)) {
            let same = |known: &str| {
                key == known || key.strip_prefix(&of.arch[..]) == Some(&format!(".{known}"))
            };
            // All of a head turns where nothing else is said.
            let whole = ["rope.dimension_count", "rope.dimension_count_swa"]
                .iter()
                .any(|name| key.ends_with(name))
                && !["phi3", "glm4"].contains(&&of.arch[..]);
            let unrotated = of.name == "granite-nope" && key.ends_with("rope.freq_base");
            let nothing = *value == Value::U32(0);
            if WITHOUT_EFFECT.into_iter().any(same) || whole || unrotated || nothing {
                continue;
            }
            // "linear" is what a missing type of scaling is too.
            let none = key.ends_with("rope.scaling.type").then(|| Value::String("none".into()));
            counts(&of, key, |parts| parts.set(key, none));
        }
    }
}

#[test]
fn logits_of_the_first_minicpm_are_divided_by_its_width_over_256() {
    let of = references().into_iter().find(|of| of.name == "minicpm-first").unwrap();
    let logits = [Some(Value::F32(64.0 / 256.0)), None].map(|scale| {
        let mut parts = of.parts.clone();
        parts.set("minicpm.logit_scale", scale);
        last_logits(&parts, &of.tokens, of.logits.len(), of.tokens.len()).unwrap()
    });
    assert_eq!(logits[0], logits[1]);
}
