//! What several integration tests need: made-up models, a naive model, the real one's path.
//!
//! ```text
//! alone.rs   a target with one sequence
//! tiny.rs    small models with random weights, of any weight type and RoPE scaling
//! everything.rs  a made-up architecture with all that a block can have
//! answers.rs answers of a session
//! bits.rs    logits as bits, token sequences, all made-up models
//! dovetail_run.rs  the program in a home of its own; included where programs are tested
//! drafter.rs made-up trained drafters, and what the formulas say they draft
//! fuzzed.rs  what fuzzing does with any bytes as a template and as text
//! fuzzed_answers.rs  the same with any bytes as an answer
//! fuzzed_grammars.rs  the same with any bytes as a grammar
//! grown.rs   texts of which each byte is a choice
//! gguf.rs    a writer of GGUF files
//! hub_server.rs  a hub of models on this machine
//! naive.rs   the textbook forward pass in double precision
//! place.rs   a model file beside a cache directory
//! process.rs running programs
//! server.rs  the server, and a client that can misbehave; included where it is tested
//! reference.rs  small models of each architecture and their logits
//! ```

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod alone;
pub mod answers;
pub mod bits;
pub mod drafter;
pub mod everything;
pub mod fuzzed;
pub mod fuzzed_answers;
pub mod fuzzed_grammars;
pub mod gguf;
pub mod grown;
pub mod hub_server;
pub mod naive;
pub mod place;
pub mod process;
pub mod random;
pub mod reference;
pub mod tiny;

use dovetail::draft::{self, Drafter, DrafterContext, Placement};
use dovetail::model::arch::ARCHITECTURES;
use dovetail::{LoadOptions, Model};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the default model lies, or `None`, said aloud.
pub fn real_model() -> Option<PathBuf> {
    let default = cache_folder().map(|dir| dir.join("SmolLM2-135M-Instruct.Q4_1.gguf"));
    let path = std::env::var_os("DOVETAIL_TEST_MODEL").map(PathBuf::from).or(default);
    let path = path.filter(|path| path.exists());
    if path.is_none() {
        eprintln!(
            "SKIPPED: the default model is absent; set DOVETAIL_TEST_MODEL or run scripts/setup"
        );
    }
    path
}

/// Where Qwen2.5-Coder-0.5B-Instruct lies, or `None`, said aloud.
pub fn real_qwen() -> Option<PathBuf> {
    let path = cache_folder()?.join("Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf");
    if !path.exists() {
        eprintln!("SKIPPED: run scripts/setup --model qwen2.5-coder-0.5b");
        return None;
    }
    Some(path)
}

/// The folder that scripts/setup writes to.
fn cache_folder() -> Option<PathBuf> {
    let named = std::env::var_os("DOVETAIL_CACHE").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    named.or_else(|| Some(cache?.join("dovetail")))
}

/// Loads a model with two threads.
pub fn load(path: &Path) -> dovetail::Result<Model> {
    load_with(path, LoadOptions { threads: 2, ..LoadOptions::default() })
}

/// Loads a model, which may be of the made-up architecture.
pub fn load_with(path: &Path, options: LoadOptions) -> dovetail::Result<Model> {
    let known = [ARCHITECTURES, &[everything::ARCH]].concat();
    Model::load_with(path, options, &known)
}

/// A drafter of this kind from a file with these contents.
pub fn open_drafter(
    kind: &str,
    parts: &gguf::Parts,
    target: &Arc<Model>,
) -> dovetail::Result<Box<dyn Drafter>> {
    let file = parts.write();
    let n_ctx = tiny::N_CTX as usize;
    let setup = DrafterContext {
        target,
        n_ctx,
        threads: 2,
        path: Some(file.path()),
        placement: Placement::CPU,
    };
    (draft::kind(kind).unwrap().open)(&setup)
}

/// A fingerprint of bits.
pub fn fingerprint(words: impl IntoIterator<Item = u32>) -> u64 {
    fnv(words.into_iter().flat_map(u32::to_le_bytes))
}

/// FNV-1a.
pub fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
