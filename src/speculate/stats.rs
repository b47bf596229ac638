//! Counts and times of rounds.

use crate::tree::GrowingTree;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts and times of one prompt and its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Prompt tokens that were run; those found in the cache are not counted.
    pub prompt_n: usize,
    /// Time to run them.
    pub prompt_time: Duration,
    /// Prompt tokens found in the cache.
    pub cached_n: usize,
    /// Tokens generated, without the end token.
    pub predicted_n: usize,
    /// Time to generate them; other sequences may have run in the same passes.
    pub predicted_time: Duration,
    /// Part of that time in which it was worked out what a grammar allows.
    pub mask_time: Duration,
}

/// Counts of a sequence for other threads, updated after each chunk of its prompt and each round.
#[derive(Clone, Debug, Default)]
pub struct LiveStats(Arc<LiveCounts>);

/// The fields of [`Stats`], with times in nanoseconds, and of [`RoundStats`].
#[derive(Debug, Default)]
struct LiveCounts {
    prompt: [AtomicU64; 3],
    predicted: [AtomicU64; 3],
    rounds: [AtomicU64; 3],
}

impl LiveStats {
    /// The counts so far. Counts that change together may be read apart.
    pub fn read(&self) -> (Stats, RoundStats) {
        let LiveCounts { prompt, predicted, rounds } = &*self.0;
        let [prompt_n, prompt_ns, cached_n] = [0, 1, 2].map(|i| prompt[i].load(Relaxed));
        let [predicted_n, predicted_ns, mask_ns] = [0, 1, 2].map(|i| predicted[i].load(Relaxed));
        let [rounds, drafted, accepted] = [0, 1, 2].map(|i| rounds[i].load(Relaxed) as usize);
        let stats = Stats {
            prompt_n: prompt_n as usize,
            prompt_time: Duration::from_nanos(prompt_ns),
            cached_n: cached_n as usize,
            predicted_n: predicted_n as usize,
            predicted_time: Duration::from_nanos(predicted_ns),
            mask_time: Duration::from_nanos(mask_ns),
        };
        (stats, RoundStats { rounds, drafted, accepted, ..RoundStats::default() })
    }

    /// Stores these counts.
    pub(super) fn set(&self, stats: &Stats, rounds: Option<&RoundStats>) {
        let store = |places: &[AtomicU64], values: &[u64]| {
            places.iter().zip(values).for_each(|(place, value)| place.store(*value, Relaxed));
        };
        let LiveCounts { prompt, predicted, rounds: drafting } = &*self.0;
        let Stats { prompt_n, prompt_time, cached_n, predicted_n, predicted_time, mask_time } =
            stats;
        let times = [prompt_time, predicted_time, mask_time];
        let [prompt_ns, predicted_ns, mask_ns] = times.map(|time| time.as_nanos() as u64);
        store(prompt, &[*prompt_n as u64, prompt_ns, *cached_n as u64]);
        store(predicted, &[*predicted_n as u64, predicted_ns, mask_ns]);
        let all = rounds.map_or([0; 3], |r| [r.rounds, r.drafted, r.accepted]);
        store(drafting, &all.map(|n| n as u64));
    }
}

/// Counts and times of rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoundStats {
    /// Rounds, including those without drafted tokens.
    pub rounds: usize,
    /// Drafted tokens that were verified.
    pub drafted: usize,
    /// Drafted tokens that were accepted.
    pub accepted: usize,
    /// The rounds without a grammar. They alone tell how good the drafter is, so [`depths`](RoundStats::depths) and
    /// [`second_choices`](RoundStats::second_choices) are of these.
    pub without_grammar: RoundCounts,
    /// For each depth from 1 on: rounds with a drafted token there whose parent was accepted, and those in which such a
    /// token was accepted.
    pub depths: Vec<(usize, usize)>,
    /// Accepted tokens that were not the likeliest one after their parent.
    pub second_choices: usize,
    /// Time of drafting.
    pub draft_time: Duration,
    /// Time of the target's passes, of sampling at the nodes, and of keeping accepted rows in the cache.
    pub verify_time: Duration,
}

/// Counts of some rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundCounts {
    /// Rounds, including those without drafted tokens.
    pub rounds: usize,
    /// Drafted tokens that were verified.
    pub drafted: usize,
    /// Drafted tokens that were accepted.
    pub accepted: usize,
}

