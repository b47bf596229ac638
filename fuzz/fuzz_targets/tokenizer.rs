//! Any bytes as text, through made-up vocabularies of both kinds: the tokens give the text back.
//!
//! `cargo +nightly fuzz run tokenizer`
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::fuzzed;
use dovetail::text::Tokenizer;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TOKENIZERS: LazyLock<Vec<Tokenizer>> = LazyLock::new(fuzzed::tokenizers);

fuzz_target!(|data: &[u8]| fuzzed::tokenise(&TOKENIZERS, data));
