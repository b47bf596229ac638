//! One sequence's part in a round: it lets a tree grow, and once the target has run that, keeps what the
//! target agrees with.

use super::accept::{accept_matching, accept_rejecting};
use crate::draft::{CandidateSelector, DraftJob, Drafter};
use crate::error::{Error, Result};
use crate::infer::{Sequence, Target};
use crate::planner::Planner;
use crate::planner::TreeEstimate;
use crate::sample::{Purpose, Sampler, uniform};
use crate::tree::{MAX_NODES, Tree, TreeShape};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Counts and times of rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoundStats {
    /// Rounds, those without a guess included.
    pub rounds: usize,
    /// Guesses that were verified.
    pub drafted: usize,
    /// Guesses that were accepted.
    pub accepted: usize,
    /// For each depth from 1 on: rounds with a guess at it whose parent was accepted, and those in which a
    /// guess was accepted.
    pub depths: Vec<(usize, usize)>,
    /// Accepted guesses that were not the likeliest one after their parent.
    pub second_choices: usize,
    /// Time of guessing.
    pub draft_time: Duration,
    /// Time of the target's passes, of choosing tokens at their nodes, and of keeping the accepted ones.
    pub verify_time: Duration,
}

impl RoundStats {
    /// Tokens a round: accepted guesses and the one that the target adds.
    pub fn mean_acceptance_length(&self) -> f64 {
        1.0 + self.accepted as f64 / self.rounds.max(1) as f64
    }

    /// Adds those of other rounds.
    pub fn add(&mut self, other: &RoundStats) {
        self.rounds += other.rounds;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.second_choices += other.second_choices;
        self.draft_time += other.draft_time;
        self.verify_time += other.verify_time;
        self.depths.resize(self.depths.len().max(other.depths.len()), (0, 0));
        for (sum, (tested, accepted)) in self.depths.iter_mut().zip(&other.depths) {
            *sum = (sum.0 + tested, sum.1 + accepted);
        }
    }

    /// Adds one round.
    fn count(&mut self, tree: &Tree, path: &[usize]) {
        self.rounds += 1;
        self.drafted += tree.len() - 1;
        self.accepted += path.len() - 1;
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

/// Which guesses are accepted: see `accept.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecSampling {
    /// Those that are the token which plain decoding draws: rule A.
    #[default]
    Matching,
    /// As many as leave the distribution of the text what it is, of guesses that are drawn: rule B.
    Rejection,
}

impl FromStr for SpecSampling {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<SpecSampling, String> {
        match text {
            "matching" => Ok(SpecSampling::Matching),
            "rejection" => Ok(SpecSampling::Rejection),
            _ => Err("there are matching, rejection".into()),
        }
    }
}

/// Positions that a drafter catches up on after a pause.
const MISSED: usize = 16;

/// A drafter at work beside a target.
pub struct Speculation {
    drafter: Box<dyn Drafter>,
    growth: TreeShape,
    guesser: CandidateSelector,
    sampling: SpecSampling,
    tree: Tree,
    path: Vec<usize>,
    /// Whether something is guessed in this round.
    guesses: bool,
    /// The last rounds that did without a guess, since guessing had not paid.
    paused: usize,
    stats: RoundStats,
}

impl Speculation {
    /// With trees of this size, and guesses accepted where they match.
    pub fn new(drafter: Box<dyn Drafter>, growth: TreeShape) -> Speculation {
        let path = Vec::with_capacity(MAX_NODES);
        let stats = RoundStats { depths: Vec::with_capacity(MAX_NODES), ..RoundStats::default() };
        let (guesser, sampling) = (CandidateSelector::new(growth), SpecSampling::default());
        Speculation {
            drafter,
            growth,
            guesser,
            sampling,
            tree: Tree::new(0),
            path,
            guesses: false,
            paused: 0,
            stats,
        }
    }

    /// Leaves out guesses whose path has a lower probability than this, as the drafter sees it.
    pub fn with_p_min(self, p_min: f32) -> Speculation {
        Speculation { guesser: CandidateSelector::new(self.growth).with_p_min(p_min), ..self }
    }

    /// Accepts guesses by this rule.
    pub fn with_sampling(self, sampling: SpecSampling) -> Speculation {
        Speculation { sampling, ..self }
    }

