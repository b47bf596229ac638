//! From what a drafter says of a few nodes to a tree.

use crate::error::{Error, Result};
use crate::infer::{Candidate, Logits, MAX_SEQUENCES};
use crate::planner::Planner;
use crate::planner::{Branch, TreeEstimate};
use crate::sample::{Distribution, Purpose, Sampler, Sampling, uniform};
use crate::tree::{MAX_NODES, Proposal, Tree, TreeExpander, TreeShape};
use dovetail_kernels::cpu::{Kernels, LANES};
use smallvec::SmallVec;
use std::ops::Range;

/// Chooses the guesses of a tree from a drafter's logits: the likeliest, or drawn ones.
pub struct CandidateSelector {
    /// What decides how large trees grow within these limits, if anything does.
    planner: Option<Box<Planner>>,
    growing: TreeEstimate,
    /// Logarithm of the least probability of a path.
    floor: f32,
    drawing: Option<Drawing>,
    grower: TreeExpander,
    best: Vec<Candidate>,
    row: Vec<f32>,
}

/// What guesses are drawn from.
struct Drawing {
    sampler: Sampler,
    /// Position of the root's successor.
    position: usize,
    /// Of each node that was run, by its number in the frontier.
    distributions: Vec<Distribution>,
}

impl CandidateSelector {
    /// For trees of this size, of the likeliest guesses.
    pub fn new(growth: TreeShape) -> CandidateSelector {
        CandidateSelector {
            planner: None,
            growing: TreeEstimate::new(growth, 0.0),
            floor: f32::NEG_INFINITY,
            drawing: None,
            grower: TreeExpander::default(),
            best: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Leaves out guesses whose path has a lower probability than this.
    pub fn with_p_min(self, p_min: f32) -> CandidateSelector {
        CandidateSelector { floor: p_min.ln(), ..self }
    }

    /// How large the next tree may grow.
    pub fn growth(&self) -> TreeShape {
        self.growing.growth()
    }

    /// What is known of the tree that grows.
    pub(crate) fn growing(&self) -> &TreeEstimate {
        &self.growing
    }

    /// What decides how large its trees grow, which it may have been lent.
    pub(crate) fn planner_mut(&mut self) -> &mut Option<Box<Planner>> {
        &mut self.planner
    }

    /// Logarithm of the least probability of a path.
    pub(crate) fn floor(&self) -> f32 {
        self.floor
    }

    /// Whether guesses are drawn, not the likeliest.
    pub(crate) fn draws(&self) -> bool {
        self.drawing.is_some()
    }

    /// Sets how large the next tree may grow.
    pub(crate) fn set_growing(&mut self, growing: TreeEstimate) {
        self.growing = growing;
    }

    /// Draws the guesses of the next tree, whose root is followed by `position`, as `sampling` has it.
    pub(crate) fn draw(&mut self, sampling: &Sampling, position: usize) {
        let distributions = self.drawing.take().map(|drawing| drawing.distributions);
        let mut distributions = distributions.unwrap_or_default();
        distributions.clear();
        let sampler = Sampler::new(sampling.clone());
        self.drawing = Some(Drawing { sampler, position, distributions });
    }

    /// What the guesses after this node of the tree were drawn from; none if they were not.
    pub(crate) fn drawn_from(&self, node: usize) -> Option<&Distribution> {
        let drawing = self.drawing.as_ref()?;
        drawing.distributions.get(self.grower.frontier_of(node)?)
    }

    /// Grows `tree`, of which there is only the root. `run(frontier, level, guesses)` runs the nodes
    /// `level` of the frontier, all earlier ones having been run, and tells `guesses` the logits of each.
    ///
    /// # Errors
    /// Those of `run`; the tree is then the root.
    pub fn grow(
        &mut self,
        tree: &mut Tree,
        mut run: impl FnMut(&Tree, Range<usize>, &mut Guesses) -> Result<()>,
    ) -> Result<()> {
        let (mut grown, mut planner) = (Ok(()), self.planner.take());
        let mut member = [Member { guesser: &mut *self, tree, grown: &mut grown }];
        grow_together(&mut member, &mut planner, |levels| {
            for Level { frontier, nodes, guesses, grown, .. } in levels {
                **grown = run(frontier, nodes.clone(), guesses);
            }
        });
        self.planner = planner;
        grown
    }

    fn begin(&mut self, tree: &mut Tree) {
        let mut growth = self.growth();
        if self.draws() {
            // Of drawn guesses none may be cut.
            growth.width = growth.width.min(growth.nodes.saturating_sub(1));
            self.growing = TreeEstimate::new(growth, 0.0);
        }
        self.grower.begin(growth, self.floor, self.draws(), tree);
    }

    /// The next level of its tree, if that grows.
    fn level<'a>(&'a mut self, member: usize, grown: &'a mut Result<()>) -> Option<Level<'a>> {
        if !self.grower.is_growing() {
            return None;
        }
        let width = self.growth().width;
        let CandidateSelector { drawing, grower, best, row, .. } = self;
        let (frontier, nodes, proposals) = grower.level();
        let (depth, drawing) = (frontier.depth(nodes.start), drawing.as_mut());
        let guesses = Guesses { width, depth, drawing, best, row, proposals };
        Some(Level { member, frontier, nodes, guesses, grown })
    }

    /// What was guessed after that level.
    fn branch(&mut self) -> (usize, Branch<'_>) {
        let (guesses, depth, frontier) = self.grower.taken();
        (depth, Branch { growing: &mut self.growing, frontier, guesses, width: 0 })
    }

    /// Leaves what fits of a tree that has grown otherwise.
    pub fn prune(&self, tree: &mut Tree) {
        tree.prune(self.growth().nodes, self.floor);
    }
}

/// One of the trees that grow side by side.
pub(super) struct Member<'a> {
    pub guesser: &'a mut CandidateSelector,
    /// Of which there is only the root.
    pub tree: &'a mut Tree,
    /// Whether it could grow; if not, only the root is there.
    pub grown: &'a mut Result<()>,
}

/// What is to be run of one of them.
pub(super) struct Level<'a> {
    /// Which it is.
    pub member: usize,
    /// All nodes that were run, and these.
    pub frontier: &'a Tree,
    /// Nodes of the frontier.
    pub nodes: Range<usize>,
    /// What is to be told their logits.
    pub guesses: Guesses<'a>,
    /// An error ends the tree.
    pub grown: &'a mut Result<()>,
}

