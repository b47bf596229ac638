//! Speculative decoding for desktops: the quantised target on the CPU, a small drafter beside it.
#![deny(missing_docs, unsafe_op_in_unsafe_fn)]

pub mod error;
pub mod gguf;
