//! Expected costs of rounds, corrected by measured times, and the tokens that rounds gain.

use super::cost::{Correction, Costs, MAX_BATCH};
use super::report::RoundTimes;
use crate::tree::MAX_NODES;

/// Weight of a round in the averages in the long run.
const RECENT: f64 = 1.0 / 32.0;
/// Weight of the averages' initial values, in rounds.
const PRIOR: f64 = 8.0;

/// Size of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RoundSize {
    /// Number of sequences.
    pub batch: usize,
    /// Tokens of a sequence on average.
    pub context: usize,
}

/// What a round was expected to gain, and what it gained.
pub(super) struct RoundObservation {
    /// Whether the round did not draft because drafting had not paid.
    pub pauses: bool,
    /// Expected seconds of drafting.
    pub draft_seconds: f64,
    /// Tokens expected and tokens gained, and rows of the pass, of all sequences.
    pub expected: f64,
    pub tokens: usize,
    pub rows: usize,
}

/// Costs, their corrections, and averages of rounds.
#[derive(Clone, Debug)]
pub(super) struct CostModel {
    costs: Costs,
    verify: Correction,
    /// By the class of the batch size.
    draft: [Correction; BATCH_CLASSES],
    /// Seconds of a round besides drafting and pass, for each token gained: sampling it and notifying the drafter.
    rest: f64,
    /// Averages of rounds, by the class of the batch size.
    rounds: [RoundAverages; BATCH_CLASSES],
}

/// Classes of the batch size: 1, 2, up to 4, up to 8, and more.
pub(super) const BATCH_CLASSES: usize = 5;

/// The class of a batch size.
pub(super) fn batch_class(batch: usize) -> usize {
    batch.next_power_of_two().ilog2() as usize
}

/// Averages of recent rounds.
#[derive(Clone, Copy, Debug)]
struct RoundAverages {
    /// Of all rounds, and of rounds that drafted.
    all: Average,
    drafting: Average,
    /// Rows of a pass for each sequence.
    rows: f64,
}

/// Tokens of a sequence in a round, and the round's time relative to a plain one.
#[derive(Clone, Copy, Debug)]
struct Average {
    tokens: f64,
    time: f64,
    rounds: f64,
}

impl Average {
    /// Where drafting pays is not known yet.
    const NEW: Average = Average { tokens: 1.2, time: 1.1, rounds: PRIOR };

    /// Adds a round with this weight.
    fn add(&mut self, tokens: f64, time: f64, weight: f64) {
        self.rounds += weight;
        let part = (weight * RECENT).max(weight / self.rounds);
        self.tokens += part * (tokens - self.tokens);
        self.time += part * (time - self.time);
    }

    /// Speed-up over plain decoding.
    fn speed_up(self) -> f64 {
        self.tokens / self.time
    }
}

/// What a round was expected to take and to gain.
pub(super) struct RoundForecast {
    pub seconds: f64,
    /// Speed-up over plain decoding.
    pub speed_up: f64,
}

impl CostModel {
    pub fn new(costs: Costs) -> CostModel {
        CostModel {
            costs: costs.without_steps_down(),
            verify: Correction::new(MAX_BATCH * MAX_NODES),
            draft: std::array::from_fn(|_| Correction::new(1)),
            rest: 0.0,
            rounds: [RoundAverages { all: Average::NEW, drafting: Average::NEW, rows: 1.0 };
                BATCH_CLASSES],
        }
    }

    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    /// Averages of rounds of this batch size.
    fn rounds(&self, size: RoundSize) -> &RoundAverages {
        &self.rounds[batch_class(size.batch)]
    }

    /// Expected rows of the pass that belong to other sequences than `these`.
    pub fn rows_of_others(&self, size: RoundSize, these: usize) -> usize {
        (self.rounds(size).rows * (size.batch - these) as f64).round() as usize
    }

    /// Seconds of a pass over `n` rows of this round's sequences.
    pub fn verify_seconds(&self, size: RoundSize, n: usize) -> f64 {
        self.costs.verify.seconds(size.batch, size.context, n) * self.verify.factor(n)
    }

    /// Seconds of a pass without drafted tokens.
    pub fn plain_seconds(&self, size: RoundSize) -> f64 {
        self.verify_seconds(size, size.batch)
    }

    /// Seconds of a round without drafting.
    pub fn plain_round(&self, size: RoundSize) -> f64 {
        self.plain_seconds(size) + self.rest * size.batch as f64
    }

    /// Seconds of the first level of the trees of `sequences` sequences.
    pub fn first_seconds(&self, size: RoundSize, sequences: usize) -> f64 {
        self.costs.draft.first_of(sequences) * self.draft[batch_class(size.batch)].now()
    }

    /// Seconds of each further level that runs `width` nodes, in one tree or in several.
    pub fn level_seconds(&self, size: RoundSize, width: usize) -> f64 {
        self.costs.draft.level.seconds(width) * self.draft[batch_class(size.batch)].now()
    }

    /// Value of a second in tokens of all sequences. The time that each token takes in any case is left out, and plain
    /// decoding is a lower bound.
    pub fn price(&self, size: RoundSize) -> f64 {
        let tokens = self.rounds(size).all.speed_up().max(1.0) * size.batch as f64;
        tokens / (self.plain_round(size) - tokens * self.rest).max(0.1 * self.plain_seconds(size))
    }

    /// Tokens of a sequence that a round gains by drafting, on average, less the value of the time that it takes longer.
    pub fn drafting_gain(&self, size: RoundSize) -> f64 {
        let Average { tokens, time, .. } = self.rounds(size).drafting;
        let seconds = (time - 1.0) * self.plain_round(size) / size.batch as f64;
        tokens - 1.0 - self.price(size) * seconds
    }

    /// Speed-up over plain decoding of rounds that draft.
    pub fn drafting(&self, size: RoundSize) -> f64 {
        self.rounds(size).drafting.speed_up()
    }

    /// Records a round, with this `weight` if it drafted; returns what was expected of it.
    pub fn observe(
        &mut self,
        size: RoundSize,
        round: &RoundObservation,
        weight: f64,
        taken: RoundTimes,
    ) -> RoundForecast {
        let rest = self.rest * round.expected;
        let seconds = round.draft_seconds + self.verify_seconds(size, round.rows) + rest;
        let time = seconds / self.plain_round(size);
        let tokens = round.expected / size.batch as f64;
        let rounds = &mut self.rounds[batch_class(size.batch)];
        rounds.all.add(tokens, time, 1.0);
        if !round.pauses {
            rounds.drafting.add(tokens, time, weight);
        }
        rounds.rows += RECENT * (round.rows as f64 / size.batch as f64 - rounds.rows);
        let table = self.costs.verify.seconds(size.batch, size.context, round.rows);
        self.verify.observe(round.rows, table, taken.verify);
        if round.draft_seconds > 0.0 {
            let draft = &mut self.draft[batch_class(size.batch)];
            draft.observe(0, round.draft_seconds / draft.now(), taken.draft);
        }
        // A round that was interrupted by something else must not raise the average for good.
        let rest = (taken.whole - taken.draft - taken.verify).clamp(0.0, 0.1 * taken.verify);
        self.rest += RECENT * (rest / round.tokens.max(1) as f64 - self.rest);
        RoundForecast { seconds, speed_up: tokens / time }
    }
}
