//! What a planner chose and what came of it.

use crate::tree::MAX_NODES;

/// What a round has taken, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct RoundTimes {
    /// Drafting.
    pub draft: f64,
    /// The target's pass.
    pub verify: f64,
    /// All of it.
    pub whole: f64,
}

/// What was chosen and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Trees by their nodes, the root included: (nodes + 1).
    pub nodes: [usize; MAX_NODES + 1],
    /// Of those with one node, how many were not grown since it had not paid.
    pub paused: usize,
    /// Tokens that were expected.
    pub expected_tokens: f64,
    /// Tokens that came.
    pub tokens: usize,
    /// Seconds that were expected.
    pub expected_seconds: f64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Seconds that plain decoding would have taken for these tokens, as the tables have it.
    pub plain_seconds: f64,
}

impl Default for Report {
    fn default() -> Report {
        Report {
            nodes: [0; MAX_NODES + 1],
            paused: 0,
            expected_tokens: 0.0,
            tokens: 0,
            expected_seconds: 0.0,
            seconds: 0.0,
            plain_seconds: 0.0,
        }
    }
}

impl Report {
    /// Adds those of other rounds.
    pub fn add(&mut self, other: &Report) {
        for (sum, n) in self.nodes.iter_mut().zip(other.nodes) {
            *sum += n;
        }
        self.paused += other.paused;
        self.expected_tokens += other.expected_tokens;
        self.tokens += other.tokens;
        self.expected_seconds += other.expected_seconds;
        self.seconds += other.seconds;
        self.plain_seconds += other.plain_seconds;
    }
}
