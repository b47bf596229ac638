//! State of one round over all its sequences: the growing trees, and the value of their nodes.

use super::acceptance::{AcceptanceStats, ByTemperature};
use super::cost::MAX_BATCH;
use super::cost_model::{CostModel, RoundSize};
use crate::tree::{GrowingTree, MAX_NODES};
use std::cmp::Ordering;

/// Number of likeliest children of a node whose acceptance is averaged.
const RANKS: usize = 3;
/// Classes of a node's acceptance probability, by which the acceptance of its children is predicted.
const CLASSES: usize = 8;
/// Weight of a new observation in these averages.
const TYPICAL: f32 = 0.03;

/// Probability that a drafted token is accepted: together with its whole path, and given that its parent is.
#[derive(Clone, Copy, Debug)]
struct AcceptProbability {
    path: f32,
    step: f32,
}

impl AcceptProbability {
    const CERTAIN: AcceptProbability = AcceptProbability { path: 1.0, step: 1.0 };

    fn class(self) -> usize {
        ((self.step * CLASSES as f32) as usize).min(CLASSES - 1)
    }

    fn by_path(&self, other: &AcceptProbability) -> Ordering {
        self.path.total_cmp(&other.path)
    }
}

/// Expected acceptance of one tree of this round.
#[derive(Clone, Debug)]
struct TreeEstimate {
    temperature: f32,
    /// Number of levels decided on.
    levels: usize,
    /// Sum of the path probabilities of the last level (CAST's utility).
    utility: f64,
    /// Acceptance probability of each node of the frontier, and of each candidate pooled last.
    frontier: [AcceptProbability; MAX_NODES],
    new: [AcceptProbability; MAX_NODES],
    n_new: usize,
    /// Value of each node of the grown tree; no node exceeds its parent.
    values: [f32; MAX_NODES],
}

impl TreeEstimate {
    fn new(temperature: f32) -> TreeEstimate {
        let certain = [AcceptProbability::CERTAIN; MAX_NODES];
        TreeEstimate {
            temperature,
            levels: 0,
            utility: 0.0,
            frontier: certain,
            new: certain,
            n_new: 0,
            values: [0.0; MAX_NODES],
        }
    }

    /// Acceptance probability of the candidate after which another level could be grown, if `width` others are expanded
    /// too.
    fn after(&self, tree: &GrowingTree, width: usize) -> Option<AcceptProbability> {
        let shape = tree.shape();
        let most = shape.width.min(MAX_NODES - tree.frontier().len()).min(self.n_new);
        (tree.depth() < shape.depth && width < most).then(|| self.new[width])
    }
}

/// The state of a round.
#[derive(Clone, Debug)]
pub(super) struct RoundState {
    pub size: RoundSize,
    /// Whether any sequence has a drafter.
    pub drafts: bool,
    /// Whether this round does not draft because drafting has not paid.
    pub pauses: bool,
    /// Predicted seconds of drafting, from the measured costs.
    pub draft_seconds: f64,
    /// Tokens expected and tokens gained, and rows of the pass, of all sequences.
    pub expected: f64,
    pub tokens: usize,
    pub rows: usize,
    /// The share of the drafting seconds that belongs to trees drafted in one go.
    at_once_seconds: f64,
    /// Nodes in the last level of all growing trees.
    width: usize,
    /// Seconds that `n` drafted tokens of these trees add to the pass, at index `n`.
    seconds: Vec<f64>,
    /// Path probabilities of the likeliest candidates so far; and the same with the candidates expected after them.
    pool: TopProbabilities,
    forecast: TopProbabilities,
    /// Estimates by the number of each tree.
    trees: Vec<TreeEstimate>,
    /// Values of all nodes that may be dropped (no roots, no whole trees) and their trees, the best first.
    order: Vec<(f32, usize)>,
    /// Mean acceptance probability of the likeliest children of an accepted node, by the class of the node: (classes,
    /// ranks).
    typical: [[f32; RANKS]; CLASSES],
}

