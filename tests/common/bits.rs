//! Logits of whole models as bits, and what they are computed from.

use super::alone::Alone;
use super::random::Random;
use super::tiny::{ALL, Tiny};
use dovetail::Model;
use dovetail::infer::{CacheType, CacheTypes, Outputs};
use std::sync::Arc;

/// Tokens of a made-up sequence: some repeat, as in a text.
pub fn sequence(n: usize, n_vocab: usize, seed: u64) -> Vec<u32> {
    let mut random = Random(seed);
    let mut tokens: Vec<u32> = Vec::new();
    for i in 0..n {
        let again = i > 4 && random.below(4) == 0;
        tokens.push(if again { tokens[random.below(i)] } else { random.below(n_vocab) as u32 });
    }
    tokens
}

/// The bits of all logits, the tokens being fed `width` at a time: (n, n_vocab).
pub fn logits(target: &mut Alone, tokens: &[u32], width: usize) -> Vec<u32> {
    let (mut bits, mut row) = (Vec::new(), Vec::new());
    for chunk in tokens.chunks(width) {
        target.append(chunk, Outputs::All).unwrap();
        for i in 0..chunk.len() {
            target.logits(i).copy_to(&mut row);
            bits.extend(row.iter().map(|x| x.to_bits()));
        }
    }
    bits
}

/// Compares logits; does not print a million numbers when they differ.
pub fn assert_same_bits(found: &[u32], expected: &[u32], n_vocab: usize, about: &str) {
    assert_eq!(found.len(), expected.len(), "{about}");
    if let Some(i) = found.iter().zip(expected).position(|(a, b)| a != b) {
        let [found, expected] = [found[i], expected[i]].map(f32::from_bits);
        let (position, token) = (i / n_vocab, i % n_vocab);
        panic!("{about}: logit {token} at position {position} is {found}, not {expected}");
    }
}

/// Largest distance from the textbook where no matrix is quantised: keys and values are half floats.
pub const FLOAT: f64 = 1e-3;

/// How far logits are from the expected ones, as a part of these: root mean squares.
pub fn distance(found: &[u32], expected: &[f64]) -> f64 {
    let found: Vec<f64> = found.iter().map(|bits| f64::from(f32::from_bits(*bits))).collect();
    distance_of(&found, expected)
}

/// The same between plain numbers.
pub fn distance_of(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let differences: f64 = found.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
    (differences / expected.iter().map(|x| x * x).sum::<f64>()).sqrt()
}

/// The made-up models.
pub fn tiny_models() -> impl Iterator<Item = (&'static Tiny, Arc<Model>)> {
    ALL.iter().map(|tiny| (tiny, Arc::new(tiny.parts().load().unwrap())))
}

/// Ways in which heads can be stored: the first two types alone, and every type of keys beside another one of values.
/// `kernels/tests/attention.rs` has all pairs.
pub fn cache_types() -> impl Iterator<Item = CacheTypes> {
    let types = CacheType::ALL.into_iter();
    let others = types.clone().cycle().skip(1);
    let pair = |(keys, values)| CacheTypes { keys, values };
    types.clone().zip(types.clone()).take(2).chain(types.zip(others)).map(pair)
}
