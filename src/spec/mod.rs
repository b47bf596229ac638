//! From logits to tokens.
//!
//! ```text
//! sample.rs   penalties, truncation, temperature, and a draw keyed by position
//! ```

mod sample;

pub use sample::{Sampler, Sampling};
