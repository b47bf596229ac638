//! From logits to tokens, one or several at a time.
//!
//! ```text
//! sample.rs   penalties, truncation, temperature, and a draw keyed by position
//! accept.rs   which branch of a tree the target agrees with
//! round.rs    guess, verify, keep
//! ```

mod accept;
mod round;
mod sample;

pub use accept::{Distribution, Rejection, accept_matching, accept_rejecting};
pub use round::{RoundError, RoundStats, SpecSampling, Speculation};
pub(crate) use sample::Purpose;
pub use sample::{Sampler, Sampling};
