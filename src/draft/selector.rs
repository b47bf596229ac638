//! From a drafter's logits to the candidates of a tree: the likeliest tokens, or sampled ones.

use crate::error::{Error, Result};
use crate::infer::{Logits, TokenLogit};
use crate::sample::{Distribution, Purpose, Sampler, Sampling, uniform};
use crate::tree::{Candidate, GrowingTree, MAX_NODES};
use dovetail_kernels::cpu::{Kernels, LANES};

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

    /// Proposes candidates from the logits of the frontier's node `parent`. `token` maps a token of the drafter to one
    /// of the target, if there is one. The nodes of a level must come in order.
    ///
    /// # Errors
    /// If the logits are not numbers.
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
        let Some(sampling_state) = &mut self.sampling_state else {
            for best in &self.best {
                if let Some(token) = token(best.token) {
                    let log_prob = best.logit - largest - sum;
                    tree.propose(Candidate { parent, token, log_prob });
                }
            }
            return Ok(());
        };
        let whole = sampling_state.sampler.distribution(logits, &[]).map(token);
        let (mut left, seed) = (whole.clone(), sampling_state.sampler.sampling().seed);
        let depth = tree.depth() - 1;
        for nth in 0..width {
            let node = (sampling_state.position + depth) * MAX_NODES + parent;
            let draw = uniform(seed, Purpose::Draft, (node * MAX_NODES + nth) as u64);
            let Some(token) = left.at(draw) else { break };
            left.remove(token);
            let log_prob = whole.of(token).ln() as f32;
            tree.propose(Candidate { parent, token, log_prob });
        }
        debug_assert_eq!(sampling_state.distributions.len(), parent);
        sampling_state.distributions.push(whole);
        Ok(())
    }
}
