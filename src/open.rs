//! From options to a model, and to a session or an engine with its drafter and planner. All programs use this.
//!
//! ```no_run
//! use dovetail::{Options, Sampling};
//! # fn main() -> dovetail::Result<()> {
//! let mut session = dovetail::open("model.gguf", &Options::default())?;
//! let prompt = session.model().tokenizer().encode_prompt("Once upon a time")?;
//! session.prompt(&prompt, &mut |_, _| true)?;
//! for piece in session.generate(&Sampling::default(), 100) {
//!     print!("{}", piece?.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! An [`Observer`] receives notices and the progress meanwhile.

use crate::draft::{self, DraftDevice, DrafterContext, SpecType};
use crate::engine::{Engine, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::gguf::OpenOptions;
use crate::infer::{KvCache, KvSize};
use crate::machine;
use crate::model::{LoadOptions, Model, Packing, Repack, RopeOptions};
use crate::printable::Printable;
use crate::setting::{Advice, Face, Plain, Setting};
use crate::speculate::{ConfiguredDrafter, SpecOptions};
use dovetail_kernels::cpu::Kernels;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All options that are chosen before the first prompt.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the model's file is read.
    pub open: OpenOptions,
    /// Where packed weights are kept.
    pub repack: Repack,
    /// The folder of packed weights.
    pub cache_folder: Option<PathBuf>,
    /// What is used in place of the file's rotations.
    pub rope: RopeOptions,
    /// Context, threads, passes and cache types. If the context is 0, it is the model's, halved until memory holds it.
    pub session: SessionOptions,
    /// The drafter and its trees.
    pub speculation: SpecOptions,
    /// Number of sessions that will step together; their passes are measured too. An engine always counts its slots.
    pub n_together: usize,
    /// Whether rounds are reported even if all trees have one fixed shape.
    pub explain: bool,
}

impl Default for Options {
    /// Weights packed into the cache directory, as many threads as physical cores, and the drafter that is found for
    /// the model, if there is one.
    fn default() -> Options {
        Options {
            open: OpenOptions::default(),
            repack: Repack::default(),
            cache_folder: machine::cache_folder(),
            rope: RopeOptions::default(),
            session: SessionOptions::default(),
            speculation: SpecOptions::default(),
            n_together: 1,
            explain: false,
        }
    }
}

/// Work that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading and packing weights.
    Loading,
    /// Measuring the costs of passes on this machine, once for each model and drafter.
    Measuring,
}

