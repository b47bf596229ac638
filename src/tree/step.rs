//! One round of all sequences in work: what grows, and what of it pays.

use super::confidence::Confidences;
use super::measured::Measured;
use super::plan::{LARGEST, MAX_BATCH};
use super::{Growth, MAX_NODES, Proposal, Tree};

/// Guesses after one node of which an average is kept.
const RANKS: usize = 3;
/// Guesses of the largest tree.
const MOST: usize = MAX_NODES - 1;
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
}

/// The state of a round.
#[derive(Clone, Debug)]
pub(super) struct Step {
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
    /// The tree that grows: its limits, its levels so far and the width of the last one.
    pub growth: Growth,
    levels: usize,
    width: usize,
    /// Seconds by which so many rows of this tree make the pass longer: (nodes + 1).
    seconds: [f64; MAX_NODES + 1],
    /// The chance of each node of the frontier.
    frontier: [Chance; MAX_NODES],
    n_frontier: usize,
    /// Those of the likeliest guesses so far, and with those to be expected behind them.
    pool: Likeliest,
    hoped: Likeliest,
    /// What nodes of grown trees are worth: (trees).
    values: Vec<[f32; MAX_NODES]>,
    /// That of all nodes but roots, the best first, and their trees.
    order: Vec<(f32, usize)>,
    /// The probability that the likeliest guesses after an accepted one are accepted, by its class: (classes, ranks).
    typical: [[f32; RANKS]; CLASSES],
}

impl Step {
    pub fn new() -> Step {
        Step {
            batch: 1,
            context: 0,
            pauses: false,
            spent: 0.0,
            expected: 0.0,
            tokens: 0,
            rows: 0,
            growth: LARGEST,
            levels: 0,
            width: 1,
            seconds: [0.0; MAX_NODES + 1],
            frontier: [Chance::CERTAIN; MAX_NODES],
            n_frontier: 1,
            pool: Likeliest::default(),
            hoped: Likeliest::default(),
            values: Vec::with_capacity(MAX_BATCH),
            order: Vec::with_capacity(MAX_BATCH * MAX_NODES),
            // Who was sure is likely to be sure again.
            typical: std::array::from_fn(|class| {
                let likeliest = 0.4 + 0.5 * (class as f32 + 0.5) / CLASSES as f32;
                [1.0, 0.4, 0.2]
                    .map(|part| if part == 1.0 { likeliest } else { part * (1.0 - likeliest) })
            }),
        }
    }

    pub fn begin(&mut self, batch: usize, context: usize, pauses: bool) {
        (self.batch, self.context, self.pauses) = (batch, context, pauses);
        (self.spent, self.expected, self.tokens, self.rows) = (0.0, 0.0, 0, 0);
        self.values.clear();
    }

    /// Begins a tree of up to this size; returns how large it may grow.
    pub fn tree(&mut self, growth: Growth, measured: &Measured) -> Growth {
        self.growth = if self.pauses { growth.within(0, 1) } else { growth };
        (self.levels, self.width, self.n_frontier) = (0, 1, 1);
        self.pool = Likeliest::default();
        // How many rows the other sequences will have is not known yet: as many as they had.
        let others = measured.rows_of_others(self.batch);
        let before = if others == 0 { 0.0 } else { measured.verify_seconds(self, others) };
        for n in 1..=MAX_NODES {
            self.seconds[n] = measured.verify_seconds(self, others + n) - before;
        }
        self.growth
    }

    /// Its drafter has run the level before `depth`.
    pub fn drafted(&mut self, depth: usize, measured: &Measured) {
        self.levels = depth;
        self.spent += match depth {
            1 => measured.first_seconds(),
            _ => measured.level_seconds(self.width),
        };
    }

    /// So many guesses go on.
    pub fn goes_on(&mut self, width: usize) -> usize {
        self.width = width.max(1);
        width
    }

    /// The tree has grown; a drafter that asked for no level is charged for all.
    pub fn grown(&mut self, tree: &Tree, measured: &Measured) {
        if self.levels == 0 && tree.len() > 1 {
            let levels = self.growth.depth.saturating_sub(1) as f64;
            self.spent +=
                measured.first_seconds() + levels * measured.level_seconds(self.growth.width);
        }
    }

