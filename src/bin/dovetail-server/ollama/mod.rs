//! Ollama's interface: what phone and home tools send.
//!
//! ```text
//! generate.rs  chats and completions, line by line    messages.rs  messages and calls in its form
//! embed.rs     vectors of texts                       models.rs    the model, as clients list it
//! ```

pub mod embed;
pub mod generate;
mod messages;
pub mod models;
