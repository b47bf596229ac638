//! Speculative decoding for desktops: the quantised target on the CPU, a small drafter beside it.
//!
//! ```text
//! gguf      the file, mapped and checked           text      tokens, chat templates, UTF-8
//! model     configuration, packed weights          tree      guesses at what follows
//! target    n tokens in one pass over the weights  ring      messages between CPU and GPU
//! draft     what guesses                           spec      which guesses stay
//! sample    logits to tokens                       stream    one sequence being written
//! saved     a sequence in a file                   session   prompt in, pieces of text out
//! engine    several sequences side by side         capi      all of it for C
//! ```
//!
//! Modules import only those above them in `ARCHITECTURE.md`; all arithmetic is in the crate
//! `dovetail-kernels`. The text depends on model, prompt, seed, sampling and the types of the cache
//! alone: not on threads, instruction set, or how many tokens share a pass.

// Unit tests use what integration tests do.
#[cfg(test)]
extern crate self as dovetail;

pub mod capi;
pub mod draft;
pub mod engine;
pub mod error;
pub mod gguf;
pub mod gpu;
pub mod infer;
pub mod machine;
pub mod model;
pub mod planner;
pub mod ring;
pub mod sample;
mod saved;
pub mod session;
pub mod speculate;
pub mod stream;
pub mod text;
pub mod tree;

pub use engine::{Answer, Engine, Request};
pub use error::{Error, Result};
pub use gguf::OpenOptions;
pub use model::{LoadOptions, Model, Packing, Repack};
pub use sample::Sampling;
pub use session::Session;
pub use stream::{Piece, SessionOptions, Stats, Stop};
pub use text::{ChatTemplate, Message};
