//! A model as the target runs it: configuration, packed weights, tokenizer.
//!
//! ```text
//! config.rs   sizes and constants · rope.rs  frequencies of rotations
//! keys.rs     both from metadata, checked
//! block.rs    a decoder block as data
//! weights.rs  matrices and norms, taken out of the file
//! packing/    where matrices are packed to: memory, or a file that the next start maps
//! arch/       which tensors and flags an architecture has: one file each and a table
//! ```
//!
//! A [`Model`] is immutable and shared by all sessions.

pub mod arch;
pub mod block;
mod config;
mod keys;
mod packing;
mod rope;
mod weights;

pub use config::{Config, Heads, LayerKind, QueryScale};
pub use keys::Keys;
pub use packing::{Packing, Repack, WeightStorage};
pub use rope::{Rope, RopeOptions, RopeScaling};
pub(crate) use weights::EMBEDDING;
use weights::PER_LAYER_EMBEDDING;
pub use weights::{PerLayerInput, Source, Weights};

use crate::error::{Error, Result};
use crate::gguf::{FileBytes, Gguf, OpenOptions};
use crate::machine;
use crate::setting::{Choice, Setting};
use crate::text::grammar::GrammarCompiler;
use crate::text::{Constraint, Grammar, Tokenizer};
use arch::Arch;
use dovetail_kernels::SharedBytes;
use dovetail_kernels::cpu::WeightMatrix;
use dovetail_kernels::quant::{self, TypeInfo};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use twox_hash::XxHash3_64;

/// How a model is loaded.
pub struct LoadOptions<'a> {
    /// How bytes are held. With `no_mmap`, once a model is loaded its passes read nothing from the file
    /// ([`Model::head_of`] does); with `mlock`, what a pass reads stays in memory.
    pub open: OpenOptions,
    /// Where the weights are packed to.
    pub repack: Repack,
    /// Where sidecars lie; `None` if there is no place for them.
    pub cache: Option<PathBuf>,
    /// Threads that pack the weights: at least 1.
    pub threads: usize,
    /// What is used in place of the file's rotations.
    pub rope: RopeOptions,
    /// Called with bytes done and bytes in all while weights are packed or checked; `false` cancels.
    pub progress: Box<dyn FnMut(u64, u64) -> bool + 'a>,
}

impl Default for LoadOptions<'_> {
    /// Mapped, packed to memory by all physical cores, silently.
    fn default() -> Self {
        LoadOptions {
            open: OpenOptions::default(),
            repack: Repack::default(),
            cache: machine::cache_folder(),
            threads: machine::physical_cores(),
            rope: RopeOptions::default(),
            progress: Box::new(|_, _| true),
        }
    }
}

/// A loaded model.
pub struct Model {
    gguf: Gguf,
    config: Config,
    weights: Weights,
    tokenizer: Arc<Tokenizer>,
    grammars: OnceLock<GrammarCompiler>,
    embedding: Embedding,
    per_layer: Option<Embedding>,
    packing: Packing,
    rope: RopeOptions,
}

/// The table of embeddings: native rows, dequantised one by one.
pub(crate) struct Embedding {
    ty: TypeInfo,
    rows: SharedBytes, // (n_vocab, n_embd)
}

impl Model {
    /// Opens a GGUF file (any part of a split one) and packs its weights.
    ///
    /// # Errors
    /// When the file cannot be read or is malformed, its architecture or tokenizer is unknown, a key
    /// or tensor is missing or of the wrong shape, memory cannot be locked as asked, or `progress`
    /// cancelled. A sidecar that cannot be written is no error: [`Model::packing`] says what was done.
    pub fn load(path: &Path, options: LoadOptions) -> Result<Model> {
        Model::load_with(path, options, arch::ARCHITECTURES)
    }

