//! OpenAI's later interface: what Codex sends.
//!
//! ```text
//! request.rs  what is asked     input.rs   the items of a conversation    tools.rs  the tools
//! answer.rs   what answers are made of     stream.rs  answers as events
//! ```

mod answer;
mod input;
pub mod request;
mod stream;
mod tools;
