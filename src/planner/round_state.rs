//! One round of all sequences in work: what grows, and what of it pays.

use super::acceptance::{AcceptanceStats, ByTemperature};
use super::cost::MAX_BATCH;
use super::cost_model::{CostModel, Load};
use crate::tree::{GrowingTree, MAX_NODES};
use std::cmp::Ordering;

/// Guesses after one node of which an average is kept.
const RANKS: usize = 3;
/// Classes of how likely a guess is accepted, by which those behind it are foreseen.
const CLASSES: usize = 8;
/// The part of an observation that averages of guesses take over.
const TYPICAL: f32 = 0.03;

/// The probability that a guess is accepted: with all before it, and if its parent is.
#[derive(Clone, Copy, Debug)]
struct Chance {
    path: f32,
    step: f32,
}

impl Chance {
    const CERTAIN: Chance = Chance { path: 1.0, step: 1.0 };

    fn class(self) -> usize {
        ((self.step * CLASSES as f32) as usize).min(CLASSES - 1)
    }

    fn by_path(&self, other: &Chance) -> Ordering {
        self.path.total_cmp(&other.path)
    }
}

/// What may become of a tree of this round, and how likely that is.
#[derive(Clone, Debug)]
struct TreeEstimate {
    temperature: f32,
    /// Levels that were decided on.
    levels: usize,
    /// The sum of the probabilities of the last one, as CAST counts it.
    utility: f64,
    /// The chance of each node of the frontier, and of the candidates that were pooled last.
    frontier: [Chance; MAX_NODES],
    n_frontier: usize,
    new: [Chance; MAX_NODES],
    n_new: usize,
    /// What the nodes of the grown tree are worth, none more than its parent.
    values: [f32; MAX_NODES],
}

impl TreeEstimate {
    fn new(temperature: f32) -> TreeEstimate {
        let certain = [Chance::CERTAIN; MAX_NODES];
        TreeEstimate {
            temperature,
            levels: 0,
            utility: 0.0,
            frontier: certain,
            n_frontier: 1,
            new: certain,
            n_new: 0,
            values: [0.0; MAX_NODES],
        }
    }

    /// The chance of the candidate behind which another level could be grown, after `width` others of its own.
    fn after(&self, tree: &GrowingTree, width: usize) -> Option<Chance> {
        let shape = tree.shape();
        let most = shape.width.min(MAX_NODES - self.n_frontier).min(self.n_new);
        (tree.depth() < shape.depth && width < most).then(|| self.new[width])
    }
}

/// The state of a round.
#[derive(Clone, Debug)]
pub(super) struct RoundState {
    pub load: Load,
    /// Whether any of the sequences has a drafter.
    pub drafts: bool,
    /// Whether drafting is left off, since it has not paid.
    pub pauses: bool,
    /// Seconds of drafting, as they were measured.
    pub draft_seconds: f64,
    /// Tokens that are expected and that came, and rows of the pass, of all sequences.
    pub expected: f64,
    pub tokens: usize,
    pub rows: usize,
    /// Of the seconds of drafting those of trees that drafters grow as a whole, all at once.
    at_once_seconds: f64,
    /// Nodes of the last level of the trees that grow.
    width: usize,
    /// Seconds by which so many drafted tokens in these trees make the pass longer.
    seconds: Vec<f64>,
    /// The chances of the likeliest candidates so far, and with those to be expected behind them.
    pool: Likeliest,
    hoped: Likeliest,
    /// By the number of each tree.
    trees: Vec<TreeEstimate>,
    /// What all nodes but roots and those of whole trees are worth, the best first, and their trees.
    order: Vec<(f32, usize)>,
    /// The probability that the likeliest candidates after an accepted one are accepted, by its class: (classes, ranks).
    typical: [[f32; RANKS]; CLASSES],
}

impl RoundState {
    pub fn new() -> RoundState {
        RoundState {
            load: Load { batch: 1, context: 0 },
            drafts: false,
            pauses: false,
            draft_seconds: 0.0,
            expected: 0.0,
            tokens: 0,
            rows: 0,
            at_once_seconds: 0.0,
            width: 0,
            seconds: Vec::with_capacity(MAX_BATCH * MAX_NODES),
            pool: Likeliest::default(),
            hoped: Likeliest::default(),
            trees: Vec::with_capacity(MAX_BATCH),
            order: Vec::with_capacity(MAX_BATCH * MAX_NODES),
            // Who was sure is likely to be sure again.
            typical: std::array::from_fn(|class| {
                let likeliest = 0.4 + 0.5 * (class as f32 + 0.5) / CLASSES as f32;
                [likeliest, 0.4 * (1.0 - likeliest), 0.2 * (1.0 - likeliest)]
            }),
        }
    }

