//! Generates text: an engine for several sequences, and a session for one.
//!
//! ```text
//! options.rs   sizes                          request.rs       what is asked for, and slots
//! engine.rs    requests side by side          drafting.rs      their drafters
//! prefixes.rs  which slot gets a prompt       prefix_cache.rs  sequences that no slot holds any more
//! together.rs  one round, prompts in chunks   only_slot.rs     an engine of one slot
//! saved.rs     a session's file               session.rs       that engine: prompt in, pieces of text out
//! ```

#[allow(clippy::module_inception, reason = "the engine of the engines")]
mod engine;

mod drafting;
mod only_slot;
mod options;
mod prefix_cache;
mod prefixes;
mod request;
mod saved;
mod session;
mod together;

pub use engine::Engine;
pub use options::SessionOptions;
pub use request::{Answer, DrafterId, Request, RequestId};
pub use session::{Generate, Session};
pub(crate) use together::planning;
pub use together::step_together;
