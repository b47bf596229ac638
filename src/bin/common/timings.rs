//! Statistics of an answer as JSON.

use dovetail::Stats;
use dovetail::speculate::RoundStats;
use serde_json::{Value, json};
use std::time::Duration;

/// Tokens per second; 0 if no time was spent.
pub fn per_second(n: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { n as f64 / time.as_secs_f64() }
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Statistics under the names that llama.cpp's server uses in its timings.
pub fn timings(stats: &Stats, rounds: &RoundStats) -> Value {
    json!({
        "prompt_n": stats.prompt_n,
        "prompt_ms": ms(stats.prompt_time),
        "prompt_per_token_ms": ms(stats.prompt_time) / stats.prompt_n.max(1) as f64,
        "prompt_per_second": per_second(stats.prompt_n, stats.prompt_time),
        "predicted_n": stats.predicted_n,
        "predicted_ms": ms(stats.predicted_time),
        "predicted_per_token_ms": ms(stats.predicted_time) / stats.predicted_n.max(1) as f64,
        "predicted_per_second": per_second(stats.predicted_n, stats.predicted_time),
        "draft_n": rounds.drafted,
        "draft_n_accepted": rounds.accepted,
        "rounds": rounds.rounds,
        "mean_acceptance_length": rounds.mean_acceptance_length(),
        "draft_ms": ms(rounds.draft_time),
        "verify_ms": ms(rounds.verify_time),
        "mask_ms": ms(stats.mask_time),
        "cache_n": stats.cached_n,
    })
}
