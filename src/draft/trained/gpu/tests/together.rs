//! Drafters of several sequences: what they guess side by side is what each guesses alone.

use super::common::bits::sequence;
use super::common::drafter::{SHAPES, Shape};
use super::common::random::Random;
use super::common::tiny::{N_CTX, N_VOCAB, tiny};
use super::devices;
use crate::draft::trained::CpuDrafter;
use crate::draft::trained::gpu::GpuDrafter;
use crate::draft::{self, CandidateSelector, DraftJob, Drafter, DrafterContext, Placement};
use crate::model::Model;
use crate::planner::Planner;
use crate::planner::acceptance::ByTemperature;
use crate::planner::cost::{Costs, Curve, DraftCost, Table, VerifyCost};
use crate::sample::Sampling;
use crate::tree::Tree;
use dovetail_kernels::cpu::ThreadPool;
use std::sync::Arc;

/// How large the trees are; those of the third sequence are drawn.
const GROWTHS: [&str; 5] = ["beam:4,3,14", "chain:2", "beam:3,4,11", "beam:6,2,9", "chain:5"];
/// Tokens of the prompts: one is longer than a share of a pass, one too short to guess behind it.
const PROMPTS: [usize; 5] = [1, 55, 140, 9, 30];

/// A sequence, what a target would hand out of it, and who guesses.
struct One {
    drafter: Box<dyn Drafter>,
    tokens: Vec<u32>,
    hidden: Vec<Vec<f32>>,
    guesser: CandidateSelector,
    /// Whether guesses are drawn.
    draws: bool,
    told: usize,
}

impl One {
    fn new(i: usize, drafter: Box<dyn Drafter>, width: usize, draws: bool) -> One {
        let tokens = sequence(PROMPTS[i], N_VOCAB, 5 + i as u64);
        let mut random = Random(90 + i as u64);
        let hidden = (0..PROMPTS[i] + 30).map(|_| random.floats(width)).collect();
        let guesser = CandidateSelector::new(GROWTHS[i].parse().unwrap());
        One { drafter, tokens, hidden, guesser, draws, told: 0 }
    }

    /// Tells it all but the last token.
    fn commit(&mut self, pool: &mut ThreadPool) {
        if self.draws {
            let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
            self.guesser.draw(&sampling, self.tokens.len());
        }
        let (first, end) = (self.told, self.tokens.len() - 1);
        let mut rows = self.hidden[first..end].iter().map(|row| &row[..]);
        self.drafter.commit(first, &self.tokens[first..end], &mut rows, pool).unwrap();
        self.told = end;
    }
}

/// Decides on each tree by itself: wide levels do not pay.
fn planner() -> Option<Box<Planner>> {
    let curve = |n| Curve::new(&[(1, 0.1), (n, 0.1 * n as f64)]).unwrap();
    let table = Table { batch: 1, context: 0, curve: curve(64) };
    let verify = VerifyCost::new(vec![table]).unwrap();
    let costs = Costs { verify, draft: DraftCost { first: 0.1, level: curve(10) } };
    let policy = "cast:0.3,1e-30,1".parse().unwrap();
    Some(Box::new(Planner::new(policy, costs, ByTemperature::default())))
}

/// Lets them all guess in a few rounds, in which they accept some guesses; returns all trees.
fn trees(
    mut all: Vec<One>,
    pool: &mut ThreadPool,
    at_once: bool,
    planner: &mut Option<Box<Planner>>,
) -> Vec<Tree> {
    let mut trees = Vec::new();
    for round in 0..4 {
        planner.iter_mut().for_each(|planner| planner.begin(all.len(), 0));
        let mut new: Vec<Tree> =
            all.iter().map(|one| Tree::new(*one.tokens.last().unwrap())).collect();
        all.iter_mut().for_each(|one| one.commit(pool));
        let mut parts: Vec<DraftJob> = all
            .iter_mut()
            .zip(&mut new)
            .map(|(One { drafter, tokens, guesser, .. }, tree)| DraftJob {
                drafter: &mut **drafter,
                tokens,
                guesser,
                tree,
                grown: Ok(()),
            })
            .collect();
        match at_once {
            true => draft::expand(&mut parts, planner, pool),
            false => parts.chunks_mut(1).for_each(|one| draft::expand(one, planner, pool)),
        }
        parts.into_iter().for_each(|part| part.grown.unwrap());
        for (i, (one, tree)) in all.iter_mut().zip(&new).enumerate() {
            let accepted = tree.tokens()[1..].iter().take((round + i) % 3 + 1);
            one.tokens.extend(accepted.chain(&[round as u32]));
        }
        trees.extend(new);
    }
    trees
}

/// Compares both ways for drafters that `open` gives, whose levels a planner makes narrower or not; returns the
/// trees.
fn check(
    shape: Shape,
    draws: bool,
    planned: bool,
    open: impl Fn() -> Vec<Box<dyn Drafter>>,
) -> Vec<Tree> {
    let width = tiny("f32").n_embd * shape.taps.len().max(1);
    let pool = &mut ThreadPool::new(2);
    let [alone, together] = [false, true].map(|at_once| {
        let drafters = open().into_iter().enumerate();
        let all = drafters.map(|(i, drafter)| One::new(i, drafter, width, draws && i == 2));
        trees(all.collect(), pool, at_once, &mut planner().filter(|_| planned))
    });
    assert_eq!(together, alone, "{shape:?}");
    let guesses = alone.iter().map(|tree| tree.len() - 1).sum::<usize>();
    assert!(guesses > 40, "{shape:?}: {guesses} guesses");
    alone
}

fn target() -> Arc<Model> {
    Arc::new(tiny("f32").parts().load().unwrap())
}

fn setup<'a>(target: &'a Arc<Model>, file: &'a tempfile::NamedTempFile) -> DrafterContext<'a> {
    let (path, placement) = (Some(file.path()), Placement::CPU);
    DrafterContext { target, n_ctx: N_CTX as usize, threads: 2, path, placement }
}

#[test]
fn side_by_side_on_the_cpu() {
    let target = target();
    for shape in SHAPES {
        let file = shape.parts(tiny("f32"), &target).write();
        let open = || {
            let first = CpuDrafter::open(&setup(&target, &file)).unwrap();
            let mut all: Vec<Box<dyn Drafter>> = Vec::new();
            all.extend((1..PROMPTS.len()).map(|_| Drafter::another(&first).unwrap().unwrap()));
            all.insert(0, Box::new(first));
            all
        };
        check(shape, true, false, open);
        assert_ne!(check(shape, false, true, open), check(shape, false, false, open));
    }
}

#[test]
fn all_at_once_on_a_device() {
    let (target, shape) = (target(), SHAPES[0]);
    let file = shape.parts(tiny("f32"), &target).write();
    for i in 0..devices().len() {
        check(shape, false, false, || {
            let open = |_| -> Box<dyn Drafter> {
                let device = devices().swap_remove(i);
                Box::new(GpuDrafter::open(&setup(&target, &file), device).unwrap())
            };
            PROMPTS.map(open).into()
        });
    }
}
