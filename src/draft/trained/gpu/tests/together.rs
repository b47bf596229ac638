//! Drafters of several sequences: what they draft side by side is what each drafts alone.

use super::common::bits::sequence;
use super::common::drafter::{SHAPES, Shape};
use super::common::random::Random;
use super::common::tiny::{N_CTX, N_VOCAB, tiny};
use super::devices;
use crate::draft::trained::KIND;
use crate::draft::trained::placement::TrainedDrafter;
use crate::draft::{
    CandidateSelector, DraftDevice, DraftJob, DraftState, Drafter, DrafterContext, Placement,
    RoundContext,
};
use crate::error::Error;
use crate::model::Model;
use crate::planner::acceptance::ByTemperature;
use crate::planner::cost::{Costs, Curve, DraftCost, Table, VerifyCost};
use crate::planner::{Planner, TreeLimits};
use crate::sample::Sampling;
use crate::tree::{GrowingTree, Tree};
use dovetail_kernels::cpu::ThreadPool;
use std::sync::Arc;

/// How large the trees are; those of the third sequence are drawn.
const GROWTHS: [&str; 5] = ["beam:4,3,14", "chain:2", "beam:3,4,11", "beam:6,2,9", "chain:5"];
/// Tokens of the prompts: one is longer than a share of a pass, one too short to draft behind it.
const PROMPTS: [usize; 5] = [1, 55, 140, 9, 30];

/// A sequence, what a target would hand out of it, and what the drafter knows of it.
struct One {
    state: DraftState,
    tokens: Vec<u32>,
    hidden: Vec<Vec<f32>>,
    tree: GrowingTree,
    selector: CandidateSelector,
    limits: TreeLimits,
    told: usize,
    failure: Option<Error>,
}

impl One {
    fn new(i: usize, state: DraftState, width: usize, draws: bool) -> One {
        let tokens = sequence(PROMPTS[i], N_VOCAB, 5 + i as u64);
        let mut random = Random(90 + i as u64);
        let hidden = (0..PROMPTS[i] + 30).map(|_| random.floats(width)).collect();
        let limits = TreeLimits::of(GROWTHS[i].parse().unwrap());
        let (tree, selector) = (GrowingTree::default(), CandidateSelector::default());
        let limits = TreeLimits { whole: draws, ..limits };
        One { state, tokens, hidden, tree, selector, limits, told: 0, failure: None }
    }

    /// Tells it all but the last token, and starts a tree.
    fn begin(&mut self, drafter: &mut dyn Drafter, planner: &mut Planner, pool: &mut ThreadPool) {
        if self.limits.whole {
            let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
            self.selector.draw(&sampling, self.tokens.len());
        }
        let (first, end) = (self.told, self.tokens.len() - 1);
        let mut rows = self.hidden[first..end].iter().map(|row| &row[..]);
        let tokens = &self.tokens[first..end];
        drafter.commit(&mut self.state, first, tokens, &mut rows, pool).unwrap();
        self.told = end;
        planner.start(&mut self.tree, self.tokens[end], &self.limits);
    }

    fn job(&mut self) -> DraftJob<'_> {
        let One { tokens, state, tree, selector, failure, .. } = self;
        DraftJob::new(tokens, state, tree, selector, failure)
    }
}

/// Decides on each tree by itself: wide levels do not pay.
fn planner() -> Planner {
    let curve = |n| Curve::new(&[(1, 0.1), (n, 0.1 * n as f64)]).unwrap();
    let table = Table { batch: 1, context: 0, curve: curve(64) };
    let verify = VerifyCost::new(vec![table]).unwrap();
    let costs = Costs { verify, draft: DraftCost { first: 0.1, level: curve(10) } };
    let policy = "cast:0.3,1e-30,1".parse().unwrap();
    Planner::new(policy, costs, ByTemperature::default())
}

/// Lets them all draft in a few rounds, in which they accept some draft tokens; returns all trees.
fn trees(
    drafter: &mut dyn Drafter,
    mut all: Vec<One>,
    pool: &mut ThreadPool,
    at_once: bool,
    planner: &mut Planner,
) -> Vec<Tree> {
    let mut trees = Vec::new();
    for round in 0..4 {
        planner.begin(all.len(), 0, true);
        all.iter_mut().for_each(|one| one.begin(drafter, planner, pool));
        let mut jobs: Vec<DraftJob> = all.iter_mut().map(One::job).collect();
        let mut context = RoundContext { planner, pool };
        match at_once {
            true => drafter.expand(&mut jobs, &mut context),
            false => jobs.chunks_mut(1).for_each(|one| drafter.expand(one, &mut context)),
        }
        for (i, one) in all.iter_mut().enumerate() {
            assert!(one.failure.is_none());
            let tree = *one.tree.tree();
            let accepted = tree.tokens()[1..].iter().take((round + i) % 3 + 1);
            one.tokens.extend(accepted.chain(&[round as u32]));
            trees.push(tree);
        }
    }
    trees
}

/// Compares both ways for a drafter that `open` gives, whose levels a planner makes narrower or not; returns the
/// trees.
fn check(
    shape: Shape,
    draws: bool,
    planned: bool,
    open: impl Fn() -> Box<dyn Drafter>,
) -> Vec<Tree> {
    let width = tiny("f32").n_embd * shape.taps.len().max(1);
    let pool = &mut ThreadPool::new(2);
    let [alone, together] = [false, true].map(|at_once| {
        let mut drafter = open();
        let one = |i| One::new(i, drafter.state().unwrap(), width, draws && i == 2);
        let all = (0..PROMPTS.len()).map(one).collect();
        let mut planner = if planned { planner() } else { Planner::default() };
        trees(&mut *drafter, all, pool, at_once, &mut planner)
    });
    assert_eq!(together, alone, "{shape:?}");
    let drafted = alone.iter().map(|tree| tree.len() - 1).sum::<usize>();
    assert!(drafted > 40, "{shape:?}: {drafted} draft tokens");
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
        let open = || (KIND.open)(&setup(&target, &file)).unwrap();
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
            let find = move |_: &Placement| Ok((devices().swap_remove(i), "a device".into()));
            let setup = setup(&target, &file);
            let placement = Placement { device: DraftDevice::Gpu(None), ..setup.placement };
            let setup = DrafterContext { placement, ..setup };
            Box::new(TrainedDrafter::open(&setup, find).unwrap())
        });
    }
}
