//! Sizes of engines and sessions.

use crate::error::Result;
use crate::infer::{CacheTypes, MAX_SEQUENCES, Target};
use crate::model::Model;
use crate::tree::MAX_NODES;
use std::sync::Arc;

/// Sizes of a session, or of an engine and each of its sequences.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Most tokens of a sequence; 0 for as many as the model was made for.
    pub n_ctx: usize,
    /// Threads at work, at least 1.
    pub threads: usize,
    /// Most tokens of prompts in one pass.
    pub n_ubatch: usize,
    /// How keys and values are stored.
    pub cache: CacheTypes,
}

impl Default for SessionOptions {
    /// The model's context, the machine's physical cores, passes of 512, a cache of half floats.
    fn default() -> Self {
        let (threads, cache) = (crate::machine::physical_cores(), CacheTypes::default());
        SessionOptions { n_ctx: 0, threads, n_ubatch: 512, cache }
    }
}

impl SessionOptions {
    /// A target for so many sequences, whose trees fit one pass.
    ///
    /// # Errors
    /// When the context is larger than memory allows, or `DOVETAIL_ISA` names what this CPU lacks.
    pub(super) fn target(&self, model: Arc<Model>, sequences: usize) -> Result<Target> {
        let c = model.config();
        let n_ctx = if self.n_ctx == 0 { c.n_ctx } else { self.n_ctx };
        let rows = self.rows(n_ctx, sequences);
        Target::check_memory(&model, n_ctx, self.cache, sequences, rows)?;
        Target::new(model, n_ctx, self.threads, rows)
    }

    /// The context that the model was made for, halved until memory holds it for so many sequences, though not below
    /// 512.
    pub fn largest_context(&self, model: &Model, sequences: usize) -> usize {
        let rows = self.rows(model.config().n_ctx, sequences);
        Target::largest_context(model, self.cache, sequences, rows)
    }

    /// Most rows of a pass.
    fn rows(&self, n_ctx: usize, sequences: usize) -> usize {
        let (trees, chunk) = (MAX_NODES.min(n_ctx) * sequences, self.n_ubatch.min(n_ctx));
        // One sequence is read or written; of several some are read beside others.
        let rows = if sequences > 1 { trees + chunk } else { trees.max(chunk) };
        // One for each of the sequences that may share a pass, at least.
        rows.max(MAX_SEQUENCES)
    }
}
