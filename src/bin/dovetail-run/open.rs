//! From a name, or none, to a session, or to what an engine takes.

use crate::args::Args;
use crate::interrupt::Interrupt;
use crate::log::{Log, Progress};
use crate::runner::Runner;
use crate::words::{self, Flags};
use dovetail::infer::KvCache;
use dovetail::printable::Printable;
use dovetail::speculate::calibrate::Counts;
use dovetail::speculate::{ConfiguredDrafter, SpecOptions};
use dovetail::{ChatTemplate, Engine, Error, LoadOptions, Model, OpenOptions};
use dovetail::{Result, Sampling, Session, SessionOptions, machine};
use dovetail_kernels::cpu::Kernels;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// The file that scripts/setup fetches; `models/manifest.toml` says from where.
const DEFAULT_MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// The model that was named, or the default one.
///
/// # Errors
/// When none was named and the default one was not fetched.
pub fn choose(named: Option<&Path>, log: &Log) -> Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let wrong = |why: String| {
        Err(Error::Invalid(format!(
            "no model is named and {why}; run scripts/setup, or name a .gguf file"
        )))
    };
    let Some(folder) = machine::cache_folder() else {
        return wrong("there is no cache directory (HOME is not set)".into());
    };
    let path = folder.join(DEFAULT_MODEL);
    if !path.exists() {
        return wrong(format!("the default one is not there ({})", path.display()));
    }
    log.note(&format!("no model is named: using the default one, {}", path.display()));
    Ok(path)
}

/// A model and how it is to be run.
pub struct Loaded {
    /// The model.
    pub model: Arc<Model>,
    /// The chat template, if there is one and `--raw` does not forbid it.
    pub template: Option<ChatTemplate>,
    /// Sizes, the context's among them.
    pub options: SessionOptions,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// Loads a model, for so many sequences at once; `None` if Ctrl-C came.
///
/// # Errors
/// When the model cannot be loaded, or its chat template is broken.
pub fn load(
    args: &Args,
    path: &Path,
    template: Option<ChatTemplate>,
    sequences: usize,
    interrupt: &Interrupt,
    log: &Log,
) -> Result<Option<Loaded>> {
    let mut progress = Progress::new("loading");
    interrupt.defer();
    let loaded = Model::load(
        path,
        LoadOptions {
            open: OpenOptions { no_mmap: args.no_mmap, mlock: args.mlock },
            repack: args.repack(),
            cache: machine::cache_folder(),
            threads: args.threads(),
            progress: Box::new(|done, total| {
                progress.update(done, total);
                !interrupt.came()
            }),
        },
    );
    drop(progress);
    if interrupt.came() {
        return Ok(None);
    }
    interrupt.end_program();
    let model = loaded?;
    if let Some(notice) = model.packing().notice(&Flags) {
        log.note(&notice);
    }
    let template = match template {
        None if !args.raw => ChatTemplate::from_gguf(model.gguf().metadata())?,
        given => given,
    };
    let (threads, n_ubatch, cache) = (args.threads(), args.n_ubatch(), args.cache());
    let mut options = SessionOptions { n_ctx: args.ctx_size, threads, n_ubatch, cache };
    options.n_ctx = context(&options, &model, sequences, log);
    let sampling = args.sampling();
    describe(&model, &options, &sampling, log)?;
    Ok(Some(Loaded { model: model.into(), template, options, sampling }))
}

/// Says what was loaded, and how it is run.
fn describe(model: &Model, options: &SessionOptions, sampling: &Sampling, log: &Log) -> Result<()> {
    let (config, SessionOptions { n_ctx, threads, n_ubatch, cache }) = (model.config(), options);
    log.detail(&format!(
        "model {} ({}), {} layers, {} wide, vocabulary {}\n\
         weights {}\n\
         context {n_ctx} tokens, {:.1} MB when full (keys {}, values {})\n\
         {threads} threads, instruction set {}, passes of {n_ubatch}\n\
         seed {}",
        Printable(&config.name),
        Printable(&config.arch),
        config.n_layers,
        config.n_embd,
        config.n_vocab,
        model.packing(),
        KvCache::bytes_for(config, *n_ctx, *cache) as f64 / 1e6,
        cache.keys.name(),
        cache.values.name(),
        Kernels::choose().map_err(Error::Invalid)?.name,
        sampling.seed,
    ));
    Ok(())
}

/// Loads a model and starts a session; `None` if Ctrl-C came.
///
/// # Errors
/// Those of [`load`], and when memory does not suffice.
pub fn open<'a>(
    args: &'a Args,
    path: &Path,
    template: Option<ChatTemplate>,
    interrupt: &'a Interrupt,
    log: &'a Log,
) -> Result<Option<Runner<'a>>> {
    let start = Instant::now();
    let Some(loaded) = load(args, path, template, 1, interrupt, log)? else { return Ok(None) };
    let Loaded { model, template, options, sampling } = loaded;
    let mut session = Session::new(model, options)?;
    let asked = args.guessing.asked();
    let counts = unless_nobody_asked(&asked, log, || {
        let opened = asked.open(session.setup(None))?;
        say_who_guesses(&asked, opened.as_ref(), log);
        let Some(opened) = opened else { return Ok(None) };
        let counts = session.attach(opened, args.explain, 1, &mut measuring())?;
        if let Some(notice) = session.take_drafter_notice() {
            log.note(&notice);
        }
        Ok(counts)
    })?;
    let (path, load_time) = (path.to_owned(), start.elapsed());
    Ok(Some(Runner { args, path, session, counts, template, sampling, load_time, interrupt, log }))
}

