//! Ollama's interface: what phone and home tools send.
//!
//! ```text
//! generate.rs  chats and completions, line by line    models.rs  the model, as clients list it
//! ```

pub mod generate;
pub mod models;
