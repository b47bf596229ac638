//! From options to a model, and from a model to a session or an engine with its drafter and its planner: one way for
//! every program.
//!
//! ```no_run
//! use dovetail::{Options, Sampling};
//! # fn main() -> dovetail::Result<()> {
//! let mut session = dovetail::open("model.gguf", &Options::default())?;
//! let prompt = session.model().tokenizer().encode("Once upon a time", true, false)?;
//! session.prompt(&prompt, &mut |_, _| true)?;
//! for piece in session.generate(&Sampling::default(), 100) {
//!     print!("{}", piece?.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What people may like to know meanwhile, and how far it is, an [`Observer`] is told.

use crate::draft::{DraftDevice, DrafterContext};
use crate::engine::{Engine, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::gguf::OpenOptions;
use crate::infer::KvCache;
use crate::machine;
use crate::model::{LoadOptions, Model, Packing, Repack};
use crate::printable::Printable;
use crate::setting::{Face, Plain, Setting};
use crate::speculate::{ConfiguredDrafter, SpecOptions};
use dovetail_kernels::cpu::Kernels;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All that is chosen before the first prompt.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the model's file is read.
    pub open: OpenOptions,
    /// Where weights are packed to.
    pub repack: Repack,
    /// The folder of packed weights.
    pub cache_folder: Option<PathBuf>,
    /// Context, threads, passes, types of the cache. A context of 0 is the model's, halved until memory holds it.
    pub session: SessionOptions,
    /// The drafter and its trees.
    pub speculation: SpecOptions,
    /// Sessions that will be stepped together, whose passes are measured too; an engine's slots count anyway.
    pub n_together: usize,
    /// Whether rounds are reported also where all trees have one shape.
    pub explain: bool,
}

impl Default for Options {
    /// Weights packed into the cache directory, the machine's physical cores, and the drafter that lies ready for the
    /// model, if there is one.
    fn default() -> Options {
        Options {
            open: OpenOptions::default(),
            repack: Repack::default(),
            cache_folder: machine::cache_folder(),
            session: SessionOptions::default(),
            speculation: SpecOptions::default(),
            n_together: 1,
            explain: false,
        }
    }
}

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading and packing weights.
    Loading,
    /// Measuring what passes cost on this machine: once for a model and a drafter.
    Measuring,
}

