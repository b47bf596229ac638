//! Sizes that a planner chose, and the tokens and times that resulted.

use crate::tree::MAX_NODES;

/// Seconds of a round.
#[derive(Clone, Copy, Debug)]
pub struct RoundTimes {
    /// Drafting.
    pub draft: f64,
    /// The target's pass.
    pub verify: f64,
    /// The whole round.
    pub whole: f64,
}

/// Sizes chosen and their results, summed over rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Numbers of trees by their nodes, the root included: (nodes + 1).
    pub nodes: [usize; MAX_NODES + 1],
    /// How many of the trees with one node were not grown because drafting had not paid.
    pub paused: usize,
    /// Expected tokens.
    pub expected_tokens: f64,
    /// Tokens gained.
    pub tokens: usize,
    /// Expected seconds.
    pub expected_seconds: f64,
    /// Measured seconds.
    pub seconds: f64,
    /// Seconds that plain decoding would have taken for these tokens, by the tables.
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
    /// Adds the report of other rounds.
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
