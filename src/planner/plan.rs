//! How large trees pay: by what passes cost and how often guesses are right.
//!
//! With S the verified tree, A(S) the sum of its guesses' probabilities of being accepted, D the time of
//! drafting, T_V(n) that of a pass over n rows and X of all else for each token, what is sought is the tree with the
//! most tokens per second, (1 + A(S)) / (D + T_V(|S|) + X · (1 + A(S))), in the long run: a round with many likely
//! guesses must not be cut short because it is fast anyway, nor a poor one prolonged. So seconds are priced
//! at λ, the tokens per second of the last rounds, and each round maximises (Dinkelbach, 1967)
//!
//! ```text
//! 1 + A(S) − λ · (D + T_V(|S|) + X · (1 + A(S)))
//! ```
//!
//! No guess is likelier than the one it follows, so the likeliest n are a tree, and only sizes matter: the
//! largest value over all n, across steps and inversions of the curve. One more level is grown where
//! the guesses that are to be expected there raise that value by more than their drafting costs. Rounds
//! without a guess compete: where guessing has not paid lately it is tried ever more seldom.
//!
//! Sequences that are verified together compete for the rows of one pass: the likeliest guesses of all of
//! them are taken. So they do for the rows of a drafter's pass where their trees grow side by side.
//!
//! # Source
//! CAST, arXiv 2510.26577, makes the same three decisions (breadth, depth, verified nodes) by thresholds: `cast.rs`.

use super::acceptance::ByTemperature;
use super::backoff::Backoff;
use super::cast::{Decline, most_that_pay};
use super::cost::Costs;
use super::cost_model::{BATCH_CLASSES, CostModel, batch_class};
use super::policy::Policy;
use super::report::{Report, RoundTimes};
use super::round_state::RoundState;
use super::round_state::{Branch, TreeEstimate};
use crate::tree::{MAX_NODES, Proposal, Tree, TreeShape};

/// The largest tree that is grown.
pub const LARGEST: TreeShape = TreeShape { depth: 7, width: 10, nodes: MAX_NODES };

/// Sizes trees. See the module.
#[derive(Clone, Debug)]
pub struct Planner {
    policy: Policy,
    cost_model: CostModel,
    confidences: ByTemperature,
    /// Most guesses on a path.
    depth: usize,
    decline: Decline,
    /// By the class of how many sequences there are.
    pauses: [Backoff; BATCH_CLASSES],
    report: Report,
    step: RoundState,
}

impl Planner {
    /// For these costs, and a drafter whose guesses were right so often.
    pub fn new(policy: Policy, costs: Costs, confidences: ByTemperature) -> Planner {
        Planner {
            policy,
            cost_model: CostModel::new(costs),
            confidences,
            depth: MAX_NODES,
            decline: Decline::new(),
            pauses: [Backoff::default(); BATCH_CLASSES],
            report: Report::default(),
            step: RoundState::new(),
        }
    }

    /// What decides.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The same with paths of up to `depth` guesses.
    pub fn with_depth(self, depth: usize) -> Planner {
        Planner { depth, ..self }
    }

    /// The largest tree that it may ask for.
    pub fn largest(&self) -> TreeShape {
        let largest = if let Policy::Fixed(growth) = self.policy { growth } else { LARGEST };
        largest.within(self.depth, MAX_NODES)
    }

    /// How often guesses were right.
    pub fn confidences(&self) -> &ByTemperature {
        &self.confidences
    }

    /// What passes cost, as they were measured.
    pub fn costs(&self) -> &Costs {
        self.cost_model.costs()
    }

    /// What was chosen since the last [`Planner::reset_report`].
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Begins the report anew.
    pub fn reset_report(&mut self) {
        self.report = Report::default();
    }

    /// Begins a round of `batch` sequences, [`MAX_BATCH`] at most, behind `context` tokens on average.
    pub fn begin(&mut self, batch: usize, context: usize) {
        let pause = &mut self.pauses[batch_class(batch)];
        let pauses = self.policy == Policy::Cost && pause.goes_on();
        self.step.begin(batch, context, pauses);
    }

    /// Whether no sequence guesses in this round.
    pub fn pauses(&self) -> bool {
        self.step.pauses
    }