impl RoundState {
    pub fn new() -> RoundState {
        RoundState {
            size: RoundSize { batch: 1, context: 0 },
            drafts: false,
            pauses: false,
            draft_seconds: 0.0,
            expected: 0.0,
            tokens: 0,
            rows: 0,
            at_once_seconds: 0.0,
            width: 0,
            seconds: Vec::with_capacity(MAX_BATCH * MAX_NODES),
            pool: TopProbabilities::default(),
            forecast: TopProbabilities::default(),
            trees: Vec::with_capacity(MAX_BATCH),
            order: Vec::with_capacity(MAX_BATCH * MAX_NODES),
            // The children of a likely token tend to be likely.
            typical: std::array::from_fn(|class| {
                let likeliest = 0.4 + 0.5 * (class as f32 + 0.5) / CLASSES as f32;
                [likeliest, 0.4 * (1.0 - likeliest), 0.2 * (1.0 - likeliest)]
            }),
        }
    }

    pub fn begin(&mut self, size: RoundSize, drafts: bool, pauses: bool) {
        (self.size, self.drafts, self.pauses) = (size, drafts, pauses);
        (self.draft_seconds, self.expected, self.tokens, self.rows) = (0.0, 0.0, 0, 0);
        self.at_once_seconds = 0.0;
        self.trees.clear();
    }

    /// Starts the round's next tree.
    pub fn start(&mut self, tree: &mut GrowingTree, temperature: f32) {
        tree.set_number(self.trees.len());
        self.trees.push(TreeEstimate::new(temperature));
    }

    /// The temperature of a tree's sequence.
    pub fn temperature(&self, tree: &GrowingTree) -> f32 {
        self.trees[tree.number()].temperature
    }

    /// Sum of the path probabilities of a tree's last level (CAST's utility).
    pub fn utility_mut(&mut self, tree: &GrowingTree) -> &mut f64 {
        &mut self.trees[tree.number()].utility
    }

    /// Accounts for the level whose candidates these trees have just pooled.
    pub fn drafted(&mut self, trees: &[&mut GrowingTree], costs: &CostModel) {
        let first = trees.first().is_some_and(|tree| tree.depth() == 1);
        self.draft_seconds += match first {
            true => costs.first_seconds(self.size, trees.len()),
            false => costs.level_seconds(self.size, self.width),
        };
        if first {
            self.expand_from_roots(trees, costs);
        }
    }

    /// Starts the estimates of trees that have only roots yet.
    fn expand_from_roots(&mut self, trees: &[&mut GrowingTree], costs: &CostModel) {
        let most = cuttable(trees).map(|tree| tree.shape().nodes - 1 - tree.n_forced()).sum();
        self.pool.clear(most);
        // The rows of the other sequences are not known yet: their average of earlier rounds is taken.
        let n_forced: usize = trees.iter().map(|tree| tree.n_forced()).sum();
        let rows = trees.len() + n_forced + costs.rows_of_others(self.size, trees.len());
        let before = costs.verify_seconds(self.size, rows);
        self.seconds.clear();
        for n in 0..=most {
            let seconds = costs.verify_seconds(self.size, rows + n) - before;
            self.seconds.push(seconds);
        }
    }

    /// Accounts for the widths that were chosen.
    pub fn goes_on(&mut self, trees: &[&mut GrowingTree]) {
        self.width = trees.iter().map(|tree| tree.width()).sum();
        trees.iter().for_each(|tree| self.trees[tree.number()].levels = tree.depth());
    }

