//! Speculative decoding: which of the drafted tokens are accepted.
//!
//! ```text
//! round.rs        one round: trees grow, the target verifies them, each sequence keeps a branch
//! accept.rs       the branch of a tree that the target agrees with
//! stream/         one sequence being written
//! generation.rs   limits of a generation, and how tokens become pieces of text
//! prompt_output.rs  log probabilities and embeddings of prompts
//! speculation.rs  a drafter and its options, and its state for one sequence
//! options.rs      from the user's options to a configured drafter
//! calibrate.rs    measures what passes cost         measure.rs  times passes
//! store.rs        stores these costs in files       json.rs     their format
//! kept.rs         when stored costs are used, and when they are measured again
//! stats.rs        counts and times of rounds
//! ```

mod accept;
pub mod calibrate;
mod generation;
pub mod json;
mod kept;
mod measure;
mod options;
mod prompt_output;
mod round;
mod speculation;
mod stats;
mod store;
pub(crate) mod stream;

pub use accept::{Rejection, accept_matching, accept_rejecting};
pub use generation::{Generation, Logprobs, Piece, Stop};
pub use options::{ConfiguredDrafter, SpecOptions};
pub use prompt_output::{Pooling, PromptOutput};
pub(crate) use round::round;
pub use speculation::{Drafting, SpecSampling, Speculation};
pub use stats::{LiveStats, RoundCounts, RoundStats, Stats};
pub use store::Store;
