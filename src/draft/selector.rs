//! From a drafter's logits to the candidates of a tree: the likeliest tokens, or sampled ones.

use super::constrained::{Allowed, Constrained};
use crate::error::{Error, Result};
use crate::infer::{Logits, TokenLogit};
use crate::sample::{Distribution, Purpose, Sampler, Sampling, uniform};
use crate::text::TokenMask;
use crate::tree::{Candidate, GrowingTree, MAX_NODES};
use dovetail_kernels::cpu::{Kernels, LANES};

/// How many more tokens than wanted are tried before the mask of all tokens is computed, which takes longer.
const SPARE: usize = 8;

/// Behind one that is allowed, tokens are not tried that have less than this part of its probability.
const NEGLIGIBLE: f32 = 0.05;

/// A node of the frontier that was run, and the logits after it.
pub(super) struct NodeLogits<'a> {
    pub parent: usize,
    pub logits: Logits<'a>,
    pub kernels: &'a Kernels,
}

/// The largest of a row of logits, and the sum of their exponentials relative to it.
#[derive(Clone, Copy)]
struct Total {
    largest: f32,
    sum: f32,
}

/// Selects candidates for one sequence. Holds buffers, and the distributions that candidates were sampled from.
#[derive(Default)]
pub struct CandidateSelector {
    sampling_state: Option<SamplingState>,
    best: Vec<TokenLogit>,
    row: Vec<f32>,
}

/// State of a tree whose candidates are sampled.
struct SamplingState {
    sampler: Sampler,
    /// Position of the root's children.
    position: usize,
    /// The distribution after each node of the frontier that was run.
    distributions: Vec<Distribution>,
}

impl CandidateSelector {
    /// Samples the candidates of the next tree with these settings; `position` is that of the root's children.
    pub fn draw(&mut self, sampling: &Sampling, position: usize) {
        let distributions =
            self.sampling_state.take().map(|sampling_state| sampling_state.distributions);
        let mut distributions = distributions.unwrap_or_default();
        distributions.clear();
        let sampler = Sampler::new(sampling.clone());
        self.sampling_state = Some(SamplingState { sampler, position, distributions });
    }

    /// The distribution from which the children of this node were sampled; `None` if they were not sampled.
    pub(crate) fn drawn_from(&self, tree: &GrowingTree, node: usize) -> Option<&Distribution> {
        self.sampling_state.as_ref()?.distributions.get(tree.frontier_of(node)?)
    }

    /// Proposes candidates after a node of the frontier; only such that a constraint of what follows these tokens
    /// allows. `token` maps a token of the drafter to one of the target, if there is one. The nodes of a level must
    /// come in order.
    ///
    /// # Errors
    /// If the logits are not numbers.
    pub(super) fn propose(
        &mut self,
        tree: &mut GrowingTree,
        constraint: Option<(&mut Constrained, &[u32])>,
        node: NodeLogits,
        token: impl Fn(u32) -> Option<u32>,
    ) -> Result<()> {
        let (parent, logits, width) = (node.parent, node.logits, tree.shape().width);
        let total = self.total(&node, width)?;
        let (mut constrained, tokens) = constraint.unzip();
        let allowed = match (&mut constrained, tokens) {
            (Some(constrained), Some(tokens)) => constrained.go_to(tokens, tree.frontier(), parent),
            _ => Allowed::All,
        };
        if self.sampling_state.is_some() {
            let mask = match allowed {
                Allowed::Some => constrained.and_then(Constrained::node_mask),
                Allowed::One(only) => Some(TokenMask::One(only)),
                Allowed::All | Allowed::Nothing => None,
            };
            let may_follow = |token: &u32| match allowed {
                Allowed::All => true,
                _ => mask.as_ref().is_some_and(|mask| mask.allows(*token)),
            };
            self.sample(tree, &node, |i| token(i).filter(may_follow));
            return Ok(());
        }
        let Total { largest, sum } = match (allowed, constrained) {
            (Allowed::Nothing, _) => return Ok(()),
            (Allowed::One(token), _) => {
                tree.propose(Candidate { parent, token, log_prob: 0.0 });
                return Ok(());
            }
            (Allowed::Some, Some(constrained)) => {
                self.take_allowed((logits, width), total, &token, constrained)
            }
            _ => total,
        };
        let log_sum = libm::logf(sum);
        for best in &self.best {
            if let Some(token) = token(best.token) {
                let log_prob = best.logit - largest - log_sum;
                tree.propose(Candidate { parent, token, log_prob });
            }
        }
        Ok(())
    }

