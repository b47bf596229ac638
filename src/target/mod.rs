//! The target: the model that decides, run on the CPU.
//!
//! ```text
//! kv.rs        keys and values of one sequence
//! forward.rs   n tokens in one pass over the weights
//! ```

mod forward;
mod kv;

pub use forward::{Outputs, Target};
pub use kv::KvCache;
