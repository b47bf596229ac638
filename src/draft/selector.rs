//! From a drafter's logits to the candidates of a tree: the likeliest tokens, or drawn ones.

use crate::error::{Error, Result};
use crate::infer::{Logits, TokenLogit};
use crate::sample::{Distribution, Purpose, Sampler, Sampling, uniform};
use crate::tree::{Candidate, GrowingTree, MAX_NODES};
use dovetail_kernels::cpu::{Kernels, LANES};

/// Selects candidates for one sequence; holds buffers, and what candidates were drawn from.
#[derive(Default)]
pub struct CandidateSelector {
    drawing: Option<Drawing>,
    best: Vec<TokenLogit>,
    row: Vec<f32>,
}

/// What candidates are drawn from.
struct Drawing {
    sampler: Sampler,
    /// Position of the root's successor.
    position: usize,
    /// Of each node that was run, by its number in the frontier.
    distributions: Vec<Distribution>,
}

impl CandidateSelector {
    /// Draws the candidates of the next tree, whose root is followed by `position`, as `sampling` has it.
    pub fn draw(&mut self, sampling: &Sampling, position: usize) {
        let distributions = self.drawing.take().map(|drawing| drawing.distributions);
        let mut distributions = distributions.unwrap_or_default();
        distributions.clear();
        let sampler = Sampler::new(sampling.clone());
        self.drawing = Some(Drawing { sampler, position, distributions });
    }

    /// What the candidates after this node of the tree were drawn from; `None` if they were not.
    pub(crate) fn drawn_from(&self, tree: &GrowingTree, node: usize) -> Option<&Distribution> {
        self.drawing.as_ref()?.distributions.get(tree.frontier_of(node)?)
    }

    /// Proposes candidates from the logits of the frontier's node `parent`. `token` maps a token of the drafter to
    /// one of the target, if there is one. The nodes of a level come in order.
    ///
    /// # Errors
    /// When the logits are no numbers.
    pub fn propose(
        &mut self,
        tree: &mut GrowingTree,
        kernels: &Kernels,
        parent: usize,
        logits: Logits,
        token: impl Fn(u32) -> Option<u32>,
    ) -> Result<()> {
        let width = tree.shape().width;
        logits.top(width, &mut self.best);
        logits.copy_to(&mut self.row);
        self.row.resize(self.row.len().next_multiple_of(LANES), f32::NEG_INFINITY);
        let largest = self.best[0].logit;
        let sum = libm::logf((kernels.sum_exp)(&self.row, largest));
        if !(largest.is_finite() && sum.is_finite()) {
            return Err(Error::Invalid("its probabilities are no numbers".into()));
        }
        let Some(drawing) = &mut self.drawing else {
            for best in &self.best {
                if let Some(token) = token(best.token) {
                    let log_prob = best.logit - largest - sum;
                    tree.propose(Candidate { parent, token, log_prob });
                }
            }
            return Ok(());
        };
        let whole = drawing.sampler.distribution(logits, &[]).map(token);
        let (mut left, seed) = (whole.clone(), drawing.sampler.sampling().seed);
        let depth = tree.depth() - 1;
        for nth in 0..width {
            let node = (drawing.position + depth) * MAX_NODES + parent;
            let draw = uniform(seed, Purpose::Guess, (node * MAX_NODES + nth) as u64);
            let Some(token) = left.at(draw) else { break };
            left.remove(token);
            let log_prob = whole.of(token).ln() as f32;
            tree.propose(Candidate { parent, token, log_prob });
        }
        debug_assert_eq!(drawing.distributions.len(), parent);
        drawing.distributions.push(whole);
        Ok(())
    }
}
