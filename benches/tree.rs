//! What the planner costs in a round: begin, grow seven levels of up to ten nodes, choose, take note of what was
//! accepted; for one sequence and for sixteen. One thread.
//!
//! Costs are flat, drafting is cheap and the draft tokens are sure enough for the largest tree to grow; each node that
//! is run proposes ten candidates. Planning is to cost nothing beside a pass: 1 % of a round of the default
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
use dovetail::planner::{LARGEST, Planner, Policy, RoundTimes, TreeLimits};
use dovetail::tree::{Candidate, GrowingTree, MAX_NODES};

/// Candidates after each node.
const WIDTH: usize = LARGEST.width;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("planner");
    for sequences in [1, 16] {
        let mut planner = planner(sequences);
        let mut rounds: Vec<Round> = (0..sequences).map(|i| Round::grow(&mut planner, i)).collect();
        let case = format!("a round of {sequences}");
        let mut work = || run(&mut planner, &mut rounds);
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

/// What a drafter proposes for a sequence.
struct Round {
    /// The candidates of each level.
    levels: Vec<Vec<Candidate>>,
    growing: GrowingTree,
}

impl Round {
    /// Lets the planner grow a tree; it is the largest there is.
    fn grow(planner: &mut Planner, seed: usize) -> Round {
        let mut numbers = Random(seed as u64 + 1);
        let mut round = Round { levels: Vec::new(), growing: GrowingTree::default() };
        planner.begin(1, 500, true);
        let Round { levels, growing } = &mut round;
        planner.start(growing, 0, &TreeLimits::of(LARGEST));
        let mut widest = 0;
        while growing.is_growing() {
            let mut level = Vec::new();
            for parent in growing.level() {
                let noise = numbers.floats(WIDTH);
                level.extend((0u32..).zip(noise).map(|(token, noise)| {
                    let sure = if token == 0 { -0.1 } else { -2.0 - 0.2 * token as f32 };
                    Candidate { parent, token, log_prob: sure - 0.1 * noise.abs() }
                }));
            }
            widest = widest.max(growing.level().len());
            levels.push(level.clone());
            level.into_iter().for_each(|candidate| growing.propose(candidate));
            growing.pool_candidates();
            planner.next(&mut [growing]);
            growing.go_on();
        }
        assert_eq!((levels.len(), widest), (LARGEST.depth, WIDTH), "it grows as far as it may");
        round
    }
}

/// All that is asked of a planner in a round of these sequences, of which the first draft tokens are right.
fn run(planner: &mut Planner, rounds: &mut [Round]) {
    planner.begin(rounds.len(), 500, true);
    for round in &mut *rounds {
        planner.start(&mut round.growing, 0, &TreeLimits::of(LARGEST));
    }
    for level in 0..LARGEST.depth {
        for Round { levels, growing } in &mut *rounds {
            let run = growing.level();
            let proposed = levels[level].iter().filter(|candidate| run.contains(&candidate.parent));
            proposed.for_each(|candidate| growing.propose(*candidate));
            growing.pool_candidates();
        }
        let mut trees: Vec<&mut GrowingTree> =
            rounds.iter_mut().map(|round| &mut round.growing).collect();
        planner.next(&mut trees);
        trees.iter_mut().for_each(|tree| tree.go_on());
    }
    let mut trees: Vec<&mut GrowingTree> =
        rounds.iter_mut().map(|round| &mut round.growing).collect();
    planner.choose(&mut trees);
    for Round { growing, .. } in rounds {
        let tree = growing.tree();
        let mut path = vec![0];
        while let Some(child) = tree.children(path[path.len() - 1]).next() {
            path.push(child);
        }
        planner.accepted(growing, &path);
    }
    planner.end(Some(RoundTimes { draft: 1e-4, verify: 0.04, whole: 0.0401 }));
}
