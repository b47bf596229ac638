//! Any bytes as a chat template, with a small conversation: it ends soon, without a panic, in little memory and stack.
//!
//! `cargo +nightly fuzz run template -- -rss_limit_mb=600`
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::fuzzed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzzed::render(data));