    /// Whether guesses are drawn, and a tree stands or falls as a whole.
    pub(crate) fn draws(&self) -> bool {
        self.sampling == SpecSampling::Rejection
    }

    /// Counts and times since the last [`Speculation::reset_stats`].
    pub fn stats(&self) -> &RoundStats {
        &self.stats
    }

    /// Begins to count anew.
    pub fn reset_stats(&mut self) {
        let mut depths = std::mem::take(&mut self.stats.depths);
        depths.clear();
        self.stats = RoundStats { depths, ..RoundStats::default() };
        self.paused = 0;
    }

    /// Tells the drafter that the target has run `tokens` in its last pass, a row each, at positions
    /// `first..`.
    ///
    /// # Errors
    /// Those of the drafter, which should then be given up.
    pub fn commit(&mut self, target: &mut Target, first: usize, tokens: &[u32]) -> Result<()> {
        tell(&mut *self.drafter, target, first, tokens, 0..tokens.len())
    }

    /// The drafter.
    pub fn drafter(&self) -> &dyn Drafter {
        &*self.drafter
    }

    /// What the drafter knows of the sequence: see [`Drafter::save`].
    ///
    /// # Errors
    /// When a device fails.
    pub(crate) fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.drafter.save(out)
    }

    /// Lets the drafter take that up for a sequence of these tokens: see [`Drafter::restore`].
    ///
    /// # Errors
    /// When a device fails.
    pub(crate) fn restore(&mut self, tokens: &[u32], state: &[u8]) -> Result<bool> {
        self.drafter.restore(tokens, state)
    }

    /// What people should know of something that the drafter could help itself out of, once.
    pub fn take_notice(&mut self) -> Option<String> {
        self.drafter.take_notice()
    }

    /// Nodes of the largest tree.
    pub fn most_nodes(&self) -> usize {
        self.growth.nodes.clamp(1, MAX_NODES)
    }

    /// The tree of this round.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The same, before it is verified.
    pub fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// What was accepted of it.
    pub fn path(&self) -> &[usize] {
        &self.path
    }

    /// Begins a round that appends up to `most` of the tokens behind `tokens`, whose last one alone the target
    /// has not run; `room` nodes fit the context and the pass. How large its tree grows the `planner` decides, whose round has
    /// begun.
    pub(crate) fn begin(
        &mut self,
        sampler: &Sampler,
        tokens: &[u32],
        (most, room): (usize, usize),
        planner: &mut Option<Box<Planner>>,
    ) {
        let depth = most.saturating_sub(1);
        let temperature = sampler.sampling().temperature;
        let growing = match planner {
            Some(planner) => planner.tree(temperature, depth, room),
            None => TreeEstimate::new(self.growth.within(depth, room), temperature),
        };
        self.tree.reset(*tokens.last().expect("a sequence is not empty"));
        self.guesses = !growing.growth().is_none();
        self.guesser.set_growing(growing);
        if !self.guesses {
            let pauses = planner.as_ref().is_some_and(|planner| planner.pauses());
            self.paused = if pauses { self.paused + 1 } else { 0 };
            // Before it has to take in what it will not need.
            if pauses && self.paused.is_multiple_of(MISSED) {
                self.drafter.skip_to_last(MISSED);
            }
            return;
        }
        if std::mem::take(&mut self.paused) > 0 {
            self.drafter.skip_to_last(MISSED);
        }
        if self.sampling == SpecSampling::Rejection {
            self.guesser.draw(sampler.sampling(), tokens.len());
        }
    }

    /// The part in the guessing of a round that has begun; none where nothing is guessed.
    pub(crate) fn part<'a>(&'a mut self, tokens: &'a [u32]) -> Option<DraftJob<'a>> {
        let Speculation { drafter, guesser, tree, .. } = self;
        let drafter = &mut **drafter;
        self.guesses.then_some(DraftJob { drafter, tokens, guesser, tree, grown: Ok(()) })
    }

    /// What the planner knows of this round's tree.
    pub(crate) fn growing(&self) -> &TreeEstimate {
        self.guesser.growing()
    }

    /// The tree has grown, which took `time`; the target has `n_vocab` tokens.
    ///
    /// # Errors
    /// When a guess is none of them: the drafter should then be given up.
    pub(crate) fn grown(&mut self, time: Duration, n_vocab: usize) -> Result<()> {
        self.stats.draft_time += time;
        match self.tree.tokens().iter().find(|token| **token as usize >= n_vocab) {
            None => Ok(()),
            Some(token) => {
                let what = format!("it guesses token {token}, and the target has {n_vocab}");
                Err(Error::Invalid(what))
            }
        }
    }

