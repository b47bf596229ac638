//! Anthropic's interface: what Claude Code sends.
//!
//! ```text
//! messages.rs  requests and whole answers    conversation.rs  messages and tools, in the form that templates take
//! answer.rs    what answers are made of      stream.rs        answers as events
//! ```

mod answer;
mod conversation;
pub mod messages;
mod stream;