    /// The number of guesses at `depth` that another level is grown behind, if the tree is worth more with it.
    pub fn width_that_pays(
        &mut self,
        measured: &Measured,
        confidences: &Confidences,
        depth: usize,
        frontier: &Tree,
        guesses: &[Proposal],
    ) -> usize {
        let mut chances = [Chance::CERTAIN; MAX_NODES];
        let new = self.expect(confidences, depth, frontier, guesses, &mut chances);
        new.iter().for_each(|guess| self.pool.add(guess.path));
        let price = measured.price(self);
        let mut best = (0, self.best(&self.pool, price));
        let most = self.growth.width.min(MAX_NODES - self.n_frontier).min(new.len());
        self.hoped = self.pool;
        for width in 1..=most {
            let guess = new[width - 1];
            let behind = self.typical[guess.class()].map(|accepted| guess.path * accepted);
            if self.pool.least().is_some_and(|least| behind[0] < least) {
                break;
            }
            behind.into_iter().for_each(|path| self.hoped.add(path));
            let value = self.best(&self.hoped, price) - price * measured.level_seconds(width);
            if value > best.1 {
                best = (width, value);
            }
            // Wider levels only add guesses that are less likely.
            if best.0 + 1 < width {
                break;
            }
        }
        let first = self.n_frontier;
        self.frontier[first..first + best.0].copy_from_slice(&new[..best.0]);
        self.n_frontier += best.0;
        best.0
    }

    /// The chances of guesses, the likeliest first as they are.
    fn expect<'a>(
        &mut self,
        confidences: &Confidences,
        depth: usize,
        frontier: &Tree,
        guesses: &[Proposal],
        out: &'a mut [Chance; MAX_NODES],
    ) -> &'a [Chance] {
        let mut ranks = [0; MAX_NODES];
        let n = guesses.len().min(MAX_NODES);
        for (guess, out) in guesses.iter().zip(&mut *out) {
            let step = guess.log_prob - frontier.log_probs()[guess.parent];
            let (step, parent) = (confidences.accepted(depth, step), self.frontier[guess.parent]);
            *out = Chance { path: parent.path * step, step };
            let typical = self.typical[parent.class()].get_mut(ranks[guess.parent]);
            if let Some(typical) = typical.filter(|_| depth > 1) {
                *typical += TYPICAL * (step - *typical);
            }
            ranks[guess.parent] += 1;
        }
        &out[..n]
    }

    /// The best value of a tree with some of these guesses.
    fn best(&self, guesses: &Likeliest, price: f64) -> f64 {
        let mut accepted = 0.0;
        let mut best = -price * self.seconds[1];
        for (guess, seconds) in guesses.get().iter().zip(&self.seconds[2..=self.growth.nodes]) {
            accepted += f64::from(*guess);
            best = best.max(accepted - price * seconds);
        }
        best
    }

    /// Takes note of what the nodes of a grown tree are worth, as `write` says: no node more than its parent.
    pub fn add(&mut self, write: impl FnOnce(&mut [f32; MAX_NODES])) {
        let mut values = [0.0; MAX_NODES];
        write(&mut values);
        self.values.push(values);
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
    pub fn rows_that_pay(&self, measured: &Measured) -> usize {
        let (roots, price) = (self.batch, measured.price(self));
        let mut accepted = 0.0;
        let mut best = (roots, -price * measured.plain_seconds(self));
        for (rows, (guess, _)) in (roots + 1..).zip(&self.order) {
            accepted += f64::from(*guess);
            let value = accepted - price * measured.verify_seconds(self, rows);
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

/// The largest of some probabilities, as many as the largest tree has guesses, in descending order: kept so as they
/// come, since sorting them for each width of each level would take as long as all else in a round.
#[derive(Clone, Copy, Debug)]
struct Likeliest {
    n: usize,
    probabilities: [f32; MOST],
}

impl Default for Likeliest {
    fn default() -> Likeliest {
        Likeliest { n: 0, probabilities: [0.0; MOST] }
    }
}

impl Likeliest {
    fn get(&self) -> &[f32] {
        &self.probabilities[..self.n]
    }

    /// The least of them, if there is no room for another one.
    fn least(&self) -> Option<f32> {
        (self.n == MOST).then_some(self.probabilities[MOST - 1])
    }

    fn add(&mut self, probability: f32) {
        if self.least().is_some_and(|least| least >= probability) {
            return;
        }
        self.n = (self.n + 1).min(MOST);
        let mut place = self.n - 1;
        while place > 0 && self.probabilities[place - 1] < probability {
            self.probabilities[place] = self.probabilities[place - 1];
            place -= 1;
        }
        self.probabilities[place] = probability;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_likeliest_are_the_first_of_all_in_order(all in prop::collection::vec(0u8..99, 0..200)) {
            let mut all: Vec<f32> = all.into_iter().map(|x| f32::from(x) / 99.0).collect();
            let mut likeliest = Likeliest::default();
            all.iter().for_each(|x| likeliest.add(*x));
            all.sort_by(|a, b| b.total_cmp(a));
            all.truncate(MOST);
            prop_assert_eq!(likeliest.get(), &all[..]);
            prop_assert_eq!(likeliest.least(), all.get(MOST - 1).copied());
        }
    }
}
