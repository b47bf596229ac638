//! A model as the target runs it: configuration, packed weights, tokenizer.
//!
//! ```text
//! config.rs   sizes, RoPE frequencies: from metadata, checked
//! weights.rs  packed matrices and norms, one struct a layer
//! arch/       which tensors and flags an architecture has: one file each and a table
//! ```
//!
//! A [`Model`] is immutable and shared by all sessions.

pub mod arch;
mod config;
mod weights;

pub use config::{Config, Rope};
pub use weights::{Layer, Weights};

use crate::error::{Error, Result};
use crate::gguf::{Gguf, OpenOptions};
use crate::text::Tokenizer;
use dovetail_kernels::quant::{self, TypeInfo};
use std::path::Path;

/// How a model is loaded.
pub struct LoadOptions<'a> {
    /// How the file's bytes are held.
    pub open: OpenOptions,
    /// Threads that pack the weights: at least 1.
    pub threads: usize,
    /// Called with bytes packed and bytes in all; `false` cancels.
    pub progress: Box<dyn FnMut(u64, u64) -> bool + 'a>,
}

impl Default for LoadOptions<'_> {
    /// Mapped, packed by all physical cores, silently.
    fn default() -> Self {
        let threads = crate::machine::physical_cores();
        LoadOptions { open: OpenOptions::default(), threads, progress: Box::new(|_, _| true) }
    }
}

/// A loaded model.
pub struct Model {
    gguf: Gguf,
    config: Config,
    weights: Weights,
    tokenizer: Tokenizer,
    embedding: TypeInfo,
}

impl Model {
    /// Opens a GGUF file (any part of a split one) and packs its weights.
    ///
    /// # Errors
    /// When the file cannot be read or is malformed, its architecture or tokenizer is unknown, a key
    /// or tensor is missing or of the wrong shape, or `progress` cancelled.
    pub fn load(path: &Path, options: LoadOptions) -> Result<Model> {
        let gguf = Gguf::open_with(path, options.open)?;
        let loader = arch::find(&gguf)?;
        let tokenizer = Tokenizer::from_gguf(gguf.metadata())?;
        let config = (loader.config)(&gguf)?;
        if tokenizer.n_vocab() != config.n_vocab {
            let (ours, theirs) = (tokenizer.n_vocab(), config.n_vocab);
            let what = format!("has {ours} tokens but embeds {theirs}; convert the model anew");
            return Err(Error::gguf(path, what));
        }
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(options.threads).build().map_err(|e| {
                Error::Invalid(format!("cannot start {} threads: {e}", options.threads))
            })?;
        let mut source = weights::Source::new(&gguf, &pool, options.progress);
        let weights = (loader.weights)(&config, &mut source)?;
        source.finish()?;
        let embedding = gguf.require_tensor(weights::EMBEDDING)?.type_id();
        let embedding = quant::type_info(embedding).expect("packing has accepted this type");
        Ok(Model { gguf, config, weights, tokenizer, embedding })
    }

    /// Sizes and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Packed matrices and norms.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The file the model came from.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// Writes the embedding of `token`, which must be below the vocabulary's size: (n_embd).
    pub fn embed(&self, token: u32, out: &mut [f32]) {
        let table = self.gguf.tensor(weights::EMBEDDING).expect("loading has found this tensor");
        let row = self.embedding.row_bytes(out.len()).expect("loading has checked the shape");
        self.embedding.dequantize(&table.bytes()[token as usize * row..][..row], out);
    }
}
