//! Anthropic's interface: what Claude Code sends.
//!
//! ```text
//! messages.rs  requests and whole answers    stream.rs  answers as events
//! ```

pub mod messages;
mod stream;
