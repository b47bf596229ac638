//! How much memory a drafter will take, known before it is opened: a context is fitted to what that leaves.

use super::lm::ROWS;
use super::trained::ARCHITECTURES;
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
}

impl DrafterMemory {
    /// That of the drafter in a file, for a target of `n_vocab` tokens.
    ///
    /// # Errors
    /// If the file cannot be read, or its configuration is wrong. Then the drafter cannot be opened either.
    pub fn of(path: &Path, n_vocab: usize) -> Result<DrafterMemory> {
        let gguf = Gguf::open_with(path, OpenOptions::default())?;
        let name = gguf.metadata().require_str("general.architecture")?;
        let config = match ARCHITECTURES.contains(&name) {
            // Its rotations do not matter here, and it drafts some of the target's tokens, or all.
            true => Keys::new(&gguf, name).blocks(RopeStyle::Adjacent, n_vocab, 0)?,
            false => arch::config_of(&gguf)?,
        };
        Ok(DrafterMemory { weights_bytes: gguf.total_bytes(), config })
    }

    /// Approximate bytes of its weights, of the buffers for its passes, of which no kind has larger ones than `lm`, and of
    /// its states of sequences of `n_ctx` tokens. Sequences share the buffers: their trees are grown one after another.
    pub fn bytes(&self, n_ctx: usize, sequences: usize) -> u64 {
        let (n_ctx, types) = (n_ctx.saturating_add(MAX_NODES), CacheTypes::default());
        let size = KvSize { n_ctx, rows: ROWS, types };
        let states = sequence_bytes(&self.config, size).saturating_mul(sequences as u64);
        let buffers = Buffers::bytes_for(&self.config, &[], ROWS, MAX_NODES, n_ctx);
        self.weights_bytes.saturating_add(states).saturating_add(buffers)
    }
}
