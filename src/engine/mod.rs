//! Generates text: an engine for several sequences, and a session for one.
//!
//! ```text
//! options.rs  sizes             engine.rs   requests side by side, prompts in chunks, and their drafters
//! prefix_cache.rs  sequences that no slot holds any more
//! saved.rs    a session's file  session.rs  an engine of one sequence: prompt in, pieces of text out
//! ```

#[allow(clippy::module_inception, reason = "the engine of the engines")]
mod engine;
mod options;
mod prefix_cache;
mod saved;
mod session;

pub(crate) use engine::planning;
pub use engine::{Answer, DrafterId, Engine, Request, RequestId, step_together};
pub use options::SessionOptions;
pub use session::{Generate, Session};
