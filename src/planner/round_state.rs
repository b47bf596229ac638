//! One round of all sequences in work: what grows, and what of it pays.

use super::acceptance::{AcceptanceStats, ByTemperature};
use super::cost::MAX_BATCH;
use super::cost_model::CostModel;
use crate::tree::{MAX_NODES, Proposal, Tree, TreeShape};
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

/// What is known of a tree while it grows.
#[derive(Clone, Debug)]
pub struct TreeEstimate {
    growth: TreeShape,
    temperature: f32,
    /// Levels that were decided on.
    levels: usize,
    /// The sum of the probabilities of the last one, as CAST counts it.
    utility: f64,
    /// The chance of each node of the frontier, and of the guesses that were made last.
    frontier: [Chance; MAX_NODES],
    n_frontier: usize,
    new: [Chance; MAX_NODES],
    n_new: usize,
}

impl TreeEstimate {
    /// Nothing yet of a tree of up to this size, of a sequence of this temperature.
    pub fn new(growth: TreeShape, temperature: f32) -> TreeEstimate {
        let certain = [Chance::CERTAIN; MAX_NODES];
        TreeEstimate {
            growth,
            temperature,
            levels: 0,
            utility: 0.0,
            frontier: certain,
            n_frontier: 1,
            new: certain,
            n_new: 0,
        }
    }

    /// How large it may grow.
    pub fn growth(&self) -> TreeShape {
        self.growth
    }

    pub(super) fn temperature(&self) -> f32 {
        self.temperature
    }

    /// The sum of the probabilities of its last level, as CAST counts it.
    pub(super) fn utility_mut(&mut self) -> &mut f64 {
        &mut self.utility
    }

    /// The chance of the guess behind which another one could be made, after `width` others of its level.
    fn after(&self, depth: usize, width: usize) -> Option<Chance> {
        let most = self.growth.width.min(MAX_NODES - self.n_frontier).min(self.n_new);
        (depth < self.growth.depth && width < most).then(|| self.new[width])
    }
}

/// One of the trees that grow side by side, when a level of it was guessed.
pub struct Branch<'a> {
    /// What is known of it.
    pub growing: &'a mut TreeEstimate,
    /// The nodes that were run.
    pub frontier: &'a Tree,
    /// The guesses after the last ones of them, with the logarithmic probability of their path, the likeliest first.
    pub guesses: &'a [Proposal],
    /// How many of them go on: 0 until that is decided.
    pub width: usize,
}

/// The state of a round.
#[derive(Clone, Debug)]
pub(super) struct RoundState {
    /// Sequences.
    pub batch: usize,
    /// Tokens that they have on average.
    pub context: usize,
    /// Whether none of them guesses.
    pub pauses: bool,
    /// Seconds of drafting, as they were measured.
    pub spent: f64,
    /// Tokens that are expected and that came, and rows of the pass, of all sequences.
    pub expected: f64,
    pub tokens: usize,
    pub rows: usize,
    /// Of that what went into trees which drafters grow as a whole, all at once.
    whole: f64,
    /// Nodes of the last level of the trees that grow.
    width: usize,
    /// Seconds by which so many guesses in these trees make the pass longer.
    seconds: Vec<f64>,
    /// The chances of the likeliest guesses so far, and with those to be expected behind them.
    pool: Likeliest,
    hoped: Likeliest,
    /// What nodes of grown trees are worth, and the temperatures of their sequences: (trees).
    values: Vec<[f32; MAX_NODES]>,
    temperatures: Vec<f32>,
    /// That of all nodes but roots, the best first, and their trees.
    order: Vec<(f32, usize)>,
    /// The probability that the likeliest guesses after an accepted one are accepted, by its class: (classes, ranks).
    typical: [[f32; RANKS]; CLASSES],
}

