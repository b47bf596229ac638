//! CAST's three decisions, each by a threshold on expected tokens per cost.
//!
//! A drafted token counts with the probability that its drafter gives to its path. Costs are those of passes, in units
//! of a plain one. Each number of tokens is compared with the last one that was taken, so that a step of the curve is
//! crossed where enough tokens lie behind it.
//!
//! # Source
//! arXiv 2510.26577.

/// Tokens that must be expected for the time of one plain pass: the paper's C1, C2 and C3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// For each further node of a level.
    pub breadth: f64,
    /// For each further level.
    pub depth: f64,
    /// For each further verified node.
    pub nodes: f64,
}

impl Thresholds {
    /// The paper's values.
    pub const PAPER: Thresholds = Thresholds { breadth: 4.0, depth: 3.0, nodes: 2.5 };
}

/// Greedy cut: takes the `first` likeliest in any case, then extends the prefix whenever the probability added since
/// the last cut exceeds `threshold` × the added cost. Returns the length of the prefix and the sum of what it takes
/// beyond `first`.
pub(super) fn most_that_pay(
    probabilities: impl Iterator<Item = f64>,
    first: usize,
    threshold: f64,
    cost: impl Fn(usize) -> f64,
) -> (usize, f64) {
    let (mut taken, mut worth, mut sum) = (first, 0.0, 0.0);
    for (i, probability) in probabilities.enumerate() {
        sum += probability;
        let n = first + i + 1;
        if sum - worth > threshold * (cost(n) - cost(taken)) {
            (taken, worth) = (n, sum);
        }
    }
    (taken, worth)
}

/// How the sum of a level's probabilities declines from level to level.
#[derive(Clone, Copy, Debug)]
pub(super) struct UtilityDecay {
    /// Mean ratio of successive levels.
    ratio: f64,
}

impl UtilityDecay {
    pub fn new() -> UtilityDecay {
        UtilityDecay { ratio: 0.8 }
    }

    /// Records a level's sum, where `last` is the sum of the level before or 0, and predicts the sum of the next level.
    pub fn next(&mut self, last: &mut f64, utility: f64) -> f64 {
        if *last > 0.0 {
            self.ratio += 0.05 * (utility / *last - self.ratio);
        }
        *last = utility;
        self.ratio * utility
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_crossed_if_enough_lies_behind_it() {
        // The second element costs 1; the third and fourth cost nothing more.
        let cost = |n: usize| if n < 2 { 1.0 } else { 2.0 };
        let most = |probabilities: &[f64], threshold| {
            most_that_pay(probabilities.iter().copied(), 1, threshold, cost)
        };
        assert_eq!(most(&[0.5, 0.4, 0.3], 1.0), (4, 1.2));
        assert_eq!(most(&[0.5, 0.4, 0.05], 1.0), (1, 0.0), "0.95 for a cost of 1");
        assert_eq!(most(&[0.5, 0.4, 0.05], 0.45).0, 4);
        assert_eq!(most(&[], 1.0), (1, 0.0));
    }

    #[test]
    fn levels_are_expected_to_decline_as_they_did() {
        let mut decay = UtilityDecay::new();
        for _ in 0..300 {
            let mut last = 0.0;
            decay.next(&mut last, 1.0);
            decay.next(&mut last, 0.5);
        }
        assert!((decay.next(&mut 0.0, 0.6) - 0.3).abs() < 1e-3);
    }
}
