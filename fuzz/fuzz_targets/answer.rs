//! Any bytes as an answer of a chat model: it is read without a panic, and the same however it is cut.
//!
//! `cargo +nightly fuzz run answer`
#![no_main]

#[path = "../../tests/common/fuzzed_answers.rs"]
mod fuzzed_answers;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzzed_answers::read_answer(data));
