//! What the planner costs in a round: begin, grow seven levels of up to ten nodes, choose, take note of what was
//! accepted; for one sequence and for sixteen. One thread.
//!
//! Costs are flat, drafting is cheap and the guesses are sure enough for the largest tree to grow; each node that is
//! run proposes ten guesses. SpecOptions is to cost nothing beside a pass: 1 % of a round of the default
//! model on two cores of an EPYC, 8 ms, is 80 µs.
//!
//! ```sh
//! cargo bench --bench tree
//! ```

mod common;

use common::random::Random;
use criterion::Criterion;
use dovetail::planner::acceptance::ByTemperature;
use dovetail::planner::cost::{Costs, Curve, DraftCost, Table, VerifyCost};
use dovetail::planner::{Branch, LARGEST, RoundTimes, TreeEstimate};
use dovetail::planner::{Planner, Policy};
use dovetail::tree::{MAX_NODES, Proposal, Tree, TreeExpander};
use std::hint::black_box;

/// Guesses after each node.
const WIDTH: usize = LARGEST.width;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("planner");
    for sequences in [1, 16] {
        let mut planner = planner(sequences);
        let rounds: Vec<Round> = (0..sequences).map(|i| Round::grow(&mut planner, i)).collect();
        let case = format!("a round of {sequences}");
        let mut work = || run(&mut planner, &rounds);
        if let Some(seconds) = common::time(&mut group, "planner", &case, &mut work) {
            println!("  {case}: {:.1} us", 1e6 * seconds);
            common::record(format_args!("planner,{case},{:.2},,,,,", 1e6 * seconds));
        }
    }
    group.finish();
    criterion.final_summary();
}

/// A planner for a flat curve and a cheap drafter.
fn planner(sequences: usize) -> Planner {
    let curve = |rows: usize| {
        let rows: Vec<_> = (rows..=rows * MAX_NODES).step_by(rows).collect();
        let seconds = |n: &usize| (*n, 0.04 + 1e-6 * *n as f64);
        Curve::new(&rows.iter().map(seconds).collect::<Vec<_>>()).expect("rows ascend")
    };
    let tables = [(1, 64), (1, 2048), (sequences.max(2), 64)];
    let table = |(batch, context)| Table { batch, context, curve: curve(batch) };
    let verify = VerifyCost::new(tables.map(table).to_vec()).expect("there are some");
    let level = Curve::new(&[(1, 1e-5), (WIDTH, 1e-5)]).expect("rows ascend");
    let costs = Costs { verify, draft: DraftCost { first: 1e-5, level } };
    Planner::new(Policy::Cost, costs, ByTemperature::default())
}

/// What a drafter proposed for a sequence.
struct Round {
    /// The frontier and the guesses of each level.
    levels: Vec<(Tree, Vec<Proposal>)>,
    tree: Tree,
}

impl Round {
    /// Lets the planner grow a tree; it is the largest there is.
    fn grow(planner: &mut Planner, seed: usize) -> Round {
        let mut numbers = Random(seed as u64 + 1);
        let (mut levels, mut tree) = (Vec::new(), Tree::new(0));
        planner.begin(1, 500);
        let mut growing = planner.tree(0.0, LARGEST.depth, MAX_NODES);
        let growth = growing.growth();
        let propose = |_: &Tree, level: std::ops::Range<usize>, out: &mut Vec<Proposal>| {
            for parent in level {
                let noise = numbers.floats(WIDTH);
                out.extend((0u32..).zip(noise).map(|(token, noise)| {
                    let sure = if token == 0 { -0.1 } else { -2.0 - 0.2 * token as f32 };
                    let log_prob = sure - 0.1 * noise.abs();
                    Proposal { parent, token, log_prob }
                }));
            }
            Ok(())
        };
        let next = |depth: usize, frontier: &Tree, guesses: &[Proposal]| {
            levels.push((*frontier, guesses.to_vec()));
            planner.next_alone(depth, &mut growing, frontier, guesses)
        };
        let mut grower = TreeExpander::default();
        let grown = grower.grow(growth, f32::NEG_INFINITY, &mut tree, propose, next);
        grown.expect("proposing does not fail");
        let widest = levels.iter().map(|(_, guesses)| guesses.len() / WIDTH).max();
        assert_eq!(
            (levels.len(), widest),
            (LARGEST.depth, Some(WIDTH)),
            "it grows as far as it may"
        );
        Round { levels, tree }
    }
}

/// All that is asked of a planner in a round of these sequences, of which the first guesses are right.
fn run(planner: &mut Planner, rounds: &[Round]) {
    planner.begin(rounds.len(), 500);
    let mut trees: Vec<Tree> = Vec::with_capacity(rounds.len());
    let mut growing: Vec<TreeEstimate> =
        rounds.iter().map(|_| planner.tree(0.0, LARGEST.depth, MAX_NODES)).collect();
    for level in 0..LARGEST.depth {
        let branches = growing.iter_mut().zip(rounds).map(|(growing, round)| {
            let (frontier, guesses) = &round.levels[level];
            Branch { growing, frontier, guesses, width: 0 }
        });
        let mut branches: Vec<Branch> = branches.collect();
        planner.next(level + 1, &mut branches);
        black_box(branches.iter().map(|branch| branch.width).sum::<usize>());
    }
    for (round, growing) in rounds.iter().zip(&growing) {
        planner.grown(&round.tree, growing);
        assert!(round.tree.len() <= growing.growth().nodes);
        trees.push(round.tree);
    }
    let mut all: Vec<&mut Tree> = trees.iter_mut().collect();
    planner.choose(&mut all);
    for (tree, round) in trees.iter().zip(rounds) {
        assert!((1..=round.tree.len()).contains(&tree.len()), "what is chosen was grown");
        let mut path = vec![0];
        while let Some(child) = tree.children(path[path.len() - 1]).next() {
            path.push(child);
        }
        planner.accepted(0.0, tree, &path);
    }
    planner.end(RoundTimes { draft: 1e-4, verify: 0.04, whole: 0.0401 });
}
