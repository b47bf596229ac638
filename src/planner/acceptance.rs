//! Acceptance rates of drafted tokens, by depth and by the drafter's confidence.
//!
//! A drafter's probabilities are not its acceptance rates: those depend on the text, on the token's depth in the tree,
//! and on the temperature. So accepted tokens are counted by depth and by the drafter's probability. Only tested tokens
//! count: a node says something about a drafter only if its parent was accepted.

use crate::tree::{MAX_NODES, Tree};

/// Number of distinct depths; deeper tokens count with the last.
pub const DEPTHS: usize = 8;
/// Number of classes of confidence, evenly spaced in log odds.
pub const CLASSES: usize = 24;

/// Log odds of the first and of the last class.
const FIRST: f32 = -5.0;
const LAST: f32 = 6.5;
/// Weight of the prior, in tested tokens for each cell.
const PRIOR: f32 = 3.0;
/// Number of tested tokens above which a cell halves its counts.
const MEMORY: f32 = 200.0;

/// Numbers of tested and of accepted tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cell {
    /// Drafted tokens whose parent was accepted.
    pub tested: f32,
    /// Tested tokens that were accepted.
    pub accepted: f32,
}

/// Counts by depth and class; the first depth is that of the root's children: (depths, classes).
pub type Cells = [[Cell; CLASSES]; DEPTHS];

/// Acceptance rates by depth and confidence. See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptanceStats {
    cells: Cells,
    /// The acceptance rate assumed for each class of an unobserved drafter.
    prior: [f32; CLASSES],
}

impl Default for AcceptanceStats {
    /// The prior for an unobserved drafter: acceptance rates a little below its probabilities.
    fn default() -> AcceptanceStats {
        let class = |class: usize| {
            let odds = FIRST + (LAST - FIRST) * class as f32 / (CLASSES - 1) as f32;
            1.0 / (1.0 + libm::expf(0.3 - 0.9 * odds))
        };
        let cells = [[Cell::default(); CLASSES]; DEPTHS];
        AcceptanceStats { cells, prior: std::array::from_fn(class) }
    }
}

/// Upper ends of the temperature ranges, in ascending order; one more range lies above the last.
const TEMPERATURES: [f32; 5] = [0.0, 0.35, 0.7, 0.9, 1.1];

/// Acceptance rates for each range of temperatures. At higher temperatures fewer drafted tokens are accepted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByTemperature {
    all: [AcceptanceStats; TEMPERATURES.len() + 1],
}

impl ByTemperature {
    /// Statistics with these counts, in ascending order of temperature; missing ones are zero.
    pub fn of(counts: &[Cells]) -> ByTemperature {
        let mut new = ByTemperature::default();
        for (confidences, cells) in new.all.iter_mut().zip(counts) {
            confidences.cells = *cells;
        }
        new
    }

    /// All counts, in ascending order of temperature.
    pub fn counts(&self) -> impl Iterator<Item = &Cells> {
        self.all.iter().map(AcceptanceStats::cells)
    }

    /// The statistics for this temperature.
    pub fn at(&self, temperature: f32) -> &AcceptanceStats {
        &self.all[place(temperature)]
    }

    /// Mutable access to the statistics for this temperature.
    pub fn at_mut(&mut self, temperature: f32) -> &mut AcceptanceStats {
        &mut self.all[place(temperature)]
    }
}

fn place(temperature: f32) -> usize {
    TEMPERATURES.iter().take_while(|up_to| temperature > **up_to).count()
}

impl AcceptanceStats {
    /// The counts.
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// The probability that a drafted token at `depth`, from 1 on, is accepted if its parent is. `log_prob` is the
    /// drafter's log probability of the token after its parent.
    pub fn accepted(&self, depth: usize, log_prob: f32) -> f32 {
        classes(log_prob).map(|(class, part)| part * self.share(depth, class)).iter().sum()
    }

    fn share(&self, depth: usize, class: usize) -> f32 {
        let depth = depth.clamp(1, DEPTHS) - 1;
        let Cell { tested, accepted } = self.cells[depth][class];
        (accepted + PRIOR * self.prior[class]) / (tested + PRIOR)
    }

    /// Writes the probability that each node is accepted, 1 for the root and the `n_forced` nodes behind it: (nodes).
    pub fn expect(&self, tree: &Tree, n_forced: usize, out: &mut [f32; MAX_NODES]) {
        out[..=n_forced].fill(1.0);
        for node in n_forced + 1..tree.len() {
            let parent = tree.parent(node).expect("not the root");
            let step = tree.log_probs()[node] - tree.log_probs()[parent];
            out[node] = out[parent] * self.accepted(tree.depth(node), step);
        }
    }

    /// Counts the tested nodes of a tree of which `path` was accepted, with weight `times`.
    pub fn count(&mut self, tree: &Tree, path: &[usize], times: f32) {
        for (depth, &parent) in path.iter().enumerate() {
            for child in tree.children(parent) {
                let step = tree.log_probs()[child] - tree.log_probs()[parent];
                for (class, part) in classes(step) {
                    let cell = &mut self.cells[depth.min(DEPTHS - 1)][class];
                    let part = part * times;
                    cell.tested += part;
                    cell.accepted += if path.get(depth + 1) == Some(&child) { part } else { 0.0 };
                    forget(cell);
                }
            }
        }
    }
}

