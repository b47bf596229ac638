//! How large trees pay: what passes cost, how often drafted tokens are accepted, and what follows from both.
//!
//! ```text
//! cost.rs         tables of measured costs        acceptance.rs   counts of accepted tokens
//! cost_model.rs   these tables, corrected by what rounds take
//! round_state.rs  one round of all sequences      backoff.rs      rounds without drafting
//! policy.rs       what decides, as users name it  cast.rs         the same by thresholds
//! plan.rs         the planner                     report.rs       what it chose, and what came of it
//! ```
//!
//! Pure: nothing here runs a model or reads a clock.

pub mod acceptance;
mod backoff;
mod cast;
pub mod cost;
mod cost_model;
mod plan;
mod policy;
mod report;
mod round_state;

pub use cast::Thresholds;
pub use cost::MAX_BATCH;
pub use plan::{LARGEST, Planner, TreeLimits};
pub use policy::Policy;
pub use report::{Report, RoundTimes};