    pub fn begin(&mut self, load: Load, drafts: bool, pauses: bool) {
        (self.load, self.drafts, self.pauses) = (load, drafts, pauses);
        (self.draft_seconds, self.expected, self.tokens, self.rows) = (0.0, 0.0, 0, 0);
        self.at_once_seconds = 0.0;
        self.trees.clear();
    }

    /// Starts a tree, the next one of the round.
    pub fn start(&mut self, tree: &mut GrowingTree, temperature: f32) {
        tree.set_number(self.trees.len());
        self.trees.push(TreeEstimate::new(temperature));
    }

    /// The temperature of a tree's sequence.
    pub fn temperature(&self, tree: &GrowingTree) -> f32 {
        self.trees[tree.number()].temperature
    }

    /// The sum of the probabilities of a tree's last level, as CAST counts it.
    pub fn utility_mut(&mut self, tree: &GrowingTree) -> &mut f64 {
        &mut self.trees[tree.number()].utility
    }

    /// The drafter has run the level whose candidates these trees have pooled.
    pub fn drafted(&mut self, trees: &[&mut GrowingTree], costs: &CostModel) {
        let first = trees.first().is_some_and(|tree| tree.depth() == 1);
        self.draft_seconds += match first {
            true => costs.first_seconds(self.load, trees.len()),
            false => costs.level_seconds(self.load, self.width),
        };
        if first {
            self.expand_from_roots(trees, costs);
        }
    }

    /// These trees have only roots yet.
    fn expand_from_roots(&mut self, trees: &[&mut GrowingTree], costs: &CostModel) {
        let most = cuttable(trees).map(|tree| tree.shape().nodes - 1).sum();
        self.pool.clear(most);
        // How many rows sequences beside these will have is not known: as many as they had.
        let rows = trees.len() + costs.rows_of_others(self.load, trees.len());
        let before = costs.verify_seconds(self.load, rows);
        self.seconds.clear();
        for n in 0..=most {
            let seconds = costs.verify_seconds(self.load, rows + n) - before;
            self.seconds.push(seconds);
        }
    }

    /// How many candidates of each tree go on was decided.
    pub fn goes_on(&mut self, trees: &[&mut GrowingTree]) {
        self.width = trees.iter().map(|tree| tree.width()).sum();
        trees.iter().for_each(|tree| self.trees[tree.number()].levels = tree.depth());
    }

    /// Decides how many candidates another level is grown behind: where all trees together are worth more with it.
    pub fn widths_that_pay(
        &mut self,
        costs: &CostModel,
        stats: &ByTemperature,
        trees: &mut [&mut GrowingTree],
    ) {
        for tree in cuttable(trees) {
            self.expect(stats.at(self.temperature(tree)), tree);
        }
        let price = costs.price(self.load);
        let mut best = (0, self.best(&self.pool, price));
        let mut widths = [0; MAX_BATCH];
        self.hoped.copy(&self.pool);
        for width in 1.. {
            let next = trees.iter().enumerate().filter(|(_, tree)| !tree.is_whole());
            let next = next.filter_map(|(t, tree)| {
                Some((self.trees[tree.number()].after(tree, widths[t])?, t))
            });
            let Some((candidate, t)) = next.max_by(|a, b| a.0.by_path(&b.0)) else { break };
            widths[t] += 1;
            let behind = self.typical[candidate.class()].map(|accepted| candidate.path * accepted);
            if self.hoped.least().is_some_and(|least| behind[0] < least) {
                break;
            }
            behind.into_iter().for_each(|path| self.hoped.add(path));
            let value =
                self.best(&self.hoped, price) - price * costs.level_seconds(self.load, width);
            if value > best.1 {
                best = (width, value);
                trees.iter_mut().zip(widths).for_each(|(tree, width)| tree.set_width(width));
            }
            // Wider levels only add candidates that are less likely.
            if best.0 + trees.len() < width {
                break;
            }
        }
        for tree in cuttable(trees) {
            let (g, width) = (&mut self.trees[tree.number()], tree.width());
            g.frontier[g.n_frontier..][..width].copy_from_slice(&g.new[..width]);
            g.n_frontier += width;
        }
    }

