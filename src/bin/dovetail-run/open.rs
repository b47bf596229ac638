//! Opens a model and creates a session or the options of an engine.

use crate::args::Args;
use crate::interrupt::Interrupt;
use crate::log::{Log, Progress};
use crate::runner::Runner;
use crate::words::FlagNames;
use crate::wrap::Wrap;
use dovetail::draft::SpecType;
use dovetail::hub::{Fetched, FileChoice};
use dovetail::machine;
use dovetail::{ChatTemplate, Error, Level, Model, Notice, Observer, Options, Result, Stage};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// The file that scripts/setup fetches; `models/manifest.toml` has its source.
const DEFAULT_MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// The model that a flag, an argument or a repository names, fetched if need be; or the default one.
///
/// # Errors
/// If it cannot be fetched or is nowhere, or none was named and the default one was not fetched.
pub fn choose(args: &mut Args, named: Option<&Path>, log: &Log) -> Result<PathBuf> {
    let note = &mut |line: &str| log.note(line);
    let model = args.hub.model(named, note)?;
    if let Some(repo) = &args.hf_repo_draft {
        let choice = FileChoice { file: None, drafter: true };
        args.drafting.model_draft = Some(args.hub.fetch(repo, choice, note)?.path);
    }
    if let Some(Fetched { path, drafters }) = model {
        let wants_one = matches!(args.drafting.spec_type, SpecType::Auto);
        if let (Some(repo), Some(drafter)) = (&args.hub.hf_repo, drafters.first())
            && wants_one
            && args.drafting.model_draft.is_none()
        {
            log.note(&format!("{} has a drafter, {drafter}; -hfd {0} uses it", repo.id()));
        }
        return Ok(path);
    }
    let wrong = |why: String| {
        Err(Error::Invalid(format!(
            "no model is named and {why}; run scripts/setup, name a .gguf file or one that \
             --list-models shows, or fetch one with -hf USER/REPO"
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

/// A loaded model.
pub struct Loaded {
    /// The model.
    pub model: Arc<Model>,
    /// The chat template; `None` if there is none, or with `--raw`.
    pub template: Option<ChatTemplate>,
    /// The options with which it was loaded.
    pub options: Options,
}

/// Loads a model; `None` after Ctrl-C.
///
/// # Errors
/// If the model cannot be loaded, or its chat template is broken.
pub fn load(
    args: &Args,
    path: &Path,
    template: Option<ChatTemplate>,
    interrupt: &Interrupt,
    log: &Log,
) -> Result<Option<Loaded>> {
    let options = args.options();
    interrupt.defer();
    let loaded = options.model(path, &mut LogObserver::new(log, Some(interrupt)));
    if interrupt.came() {
        return Ok(None);
    }
    interrupt.end_program();
    let model = loaded?;
    let template = match template {
        None if !args.raw => ChatTemplate::from_gguf(model.gguf().metadata())?,
        given => given,
    };
    Ok(Some(Loaded { model, template, options }))
}

/// Loads a model and creates a session; `None` after Ctrl-C.
///
/// # Errors
/// Those of [`load`], and if there is not enough memory.
pub fn open<'a>(
    args: &'a Args,
    path: &Path,
    template: Option<ChatTemplate>,
    interrupt: &'a Interrupt,
    log: &'a Log,
) -> Result<Option<Runner<'a>>> {
    let start = Instant::now();
    let Some(loaded) = load(args, path, template, interrupt, log)? else { return Ok(None) };
    let Loaded { model, template, options } = loaded;
    let sampling = args.sampling.sampling();
    let grammar = args.grammar.grammar()?;
    let constraint = grammar.map(|grammar| model.constraint(&grammar)).transpose()?;
    let session = options.session(model, &mut LogObserver::new(log, None))?;
    log.detail(&format!("seed {}", sampling.seed));
    let (path, load_time) = (path.to_owned(), start.elapsed());
    let wrap = Wrap::default();
    Ok(Some(Runner {
        args,
        path,
        session,
        template,
        sampling,
        constraint,
        load_time,
        interrupt,
        log,
        wrap,
    }))
}

/// Shows notices and progress while a model is opened.
pub struct LogObserver<'a> {
    log: &'a Log,
    /// Cancels loading instead of ending the program.
    interrupt: Option<&'a Interrupt>,
    progress: Option<(Stage, Progress)>,
}

impl<'a> LogObserver<'a> {
    /// Writes to `log`; `interrupt` cancels loading if it does not end the program.
    pub fn new(log: &'a Log, interrupt: Option<&'a Interrupt>) -> LogObserver<'a> {
        LogObserver { log, interrupt, progress: None }
    }
}

impl Observer for LogObserver<'_> {
    fn progress(&mut self, stage: Stage, done: u64, total: u64) -> bool {
        if self.progress.as_ref().is_none_or(|(shown, _)| *shown != stage) {
            let progress = match stage {
                Stage::Loading => Progress::of_bytes("loading weights"),
                Stage::Measuring => Progress::new("measuring this machine, once"),
            };
            // It takes seconds, and the answer waits for it.
            if stage == Stage::Measuring && !progress.is_shown() {
                self.log.note("measuring this machine, once, for a few seconds");
            }
            self.progress = Some((stage, progress));
        }
        if let Some((_, progress)) = &mut self.progress {
            progress.update(done, total);
        }
        !self.interrupt.is_some_and(Interrupt::came)
    }

    fn notice(&mut self, notice: &Notice) {
        // Lines replace the percentage.
        self.progress = None;
        match notice.lines(&FlagNames) {
            (Level::Note, lines) => self.log.note(&lines),
            (Level::Detail, lines) => self.log.detail(&lines),
        }
    }
}
