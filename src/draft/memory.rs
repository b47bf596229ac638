//! How much memory a drafter will take, known before it is opened: a context is fitted to what that leaves.

use super::lm::ROWS;
use super::trained::{self, ARCHITECTURES};
use crate::error::Result;
use crate::gguf::{Gguf, OpenOptions};
use crate::infer::{Buffers, CacheTypes, KvSize, sequence_bytes};
use crate::model::{Config, Keys, arch};
use crate::tree::MAX_NODES;
use dovetail_kernels::cpu::RopeStyle;
use std::path::Path;

/// What a drafter takes on the CPU, by its file.
#[derive(Debug)]
pub struct DrafterMemory {
    weights_bytes: u64,
    config: Config,
    trained: bool,
}

impl DrafterMemory {
    /// That of the drafter in a file, for a target of `n_vocab` tokens.
    ///
    /// # Errors
    /// If the file cannot be read, or its configuration is wrong. Then the drafter cannot be opened either.
    pub fn of(path: &Path, n_vocab: usize) -> Result<DrafterMemory> {
        let gguf = Gguf::open_with(path, OpenOptions::default())?;
        let name = gguf.metadata().require_str("general.architecture")?;
        let trained = ARCHITECTURES.contains(&name);
        let config = match trained {
            // Its rotations do not matter here, and it drafts some of the target's tokens, or all.
            true => Keys::new(&gguf, name).blocks(RopeStyle::Adjacent, n_vocab, 0)?,
            false => arch::config_of(&gguf)?,
        };
        Ok(DrafterMemory { weights_bytes: gguf.total_bytes(), config, trained })
    }

    /// Approximate bytes of its weights, of the buffers for its passes, and of its states of sequences of `n_ctx` tokens.
    pub fn bytes(&self, n_ctx: usize, sequences: usize) -> u64 {
        let (c, sequences) = (&self.config, sequences as u64);
        let (n_ctx, types) = (n_ctx.saturating_add(MAX_NODES), CacheTypes::default());
        let nodes = (MAX_NODES as u64).saturating_mul(sequences);
        // A small model grows trees one after another, a trained drafter those of all sequences side by side.
        let (rows, logit_rows, floats) = match self.trained {
            // Two features, two wide rows and a gate of each row; the outputs of all nodes.
            true => {
                (trained::ROWS, nodes.min(trained::ROWS as u64), 5 * trained::ROWS as u64 + nodes)
            }
            false => (ROWS, MAX_NODES as u64, 0),
        };
        let states = sequence_bytes(c, KvSize { n_ctx, rows, types }).saturating_mul(sequences);
        let features = floats.saturating_mul(4 * c.n_embd as u64);
        let buffers = Buffers::bytes_for(c, &[], rows, logit_rows as usize, n_ctx);
        [states, features, buffers].into_iter().fold(self.weights_bytes, u64::saturating_add)
    }
}
