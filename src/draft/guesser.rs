//! From what a drafter says of a few nodes to a tree.

use crate::error::{Error, Result};
use crate::sample::{Distribution, Purpose, Sampler, Sampling, uniform};
use crate::target::{Candidate, Logits};
use crate::tree::{Grower, Growth, MAX_NODES, Planner, Proposal, Tree};
use dovetail_kernels::cpu::{Kernels, LANES};
use std::ops::Range;

/// Chooses the guesses of a tree from a drafter's logits: the likeliest, or drawn ones.
pub struct Guesser {
    /// What decides how large trees grow within these limits, if anything does.
    planner: Option<Box<Planner>>,
    growth: Growth,
    /// Logarithm of the least probability of a path.
    floor: f32,
    drawing: Option<Drawing>,
    grower: Grower,
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

impl Guesser {
    /// For trees of this size, of the likeliest guesses.
    pub fn new(growth: Growth) -> Guesser {
        Guesser {
            planner: None,
            growth,
            floor: f32::NEG_INFINITY,
            drawing: None,
            grower: Grower::default(),
            best: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Leaves out guesses whose path has a lower probability than this.
    pub fn with_p_min(self, p_min: f32) -> Guesser {
        Guesser { floor: p_min.ln(), ..self }
    }

    /// How large the next tree may grow.
    pub fn growth(&self) -> Growth {
        self.growth
    }

    /// What decides how large trees grow, which several guessers may lend each other.
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
    pub(crate) fn set_growth(&mut self, growth: Growth) {
        self.growth = growth;
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
        let Guesser { planner, growth, floor, drawing, grower, best, row } = self;
        let (all, mut growth) = (drawing.is_some(), *growth);
        if all {
            // Of drawn guesses none may be cut.
            growth.width = growth.width.min(growth.nodes - 1);
        }
        let width = growth.width;
        let propose =
            |frontier: &Tree, level: Range<usize>, proposals: &mut Vec<Proposal>| -> Result<()> {
                let depth = frontier.depth(level.start);
                let drawing = drawing.as_mut();
                run(frontier, level, &mut Guesses { width, depth, drawing, best, row, proposals })
            };
        match all {
            true => grower.grow_whole(growth, *floor, tree, propose),
            false => grower.grow(growth, *floor, tree, propose, |depth, frontier, guesses| {
                planner.as_mut().map_or(width, |planner| planner.next(depth, frontier, guesses))
            }),
        }
    }

    /// Leaves what fits of a tree that has grown otherwise.
    pub fn prune(&self, tree: &mut Tree) {
        tree.prune(self.growth.nodes, self.floor);
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
