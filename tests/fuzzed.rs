//! A few seconds of what `fuzz/fuzz_targets/{answer,grammar,template,tokenizer}.rs` do, with bytes drawn at random, so
//! that CI does it too.
//!
//! `DOVETAIL_FUZZ_SECONDS=600 cargo test --release --test fuzzed` does it for ten minutes each; `cargo test --test fuzzed --
//! --ignored` writes seeds for libFuzzer.

mod common;

use common::fuzzed::{render, tokenise, tokenizers};
use common::fuzzed_answers::read_answer;
use common::fuzzed_grammars::{constrain, place};
use common::gguf::Parts;
use common::random::Random;
use common::tiny::tokenizer_keys;
use dovetail::gguf::Value;
use std::fs;
use std::path::{Path, PathBuf};
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
fn any_bytes_may_be_a_grammar() {
    let mut place = place();
    fuzz(4, 40, |data| constrain(&mut place, data));
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

/// Bodies of requests as clients send them, behind the number of their path and a zero.
const BODIES: &[(u8, &str)] = &[
    (0, r#"{"messages":[{"role":"user","content":"Hi"}],"stream":true,"tools":[]}"#),
    (
        1,
        r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"Hi"}]}],"store":false}"#,
    ),
    (
        2,
        r#"{"max_tokens":3,"system":"a","messages":[{"role":"user","content":"Hi"}],"stream":true}"#,
    ),
    (3, r#"{"prompt":["a","b"],"n":2,"logprobs":1,"stop":["\n"],"echo":true}"#),
    (4, r#"{"messages":[{"role":"user","content":"Hi"}],"format":"json","options":{"seed":1}}"#),
    (7, r#"{"input_prefix":"a","input_suffix":"b","input_extra":[{"text":"c"}]}"#),
];

/// Writes what libFuzzer starts from into `fuzz/corpus`: choices drawn at random, templates of families, requests, and
/// heads of models.
#[test]
#[ignore = "it writes files for libFuzzer"]
fn seeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = |target: &str, i: usize, seed: &[u8]| {
        let folder = root.join("fuzz/corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("seed{i}")), seed).unwrap();
    };
    let mut random = Random(6);
    for target in ["answer", "drafter", "grammar", "request", "session", "template", "tokenizer"] {
        for i in 0..200 {
            let length = 4 + random.below(80);
            let seed: Vec<u8> = (0..length).map(|_| random.bits() as u8).collect();
            write(target, i, &seed);
        }
    }
    let folder = root.join("tests/data/templates");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_template = |path: &PathBuf| path.extension().is_some_and(|end| end == "jinja");
    for (i, path) in paths.filter(is_template).enumerate() {
        let source = fs::read_to_string(path).unwrap();
        write("template", 200 + i, format!("\0{source}").as_bytes());
        let template = ("tokenizer.chat_template".to_owned(), Value::String(source));
        let keys = tokenizer_keys().chain([template]).collect();
        write("gguf", i, &Parts { keys, tensors: Vec::new() }.bytes());
    }
    for (i, (path, body)) in BODIES.iter().enumerate() {
        write("request", 200 + i, &[&[*path, 0], body.as_bytes()].concat());
    }
}
