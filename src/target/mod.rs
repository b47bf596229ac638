//! The target: the model that decides, run on the CPU.
//!
//! ```text
//! kv.rs        keys and values of one sequence
//! forward.rs   n tokens in one pass over the weights
//! logits.rs    what the head leaves, and the best of a row
//! ```

mod forward;
mod kv;
mod logits;

pub use forward::{Outputs, Target};
pub use kv::KvCache;
pub(crate) use logits::by_logit;
#[cfg(test)]
pub(crate) use logits::tests::rows_of;
pub use logits::{Candidate, Logits};
