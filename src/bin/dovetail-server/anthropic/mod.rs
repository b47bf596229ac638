//! Anthropic's interface: what Claude Code sends.
//!
//! ```text
//! messages.rs  what is asked    answer.rs  what answers are made of    stream.rs  answers as events
//! ```

mod answer;
pub mod messages;
mod stream;