/// Something that people may like to know.
pub enum Notice<'a> {
    /// A model was loaded.
    Loaded(&'a Model),
    /// Its weights were packed into a file, or are not kept as was asked.
    Packed(&'a Packing),
    /// How the model will run.
    Sized(&'a Model, &'a SessionOptions),
    /// The context is longer than the model was made for.
    LongContext {
        /// Tokens of the context.
        n_ctx: usize,
        /// Tokens that the model was made for.
        trained: usize,
    },
    /// Memory does not hold the context that the model was made for.
    ShortContext {
        /// Tokens of the context.
        n_ctx: usize,
        /// Tokens that the model was made for.
        trained: usize,
    },
    /// This drafter drafts.
    Drafter(&'a ConfiguredDrafter),
    /// A drafter that nobody asked for cannot be used.
    NoDrafter(&'a Error),
    /// A GPU was asked for, and there is no drafter to run on it.
    UnusedDevice(DraftDevice),
    /// The drafter helped itself out of something.
    OfDrafter(String),
    /// The drafter was given up in the middle of an answer.
    DrafterFailed(&'a Error),
}

/// Whether everybody should read a notice, or those who want details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Everybody.
    Note,
    /// Who asked for details.
    Detail,
}

impl Notice<'_> {
    /// Lines about it, for the users of a face, and who should read them.
    pub fn lines(&self, face: &dyn Face) -> (Level, String) {
        let line = match self {
            Notice::Loaded(model) => return (Level::Detail, about(model)),
            Notice::Packed(packing) => packing.notice(face).unwrap_or_default(),
            Notice::Sized(model, options) => return (Level::Detail, sizes(model, options)),
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
                return (Level::Detail, format!("drafter {}{why}", drafter.about()));
            }
            Notice::NoDrafter(error) => {
                format!("going on without a drafter: {}", error.line(face))
            }
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

/// What was loaded.
fn about(model: &Model) -> String {
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

/// How it is run.
fn sizes(model: &Model, options: &SessionOptions) -> String {
    let SessionOptions { n_ctx, threads, n_ubatch, cache } = options;
    format!(
        "context {n_ctx} tokens, {:.1} MB when full (keys {}, values {})\n\
         {threads} threads, instruction set {}, passes of {n_ubatch}",
        KvCache::bytes_for(model.config(), *n_ctx, *cache) as f64 / 1e6,
        cache.keys.name(),
        cache.values.name(),
        Kernels::choose().map_or("unknown", |kernels| kernels.name),
    )
}

/// Told what goes on while something is opened; `()` is told in vain.
pub trait Observer {
    /// A part of a stage is done, from 0 to 1; `false` ends it, and the call fails with [`Error::Cancelled`].
    fn progress(&mut self, stage: Stage, part: f64) -> bool {
        let _ = (stage, part);
        true
    }

    /// There is something to know.
    fn notice(&mut self, notice: &Notice) {
        let _ = notice;
    }
}

impl Observer for () {}

/// Loads a model from a GGUF file, any part of a split one, and makes a session of it, with its drafter.
///
/// # Errors
/// Those of [`Options::model`] and [`Options::session`].
pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Session> {
    options.session(options.model(path.as_ref(), &mut ())?, &mut ())
}

impl Options {
    /// Loads a model from a GGUF file, any part of a split one.
    ///
    /// # Errors
    /// When the file cannot be read, is no model, or one that cannot be run.
    pub fn model(&self, path: &Path, observer: &mut dyn Observer) -> Result<Arc<Model>> {
        let model = Model::load(
            path,
            LoadOptions {
                open: self.open,
                repack: self.repack,
                cache: self.cache_folder.clone(),
                threads: self.session.threads,
                progress: Box::new(|done, total| {
                    observer.progress(Stage::Loading, done as f64 / total.max(1) as f64)
                }),
            },
        )?;
        if model.packing().notice(&Plain).is_some() {
            observer.notice(&Notice::Packed(model.packing()));
        }
        observer.notice(&Notice::Loaded(&model));
        Ok(Arc::new(model))
    }

    /// Makes a session, with its drafter.
    ///
    /// # Errors
    /// Those of [`Session::new`] and [`Options::attach`].
    pub fn session(&self, model: Arc<Model>, observer: &mut dyn Observer) -> Result<Session> {
        let sizes = self.sizes(&model, 1, observer);
        let mut session = Session::new(model, sizes)?;
        self.attach(&mut session, observer)?;
        Ok(session)
    }

    /// Makes an engine of so many slots, with its drafter.
    ///
    /// # Errors
    /// Those of [`Engine::new`], and as for a session those of its drafter.
    pub fn engine(
        &self,
        model: Arc<Model>,
        slots: usize,
        observer: &mut dyn Observer,
    ) -> Result<Engine> {
        let sizes = self.sizes(&model, slots, observer);
        let mut engine = Engine::new(model, sizes, slots)?;
        self.attach_to_engine(&mut engine, observer)?;
        Ok(engine)
    }

    /// The options of a session, with the context that is chosen.
    fn sizes(&self, model: &Model, slots: usize, observer: &mut dyn Observer) -> SessionOptions {
        let mut options = self.session.clone();
        let trained = model.config().n_ctx;
        if options.n_ctx == 0 {
            options.n_ctx = options.largest_context(model, slots);
        }
        let n_ctx = options.n_ctx;
        if n_ctx > trained {
            observer.notice(&Notice::LongContext { n_ctx, trained });
        }
        if self.session.n_ctx == 0 && n_ctx < trained {
            observer.notice(&Notice::ShortContext { n_ctx, trained });
        }
        observer.notice(&Notice::Sized(model, &options));
        options
    }

    /// Attaches the drafter that the options name to a session, in place of one that is there, and a planner that knows what
    /// passes cost, which is measured if it is not known. One that nobody asked for and cannot be used is left out, with a
    /// notice.
    ///
    /// # Errors
    /// When the drafter that was asked for cannot be opened, or is for another model, or the observer ended it; what drafted
    /// before still does.
    pub fn attach(&self, session: &mut Session, observer: &mut dyn Observer) -> Result<()> {
        let attached = self.drafter(session.setup(None), observer).and_then(|drafter| {
            let Some(drafter) = drafter else { return session.detach() };
            let mut progress = |part| observer.progress(Stage::Measuring, part);
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

    /// The same for an engine, which keeps the drafters that it has.
    fn attach_to_engine(&self, engine: &mut Engine, observer: &mut dyn Observer) -> Result<()> {
        let attached = self.drafter(engine.setup(None), observer).and_then(|drafter| {
            let Some(drafter) = drafter else { return Ok(()) };
            let mut progress = |part| observer.progress(Stage::Measuring, part);
            engine.attach(drafter, self.explain, &mut progress).map(|_| ())
        });
        attached.or_else(|error| self.excuse(error, observer))?;
        if let Some(notice) = engine.take_drafter_notice() {
            observer.notice(&Notice::OfDrafter(notice));
        }
        Ok(())
    }

    /// The drafter that the options name, opened.
    fn drafter(
        &self,
        context: DrafterContext,
        observer: &mut dyn Observer,
    ) -> Result<Option<ConfiguredDrafter>> {
        let drafter = self.speculation.open(context)?;
        let device = self.speculation.device;
        match &drafter {
            Some(drafter) => observer.notice(&Notice::Drafter(drafter)),
            None if device.is_gpu() => observer.notice(&Notice::UnusedDevice(device)),
            None => {}
        }
        Ok(drafter)
    }

    /// Lets an error pass that comes of a drafter which nobody asked for.
    fn excuse(&self, error: Error, observer: &mut dyn Observer) -> Result<()> {
        if self.speculation.is_asked() || matches!(error, Error::Cancelled(_)) {
            return Err(error);
        }
        observer.notice(&Notice::NoDrafter(&error));
        Ok(())
    }
}