impl RoundState {
    pub fn new() -> RoundState {
        RoundState {
            batch: 1,
            context: 0,
            pauses: false,
            spent: 0.0,
            expected: 0.0,
            tokens: 0,
            rows: 0,
            whole: 0.0,
            width: 0,
            seconds: Vec::with_capacity(MAX_BATCH * MAX_NODES),
            pool: Likeliest::default(),
            hoped: Likeliest::default(),
            values: Vec::with_capacity(MAX_BATCH),
            temperatures: Vec::with_capacity(MAX_BATCH),
            order: Vec::with_capacity(MAX_BATCH * MAX_NODES),
            // Who was sure is likely to be sure again.
            typical: std::array::from_fn(|class| {
                let likeliest = 0.4 + 0.5 * (class as f32 + 0.5) / CLASSES as f32;
                [likeliest, 0.4 * (1.0 - likeliest), 0.2 * (1.0 - likeliest)]
            }),
        }
    }

    pub fn begin(&mut self, batch: usize, context: usize, pauses: bool) {
        (self.batch, self.context, self.pauses) = (batch, context, pauses);
        (self.spent, self.expected, self.tokens, self.rows) = (0.0, 0.0, 0, 0);
        self.whole = 0.0;
        self.values.clear();
        self.temperatures.clear();
    }

    /// Begins a tree of up to this size.
    pub fn tree(&self, growth: TreeShape, temperature: f32) -> TreeEstimate {
        TreeEstimate::new(if self.pauses { growth.within(0, 1) } else { growth }, temperature)
    }

    /// The drafter has run the level before `depth` of these trees.
    pub fn drafted(&mut self, depth: usize, branches: &[Branch], cost_model: &CostModel) {
        self.spent += match depth {
            1 => cost_model.first_seconds(self, branches.len()),
            _ => cost_model.level_seconds(self, self.width),
        };
        if depth == 1 {
            self.begin_trees(branches, cost_model);
        }
    }

    /// These trees have only roots yet.
    fn begin_trees(&mut self, branches: &[Branch], cost_model: &CostModel) {
        let guesses = branches.iter().map(|branch| branch.growing.growth.nodes - 1).sum();
        self.pool.clear(guesses);
        // How many rows sequences beside these will have is not known: as many as they had.
        let rows = branches.len() + cost_model.rows_of_others(self, branches.len());
        let before = cost_model.verify_seconds(self, rows);
        self.seconds.clear();
        for n in 0..=guesses {
            let seconds = cost_model.verify_seconds(self, rows + n) - before;
            self.seconds.push(seconds);
        }
    }

    /// What goes on was decided.
    pub fn goes_on(&mut self, depth: usize, branches: &mut [Branch]) {
        self.width = branches.iter().map(|branch| branch.width).sum();
        branches.iter_mut().for_each(|branch| branch.growing.levels = depth);
    }

    /// A tree has grown; a drafter that asked for no level is charged for all.
    pub fn grown(&mut self, tree: &Tree, growing: &TreeEstimate, cost_model: &CostModel) {
        if growing.levels == 0 && tree.len() > 1 {
            let levels = growing.growth.depth.saturating_sub(1) as f64;
            let level = cost_model.level_seconds(self, growing.growth.width);
            let more = cost_model.first_seconds(self, 1) + levels * level - self.whole;
            self.whole += more.max(0.0);
            self.spent += more.max(0.0);
        }
    }

    /// Decides how many guesses at `depth` another level is grown behind: where all trees together are worth more
    /// with it.
    pub fn widths_that_pay(
        &mut self,
        cost_model: &CostModel,
        confidences: &ByTemperature,
        depth: usize,
        branches: &mut [Branch],
    ) {
        for branch in &mut *branches {
            self.expect(confidences.at(branch.growing.temperature), depth, branch);
        }
        let price = cost_model.price(self);
        let mut best = (0, self.best(&self.pool, price));
        let mut widths = [0; MAX_BATCH];
        self.hoped.copy(&self.pool);
        for width in 1.. {
            let next =
                branches.iter().zip(&widths).enumerate().filter_map(|(b, (branch, width))| {
                    Some((branch.growing.after(depth, *width)?, b))
                });
            let Some((guess, b)) = next.max_by(|a, b| a.0.by_path(&b.0)) else { break };
            widths[b] += 1;
            let behind = self.typical[guess.class()].map(|accepted| guess.path * accepted);
            if self.hoped.least().is_some_and(|least| behind[0] < least) {
                break;
            }
            behind.into_iter().for_each(|path| self.hoped.add(path));
            let value =
                self.best(&self.hoped, price) - price * cost_model.level_seconds(self, width);
            if value > best.1 {
                best = (width, value);
                branches.iter_mut().zip(widths).for_each(|(branch, width)| branch.width = width);
            }
            // Wider levels only add guesses that are less likely.
            if best.0 + branches.len() < width {
                break;
            }
        }
        for Branch { growing: g, width, .. } in branches {
            g.frontier[g.n_frontier..][..*width].copy_from_slice(&g.new[..*width]);
            g.n_frontier += *width;
        }
    }

