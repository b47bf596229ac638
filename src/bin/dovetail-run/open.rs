//! From a name, or none, to a session.

use crate::args::Args;
use crate::guessing::Guessing;
use crate::interrupt::Interrupt;
use crate::log::{Log, Progress};
use crate::runner::Runner;
use dovetail::draft::SpecType;
use dovetail::model::Config;
use dovetail::target::KvCache;
use dovetail::{ChatTemplate, Error, LoadOptions, Model, OpenOptions};
use dovetail::{Result, Session, SessionOptions, machine};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The file that scripts/setup fetches; `models/manifest.toml` says from where.
const DEFAULT_MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// Contexts are not shrunk below this for want of memory.
const CONTEXT_MIN: usize = 512;

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

/// Loads a model and starts a session; `None` if Ctrl-C came.
///
/// # Errors
/// When the model cannot be loaded, its chat template is broken, or memory does not suffice.
pub fn open<'a>(
    args: &'a Args,
    path: &Path,
    template: Option<ChatTemplate>,
    interrupt: &'a Interrupt,
    log: &'a Log,
) -> Result<Option<Runner<'a>>> {
    let start = Instant::now();
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
    if let Some(notice) = model.packing().notice() {
        log.note(&notice);
    }
    let packing = model.packing().to_string();
    let template = match template {
        None if !args.raw => ChatTemplate::from_gguf(model.gguf().metadata())?,
        given => given,
    };
    let config = model.config().clone();
    let n_ctx = context(args, &config, log);
    let (threads, cache) = (args.threads(), args.cache());
    let options = SessionOptions { n_ctx, threads, n_ubatch: args.n_ubatch(), cache };
    let mut session = Session::new(model.into(), options)?;
    speculate(&args.guessing, &mut session, log)?;
    let load_time = start.elapsed();
    let sampling = args.sampling();
    log.detail(&format!(
        "model {} ({}), {} layers, {} wide, vocabulary {}\n\
         weights {packing}\n\
         context {n_ctx} tokens, {:.1} MB when full (keys {}, values {})\n\
         {} threads, instruction set {}, passes of {}\n\
         seed {}",
        config.name,
        config.arch,
        config.n_layers,
        config.n_embd,
        config.n_vocab,
        KvCache::bytes_for(&config, n_ctx, cache) as f64 / 1e6,
        cache.keys.name(),
        cache.values.name(),
        threads,
        session.target().isa(),
        args.n_ubatch(),
        sampling.seed,
    ));
    let path = path.to_owned();
    Ok(Some(Runner { args, path, session, template, sampling, load_time, interrupt, log }))
}

/// Lets somebody guess for this session, if anyone is to.
///
/// # Errors
/// When the drafter that was asked for cannot be opened, or is for another model. One that nobody asked
/// for is left alone then, and a line says so.
fn speculate(guessing: &Guessing, session: &mut Session, log: &Log) -> Result<()> {
    let device = guessing.device();
    let nobody_asked = matches!(guessing.spec_type, SpecType::Auto)
        && guessing.model_draft.is_none()
        && !device.is_gpu();
    let opened = guessing.open(session.setup(None)).and_then(|opened| {
        let Some((speculation, about)) = opened else {
            if device.is_gpu() {
                log.note(&format!("--draft-device {device} has no effect: nobody guesses"));
            }
            return Ok(());
        };
        log.detail(&format!("drafter {about}"));
        if let Some(why) = speculation.drafter().why_there() {
            log.detail(&format!("no GPU is used: {why}"));
        }
        session.speculate(Some(speculation))?;
        if let Some(notice) = session.take_drafter_notice() {
            log.note(&notice);
        }
        Ok(())
    });
    match opened {
        Err(error) if nobody_asked => {
            log.note(&format!("going on without a drafter: {error}"));
            Ok(())
        }
        opened => opened,
    }
}

/// The context that was asked for; else the model's, halved until memory holds it.
fn context(args: &Args, config: &Config, log: &Log) -> usize {
    if args.ctx_size > config.n_ctx {
        let (asked, made) = (args.ctx_size, config.n_ctx);
        log.note(&format!(
            "the model was made for {made} tokens; beyond, to {asked}, it may ramble"
        ));
    }
    if args.ctx_size > 0 {
        return args.ctx_size;
    }
    let free = machine::available_memory().unwrap_or(u64::MAX);
    // The answer needs memory beside the cache.
    let fits = |n: usize| KvCache::bytes_for(config, n, args.cache()) <= free / 10 * 9;
    let mut n = config.n_ctx;
    while n / 2 >= CONTEXT_MIN && !fits(n) {
        n /= 2;
    }
    if n < config.n_ctx {
        log.note(&format!(
            "memory holds {n} tokens of the model's {}; -c chooses another number",
            config.n_ctx
        ));
    }
    n
}