    /// Sums up the logits of a node, and fills `best` with the likeliest `width` tokens.
    fn total(&mut self, node: &NodeLogits, width: usize) -> Result<Total> {
        node.logits.top(width, &mut self.best);
        node.logits.copy_to(&mut self.row);
        self.row.resize(self.row.len().next_multiple_of(LANES), f32::NEG_INFINITY);
        let largest = self.best[0].logit;
        let sum = (node.kernels.sum_exp)(&self.row, largest);
        if largest.is_finite() && libm::logf(sum).is_finite() {
            Ok(Total { largest, sum })
        } else {
            Err(Error::Invalid("its probabilities are no numbers".into()))
        }
    }

    /// Fills `best` with the likeliest `width` tokens that may follow the node where the constraint is, or with fewer.
    /// Returns the total of all tokens but those that turned out not to be allowed.
    fn take_allowed(
        &mut self,
        (logits, width): (Logits, usize),
        total: Total,
        token: impl Fn(u32) -> Option<u32>,
        constrained: &mut Constrained,
    ) -> Total {
        let Total { largest, mut sum } = total;
        logits.top(width + SPARE, &mut self.best);
        let (mut n, mut least) = (0, 0.0);
        self.best.retain(|one| {
            let part = libm::expf(one.logit - largest);
            if n == width || part < least {
                return false;
            }
            let allowed = token(one.token).is_some_and(|token| constrained.allows(token));
            if allowed && n == 0 {
                least = NEGLIGIBLE * part;
            }
            n += usize::from(allowed);
            sum -= if allowed { 0.0 } else { part };
            allowed
        });
        if !self.best.is_empty() {
            let found: f32 = self.best.iter().map(|one| libm::expf(one.logit - largest)).sum();
            return Total { largest, sum: sum.max(found) };
        }
        let Some(mask) = constrained.node_mask() else { return total };
        let allowed = |i| token(i).is_some_and(|token| mask.allows(token));
        logits.top_of(width + SPARE, allowed, &mut self.best);
        let largest = self.best.first().map_or(largest, |one| one.logit);
        let sum = self.best.iter().map(|one| libm::expf(one.logit - largest)).sum();
        self.best.truncate(width);
        Total { largest, sum }
    }

    /// Samples candidates after a node from the tokens of the target that `token` returns.
    fn sample(
        &mut self,
        tree: &mut GrowingTree,
        node: &NodeLogits,
        token: impl Fn(u32) -> Option<u32>,
    ) {
        let Some(sampling_state) = &mut self.sampling_state else { return };
        let SamplingState { sampler, position, distributions } = sampling_state;
        let parent = node.parent;
        let whole = sampler.distribution(node.logits, &[]).map(token);
        let (mut left, seed) = (whole.clone(), sampler.sampling().seed);
        let depth = tree.depth() - 1;
        for nth in 0..tree.shape().width {
            let node = (*position + depth) * MAX_NODES + parent;
            let draw = uniform(seed, Purpose::Draft, (node * MAX_NODES + nth) as u64);
            let Some(token) = left.at(draw) else { break };
            left.remove(token);
            let log_prob = whole.of(token).ln() as f32;
            tree.propose(Candidate { parent, token, log_prob });
        }
        debug_assert_eq!(distributions.len(), parent);
        distributions.push(whole);
    }
}
