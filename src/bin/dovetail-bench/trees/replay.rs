//! Replays recorded answers as a policy would generate them.
//!
//! The answer and the drafter's proposals at each of its positions are known. So a round grows its tree from the
//! recorded one, accepts what agrees with the answer, and costs what a table says. What was not recorded cannot be
//! proposed: trees are at most as large as those in the record.

use super::read::Answer;
use dovetail::planner::acceptance::ByTemperature;
use dovetail::planner::cost::Costs;
use dovetail::planner::{Planner, Policy, Report, RoundTimes, TreeLimits};
use dovetail::tree::{Candidate, GrowingTree, MAX_NODES, Tree, TreeShape};
use std::collections::BTreeMap;

/// A policy's result.
pub struct Outcome {
    /// By category.
    pub times: BTreeMap<String, Time>,
    /// The report of all rounds.
    pub report: Report,
}

impl Outcome {
    /// Speedup over plain decoding: the mean of the categories.
    pub fn speedup(&self) -> f64 {
        self.times.values().map(Time::speedup).sum::<f64>() / self.times.len() as f64
    }
}

/// Seconds of some rounds.
#[derive(Clone, Copy, Default)]
pub struct Time {
    drafting: f64,
    /// Seconds of plain decoding for the same tokens.
    plain: f64,
}

impl Time {
    /// Speedup over plain decoding.
    pub fn speedup(&self) -> f64 {
        self.plain / self.drafting
    }
}

/// Replays the answers one after the other, with a planner that starts without counts. A round takes `rest` seconds
/// besides drafting and its pass, as a plain one does.
pub fn replay(answers: &[Answer], costs: &Costs, policy: Policy, rest: f64) -> Outcome {
    let planner = Planner::new(policy, costs.clone(), ByTemperature::default());
    let mut walk = Walk { costs, rest, planner, growing: GrowingTree::default() };
    let mut times = BTreeMap::<String, Time>::new();
    for answer in answers {
        let time = times.entry(answer.category.clone()).or_default();
        let mut at = 0;
        while at < answer.trees.len() {
            at += walk.round(answer, at, time);
        }
    }
    Outcome { times, report: walk.planner.report().clone() }
}

struct Walk<'a> {
    costs: &'a Costs,
    rest: f64,
    planner: Planner,
    growing: GrowingTree,
}

impl Walk<'_> {
    /// A round after token `at` of the answer. Returns its number of tokens.
    fn round(&mut self, answer: &Answer, at: usize, time: &mut Time) -> usize {
        let context = answer.prompt_tokens + at;
        self.planner.begin(1, context, true);
        // The last token of a round is not a draft token.
        let shape = TreeShape::ANY.within(answer.trees.len() - at - 1, MAX_NODES);
        let root = answer.tokens[at];
        self.planner.start(&mut self.growing, root, &TreeLimits::of(shape));
        let draft = self.grow(&answer.trees[at]);
        self.planner.choose(&mut [&mut self.growing]);
        let tree = self.growing.tree();
        let mut path = vec![0];
        while let Some(child) = tree.child(path[path.len() - 1], answer.tokens[at + path.len()]) {
            path.push(child);
        }
        let verify = self.costs.verify.seconds(1, context, tree.len());
        let whole = draft + verify + self.rest;
        self.planner.accepted(&self.growing, &path);
        self.planner.end(Some(RoundTimes { draft, verify, whole }));
        let plain = self.costs.verify.seconds(1, context, 1) + self.rest;
        time.drafting += whole;
        time.plain += path.len() as f64 * plain;
        path.len()
    }

    /// Grows the tree from the recorded one. Returns the seconds of drafting it.
    fn grow(&mut self, recorded: &Tree) -> f64 {
        let Walk { costs, planner, growing, .. } = self;
        let mut seconds = 0.0;
        let mut places = vec![0]; // of the frontier's nodes in the recorded tree
        while growing.is_growing() {
            let level = growing.level();
            seconds += match level.start {
                0 => costs.draft.first,
                _ => costs.draft.level.seconds(level.len()),
            };
            for node in level {
                let frontier = growing.frontier();
                if let Some(parent) = frontier.parent(node) {
                    let place = recorded.child(places[parent], frontier.tokens()[node]);
                    places.push(place.expect("it was proposed"));
                }
                propose_recorded(recorded, places[node], node, growing);
            }
            growing.pool_candidates();
            planner.next(&mut [growing]);
            growing.go_on();
        }
        seconds
    }
}

