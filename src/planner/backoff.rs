//! Rounds that do without a guess where guessing has not paid, ever more of them.

/// Rounds without a guess between two attempts where guessing does not pay, at most.
const LONGEST_PAUSE: usize = 48;
/// Of so many rounds that guess, one verifies a guess more than pays: what is never tested is never found to
/// have become better.
const CURIOSITY: usize = 64;

/// Rounds without a guess between two attempts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    length: usize,
    over: usize,
    /// Rounds that guessed since a guess more was verified.
    pub since: usize,
}

impl Backoff {
    /// Whether the next round pauses.
    pub fn goes_on(&mut self) -> bool {
        self.over = if self.over < self.length { self.over + 1 } else { 0 };
        self.over > 0
    }

    /// Whether this round, which guesses, verifies a guess more than pays; after a pause it does.
    pub fn is_curious(&mut self) -> bool {
        self.since = if self.length > 0 { 0 } else { (self.since + 1) % CURIOSITY };
        self.since == 0
    }

    /// What an observation of this round counts for: the rounds that were paused too.
    pub fn weight(self) -> f32 {
        1.0 + self.length as f32 / 8.0
    }

    /// After a round that guessed: how many times as fast as plain decoding such rounds are, and this one was
    /// expected to be.
    pub fn set(&mut self, all: f64, this: f64) {
        self.length = match () {
            _ if all >= 1.0 => 0,
            // Perhaps the topic has changed.
            _ if this > 1.1 => (self.length / 4).max(1),
            _ => (2 * self.length).clamp(1, LONGEST_PAUSE),
        };
    }
}