/// Attaches a drafter to the engine, if there is one; where it is kept how often it is right.
///
/// # Errors
/// Those of [`unless_nobody_asked`].
pub fn drafter(args: &Args, engine: &mut Engine, log: &Log) -> Result<Option<Counts>> {
    let asked = args.guessing.asked();
    unless_nobody_asked(&asked, log, || {
        let opened = asked.open(engine.setup(None))?;
        say_who_guesses(&asked, opened.as_ref(), log);
        let Some(opened) = opened else { return Ok(None) };
        let (_, counts) = engine.attach(opened, args.explain, &mut measuring())?;
        Ok(counts)
    })
}

/// Shows how far it is with measuring what passes cost. Ctrl-C ends the program meanwhile.
fn measuring() -> impl FnMut(f64) -> bool {
    let mut progress = Progress::new("measuring this machine, once");
    move |part| {
        progress.update((part * 100.0) as u64, 100);
        true
    }
}

/// What `open` gives, which deals with drafters.
///
/// # Errors
/// When the drafter that was asked for cannot be opened, or is for another model. One that nobody asked
/// for is left alone then, and a line says so.
fn unless_nobody_asked<T: Default>(
    guessing: &SpecOptions,
    log: &Log,
    open: impl FnOnce() -> Result<T>,
) -> Result<T> {
    match open() {
        Err(error) if !guessing.is_asked() => {
            log.note(&format!("going on without a drafter: {}", words::line(&error)));
            Ok(T::default())
        }
        opened => opened,
    }
}

/// Says who guesses, if anyone does.
fn say_who_guesses(guessing: &SpecOptions, opened: Option<&ConfiguredDrafter>, log: &Log) {
    let device = guessing.device;
    match opened {
        None if device.is_gpu() => {
            log.note(&format!("--draft-device {device} has no effect: nobody guesses"));
        }
        None => {}
        Some(opened) => {
            log.detail(&format!("drafter {}", opened.about()));
            if let Some(why) = opened.drafter.why_there() {
                log.detail(&format!("no GPU is used: {why}"));
            }
        }
    }
}

/// The context that was asked for; else the model's, halved until memory holds it.
fn context(options: &SessionOptions, model: &Model, sequences: usize, log: &Log) -> usize {
    let config = model.config();
    let asked = options.n_ctx;
    if asked > config.n_ctx {
        let made = config.n_ctx;
        log.note(&format!(
            "the model was made for {made} tokens; beyond, to {asked}, it may ramble"
        ));
    }
    if asked > 0 {
        return asked;
    }
    let n = options.largest_context(model, sequences);
    if n < config.n_ctx {
        log.note(&format!(
            "memory holds {n} tokens of the model's {}; -c chooses another number",
            config.n_ctx
        ));
    }
    n
}
