//! How much memory a drafter will take, known before it is opened: a context is fitted to what that leaves.

use super::lm::ROWS;
use crate::error::Result;
use crate::gguf::{Gguf, OpenOptions};
use crate::infer::{CacheTypes, KvSize, bytes_for};
use crate::model::{Config, Keys};
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
    /// That of the drafter in a file.
    ///
    /// # Errors
    /// If the file cannot be read, or does not say how large the drafter's blocks are.
    pub fn of(path: &Path) -> Result<DrafterMemory> {
        let gguf = Gguf::open_with(path, OpenOptions::default())?;
        let arch = gguf.metadata().require_str("general.architecture")?;
        // Neither its rotations nor its vocabulary matter for a cache.
        let config = Keys::new(&gguf, arch).blocks(RopeStyle::Adjacent, 0, 0)?;
        Ok(DrafterMemory { weights_bytes: gguf.total_bytes(), config })
    }

    /// Approximate bytes of its weights, of the buffers for its passes, of which no kind has larger ones than `lm`, and of
    /// its states of sequences of `n_ctx` tokens.
    pub fn bytes(&self, n_ctx: usize, sequences: usize) -> u64 {
        let (n_ctx, types) = (n_ctx + MAX_NODES, CacheTypes::default());
        let size = KvSize { n_ctx, rows: ROWS, types };
        self.weights_bytes + bytes_for(&self.config, &[], size, sequences)
    }
}
