//! OpenAI's later interface: what Codex sends.
//!
//! ```text
//! request.rs  what is asked    answer.rs  whole answers    stream.rs  answers as events
//! ```

mod answer;
pub mod request;
mod stream;