    /// Chooses the widths of the next level: another level is grown where it raises the value of all trees together.
    pub fn widths_that_pay(
        &mut self,
        costs: &CostModel,
        stats: &ByTemperature,
        trees: &mut [&mut GrowingTree],
    ) {
        for tree in cuttable(trees) {
            self.expect(stats.at(self.temperature(tree)), tree);
        }
        let price = costs.price(self.size);
        let mut best = (0, self.best(&self.pool, price));
        let mut widths = [0; MAX_BATCH];
        self.forecast.copy(&self.pool);
        for width in 1.. {
            let next = trees.iter().enumerate().filter(|(_, tree)| !tree.is_whole());
            let next = next.filter_map(|(t, tree)| {
                Some((self.trees[tree.number()].after(tree, widths[t])?, t))
            });
            let Some((candidate, t)) = next.max_by(|a, b| a.0.by_path(&b.0)) else { break };
            widths[t] += 1;
            let behind = self.typical[candidate.class()].map(|accepted| candidate.path * accepted);
            if self.forecast.least().is_some_and(|least| behind[0] < least) {
                break;
            }
            behind.into_iter().for_each(|path| self.forecast.add(path));
            let value =
                self.best(&self.forecast, price) - price * costs.level_seconds(self.size, width);
            if value > best.1 {
                best = (width, value);
                trees.iter_mut().zip(widths).for_each(|(tree, width)| tree.set_width(width));
            }
            // Wider levels only add less likely candidates.
            if best.0 + trees.len() < width {
                break;
            }
        }
        for tree in cuttable(trees) {
            let (g, width) = (&mut self.trees[tree.number()], tree.width());
            g.frontier[tree.frontier().len()..][..width].copy_from_slice(&g.new[..width]);
        }
    }

    /// Computes the chances of a tree's candidates, which are sorted by likelihood.
    fn expect(&mut self, stats: &AcceptanceStats, tree: &GrowingTree) {
        let estimate = &mut self.trees[tree.number()];
        let (depth, frontier) = (tree.depth() + tree.n_forced(), tree.frontier());
        let mut ranks = [0; MAX_NODES];
        estimate.n_new = tree.candidates().len().min(MAX_NODES);
        for (candidate, out) in tree.candidates().iter().zip(&mut estimate.new) {
            let step = candidate.log_prob - frontier.log_probs()[candidate.parent];
            let parent = estimate.frontier[candidate.parent];
            let step = stats.accepted(depth, step);
            *out = AcceptProbability { path: parent.path * step, step };
            self.pool.add(out.path);
            let typical = self.typical[parent.class()].get_mut(ranks[candidate.parent]);
            if let Some(typical) = typical.filter(|_| tree.depth() > 1) {
                *typical += TYPICAL * (step - *typical);
            }
            ranks[candidate.parent] += 1;
        }
    }

    /// The best value of trees that contain the likeliest of these candidates.
    fn best(&self, candidates: &TopProbabilities, price: f64) -> f64 {
        let (mut accepted, mut best) = (0.0, 0.0);
        for (candidate, seconds) in candidates.get().iter().zip(&self.seconds[1..]) {
            accepted += f64::from(*candidate);
            best = f64::max(best, accepted - price * seconds);
        }
        best
    }

    /// Records the values of a grown tree's nodes, as `write` fills them in; each is capped at its parent's. A drafter
    /// that asked for no level is charged for all levels at once.
    pub fn grown(
        &mut self,
        tree: &GrowingTree,
        costs: &CostModel,
        write: impl FnOnce(&mut [f32; MAX_NODES]),
    ) {
        let estimate = &mut self.trees[tree.number()];
        write(&mut estimate.values);
        if estimate.levels == 0 && tree.tree().len() > 1 + tree.n_forced() {
            let shape = tree.shape();
            let levels = shape.depth.saturating_sub(1) as f64;
            let level = costs.level_seconds(self.size, shape.width);
            let all = costs.first_seconds(self.size, 1) + levels * level;
            let more = (all - self.at_once_seconds).max(0.0);
            self.at_once_seconds += more;
            self.draft_seconds += more;
        }
    }

    /// Sorts the nodes of all trees that may be pruned, the most valuable first.
    pub fn sort(&mut self, trees: &[&mut GrowingTree]) {
        self.order.clear();
        for tree in cuttable(trees) {
            let number = tree.number();
            let values = &self.trees[number].values[1..tree.tree().len()];
            self.order.extend(values.iter().map(|value| (*value, number)));
        }
        self.order.sort_by(|a, b| b.0.total_cmp(&a.0));
    }