    /// The same for a file of one of these architectures.
    ///
    /// # Errors
    /// Those of [`Model::load`].
    #[doc(hidden)]
    pub fn load_with(path: &Path, mut options: LoadOptions, known: &[Arch]) -> Result<Model> {
        options.rope.check()?;
        let OpenOptions { no_mmap, mlock } = options.open;
        if no_mmap && options.repack == Repack::Cache {
            let refusal = Choice::from(Setting::NoMmap).refuse_since("a sidecar is always mapped");
            let refusal = refusal.or_leave_out(Setting::NoMmap);
            return Err(refusal.or_leave_out(Setting::Repack.with("cache")).into());
        }
        let repack =
            if no_mmap && options.repack == Repack::Auto { Repack::Memory } else { options.repack };
        // Where weights are packed, their file is read once, and in memory would only be in the way.
        let open = if repack == Repack::Off { options.open } else { OpenOptions::default() };
        let gguf = Gguf::open_with(path, open)?;
        let loader = arch::find(&gguf, known)?;
        let keys = Keys::new(&gguf, loader.name).with_rope(options.rope.clone());
        let config = (loader.config)(&keys)?;
        keys.finish()?;
        let mut source = Source::new(&gguf, HashMap::new());
        let mut weights = (loader.weights)(&config, &mut source)?;
        let matrices = source.finish()?;
        // Last of what can be refused: reading a vocabulary takes a third of a second.
        let tokenizer = Arc::new(Tokenizer::from_gguf(gguf.metadata())?);
        if tokenizer.n_vocab() != config.n_vocab {
            let (ours, theirs) = (tokenizer.n_vocab(), config.n_vocab);
            let what = format!("has {ours} tokens but embeds {theirs}; convert the model anew");
            return Err(Error::gguf(path, what));
        }
        let pool = pool(options.threads)?;
        let how = packing::Options {
            repack,
            cache: options.cache.as_deref(),
            mlock,
            // The answer needs memory beside the weights.
            free_memory: machine::available_memory().unwrap_or(u64::MAX) / 10 * 9,
            pool: &pool,
            progress: &mut *options.progress,
        };
        let (packed, packing) = packing::pack(&gguf, matrices, how)?;
        if packing.storage != WeightStorage::Native {
            weights = (loader.weights)(&config, &mut Source::new(&gguf, packed))?;
        }
        let in_memory = (no_mmap || mlock) && packing.storage != WeightStorage::Native;
        let table =
            |name, width| Embedding::of(&gguf, name, [width, config.n_vocab], in_memory, mlock);
        let embedding = table(EMBEDDING, config.n_embd)?;
        let per_layer = match config.n_embd_per_layer {
            0 => None,
            width => Some(table(PER_LAYER_EMBEDDING, width * config.n_layers)?),
        };
        Ok(Model {
            gguf,
            config,
            weights,
            tokenizer,
            grammars: OnceLock::new(),
            embedding,
            per_layer,
            packing,
            rope: options.rope,
        })
    }

