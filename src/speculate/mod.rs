//! Several tokens at a time: which of the drafted ones stay.
//!
//! ```text
//! round.rs        one round: trees grow, the target verifies them, each sequence keeps a branch
//! accept.rs       which branch of a tree the target agrees with
//! stream.rs       one sequence being written
//! generation.rs   what is generated, and how tokens become pieces of text
//! speculation.rs  a drafter and how it is used, and its part in one sequence
//! options.rs      from what is asked of drafting to a drafter at work
//! calibrate.rs    what passes cost here             measure.rs  timing them
//! store.rs        what was measured, in files       json.rs     as which it lies there
//! stats.rs        counts and times of rounds
//! ```

mod accept;
pub mod calibrate;
mod generation;
pub mod json;
mod measure;
mod options;
mod round;
mod speculation;
mod stats;
mod store;
pub(crate) mod stream;

pub use accept::{Rejection, accept_matching, accept_rejecting};
pub use generation::{Generation, Logprobs, Piece, Stop};
pub use options::{ConfiguredDrafter, SpecOptions};
pub(crate) use round::round;
pub use speculation::{Drafting, SpecSampling, Speculation};
pub use stats::{LiveStats, RoundStats, Stats};
pub use store::Store;