    /// Values of the nodes that may be dropped, the best first.
    pub fn order(&self) -> impl Iterator<Item = f32> {
        self.order.iter().map(|(value, _)| *value)
    }

    /// The number of rows with the best value, at least `least`; node values are acceptance probabilities.
    pub fn rows_that_pay(&self, costs: &CostModel, least: usize) -> usize {
        let price = costs.price(self.size);
        let mut accepted = 0.0;
        let mut best = (least, -price * costs.verify_seconds(self.size, least));
        for (rows, (candidate, _)) in (least + 1..).zip(&self.order) {
            accepted += f64::from(*candidate);
            let value = accepted - price * costs.verify_seconds(self.size, rows);
            if value > best.1 {
                best = (rows, value);
            }
        }
        best.0
    }

    /// Keeps the `best` most valuable nodes of the trees that may be pruned, and their roots.
    pub fn keep(&self, best: usize, trees: &mut [&mut GrowingTree]) {
        let mut nodes = [1; MAX_BATCH];
        for (_, tree) in self.order.iter().take(best) {
            nodes[*tree] += 1;
        }
        for tree in trees.iter_mut().filter(|tree| !tree.is_whole()) {
            let values = &self.trees[tree.number()].values;
            let (n, len) = (nodes[tree.number()], tree.tree().len());
            tree.tree_mut().prune_by(n, &values[..len]);
        }
    }

    /// Counts a tree of `nodes` nodes that is verified and is expected to bring `expected` tokens.
    pub fn choose(&mut self, nodes: usize, expected: f64) {
        self.rows += nodes;
        self.expected += expected;
    }
}

/// The trees that may be pruned.
fn cuttable<'a>(trees: &'a [&mut GrowingTree]) -> impl Iterator<Item = &'a GrowingTree> {
    trees.iter().map(|tree| &**tree).filter(|tree| !tree.is_whole())
}

/// The largest of a set of probabilities in descending order, at most as many as the growing trees may have drafted
/// tokens. It is kept sorted on insertion: sorting once for each width of each level would take as long as the rest of
/// a round.
#[derive(Clone, Debug, Default)]
struct TopProbabilities {
    most: usize,
    probabilities: Vec<f32>,
}

impl TopProbabilities {
    /// Removes all; holds at most `most` from now on.
    fn clear(&mut self, most: usize) {
        self.most = most;
        self.probabilities.clear();
    }

    /// Copies `other`.
    fn copy(&mut self, other: &TopProbabilities) {
        self.clear(other.most);
        self.probabilities.extend_from_slice(&other.probabilities);
    }

    fn get(&self) -> &[f32] {
        &self.probabilities
    }

    /// The smallest probability, once the capacity is reached.
    fn least(&self) -> Option<f32> {
        self.probabilities.last().copied().filter(|_| self.probabilities.len() >= self.most)
    }

    fn add(&mut self, probability: f32) {
        if self.least().is_some_and(|least| least >= probability) {
            return;
        }
        let place = self.probabilities.partition_point(|other| *other >= probability);
        self.probabilities.truncate(self.most - 1);
        self.probabilities.insert(place, probability);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_likeliest_are_the_first_of_all_in_order(
            all in prop::collection::vec(0u8..99, 0..200), most in 1usize..150,
        ) {
            let mut all: Vec<f32> = all.into_iter().map(|x| f32::from(x) / 99.0).collect();
            let mut likeliest = TopProbabilities::default();
            likeliest.clear(most);
            all.iter().for_each(|x| likeliest.add(*x));
            all.sort_by(|a, b| b.total_cmp(a));
            all.truncate(most);
            prop_assert_eq!(likeliest.get(), &all[..]);
            prop_assert_eq!(likeliest.least(), all.get(most - 1).copied());
        }
    }
}