    /// Finds the chances of a tree's candidates, the likeliest first as they are.
    fn expect(&mut self, stats: &AcceptanceStats, tree: &GrowingTree) {
        let estimate = &mut self.trees[tree.number()];
        let (depth, frontier) = (tree.depth(), tree.frontier());
        let mut ranks = [0; MAX_NODES];
        estimate.n_new = tree.candidates().len().min(MAX_NODES);
        for (candidate, out) in tree.candidates().iter().zip(&mut estimate.new) {
            let step = candidate.log_prob - frontier.log_probs()[candidate.parent];
            let parent = estimate.frontier[candidate.parent];
            let step = stats.accepted(depth, step);
            *out = Chance { path: parent.path * step, step };
            self.pool.add(out.path);
            let typical = self.typical[parent.class()].get_mut(ranks[candidate.parent]);
            if let Some(typical) = typical.filter(|_| depth > 1) {
                *typical += TYPICAL * (step - *typical);
            }
            ranks[candidate.parent] += 1;
        }
    }

    /// The best value of trees with some of these candidates.
    fn best(&self, candidates: &Likeliest, price: f64) -> f64 {
        let (mut accepted, mut best) = (0.0, 0.0);
        for (candidate, seconds) in candidates.get().iter().zip(&self.seconds[1..]) {
            accepted += f64::from(*candidate);
            best = f64::max(best, accepted - price * seconds);
        }
        best
    }

    /// Takes note of what the nodes of a grown tree are worth, as `write` says: no node more than its parent. A drafter
    /// that asked for no level is charged for all.
    pub fn grown(
        &mut self,
        tree: &GrowingTree,
        costs: &CostModel,
        write: impl FnOnce(&mut [f32; MAX_NODES]),
    ) {
        let estimate = &mut self.trees[tree.number()];
        write(&mut estimate.values);
        if estimate.levels == 0 && tree.tree().len() > 1 {
            let shape = tree.shape();
            let levels = shape.depth.saturating_sub(1) as f64;
            let level = costs.level_seconds(self.load, shape.width);
            let all = costs.first_seconds(self.load, 1) + levels * level;
            let more = (all - self.at_once_seconds).max(0.0);
            self.at_once_seconds += more;
            self.draft_seconds += more;
        }
    }

    /// Sorts the nodes of all trees that may be cut by what they are worth.
    pub fn sort(&mut self, trees: &[&mut GrowingTree]) {
        self.order.clear();
        for tree in cuttable(trees) {
            let number = tree.number();
            let values = &self.trees[number].values[1..tree.tree().len()];
            self.order.extend(values.iter().map(|value| (*value, number)));
        }
        self.order.sort_by(|a, b| b.0.total_cmp(&a.0));
    }

    /// What the nodes that may be cut are worth, the best first.
    pub fn order(&self) -> impl Iterator<Item = f32> {
        self.order.iter().map(|(value, _)| *value)
    }

    /// The number of rows with the best value, of which `least` are had in any case; values are probabilities.
    pub fn rows_that_pay(&self, costs: &CostModel, least: usize) -> usize {
        let price = costs.price(self.load);
        let mut accepted = 0.0;
        let mut best = (least, -price * costs.verify_seconds(self.load, least));
        for (rows, (candidate, _)) in (least + 1..).zip(&self.order) {
            accepted += f64::from(*candidate);
            let value = accepted - price * costs.verify_seconds(self.load, rows);
            if value > best.1 {
                best = (rows, value);
            }
        }
        best.0
    }

    /// Keeps so many nodes of the trees that may be cut beside their roots, the best.
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

    /// A tree of so many nodes is verified, and so many tokens are expected of it.
    pub fn choose(&mut self, nodes: usize, expected: f64) {
        self.rows += nodes;
        self.expected += expected;
    }
}

/// Those of the trees that may be cut.
fn cuttable<'a>(trees: &'a [&mut GrowingTree]) -> impl Iterator<Item = &'a GrowingTree> {
    trees.iter().map(|tree| &**tree).filter(|tree| !tree.is_whole())
}

/// The largest of some probabilities in descending order, as many as the trees that grow may have guesses: kept so as
/// they come, since sorting them for each width of each level would take as long as all else in a round.
#[derive(Clone, Debug, Default)]
struct Likeliest {
    most: usize,
    probabilities: Vec<f32>,
}

impl Likeliest {
    /// Forgets all; holds `most` from now on.
    fn clear(&mut self, most: usize) {
        self.most = most;
        self.probabilities.clear();
    }

    /// Becomes `other`.
    fn copy(&mut self, other: &Likeliest) {
        self.clear(other.most);
        self.probabilities.extend_from_slice(&other.probabilities);
    }

    fn get(&self) -> &[f32] {
        &self.probabilities
    }

    /// The least of them, if there is no room for another one.
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
            let mut likeliest = Likeliest::default();
            likeliest.clear(most);
            all.iter().for_each(|x| likeliest.add(*x));
            all.sort_by(|a, b| b.total_cmp(a));
            all.truncate(most);
            prop_assert_eq!(likeliest.get(), &all[..]);
            prop_assert_eq!(likeliest.least(), all.get(most - 1).copied());
        }
    }
}
