//! OpenAI's interface, with what llama.cpp's server adds to it.
//!
//! ```text
//! chat.rs         chat completions        completions.rs  completions of texts
//! embeddings.rs   vectors of texts        logprobs.rs     log probabilities in both forms
//! models.rs       the model               types.rs        what requests and answers are made of
//! ```

pub mod chat;
pub mod completions;
pub mod embeddings;
pub mod logprobs;
pub mod models;
pub mod types;