/// An event that users may want to know about.
pub enum Notice<'a> {
    /// A model was loaded.
    Loaded(&'a Model),
    /// Its file does not say how text is split into words.
    NoPreTokenizer,
    /// Its weights were packed into a file, or could not be kept as requested.
    Packed(&'a Packing),
    /// The sizes with which the model will run.
    Sized(&'a Model, &'a SessionOptions),
    /// The context is longer than the model was trained for.
    LongContext {
        /// Length of the context in tokens.
        n_ctx: usize,
        /// Length that the model was trained for in tokens.
        trained: usize,
    },
    /// Memory does not hold the context that the model was trained for.
    ShortContext {
        /// Length of the context in tokens.
        n_ctx: usize,
        /// Length that the model was trained for in tokens.
        trained: usize,
    },
    /// This drafter was opened.
    Drafter(&'a ConfiguredDrafter),
    /// A drafter that was not asked for cannot be used.
    NoDrafter(&'a Error),
    /// There is no drafter, but this file beside the model may be one for it.
    OfferedDrafter(&'a Path),
    /// A GPU was asked for, but there is no drafter to run on it.
    UnusedDevice(DraftDevice),
    /// The drafter recovered from a problem; the line says how.
    OfDrafter(String),
    /// The drafter failed in the middle of an answer and was given up.
    DrafterFailed(&'a Error),
}

/// Who should read a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Everyone.
    Note,
    /// Users who asked for details.
    Detail,
}

impl Notice<'_> {
    /// The text of the notice in the terms of a face, and who should read it. It may have several lines.
    pub fn lines(&self, face: &dyn Face) -> (Level, String) {
        let line = match self {
            Notice::Loaded(model) => return (Level::Detail, model_lines(model)),
            Notice::Packed(packing) => packing.notice(face).unwrap_or_default(),
            Notice::Sized(model, options) => return (Level::Detail, sizes(model, options)),
            Notice::NoPreTokenizer => {
                "the model's file does not name its pre-tokenizer (tokenizer.ggml.pre): text is split in the default \
                 way, so the model may understand and answer worse; get a newer file of it"
                    .to_owned()
            }
            Notice::LongContext { n_ctx, trained } => {
                format!(
                    "the model was made for {trained} tokens; beyond, to {n_ctx}, it may ramble"
                )
            }
            Notice::ShortContext { n_ctx, trained } => format!(
                "memory holds {n_ctx} tokens of the model's {trained}; {} chooses another number",
                face.name(Setting::ContextSize)
            ),
            Notice::Drafter(drafter) => {
                let why = drafter.drafter.why_there();
                let why = why.map(|why| format!("\nno GPU is used: {why}")).unwrap_or_default();
                return (Level::Detail, format!("drafter {}{why}", drafter.description()));
            }
            Notice::NoDrafter(error) => {
                format!("going on without a drafter: {}", error.line(face))
            }
            Notice::OfferedDrafter(path) => format!(
                "a drafter lies beside the model, {}; take it with {}",
                path.display(),
                face.usage(Setting::DraftModel)
            ),
            Notice::UnusedDevice(device) => {
                let device = face.choice(&Setting::DraftDevice.with(device));
                format!("{device} has no effect: there is no drafter")
            }
            Notice::OfDrafter(line) => line.clone(),
            Notice::DrafterFailed(error) => {
                let why = error.line(face);
                format!("the drafter failed, and the answer went on without it: {why}")
            }
        };
        (Level::Note, line)
    }
}

/// The lines about a loaded model.
fn model_lines(model: &Model) -> String {
    let config = model.config();
    format!(
        "model {} ({}), {} layers, {} wide, vocabulary {}\nweights {}",
        Printable(&config.name),
        Printable(&config.arch),
        config.n_layers,
        config.n_embd,
        config.n_vocab,
        model.packing(),
    )
}

/// The lines about the sizes with which it runs.
fn sizes(model: &Model, options: &SessionOptions) -> String {
    let SessionOptions { n_ctx, threads, n_ubatch, cache } = options;
    let size = KvSize { n_ctx: *n_ctx, rows: *n_ubatch, types: *cache };
    format!(
        "context {n_ctx} tokens, {:.1} MB when full (keys {}, values {})\n\
         {threads} threads, instruction set {}, passes of {n_ubatch}",
        KvCache::bytes_for(model.config(), size) as f64 / 1e6,
        cache.keys.name(),
        cache.values.name(),
        Kernels::choose().map_or("unknown", |kernels| kernels.name),
    )
}

/// Receives notices and progress while a model or drafter is opened; `()` ignores them.
pub trait Observer {
    /// Reports progress of a stage: `done` of `total`, which are bytes while weights are loaded, and parts of the work
    /// otherwise. If it returns false, the call fails with [`Error::Cancelled`].
    fn progress(&mut self, stage: Stage, done: u64, total: u64) -> bool {
        let _ = (stage, done, total);
        true
    }

    /// Reports an event.
    fn notice(&mut self, notice: &Notice) {
        let _ = notice;
    }
}

impl Observer for () {}

/// Reports how much of the measurements is done, from 0 to 1.
fn measured(observer: &mut dyn Observer, part: f64) -> bool {
    const PARTS: u64 = 1000;
    observer.progress(Stage::Measuring, (part * PARTS as f64) as u64, PARTS)
}

/// Loads a model from a GGUF file, or from any part of a split one, and creates a session with its drafter.
///
/// # Errors
/// Those of [`Options::model`] and [`Options::session`].
pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Session> {
    options.session(options.model(path.as_ref(), &mut ())?, &mut ())
}

impl Options {
    /// Loads a model from a GGUF file, or from any part of a split one.
    ///
    /// # Errors
    /// If the file cannot be read, is not a model, or cannot be run.
    pub fn model(&self, path: &Path, observer: &mut dyn Observer) -> Result<Arc<Model>> {
        let model = Model::load(
            path,
            LoadOptions {
                open: self.open,
                repack: self.repack,
                cache: self.cache_folder.clone(),
                threads: self.session.threads,
                rope: self.rope.clone(),
                progress: Box::new(|done, total| observer.progress(Stage::Loading, done, total)),
            },
        )?;
        if model.packing().notice(&Plain).is_some() {
            observer.notice(&Notice::Packed(model.packing()));
        }
        observer.notice(&Notice::Loaded(&model));
        if model.tokenizer().lacks_pre_tokenizer() {
            observer.notice(&Notice::NoPreTokenizer);
        }
        Ok(Arc::new(model))
    }

    /// Creates a session with its drafter.
    ///
    /// # Errors
    /// Those of [`Session::new`] and [`Options::attach`]; and if the context is longer than the model was trained for,
    /// and nothing stretches its positions.
    pub fn session(&self, model: Arc<Model>, observer: &mut dyn Observer) -> Result<Session> {
        let sizes = self.sizes(&model, 1, observer)?;
        let mut session = Session::new(model, sizes)?;
        self.attach(&mut session, observer)?;
        Ok(session)
    }

    /// Creates an engine of `slots` slots with its drafter.
    ///
    /// # Errors
    /// Those of [`Engine::new`], and those of its drafter as for a session.
    pub fn engine(
        &self,
        model: Arc<Model>,
        slots: usize,
        observer: &mut dyn Observer,
    ) -> Result<Engine> {
        let sizes = self.sizes(&model, slots, observer)?;
        let mut engine = Engine::new(model, sizes, slots)?;
        self.attach_to_engine(&mut engine, observer)?;
        Ok(engine)
    }

    /// The options of a session with the chosen context length.
    fn sizes(
        &self,
        model: &Model,
        slots: usize,
        observer: &mut dyn Observer,
    ) -> Result<SessionOptions> {
        let mut options = self.session.clone();
        let trained = model.config().n_ctx;
        if options.n_ctx == 0 {
            let drafter = self.speculation.memory(model);
            let drafter = |n_ctx| drafter.as_ref().map_or(0, |memory| memory.bytes(n_ctx, slots));
            options.n_ctx = options.largest_context(model, slots, drafter);
        }
        let n_ctx = options.n_ctx;
        if n_ctx > trained {
            let factor = model.rope_options().factor.unwrap_or(1.0);
            if !model.rope_options().stretches() {
                let what = format!("the model was trained for {trained} tokens, not for {n_ctx}");
                let refusal = Setting::ContextSize.with(n_ctx).refuse_since(what);
                let refusal = refusal.or(Advice::Lower(Setting::ContextSize));
                return Err(refusal.or(Advice::Raise(Setting::RopeScale)).into());
            }
            if n_ctx as f64 > trained as f64 * factor {
                observer.notice(&Notice::LongContext { n_ctx, trained });
            }
        }
        if self.session.n_ctx == 0 && n_ctx < trained {
            observer.notice(&Notice::ShortContext { n_ctx, trained });
        }
        observer.notice(&Notice::Sized(model, &options));
        Ok(options)
    }

    /// Attaches the drafter that the options name to a session, replacing the current one, and a planner with the costs
    /// of passes, which are measured unless they are known. A drafter that was not asked for and cannot be used is left
    /// out, with a notice.
    ///
    /// # Errors
    /// If a drafter that was asked for cannot be opened or belongs to another model, or if the observer cancels; the
    /// session then keeps its drafter.
    pub fn attach(&self, session: &mut Session, observer: &mut dyn Observer) -> Result<()> {
        let attached = self.drafter(session.setup(None), observer).and_then(|drafter| {
            let Some(drafter) = drafter else { return session.detach() };
            let mut progress = |part| measured(observer, part);
            session.attach(drafter, self.explain, self.n_together, &mut progress)
        });
        if let Err(error) = attached {
            self.excuse(error, observer)?;
            session.detach()?;
        }
        if let Some(notice) = session.take_drafter_notice() {
            observer.notice(&Notice::OfDrafter(notice));
        }
        Ok(())
    }

    /// The same for an engine, which keeps its other drafters.
    fn attach_to_engine(&self, engine: &mut Engine, observer: &mut dyn Observer) -> Result<()> {
        let attached = self.drafter(engine.setup(None), observer).and_then(|drafter| {
            let Some(drafter) = drafter else { return Ok(()) };
            let mut progress = |part| measured(observer, part);
            engine.attach(drafter, self.explain, &mut progress).map(|_| ())
        });
        attached.or_else(|error| self.excuse(error, observer))?;
        if let Some(notice) = engine.take_drafter_notice() {
            observer.notice(&Notice::OfDrafter(notice));
        }
        Ok(())
    }

    /// Opens the drafter that the options name.
    fn drafter(
        &self,
        context: DrafterContext,
        observer: &mut dyn Observer,
    ) -> Result<Option<ConfiguredDrafter>> {
        let model = context.target.gguf().path().to_owned();
        let drafter = self.speculation.open(context)?;
        let device = self.speculation.device;
        let is_auto = matches!(self.speculation.kind, SpecType::Auto);
        let offered = (is_auto && drafter.is_none()).then(|| draft::offered(&model)).flatten();
        if let Some(path) = offered {
            observer.notice(&Notice::OfferedDrafter(&path));
        }
        match &drafter {
            Some(drafter) => observer.notice(&Notice::Drafter(drafter)),
            None if device.is_gpu() => observer.notice(&Notice::UnusedDevice(device)),
            None => {}
        }
        Ok(drafter)
    }

    /// Turns the error of a drafter that was not asked for into a notice.
    fn excuse(&self, error: Error, observer: &mut dyn Observer) -> Result<()> {
        if self.speculation.is_asked() || matches!(error, Error::Cancelled(_)) {
            return Err(error);
        }
        observer.notice(&Notice::NoDrafter(&error));
        Ok(())
    }
}
