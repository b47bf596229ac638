//! What a stream computes from the rows of its prompt while it reads it: log probabilities of the prompt's tokens, or the
//! embedding of the prompt.

use super::generation::Logprobs;
use crate::infer::{Outputs, Target, WorkRows};
use crate::tree::MAX_NODES;
use std::ops::Range;

/// What a request wants of its prompt beside an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptOutput {
    /// Nothing.
    #[default]
    None,
    /// The log probability of each token but the first, behind the tokens before it, and of so many of the likeliest
    /// tokens at its place.
    Logprobs(usize),
    /// The embedding.
    Embedding(Pooling),
}

impl PromptOutput {
    /// Whether every row of the prompt must be run, those of a cached prefix too.
    pub(crate) fn needs_all_rows(self) -> bool {
        matches!(self, PromptOutput::Logprobs(_) | PromptOutput::Embedding(Pooling::Mean))
    }

    /// Whether it is an embedding.
    pub(crate) fn is_embedding(self) -> bool {
        matches!(self, PromptOutput::Embedding(_))
    }
}

/// How the hidden states of a prompt, one a token, become one vector: its embedding, (n_embd).
///
/// A hidden state is the input of the head, behind the last norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all hidden states: their sum in order of their positions in `f64`, divided by their number.
    Mean,
    /// The hidden state of the last token.
    Last,
}

/// Collects a [`PromptOutput`] chunk by chunk.
#[derive(Default)]
pub(super) struct PromptCollector {
    wanted: PromptOutput,
    logprobs: Vec<Logprobs>,
    sum: Vec<f64>, // (n_embd)
    n_rows: usize,
}

impl PromptCollector {
    pub fn new(wanted: PromptOutput) -> PromptCollector {
        PromptCollector { wanted, ..PromptCollector::default() }
    }

    /// See [`PromptOutput::needs_all_rows`].
    pub fn needs_all_rows(&self) -> bool {
        self.wanted.needs_all_rows()
    }

    /// Largest number of tokens of a chunk: all of them may have logits, and memory is set aside for a tree of them.
    pub fn most_rows(&self) -> usize {
        match self.wanted {
            PromptOutput::Logprobs(_) => MAX_NODES,
            PromptOutput::None | PromptOutput::Embedding(_) => usize::MAX,
        }
    }

    /// The rows of a chunk that have logits. `is_last` is whether the prompt ends with it.
    pub fn outputs(&self, is_last: bool) -> Outputs {
        match self.wanted {
            PromptOutput::Logprobs(_) => Outputs::All,
            _ if is_last => Outputs::Last,
            _ => Outputs::None,
        }
    }

    /// Collects from the rows of a chunk of `prompt`, which were run in the last pass.
    pub fn collect(&mut self, target: &Target, prompt: &[u32], chunk: Range<usize>, at: &WorkRows) {
        match self.wanted {
            PromptOutput::None => {}
            PromptOutput::Logprobs(n) => {
                // The row of a token has the logits of the next one.
                let next = prompt[chunk.start + 1..].iter().zip(at.outputs.clone());
                let logprobs = next.map(|(token, row)| Logprobs::of(target.logits(row), *token, n));
                self.logprobs.extend(logprobs);
            }
            PromptOutput::Embedding(pooling) => {
                let taps = [target.model().config().n_layers];
                let rows = match pooling {
                    Pooling::Mean => at.rows.clone(),
                    Pooling::Last if chunk.end == prompt.len() => at.rows.end - 1..at.rows.end,
                    Pooling::Last => return,
                };
                rows.for_each(|row| self.add(target.features().row(&taps, row)));
            }
        }
    }

    fn add(&mut self, hidden: &[f32]) {
        self.sum.resize(hidden.len(), 0.0);
        self.sum.iter_mut().zip(hidden).for_each(|(sum, x)| *sum += f64::from(*x));
        self.n_rows += 1;
    }

    /// The log probabilities that have not been taken yet.
    pub fn take_logprobs(&mut self) -> Vec<Logprobs> {
        std::mem::take(&mut self.logprobs)
    }

    /// The embedding of a prompt that was read; `None` if none is wanted.
    pub fn embedding(&self) -> Option<Vec<f32>> {
        let n = self.n_rows as f64;
        (self.n_rows > 0).then(|| self.sum.iter().map(|sum| (sum / n) as f32).collect())
    }
}
