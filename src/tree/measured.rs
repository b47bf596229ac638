//! What rounds cost, as tables have it and as they turn out; and what they bring.

use super::MAX_NODES;
use super::cost::{Correction, Costs};
use super::plan::{MAX_BATCH, Taken};
use super::step::Step;

/// The part of a round that averages take over.
const RECENT: f64 = 1.0 / 32.0;

/// Costs and their corrections, and averages of rounds.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    costs: Costs,
    verify: Correction,
    draft: Correction,
    /// Seconds of a round beside its drafting and its pass.
    rest: f64,
    /// All rounds, and those that guessed.
    all: Average,
    guessing: Average,
    /// Rows of a pass.
    rows: f64,
}

/// Tokens of a sequence in a round, and its time in times of a plain one.
#[derive(Clone, Copy, Debug)]
struct Average {
    tokens: f64,
    time: f64,
}

impl Average {
    fn add(&mut self, tokens: f64, time: f64) {
        self.tokens += RECENT * (tokens - self.tokens);
        self.time += RECENT * (time - self.time);
    }

    /// How many times as fast as plain decoding.
    fn speed_up(self) -> f64 {
        self.tokens / self.time
    }
}

/// A round as it was expected to be.
pub(super) struct Expected {
    pub seconds: f64,
    /// How many times as fast as plain decoding.
    pub speed_up: f64,
}

impl Measured {
    pub fn new(costs: Costs) -> Measured {
        Measured {
            costs,
            verify: Correction::new(MAX_BATCH * MAX_NODES),
            draft: Correction::new(1),
            rest: 0.0,
            // Where guessing pays at all is not known yet.
            all: Average { tokens: 1.2, time: 1.1 },
            guessing: Average { tokens: 1.2, time: 1.1 },
            rows: 0.0,
        }
    }

    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    /// Rows of a pass that others than `these` sequences have.
    pub fn rows_of_others(&self, batch: usize, these: usize) -> usize {
        (self.rows * (1.0 - these as f64 / batch as f64)).round() as usize
    }

    /// Seconds of a pass over `n` rows of this round's sequences.
    pub fn verify_seconds(&self, step: &Step, n: usize) -> f64 {
        self.costs.verify.seconds(step.batch, step.context, n) * self.verify.factor(n)
    }

    /// Seconds of a pass without a guess.
    pub fn plain_seconds(&self, step: &Step) -> f64 {
        self.verify_seconds(step, step.batch)
    }

    /// Seconds of a round without a guess.
    pub fn plain_round(&self, step: &Step) -> f64 {
        self.plain_seconds(step) + self.rest
    }

    /// Seconds of the first level of the trees of so many sequences.
    pub fn first_seconds(&self, sequences: usize) -> f64 {
        self.costs.draft.first_of(sequences) * self.draft.now()
    }

    /// Seconds of each further level of so many guesses, in one tree or in several.
    pub fn level_seconds(&self, width: usize) -> f64 {
        self.costs.draft.level.seconds(width) * self.draft.now()
    }

    /// What a second is worth in tokens of all sequences; plain decoding is there for the asking.
    pub fn price(&self, step: &Step) -> f64 {
        self.all.speed_up().max(1.0) * step.batch as f64 / self.plain_round(step)
    }

    /// How many times as fast as plain decoding rounds are that guess.
    pub fn guessing(&self) -> f64 {
        self.guessing.speed_up()
    }

    /// Takes note of a round; returns what was expected of it.
    pub fn observe(&mut self, step: &Step, taken: Taken) -> Expected {
        let seconds = step.spent + self.verify_seconds(step, step.rows) + self.rest;
        let time = seconds / self.plain_round(step);
        let tokens = step.expected / step.batch as f64;
        self.all.add(tokens, time);
        if !step.pauses {
            self.guessing.add(tokens, time);
        }
        self.rows += RECENT * (step.rows as f64 - self.rows);
        let table = self.costs.verify.seconds(step.batch, step.context, step.rows);
        self.verify.observe(step.rows, table, taken.verify);
        if step.spent > 0.0 {
            self.draft.observe(0, step.spent / self.draft.now(), taken.draft);
        }
        // One round that something came between is no reason to think all of them longer.
        let rest = (taken.whole - taken.draft - taken.verify).clamp(0.0, 0.1 * taken.verify);
        self.rest += RECENT * (rest - self.rest);
        Expected { seconds, speed_up: tokens / time }
    }
}
