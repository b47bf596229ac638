//! Any bytes as a JSON schema, a regular expression, a Lark or a GBNF grammar: it is compiled or refused soon, and the
//! answer is the same with drafted tokens and without.
//!
//! `cargo +nightly fuzz run grammar -- -rss_limit_mb=2048 -timeout=25 -max_len=512`
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::fuzzed_grammars::{Place, constrain, place};
use libfuzzer_sys::fuzz_target;
use std::sync::{LazyLock, Mutex};

static PLACE: LazyLock<Mutex<Place>> = LazyLock::new(|| Mutex::new(place()));

fuzz_target!(|data: &[u8]| {
    constrain(&mut PLACE.lock().expect("no panic is survived"), data);
});