impl RoundCounts {
    /// Tokens per round: the accepted ones and the one that the target adds.
    pub fn mean_acceptance_length(&self) -> f64 {
        1.0 + self.accepted as f64 / self.rounds.max(1) as f64
    }

    /// Adds the counts of other rounds.
    fn add(&mut self, other: RoundCounts) {
        self.rounds += other.rounds;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
    }
}

impl RoundStats {
    /// Tokens per round, with or without a grammar: see [`RoundCounts::mean_acceptance_length`].
    pub fn mean_acceptance_length(&self) -> f64 {
        let RoundStats { rounds, drafted, accepted, .. } = *self;
        RoundCounts { rounds, drafted, accepted }.mean_acceptance_length()
    }

    /// Sets all counts to zero, without freeing memory.
    pub(super) fn reset(&mut self) {
        let mut depths = std::mem::take(&mut self.depths);
        depths.clear();
        *self = RoundStats { depths, ..RoundStats::default() };
    }

    /// Adds the counts of other rounds.
    pub fn add(&mut self, other: &RoundStats) {
        self.rounds += other.rounds;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.without_grammar.add(other.without_grammar);
        self.second_choices += other.second_choices;
        self.draft_time += other.draft_time;
        self.verify_time += other.verify_time;
        self.depths.resize(self.depths.len().max(other.depths.len()), (0, 0));
        for (sum, (tested, accepted)) in self.depths.iter_mut().zip(&other.depths) {
            *sum = (sum.0 + tested, sum.1 + accepted);
        }
    }

    /// Adds one round.
    pub(super) fn count(&mut self, growing: &GrowingTree, path: &[usize]) {
        let tree = growing.tree();
        let (drafted, accepted) = (tree.len() - 1, path.len() - 1);
        self.rounds += 1;
        self.drafted += drafted;
        self.accepted += accepted;
        if growing.is_constrained() {
            return;
        }
        self.without_grammar.add(RoundCounts { rounds: 1, drafted, accepted });
        for (depth, node) in path.iter().enumerate() {
            let Some(likeliest) = tree.children(*node).next() else { break };
            if self.depths.len() == depth {
                self.depths.push((0, 0));
            }
            let next = path.get(depth + 1);
            self.depths[depth].0 += 1;
            self.depths[depth].1 += usize::from(next.is_some());
            let likeliest = tree.children(*node).fold(likeliest, |best, child| {
                if tree.log_probs()[child] > tree.log_probs()[best] { child } else { best }
            });
            self.second_choices += usize::from(next.is_some_and(|next| *next != likeliest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_counted_as_they_went() {
        //  0 ─┬─ 1 ── 3        2 is the likelier of the first two
        //     └─ 2
        let mut tree = GrowingTree::new(0);
        for (parent, token, log_prob) in [(0, 1, -1.0), (0, 2, -0.5), (1, 1, -0.1)] {
            tree.tree_mut().push(parent, token, log_prob);
        }
        let mut stats = RoundStats::default();
        for path in [&[0][..], &[0, 2], &[0, 1], &[0, 1, 3]] {
            stats.count(&tree, path);
        }
        stats.count(&GrowingTree::new(0), &[0]);
        assert_eq!((stats.rounds, stats.drafted, stats.accepted), (5, 12, 4));
        let before = stats.clone();
        assert_eq!(before.without_grammar, RoundCounts { rounds: 5, drafted: 12, accepted: 4 });
        assert_eq!(stats.depths, [(4, 3), (2, 1)]);
        assert_eq!(stats.second_choices, 2);
        assert_eq!(stats.mean_acceptance_length(), 1.8);
        tree.constrain();
        stats.count(&tree, &[0, 1, 3]);
        assert_eq!((stats.rounds, stats.drafted, stats.accepted), (6, 15, 6));
        assert_eq!(stats.without_grammar, before.without_grammar);
        assert_eq!((stats.second_choices, &stats.depths), (2, &before.depths));
        stats.add(&before);
        assert_eq!((stats.rounds, stats.drafted, stats.accepted), (11, 27, 10));
        assert_eq!(stats.without_grammar, RoundCounts { rounds: 10, drafted: 24, accepted: 8 });
        assert_eq!(stats.without_grammar.mean_acceptance_length(), 1.8);
    }
}
