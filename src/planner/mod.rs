//! Chooses tree sizes from the cost of passes and the acceptance rate of drafted tokens.
//!
//! ```text
//! cost.rs         tables of measured costs        acceptance.rs   acceptance rates
//! plausible.rs    which of these cannot be true   cost_model.rs   the tables, corrected by the times of rounds
//! round_state.rs  one round of all sequences      backoff.rs      rounds without drafting
//! policy.rs       the policies users can name     cast.rs         the policy of thresholds
//! plan.rs         the planner                     report.rs       chosen sizes and their results
//! ```
//!
//! Pure: nothing here runs a model or reads a clock.

pub mod acceptance;
mod backoff;
mod cast;
pub mod cost;
mod cost_model;
mod plan;
pub mod plausible;
mod policy;
mod report;
mod round_state;

pub use cast::Thresholds;
pub use cost::MAX_BATCH;
pub use plan::{LARGEST, Planner, TreeLimits};
pub use policy::Policy;
pub use report::{Report, RoundTimes};