    /// Begins the tree of a sequence of this temperature, of up to `depth` guesses on a path and `nodes` nodes: how large
    /// it may grow.
    pub fn tree(&mut self, temperature: f32, depth: usize, nodes: usize) -> TreeEstimate {
        self.step.tree(self.largest().within(depth, nodes), temperature)
    }

    /// Decides how many guesses of a level go on, of trees that grow side by side: their guesses are those at `depth`, from
    /// 1 on.
    pub fn next(&mut self, depth: usize, branches: &mut [Branch]) {
        let Planner { policy, cost_model, confidences, decline, step: s, .. } = self;
        s.drafted(depth, branches, cost_model);
        let most = |branch: &Branch| {
            let growth = branch.growing.growth();
            if depth < growth.depth { growth.width.min(branch.guesses.len()) } else { 0 }
        };
        match policy {
            Policy::Fixed(_) => branches.iter_mut().for_each(|branch| branch.width = most(branch)),
            Policy::Cast(thresholds) => {
                let cost = |n: usize| cost_model.level_seconds(s, n) / cost_model.plain_seconds(s);
                for branch in branches.iter_mut().filter(|branch| most(branch) > 0) {
                    let guesses = branch.guesses.iter().take(most(branch));
                    let paths = guesses.map(|guess| f64::from(libm::expf(guess.log_prob)));
                    let (width, _) =
                        most_that_pay(paths.clone().skip(1), 1, thresholds.breadth, cost);
                    let last = branch.growing.utility_mut();
                    let utility = decline.next(last, paths.take(width).sum());
                    let pays = utility >= thresholds.depth * cost(width);
                    branch.width = if pays { width } else { 0 };
                }
            }
            Policy::Cost => s.widths_that_pay(cost_model, confidences, depth, branches),
        }
        s.goes_on(depth, branches);
    }

    /// [`Planner::next`] for a tree that grows alone: how many guesses go on.
    pub fn next_alone(
        &mut self,
        depth: usize,
        growing: &mut TreeEstimate,
        frontier: &Tree,
        guesses: &[Proposal],
    ) -> usize {
        let mut branch = [Branch { growing, frontier, guesses, width: 0 }];
        self.next(depth, &mut branch);
        branch[0].width
    }

    /// Says that a sequence's tree has grown; each has, if only its root is there.
    pub fn grown(&mut self, tree: &Tree, growing: &TreeEstimate) {
        let Planner { policy, cost_model, confidences, step: s, .. } = self;
        s.grown(tree, growing, cost_model);
        let confidences = confidences.at(growing.temperature());
        match policy {
            Policy::Cast(_) => s.add(growing, |values| {
                values[..tree.len()].copy_from_slice(tree.log_probs());
            }),
            _ => s.add(growing, |values| confidences.expect(tree, values)),
        }
    }

    /// Leaves of the trees of all sequences, in the order in which they have [grown](Planner::grown), what pays: their
    /// roots at least.
    pub fn choose(&mut self, trees: &mut [&mut Tree]) {
        let Planner { policy, cost_model, confidences, step: s, .. } = self;
        match policy {
            Policy::Fixed(_) => {}
            Policy::Cast(thresholds) => {
                s.sort(trees);
                let plain = cost_model.plain_seconds(s);
                let cost = |n: usize| cost_model.verify_seconds(s, n) / plain;
                let paths = s.order().map(|log_prob| f64::from(libm::expf(log_prob)));
                let (rows, _) = most_that_pay(paths, trees.len(), thresholds.nodes, cost);
                s.keep(rows, trees);
            }
            Policy::Cost => {
                s.sort(trees);
                let pause = &mut self.pauses[batch_class(s.batch)];
                let more = usize::from(!s.pauses && pause.is_curious());
                let rows = s.rows_that_pay(cost_model);
                s.keep(rows + more, trees);
            }
        }
        let mut expected = [0.0; MAX_NODES];
        for (t, tree) in trees.iter().enumerate() {
            confidences.at(s.temperature(t)).expect(tree, &mut expected);
            s.choose(tree.len(), expected[..tree.len()].iter().map(|e| f64::from(*e)).sum());
        }
    }