    /// Finds the chances of guesses, the likeliest first as they are.
    fn expect(&mut self, confidences: &AcceptanceStats, depth: usize, branch: &mut Branch) {
        let (growing, frontier) = (&mut *branch.growing, branch.frontier);
        let mut ranks = [0; MAX_NODES];
        growing.n_new = branch.guesses.len().min(MAX_NODES);
        for (guess, out) in branch.guesses.iter().zip(&mut growing.new) {
            let step = guess.log_prob - frontier.log_probs()[guess.parent];
            let parent = growing.frontier[guess.parent];
            let step = confidences.accepted(depth, step);
            *out = Chance { path: parent.path * step, step };
            self.pool.add(out.path);
            let typical = self.typical[parent.class()].get_mut(ranks[guess.parent]);
            if let Some(typical) = typical.filter(|_| depth > 1) {
                *typical += TYPICAL * (step - *typical);
            }
            ranks[guess.parent] += 1;
        }
    }

    /// The best value of trees with some of these guesses.
    fn best(&self, guesses: &Likeliest, price: f64) -> f64 {
        let (mut accepted, mut best) = (0.0, 0.0);
        for (guess, seconds) in guesses.get().iter().zip(&self.seconds[1..]) {
            accepted += f64::from(*guess);
            best = f64::max(best, accepted - price * seconds);
        }
        best
    }

    /// Takes note of what the nodes of a grown tree are worth, as `write` says: no node more than its parent.
    pub fn add(&mut self, growing: &TreeEstimate, write: impl FnOnce(&mut [f32; MAX_NODES])) {
        let mut values = [0.0; MAX_NODES];
        write(&mut values);
        self.values.push(values);
        self.temperatures.push(growing.temperature);
    }

    /// The temperature of a grown tree's sequence.
    pub fn temperature(&self, tree: usize) -> f32 {
        self.temperatures[tree]
    }

    /// Sorts the nodes of all trees by what they are worth.
    pub fn sort(&mut self, trees: &[&mut Tree]) {
        self.order.clear();
        for (t, (tree, values)) in trees.iter().zip(&self.values).enumerate() {
            self.order.extend(values[1..tree.len()].iter().map(|value| (*value, t)));
        }
        self.order.sort_by(|a, b| b.0.total_cmp(&a.0));
    }

    /// What the nodes of all trees but their roots are worth, the best first.
    pub fn order(&self) -> impl Iterator<Item = f32> {
        self.order.iter().map(|(value, _)| *value)
    }

    /// The number of rows, the roots included, with the best value; values are probabilities.
    pub fn rows_that_pay(&self, cost_model: &CostModel) -> usize {
        let (roots, price) = (self.batch, cost_model.price(self));
        let mut accepted = 0.0;
        let mut best = (roots, -price * cost_model.plain_seconds(self));
        for (rows, (guess, _)) in (roots + 1..).zip(&self.order) {
            accepted += f64::from(*guess);
            let value = accepted - price * cost_model.verify_seconds(self, rows);
            if value > best.1 {
                best = (rows, value);
            }
        }
        best.0
    }

    /// Keeps so many nodes of all trees, their roots and the best.
    pub fn keep(&mut self, rows: usize, trees: &mut [&mut Tree]) {
        let mut nodes = [1; MAX_BATCH];
        for (_, tree) in self.order.iter().take(rows - trees.len()) {
            nodes[*tree] += 1;
        }
        for ((tree, values), nodes) in trees.iter_mut().zip(&self.values).zip(nodes) {
            tree.prune_by(nodes, &values[..tree.len()]);
        }
    }

    /// A tree of so many nodes is verified, and so many tokens are expected of it.
    pub fn choose(&mut self, nodes: usize, expected: f64) {
        self.rows += nodes;
        self.expected += expected;
    }
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
