//! Sizes of engines and sessions.

use crate::error::Result;
use crate::infer::{CacheTypes, MAX_SEQUENCES, Target};
use crate::model::Model;
use crate::setting::Setting;
use crate::tree::MAX_NODES;
use std::sync::Arc;

/// Sizes of a session, or of an engine and each of its sequences.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Largest number of tokens of a sequence; 0 for the model's context.
    pub n_ctx: usize,
    /// Number of threads, at least 1.
    pub threads: usize,
    /// Largest number of prompt tokens in one pass.
    pub n_ubatch: usize,
    /// How keys and values are stored.
    pub cache: CacheTypes,
}

impl Default for SessionOptions {
    /// The model's context, one thread for each physical core, passes of 512 tokens, and a cache of half floats.
    fn default() -> Self {
        let (threads, cache) = (crate::machine::physical_cores(), CacheTypes::default());
        SessionOptions { n_ctx: 0, threads, n_ubatch: 512, cache }
    }
}

impl SessionOptions {
    /// Refuses numbers that are out of range.
    ///
    /// # Errors
    /// If one is; the error names the first one.
    pub fn check(&self) -> Result<()> {
        Setting::Threads.check(self.threads as f64)?;
        Ok(Setting::PassSize.check(self.n_ubatch as f64)?)
    }

    /// A target for `sequences` sequences whose trees fit one pass.
    ///
    /// # Errors
    /// If a number is out of range, memory does not hold the context, or `DOVETAIL_ISA` names an instruction set that this CPU lacks.
    pub(super) fn target(&self, model: Arc<Model>, sequences: usize) -> Result<Target> {
        self.check()?;
        let c = model.config();
        let n_ctx = if self.n_ctx == 0 { c.n_ctx } else { self.n_ctx };
        let rows = self.rows(n_ctx, sequences);
        Target::check_memory(&model, n_ctx, self.cache, sequences, rows)?;
        Target::new(model, n_ctx, self.threads, rows)
    }

    /// The model's context, halved until memory holds it for `sequences` sequences, and what is reserved for something else
    /// with such a context, but at least 512.
    pub fn largest_context(
        &self,
        model: &Model,
        sequences: usize,
        reserved_bytes: impl Fn(usize) -> u64,
    ) -> usize {
        let rows = self.rows(model.config().n_ctx, sequences);
        Target::largest_context(model, self.cache, sequences, rows, reserved_bytes)
    }

    /// Largest number of rows of a pass.
    fn rows(&self, n_ctx: usize, sequences: usize) -> usize {
        let (trees, chunk) = (MAX_NODES.min(n_ctx) * sequences, self.n_ubatch.min(n_ctx));
        // One sequence is either written or read; of several, some can be read while others are written.
        let rows = if sequences > 1 { trees + chunk } else { trees.max(chunk) };
        // At least one row for each sequence that may share a pass.
        rows.max(MAX_SEQUENCES)
    }
}