/// The likeliest recorded candidates after `place`, which is `node` of the frontier.
fn propose_recorded(recorded: &Tree, place: usize, node: usize, growing: &mut GrowingTree) {
    let children = recorded.children(place).map(|child| Candidate {
        parent: node,
        token: recorded.tokens()[child],
        log_prob: recorded.log_probs()[child] - recorded.log_probs()[place],
    });
    let mut children: Vec<Candidate> = children.collect();
    children.sort_by(|a, b| b.log_prob.total_cmp(&a.log_prob));
    let width = growing.shape().width;
    children.into_iter().take(width).for_each(|candidate| growing.propose(candidate));
}

#[cfg(test)]
mod tests {
    use super::*;
    use dovetail::planner::cost::{Curve, DraftCost, Table, VerifyCost};

    /// A further row costs 0.1, a first level 0.2, each further level 0.1.
    fn costs() -> Costs {
        let curve = Curve::new(&[(1, 1.0), (64, 7.3)]).unwrap();
        let verify = VerifyCost::new(vec![Table { batch: 1, context: 64, curve }]).unwrap();
        let level = Curve::new(&[(1, 0.1), (10, 0.1)]).unwrap();
        Costs { verify, draft: DraftCost { first: 0.2, level } }
    }

    /// An answer of 21 tokens with drafted chains of seven, all right or all wrong; second choices are always wrong.
    fn answer(right: bool) -> Answer {
        let tokens: Vec<u32> = (0..21).collect();
        let chain = |root: u32| {
            let mut tree = Tree::new(root);
            let mut node = 0;
            for depth in 1..=7 {
                tree.push(node, 200, -2.5);
                node = tree.push(node, root + depth + if right { 0 } else { 100 }, -0.1).unwrap();
            }
            tree
        };
        let trees = tokens[..20].iter().map(|root| chain(*root)).collect();
        Answer { category: "qa".into(), prompt_tokens: 9, tokens, trees }
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} for {b}");
    }

    fn replayed(right: bool, policy: &str, rest: f64) -> Outcome {
        replay(&[answer(right)], &costs(), policy.parse().unwrap(), rest)
    }

    #[test]
    fn draft_tokens_that_are_right_are_worth_what_one_computes() {
        // Four rounds of five tokens: 0.2 + 3 · 0.1 for the drafter, 1.4 for the pass.
        let outcome = replayed(true, "chain:4", 0.0);
        near(outcome.speedup(), 5.0 / 1.9);
        assert_eq!((outcome.report.tokens, outcome.report.nodes[5]), (20, 4));
        near(replayed(true, "chain:4", 0.5).speedup(), 5.0 * 1.5 / 2.4);
        // Second choices add three rows to the pass.
        near(replayed(true, "beam:4,2,8", 0.0).speedup(), 5.0 / 2.2);
        // Two rounds of eight tokens, and one of the remaining four.
        let last = 0.2 + 2.0 * 0.1 + 1.3;
        near(replayed(true, "chain:7", 0.0).speedup(), 20.0 / (2.0 * 2.5 + last));
    }

    #[test]
    fn draft_tokens_that_are_wrong_cost_what_one_computes() {
        // Near the end there is no room for four.
        let outcome = replayed(false, "chain:4", 0.0);
        near(outcome.speedup(), 20.0 / (16.0 * 1.9 + 1.7 + 1.5 + 1.3 + 1.0));
        assert_eq!(outcome.report.nodes[..6], [0, 1, 1, 1, 1, 16]);
    }

    #[test]
    fn each_answer_counts_for_its_category() {
        let mut wrong = answer(false);
        wrong.category = "rag".into();
        let outcome = replay(&[answer(true), wrong], &costs(), "chain:4".parse().unwrap(), 0.0);
        let by: Vec<(&str, f64)> =
            outcome.times.iter().map(|(c, t)| (&c[..], t.speedup())).collect();
        assert_eq!([by[0].0, by[1].0], ["qa", "rag"]);
        near(by[0].1, 5.0 / 1.9);
        near(outcome.speedup(), (by[0].1 + by[1].1) / 2.0);
    }

    #[test]
    fn costs_decide_where_they_may() {
        let many = |right: bool| {
            let answers: Vec<Answer> = (0..30).map(|_| answer(right)).collect();
            replay(&answers, &costs(), Policy::Cost, 0.0).speedup()
        };
        assert!(many(true) > 2.5, "{}", many(true));
        assert!(many(false) > 0.95, "{}", many(false));
    }
}