    /// Sizes and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Matrices and norms.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Compiles a grammar for this model's vocabulary. The first one takes longer.
    ///
    /// # Errors
    /// If it is malformed, allows no text, or is too large.
    pub fn constraint(&self, grammar: &Grammar) -> Result<Constraint> {
        if let Some(compiler) = self.grammars.get() {
            return compiler.compile(grammar);
        }
        let compiler = GrammarCompiler::new(self.tokenizer.clone())?;
        self.grammars.get_or_init(|| compiler).compile(grammar)
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Where the weights are.
    pub fn packing(&self) -> &Packing {
        &self.packing
    }

    /// The file the model came from.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// What was used in place of the file's rotations.
    pub fn rope_options(&self) -> &RopeOptions {
        &self.rope
    }

    /// What cached keys and values depend on besides the tokens, in contexts of `n_ctx` tokens.
    pub(crate) fn cache_fingerprint(&self, n_ctx: usize) -> u64 {
        let content = self.gguf.content_fingerprint();
        let is_long = |kind: &LayerKind| kind.rope.is_long(n_ctx);
        let is_long = self.config.kinds.iter().any(is_long);
        if self.rope == RopeOptions::default() && !is_long {
            return content;
        }
        let text = format!("{content} {:?} {is_long}", self.rope);
        XxHash3_64::oneshot(text.as_bytes())
    }

    /// What tells this model from most others, but not from itself in another quantisation: SHA-256, in
    /// hexadecimal, of the last norm's weights as little-endian f32, which no quantisation touches. A
    /// fine-tune that leaves them has the same.
    pub fn fingerprint(&self) -> String {
        let norm = self.weights.output_norm.weight.iter().flat_map(|x| x.to_le_bytes());
        let digest = Sha256::digest(norm.collect::<Vec<u8>>());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The head's rows for these tokens, packed by so many threads: (tokens, n_embd).
    ///
    /// # Errors
    /// When a token is not in the vocabulary.
    pub fn head_of(&self, tokens: &[u32], threads: usize) -> Result<WeightMatrix> {
        let (ty, rows) = self.head_rows(tokens)?;
        let pack = || WeightMatrix::pack(ty, tokens.len(), self.config.n_embd, &rows.concat());
        pool(threads)?.install(pack).map_err(Error::Invalid)
    }

    /// The head's rows for these tokens as they lie in the file, and their type.
    ///
    /// # Errors
    /// When a token is not in the vocabulary.
    pub fn head_rows(&self, tokens: &[u32]) -> Result<(TypeInfo, Vec<&[u8]>)> {
        let head = self.gguf.require_tensor(weights::head_name(&self.gguf))?;
        let ty = quant::type_info(head.type_id()).expect("the head was loaded");
        let (bytes, n_vocab) = (head.bytes(), self.config.n_vocab);
        let len = ty.row_bytes(self.config.n_embd).expect("the head was loaded");
        let row = |&token: &u32| {
            let at = len * token as usize;
            let missing = || Error::Invalid(format!("token {token} is not one of {n_vocab}"));
            bytes.get(at..at + len).ok_or_else(missing)
        };
        Ok((ty, tokens.iter().map(row).collect::<Result<_>>()?))
    }

    /// Writes the embedding of `token`, which must be below the vocabulary's size, as it enters the first
    /// block: (n_embd).
    pub fn embed(&self, token: u32, out: &mut [f32]) {
        self.embedding.row(token, out);
        let mut scale = self.config.embedding_scale;
        if let Some(eps) = self.config.embedding_rms_eps {
            let squares: f64 = out.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            scale /= (squares / out.len() as f64 + f64::from(eps)).sqrt() as f32;
        }
        if scale != 1.0 {
            out.iter_mut().for_each(|x| *x *= scale);
        }
    }

    /// Writes the embeddings of `token`, as for [`Model::embed`], for each block: (n_layers, n_embd_per_layer). There
    /// must be some.
    pub(crate) fn embed_per_layer(&self, token: u32, out: &mut [f32]) {
        self.per_layer.as_ref().expect("the model has them").row(token, out);
    }
}

/// Takes matrices out of a file that is not a whole model, and packs them in memory or not at all.
///
/// # Errors
/// Those of `take`, and when the file holds a tensor that was not taken.
pub(crate) fn take<T>(
    gguf: &Gguf,
    threads: usize,
    repack: Repack,
    take: impl Fn(&mut Source) -> Result<T>,
) -> Result<T> {
    let mut source = Source::new(gguf, HashMap::new());
    take(&mut source)?;
    let how = packing::Options {
        repack,
        cache: None,
        mlock: false,
        free_memory: u64::MAX,
        pool: &pool(threads)?,
        progress: &mut |_, _| true,
    };
    let (packed, _) = packing::pack(gguf, source.finish()?, how)?;
    take(&mut Source::new(gguf, packed))
}

fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|e| Error::Invalid(format!("cannot start {threads} threads: {e}")))
}

impl Embedding {
    /// Writes the row of `token`, which must be one of the table's: (n_embd).
    pub(crate) fn row(&self, token: u32, out: &mut [f32]) {
        let row = self.ty.row_bytes(out.len()).expect("`of` has checked the shape");
        self.ty.dequantize(&self.rows[token as usize * row..][..row], out);
    }

    /// The table `name` of this shape in its file, or copied from there to memory, which may be locked.
    pub(crate) fn of(
        gguf: &Gguf,
        name: &str,
        shape: [usize; 2],
        in_memory: bool,
        mlock: bool,
    ) -> Result<Embedding> {
        let table = gguf.require_tensor(name)?;
        weights::expect_shape(gguf, &table, &shape)?;
        let ty = quant::type_info(table.type_id()).ok_or_else(|| {
            let what = format!("tensor `{}` cannot be of type {}", table.name(), table.type_name());
            Error::gguf(gguf.path(), what)
        })?;
        if !in_memory {
            return Ok(Embedding { ty, rows: gguf.share(&table) });
        }
        let copy = FileBytes::from_slice(table.bytes(), gguf.path())?;
        gguf.release(&table, 0..table.bytes().len());
        if mlock {
            copy.lock(gguf.path())?;
        }
        let rows = SharedBytes::new(Arc::new(copy), 0..table.bytes().len());
        Ok(Embedding { ty, rows: rows.expect("the copy is as long") })
    }
}
