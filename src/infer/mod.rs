//! The target: the model that verifies, run on the CPU.
//!
//! ```text
//! kv/          KV cache of one sequence
//! sequence.rs  one sequence: its cache, and the last tree behind it
//! pass/        n rows of some sequences in one pass over the weights
//! work.rs      work of a pass for a sequence: a run of tokens, or a tree
//! target.rs    the target: passes, and the paths that are kept
//! logits.rs    logits of a pass, and the best of a row
//! ```

mod kv;
mod logits;
mod pass;
mod sequence;
mod target;
mod work;

pub use dovetail_kernels::cpu::CacheType;
pub use dovetail_kernels::cpu::attention::MAX_SEQUENCES;
pub use kv::{CacheTypes, KvCache, KvSize};
pub(crate) use logits::SavedLogits;
pub(crate) use logits::by_logit;
#[cfg(test)]
pub(crate) use logits::tests::rows_of;
pub use logits::{Logits, TokenLogit};
pub use pass::Features;
pub(crate) use pass::{BufferSizes, Buffers, Pass, Row, Span};
pub use sequence::Sequence;
pub(crate) use sequence::common_prefix;
pub use target::Target;
pub(crate) use target::sequence_bytes;
pub use work::{Outputs, Rows, Work, WorkRows};
