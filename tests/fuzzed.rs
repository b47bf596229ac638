//! A few seconds of what `fuzz/fuzz_targets/{answer,template,tokenizer}.rs` do, with bytes drawn at random, so that CI does
//! it too.
//!
//! `DOVETAIL_FUZZ_SECONDS=600 cargo test --release --test fuzzed` does it for ten minutes each.

mod common;

use common::fuzzed::{render, tokenise, tokenizers};
use common::fuzzed_answers::read_answer;
use common::random::Random;
use std::time::{Duration, Instant};

/// Calls `check` with random bytes for as long as asked for, and with 1,000 at the least.
fn fuzz(seed: u64, longest: usize, mut check: impl FnMut(&[u8])) {
    let asked = std::env::var("DOVETAIL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let (start, time) = (Instant::now(), Duration::from_secs(asked.unwrap_or(2)));
    // Other bytes each time only where it is to take long: CI repeats.
    let mut random =
        Random(if asked.is_some() { seed ^ u64::from(std::process::id()) } else { seed });
    let mut n = 0u64;
    while start.elapsed() < time || n < 1_000 {
        let length = random.below(longest);
        let data: Vec<u8> = (0..length).map(|_| random.bits() as u8).collect();
        check(&data);
        n += 1;
    }
    eprintln!("{n} inputs in {:?}", start.elapsed());
}

#[test]
fn any_bytes_may_be_an_answer() {
    fuzz(3, 60, read_answer);
}

#[test]
fn any_bytes_may_be_a_template() {
    fuzz(1, 120, render);
}

#[test]
fn any_bytes_may_be_text() {
    let tokenizers = tokenizers();
    fuzz(2, 300, |data| tokenise(&tokenizers, data));
}