    /// Takes note of what became of the tree of a sequence of this temperature: `path` was accepted.
    pub fn accepted(&mut self, temperature: f32, tree: &Tree, path: &[usize]) {
        let weight = self.pauses[batch_class(self.step.batch)].weight();
        self.confidences.at_mut(temperature).count(tree, path, weight);
        self.step.tokens += path.len();
        self.report.nodes[tree.len()] += 1;
        self.report.paused += usize::from(self.step.pauses);
    }

    /// Takes note of how long the round took, all trees having been [accepted](Planner::accepted).
    pub fn end(&mut self, taken: RoundTimes) {
        let Planner { policy, cost_model, pauses, report, step: s, .. } = self;
        let pause = &mut pauses[batch_class(s.batch)];
        report.tokens += s.tokens;
        report.seconds += taken.whole;
        let round = cost_model.observe(s, f64::from(pause.weight()), taken);
        report.expected_tokens += s.expected;
        report.expected_seconds += round.seconds;
        report.plain_seconds += s.tokens as f64 / s.batch as f64 * cost_model.plain_round(s);
        if *policy == Policy::Cost && !s.pauses {
            pause.set(cost_model.guessing(s), round.speed_up);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::cost::{Curve, DraftCost, Table, VerifyCost};
    use proptest::prelude::*;

    fn costs(rows: &[(usize, f64)], first: f64, level: f64) -> Costs {
        let table = |batch| Table { batch, context: 0, curve: Curve::new(rows).unwrap() };
        let verify = VerifyCost::new(vec![table(1)]).unwrap();
        Costs { verify, draft: DraftCost { first, level: Curve::new(&[(1, level)]).unwrap() } }
    }

    fn planner(rows: &[(usize, f64)], first: f64, level: f64) -> Planner {
        Planner::new(Policy::Cost, costs(rows, first, level), ByTemperature::default())
    }

    /// A tree of guesses: (any earlier node, token, log probability) each.
    fn any_tree() -> impl Strategy<Value = Tree> {
        prop::collection::vec((any::<usize>(), 0u32..9, -30i32..=0), 0..70).prop_map(|guesses| {
            let mut tree = Tree::new(7);
            for (parent, token, log_prob) in guesses {
                tree.push(parent % tree.len(), token, log_prob as f32 / 10.0);
            }
            tree
        })
    }

    /// A curve with steps and inversions.
    fn any_curve() -> impl Strategy<Value = Vec<(usize, f64)>> {
        prop::collection::vec((1usize..4, 0.5f64..3.0), 1..20).prop_map(|steps| {
            let mut rows = vec![(1, 1.0)];
            for (step, factor) in steps {
                let n = rows[rows.len() - 1].0 + step;
                rows.push((n, (n as f64).sqrt() * factor));
            }
            rows
        })
    }

    proptest! {
        #[test]
        fn of_all_sizes_the_best_one_is_chosen(trees in prop::collection::vec(any_tree(), 1..5), rows in any_curve()) {
            let mut planner = planner(&rows, 0.1, 0.1);
            planner.pauses[batch_class(trees.len())].since = 1; // not curious
            planner.begin(trees.len(), 0);
            let confidences = planner.confidences.clone();
            for tree in &trees {
                let growing = planner.tree(0.0, 7, 64);
                planner.grown(tree, &growing);
            }
            let mut chosen = trees.clone();
            planner.choose(&mut chosen.iter_mut().collect::<Vec<_>>());

            // Each tree's guesses are cut at some probability, the same in all of them.
            let expect = |tree: &Tree| {
                let mut expected = [0.0; MAX_NODES];
                confidences.at(0.0).expect(tree, &mut expected);
                expected[..tree.len()].to_vec()
            };
            let mut all: Vec<f32> = trees.iter().flat_map(|tree| expect(tree)[1..].to_vec()).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            let n: usize = chosen.iter().map(Tree::len).sum();
            let mut kept: Vec<f32> = chosen.iter().flat_map(|tree| expect(tree)[1..].to_vec()).collect();
            kept.sort_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(&kept[..], &all[..n - trees.len()]);

            // And no number of rows is worth more.
            let (batch, cost_model) = (trees.len(), &planner.cost_model);
            let price = cost_model.price(&planner.step);
            let value = |n: usize| {
                let accepted: f64 = all[..n - batch].iter().map(|e| f64::from(*e)).sum();
                accepted - price * cost_model.verify_seconds(&planner.step, n)
            };
            for n in batch..=batch + all.len() {
                prop_assert!(value(kept.len() + batch) >= value(n) - 1e-9, "{} rows for {}", n, kept.len() + batch);
            }
        }

        #[test]
        fn a_tree_within_limits_stays_there(depth in 0usize..9, nodes in 0usize..70, rows in any_curve()) {
            let mut planner = planner(&rows, 0.1, 0.1);
            planner.begin(1, 0);
            let growth = planner.tree(0.0, depth, nodes).growth();
            prop_assert!(growth.depth <= depth && growth.nodes <= nodes);
        }
    }

    /// A drafter that goes on for ever with one token, sure of it by `log_prob`, and is right `share` of the time.
    /// Runs rounds; returns those that guessed.
    fn run(planner: &mut Planner, rounds: usize, log_prob: f32, share: f64) -> usize {
        run_by_depth(planner, rounds, |_| (log_prob, share))
    }

    /// The same with a probability and a share for each depth.
    fn run_by_depth(
        planner: &mut Planner,
        rounds: usize,
        guess: impl Fn(usize) -> (f32, f64),
    ) -> usize {
        let Costs { verify, draft: DraftCost { first, .. } } = planner.costs().clone();
        let mut guessed = 0;
        let mut draw = 0.0;
        for _ in 0..rounds {
            planner.begin(1, 0);
            let mut growing = planner.tree(0.0, 7, 64);
            let mut tree = Tree::new(0);
            let mut draft = 0.0;
            if !growing.growth().is_none() {
                guessed += 1;
                for depth in 1..=growing.growth().depth {
                    draft += first;
                    let (log_prob, _) = guess(depth);
                    let parent = tree.len() - 1;
                    let path = tree.log_probs()[parent] + log_prob;
                    let frontier = tree;
                    tree.push(parent, 1, log_prob);
                    let guesses = &[Proposal { parent, token: 1, log_prob: path }];
                    if planner.next_alone(depth, &mut growing, &frontier, guesses) == 0 {
                        break;
                    }
                }
            }
            planner.grown(&tree, &growing);
            planner.choose(&mut [&mut tree]);
            let mut path = vec![0];
            while path.len() < tree.len() {
                draw = (draw + 0.618_034) % 1.0;
                if draw >= guess(path.len()).1 {
                    break;
                }
                path.push(path.len());
            }
            planner.accepted(0.0, &tree, &path);
            let verify = verify.seconds(1, 0, tree.len());
            planner.end(RoundTimes { draft, verify, whole: draft + verify });
        }
        guessed
    }

    const ROWS: &[(usize, f64)] = &[(1, 1.0), (2, 1.2), (4, 1.7), (8, 2.6), (16, 5.0)];

    #[test]
    fn guessing_that_does_not_pay_ends_and_begins_again_when_it_does() {
        let mut planner = planner(ROWS, 0.05, 0.05);
        run(&mut planner, 100, -0.05, 0.0);
        assert!(run(&mut planner, 1000, -0.05, 0.0) < 60, "it is tried seldom");
        planner.reset_report();
        run(&mut planner, 500, -0.05, 0.0);
        let report = planner.report();
        assert!(
            report.seconds < 1.01 * report.plain_seconds,
            "and that costs next to nothing: {report:?}"
        );
        run(&mut planner, 1000, -0.05, 0.95);
        assert!(run(&mut planner, 200, -0.05, 0.95) > 150, "a drafter that is right is asked");
        planner.reset_report();
        run(&mut planner, 200, -0.05, 0.95);
        let report = planner.report();
        assert!(report.plain_seconds > 1.7 * report.seconds, "{report:?}");
        let off = report.expected_tokens / report.tokens as f64;
        assert!((off - 1.0).abs() < 0.1, "as expected: {off}");
        let off = report.expected_seconds / report.seconds;
        assert!((off - 1.0).abs() < 0.05, "as expected: {off}");
    }

    #[test]
    fn second_levels_that_failed_in_one_text_are_grown_in_another() {
        let mut planner = planner(ROWS, 0.05, 0.1);
        // Behind a first guess that is mostly right there are only bad ones.
        run_by_depth(
            &mut planner,
            400,
            |depth| if depth == 1 { (-0.25, 0.75) } else { (-2.0, 0.1) },
        );
        planner.reset_report();
        run(&mut planner, 60, -0.05, 0.95);
        let nodes = planner.report().nodes.iter().enumerate().map(|(n, times)| n * times);
        assert!(nodes.sum::<usize>() > 60 * 4, "{:?}", planner.report());
    }

    #[test]
    fn depth_follows_the_price_of_a_level_and_of_a_row() {
        let nodes = |rows: &[(usize, f64)], level: f64, share: f64| {
            let mut planner = planner(rows, level, level);
            run(&mut planner, 300, -0.05, share);
            planner.reset_report();
            run(&mut planner, 100, -0.05, share);
            let all = planner.report().nodes.iter().enumerate().map(|(n, times)| n * times);
            all.sum::<usize>() as f64 / 100.0
        };
        let flat = &[(1, 1.0), (8, 1.05)];
        assert!(nodes(flat, 0.05, 0.9) > 6.5, "rows are free");
        let steep = &[(1, 1.0), (16, 9.0)];
        assert!(nodes(flat, 0.05, 0.9) > nodes(steep, 0.05, 0.9) + 1.0, "rows cost");
        assert!(nodes(ROWS, 0.05, 0.9) > nodes(ROWS, 0.05, 0.6));
        assert!(nodes(flat, 0.05, 0.6) > nodes(flat, 0.5, 0.6) + 0.5, "levels cost");
    }

    #[test]
    fn trees_that_grow_side_by_side_share_the_price_of_a_level() {
        let mut costs = costs(&[(1, 1.0), (64, 1.0)], 0.1, 0.4);
        costs.draft.level = Curve::new(&[(1, 0.4), (64, 0.4)]).unwrap();
        let mut planner = Planner::new(Policy::Cost, costs, ByTemperature::default());
        let guesses = [Proposal { parent: 0, token: 1, log_prob: -0.3 }];
        let roots = Tree::new(0);
        let mut widths = |trees: usize| {
            planner.begin(4, 0);
            let mut growing: Vec<TreeEstimate> =
                (0..trees).map(|_| planner.tree(0.0, 7, 64)).collect();
            let branches = growing.iter_mut().map(|growing| Branch {
                growing,
                frontier: &roots,
                guesses: &guesses,
                width: 0,
            });
            let mut branches: Vec<Branch> = branches.collect();
            planner.next(1, &mut branches);
            branches.iter().map(|branch| branch.width).collect::<Vec<_>>()
        };
        assert_eq!(widths(1), [0], "the other three wait");
        assert_eq!(widths(4), [1; 4]);
    }

    #[test]
    fn fixed_trees_are_left_alone() {
        let growth = TreeShape { depth: 3, width: 2, nodes: 9 };
        let costs = costs(ROWS, 0.1, 0.1);
        let mut planner = Planner::new(Policy::Fixed(growth), costs, ByTemperature::default());
        {
            planner.begin(1, 5);
            assert_eq!(
                planner.tree(0.0, 2, 5).growth(),
                TreeShape { depth: 2, nodes: 5, ..growth }
            );
            let mut growing = planner.tree(0.0, 9, 64);
            assert_eq!(growing.growth(), growth);
            let mut tree = Tree::new(0);
            let guesses = [1, 2, 3].map(|token| Proposal { parent: 0, token, log_prob: -9.0 });
            assert_eq!(planner.next_alone(1, &mut growing, &tree, &guesses), 2);
            for guess in guesses {
                tree.push(0, guess.token, guess.log_prob);
            }
            let before = tree;
            planner.grown(&tree, &growing);
            planner.choose(&mut [&mut tree]);
            assert_eq!(tree, before);
            planner.accepted(0.0, &tree, &[0]);
            planner.end(RoundTimes { draft: 0.1, verify: 1.0, whole: 1.1 });
            assert_eq!((planner.report().nodes[4], planner.report().tokens), (1, 1));
        }
    }
}
