//! Backoff: rounds without drafting, ever more of them while drafting does not pay.

/// Largest number of rounds without drafting between two attempts.
const LONGEST_PAUSE: usize = 48;
/// One in `CURIOSITY` drafting rounds verifies one node more than pays: a token that is never tested can never turn out
/// to be accepted more often.
const CURIOSITY: usize = 64;

/// Number of rounds without drafting between two attempts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    length: usize,
    over: usize,
    /// Drafting rounds since the last one that verified an additional node.
    pub since: usize,
}

impl Backoff {
    /// Whether the next round does not draft.
    pub fn goes_on(&mut self) -> bool {
        self.over = if self.over < self.length { self.over + 1 } else { 0 };
        self.over > 0
    }

    /// Whether this drafting round verifies one node more than pays, as each round after a pause does.
    pub fn is_curious(&mut self) -> bool {
        self.since = if self.length > 0 { 0 } else { (self.since + 1) % CURIOSITY };
        self.since == 0
    }

    /// Weight of this round's observation, which also stands for the rounds without drafting before it.
    pub fn weight(self) -> f32 {
        1.0 + self.length as f32 / 8.0
    }

    /// Sets the pause after a drafting round. `all` and `this` are speed-ups over plain decoding: of drafting rounds on
    /// average, and as it was expected of this one.
    pub fn set(&mut self, all: f64, this: f64) {
        self.length = match () {
            _ if all >= 1.0 => 0,
            // A high expectation may mean that the text has changed.
            _ if this > 1.1 => (self.length / 4).max(1),
            _ => (2 * self.length).clamp(1, LONGEST_PAUSE),
        };
    }
}
