//! Several tokens at a time: which of a drafter's guesses stay.
//!
//! ```text
//! accept.rs     which branch of a tree the target agrees with
//! round.rs      let a tree grow, keep what the target agrees with
//! guessing.rs   from what is asked of guessing to a drafter at work
//! calibrate.rs  what passes cost here
//! measure.rs    timing them
//! store.rs      what was measured before, in files
//! json.rs       as which it lies there
//! ```

mod accept;
pub mod calibrate;
mod guessing;
pub mod json;
mod measure;
mod round;
mod store;

pub use accept::{Rejection, accept_matching, accept_rejecting};
pub use guessing::{ConfiguredDrafter, SpecOptions};
pub use round::{RoundError, RoundStats, SpecSampling, Speculation};
pub use store::Store;
