//! State of a trained drafter on the CPU for a sequence.

use super::weights::Weights;
use crate::draft::trained::entries::Entries;
use crate::error::Result;
use crate::infer::KvCache;
use dovetail_kernels::cpu::WeightMatrix;

/// The drafter's state for a sequence.
pub struct CpuState {
    pub(super) kv: KvCache,
    pub(super) entries: Entries,
    pub(super) added: AddedTokens,
    /// Output of the blocks for each node of the tree that was run: (nodes, H).
    pub(super) outputs: Vec<f32>,
}

/// The tokens that the sequence adds to the draft vocabulary, and their head.
#[derive(Default)]
pub(super) struct AddedTokens {
    pub(super) tokens: Vec<u32>,
    pub(super) head: Option<WeightMatrix>, // (tokens, H)
}

impl CpuState {
    /// The slot of the tree's root.
    pub(super) fn root(&self) -> usize {
        self.entries.filled() - 1
    }

    /// Drops all pending positions but the last `n`.
    pub fn skip_to_last(&mut self, n: usize) {
        self.entries.skip_to_last(n);
    }
}

impl AddedTokens {
    /// Replaces the added tokens.
    pub(super) fn set(
        &mut self,
        tokens: impl Iterator<Item = u32>,
        weights: &Weights,
    ) -> Result<()> {
        let tokens: Vec<u32> = tokens.collect();
        if tokens != self.tokens {
            self.head = None;
            self.head = (!tokens.is_empty()).then(|| weights.head_of(&tokens)).transpose()?;
            self.tokens = tokens;
        }
        Ok(())
    }
}
