//! Speculative decoding for desktops: the quantised target on the CPU, a small drafter beside it.
//!
//! ```text
//! gguf      the file, mapped and checked           text      tokens, chat templates, UTF-8
//! model     configuration, packed weights          ring      messages between CPU and GPU
//! tree      what may follow, token by token        gpu       a GPU and its kernels
//! planner   how large trees pay                    infer     n tokens in one pass over the weights
//! sample    logits to tokens                       draft     what drafts tokens
//! speculate which drafted tokens stay              engine    sequences side by side, and one alone
//! open      from options to all of that            capi      all of it for C
//! hub       models fetched, or found on the disk
//! ```
//!
//! The feature `cli` builds the programs, `server` the one that speaks HTTP, `hub` what fetches models for them, `gpu`
//! drafters on NVIDIA's GPUs; all are on unless they are left out.
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
pub mod file;
pub mod gguf;
pub mod gpu;
#[cfg(feature = "hub")]
pub mod hub;
pub mod infer;
pub mod machine;
pub mod model;
pub mod open;
pub mod planner;
pub mod printable;
pub mod ring;
pub mod sample;
pub mod setting;
pub mod speculate;
pub mod temp_file;
pub mod text;
pub mod tree;

pub use engine::{Answer, Engine, Request, RequestId, Session, SessionOptions};
pub use error::{Error, Result};
pub use gguf::OpenOptions;
pub use model::{LoadOptions, Model, Packing, Repack};
pub use open::{Level, Notice, Observer, Options, Stage, open};
pub use sample::Sampling;
pub use setting::{Face, Setting};
pub use speculate::{
    Drafting, Generation, LiveStats, Logprobs, Piece, Pooling, PromptOutput, Stats, Stop,
};
pub use text::{ChatTemplate, Constraint, Conversation, Grammar, Message, PromptEnd};