    /// Ends a round: `seq` has the tree, which has rows `row..` of the target's last pass, and that took
    /// `pass` for this tree. Appends at least one token to `tokens`. They are the tokens that plain
    /// decoding would append, or by rule B tokens with the same distribution; none behind one that `ends`
    /// the text.
    ///
    /// # Errors
    /// See [`RoundError`].
    pub fn settle(
        &mut self,
        target: &mut Target,
        seq: &mut Sequence,
        (row, pass): (usize, Duration),
        sampler: &mut Sampler,
        tokens: &mut Vec<u32>,
        ends: impl Fn(u32) -> bool,
    ) -> std::result::Result<(), RoundError> {
        let start = Instant::now();
        self.accept(target, row, sampler, tokens, ends);
        target.keep(seq, &self.path).map_err(RoundError::Target)?;
        let kept = Instant::now();
        let first = seq.len() - self.path.len();
        let accepted = &tokens[first..seq.len()];
        let rows = self.path.iter().map(|node| row + node);
        let told = tell(&mut *self.drafter, target, first, accepted, rows);
        self.stats.count(&self.tree, &self.path);
        self.stats.verify_time += pass + (kept - start);
        self.stats.draft_time += kept.elapsed();
        told.map_err(RoundError::Drafter)
    }

    /// Appends the guesses that are accepted and the token after them, and sets the path.
    fn accept(
        &mut self,
        target: &Target,
        row: usize,
        sampler: &mut Sampler,
        tokens: &mut Vec<u32>,
        ends: impl Fn(u32) -> bool,
    ) {
        let Speculation { tree, path, guesser, .. } = self;
        match self.sampling {
            SpecSampling::Matching => {
                let choose = |node: usize, history: &[u32]| {
                    sampler.sample(target.logits(row + node), history)
                };
                accept_matching(tree, tokens, path, choose, ends);
            }
            SpecSampling::Rejection => {
                let seed = sampler.sampling().seed;
                let draw = |position: usize, nth: Option<usize>| match nth {
                    Some(nth) => {
                        uniform(seed, Purpose::Accept, (position * MAX_NODES + nth) as u64)
                    }
                    None => uniform(seed, Purpose::Token, position as u64),
                };
                let distribution = |node: usize, history: &[u32]| {
                    sampler.distribution(target.logits(row + node), history)
                };
                let draft = |node: usize| guesser.drawn_from(node);
                accept_rejecting(tree, tokens, path, distribution, draft, draw, ends);
            }
        }
    }
}

/// Tells a drafter of tokens at positions `first..` and what these rows of the target's last pass handed
/// out.
fn tell(
    drafter: &mut dyn Drafter,
    target: &mut Target,
    first: usize,
    tokens: &[u32],
    rows: impl Iterator<Item = usize>,
) -> Result<()> {
    let (features, pool) = target.features_and_pool();
    drafter.commit(first, tokens, &mut rows.map(|r| features.row(r)), pool)
}

/// Whose failure it is.
#[derive(Debug)]
pub enum RoundError {
    /// The drafter's: it should be given up. Tokens may have been appended.
    Drafter(Error),
    /// The target's.
    Target(Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_counted_as_they_went() {
        //  0 ─┬─ 1 ── 3        2 is the likelier of the first two
        //     └─ 2
        let mut tree = Tree::new(0);
        for (parent, token, log_prob) in [(0, 1, -1.0), (0, 2, -0.5), (1, 1, -0.1)] {
            tree.push(parent, token, log_prob);
        }
        let mut stats = RoundStats::default();
        for path in [&[0][..], &[0, 2], &[0, 1], &[0, 1, 3]] {
            stats.count(&tree, path);
        }
        stats.count(&Tree::new(0), &[0]);
        assert_eq!((stats.rounds, stats.drafted, stats.accepted), (5, 12, 4));
        assert_eq!(stats.depths, [(4, 3), (2, 1)]);
        assert_eq!(stats.second_choices, 2);
        assert_eq!(stats.mean_acceptance_length(), 1.8);
    }
}