/// Grows trees side by side: `run` runs the next level of all that still grow. How large they grow the `planner` decides.
pub(super) fn grow_together(
    members: &mut [Member],
    planner: &mut Option<Box<Planner>>,
    mut run: impl FnMut(&mut [Level]),
) {
    members.iter_mut().for_each(|member| member.guesser.begin(member.tree));
    loop {
        let levels = members.iter_mut().enumerate();
        let levels = levels.filter_map(|(m, member)| member.guesser.level(m, member.grown));
        let mut levels: SmallVec<[Level; MAX_SEQUENCES]> = levels.collect();
        if levels.is_empty() {
            break;
        }
        run(&mut levels);
        drop(levels);
        for member in members.iter_mut().filter(|member| member.grown.is_err()) {
            member.guesser.grower.stop(member.tree);
        }
        go_on(members, planner);
    }
}

/// Lets what pays of the level that was run go on.
fn go_on(members: &mut [Member], planner: &mut Option<Box<Planner>>) {
    let growing = |member: &&mut Member| member.guesser.grower.is_growing();
    for member in members.iter_mut().filter(growing) {
        member.guesser.grower.take(member.tree);
    }
    let mut depth = 0;
    let branches = members.iter_mut().filter(growing).map(|member| {
        let (at, branch) = member.guesser.branch();
        depth = at;
        branch
    });
    let mut branches: SmallVec<[Branch; MAX_SEQUENCES]> = branches.collect();
    match planner {
        _ if branches.is_empty() => {}
        Some(planner) => planner.next(depth, &mut branches),
        None => {
            branches.iter_mut().for_each(|branch| branch.width = branch.growing.growth().width);
        }
    }
    let widths: SmallVec<[usize; MAX_SEQUENCES]> =
        branches.into_iter().map(|branch| branch.width).collect();
    for (member, width) in members.iter_mut().filter(growing).zip(widths) {
        member.guesser.grower.go_on(width, member.tree);
    }
}

/// Takes the guesses of one level.
pub struct Guesses<'a> {
    width: usize,
    depth: usize,
    drawing: Option<&'a mut Drawing>,
    best: &'a mut Vec<Candidate>,
    row: &'a mut Vec<f32>,
    proposals: &'a mut Vec<Proposal>,
}

impl Guesses<'_> {
    /// Guesses from the logits of the frontier's node `parent`; `token` says which token of the target
    /// each is, if any. The nodes of a level come in order.
    ///
    /// # Errors
    /// When the logits are no numbers.
    pub fn add(
        &mut self,
        kernels: &Kernels,
        parent: usize,
        logits: Logits,
        token: impl Fn(u32) -> Option<u32>,
    ) -> Result<()> {
        logits.top(self.width, self.best);
        logits.copy_to(self.row);
        self.row.resize(self.row.len().next_multiple_of(LANES), f32::NEG_INFINITY);
        let largest = self.best[0].logit;
        let sum = libm::logf((kernels.sum_exp)(self.row, largest));
        if !(largest.is_finite() && sum.is_finite()) {
            return Err(Error::Invalid("its probabilities are no numbers".into()));
        }
        let Some(drawing) = &mut self.drawing else {
            for best in &*self.best {
                if let Some(token) = token(best.token) {
                    let log_prob = best.logit - largest - sum;
                    self.proposals.push(Proposal { parent, token, log_prob });
                }
            }
            return Ok(());
        };
        let whole = drawing.sampler.distribution(logits, &[]).map(token);
        let (mut left, seed) = (whole.clone(), drawing.sampler.sampling().seed);
        for nth in 0..self.width {
            let node = (drawing.position + self.depth) * MAX_NODES + parent;
            let draw = uniform(seed, Purpose::Guess, (node * MAX_NODES + nth) as u64);
            let Some(token) = left.at(draw) else { break };
            left.remove(token);
            let log_prob = whole.of(token).ln() as f32;
            self.proposals.push(Proposal { parent, token, log_prob });
        }
        debug_assert_eq!(drawing.distributions.len(), parent);
        drawing.distributions.push(whole);
        Ok(())
    }
}