fn forget(cell: &mut Cell) {
    while cell.tested > MEMORY {
        cell.tested /= 2.0;
        cell.accepted /= 2.0;
    }
}

/// The two classes between which a log probability lies, and the weight of each.
fn classes(log_prob: f32) -> [(usize, f32); 2] {
    // ln(q / (1 − q)), which is infinite for q = 1.
    let odds = log_prob - libm::logf(-libm::expm1f(log_prob));
    let odds = if odds.is_nan() { FIRST } else { odds.clamp(FIRST, LAST) };
    let place = (odds - FIRST) / (LAST - FIRST) * (CLASSES - 1) as f32;
    let class = (place as usize).min(CLASSES - 2);
    let part = place - class as f32;
    [(class, 1.0 - part), (class + 1, part)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_sure_is_more_likely_and_nothing_is_out_of_range() {
        let confidences = AcceptanceStats::default();
        let mut last = 0.0;
        for log_prob in [f32::NEG_INFINITY, -50.0, -7.0, -2.0, -0.7, -0.1, -1e-3, -1e-9, 0.0] {
            let accepted = confidences.accepted(1, log_prob);
            assert!((0.0..=1.0).contains(&accepted) && accepted >= last, "{log_prob}: {accepted}");
            last = accepted;
        }
        assert!((0.0..=1.0).contains(&confidences.accepted(99, f32::NAN)));
    }

    #[test]
    fn what_was_not_tested_does_not_count() {
        //   0 ─┬─ 1 ─── 3
        //      └─ 2 ─── 4
        let mut tree = Tree::new(0);
        for (parent, token) in [(0, 1), (0, 2), (1, 3), (2, 4)] {
            tree.push(parent, token, -0.7);
        }
        let counted = |path: &[usize]| {
            let mut confidences = AcceptanceStats::default();
            confidences.count(&tree, path, 1.0);
            let by_depth = |depth: usize| {
                let cells = confidences.cells()[depth].iter();
                cells.fold((0.0, 0.0), |sum, cell| (sum.0 + cell.tested, sum.1 + cell.accepted))
            };
            [0, 1, 2].map(by_depth)
        };
        assert_eq!(counted(&[0]), [(2.0, 0.0), (0.0, 0.0), (0.0, 0.0)]);
        assert_eq!(counted(&[0, 2]), [(2.0, 1.0), (1.0, 0.0), (0.0, 0.0)]);
        assert_eq!(counted(&[0, 1, 3]), [(2.0, 1.0), (1.0, 1.0), (0.0, 0.0)]);
    }

    #[test]
    fn counted_shares_are_believed() {
        // Tokens are accepted half as often as the drafter says, and never at depth 2.
        let mut confidences = AcceptanceStats::default();
        for i in 0..4000 {
            let log_prob = [-0.1f32, -0.7, -2.0][i % 3];
            let mut tree = Tree::new(0);
            let node = tree.push(0, 1, log_prob).unwrap();
            tree.push(node, 1, log_prob);
            // A low-discrepancy sequence in place of random numbers.
            let draw = (i as f32 * 0.618_034).fract();
            let right = draw < libm::expf(log_prob) / 2.0;
            confidences.count(&tree, if right { &[0, 1] } else { &[0] }, 1.0);
        }
        for log_prob in [-0.1f32, -0.7, -2.0] {
            let expected = libm::expf(log_prob) / 2.0;
            let found = confidences.accepted(1, log_prob);
            assert!((found - expected).abs() < 0.06, "{log_prob}: {found} for {expected}");
            assert!(confidences.accepted(2, log_prob) < 0.06);
        }
        let all: f32 = confidences.cells().iter().flatten().map(|cell| cell.tested).sum();
        assert!(all < 4000.0, "old counts are forgotten: {all}");
    }

    #[test]
    fn temperatures_are_counted_apart() {
        let mut all = ByTemperature::default();
        let mut tree = Tree::new(0);
        tree.push(0, 1, -0.5);
        for (temperature, times) in [(0.0, 1.0), (0.01, 2.0), (0.8, 3.0), (1.0, 4.0), (7.0, 5.0)] {
            all.at_mut(temperature).count(&tree, &[0], times);
        }
        let tested =
            |cells: &Cells| cells.iter().flatten().map(|cell| cell.tested).sum::<f32>().round();
        assert_eq!(all.counts().map(tested).collect::<Vec<_>>(), [1.0, 2.0, 0.0, 3.0, 4.0, 5.0]);
        let counts: Vec<Cells> = all.counts().copied().collect();
        assert_eq!(ByTemperature::of(&counts), all);
    }

    #[test]
    fn a_path_is_as_likely_as_all_its_draft_tokens() {
        let confidences = AcceptanceStats::default();
        let mut tree = Tree::new(0);
        let first = tree.push(0, 1, -0.5).unwrap();
        tree.push(first, 2, -0.2);
        let mut expected = [0.0; MAX_NODES];
        confidences.expect(&tree, 0, &mut expected);
        let one = confidences.accepted(1, -0.5);
        assert_eq!(expected[..2], [1.0, one]);
        assert!((expected[2] - one * confidences.accepted(2, -0.2)).abs() < 1e-5);
        confidences.expect(&tree, 1, &mut expected);
        assert_eq!(expected[..3], [1.0, 1.0, confidences.accepted(2, -0.2)]);
    }
}
