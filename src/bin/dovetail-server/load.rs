//! Which model, and loading it with its drafter.

use crate::args::Args;
use crate::words::FlagNames;
use dovetail::hub::FileChoice;
use dovetail::{ChatTemplate, Constraint, Engine, Error, Level, Notice, Observer, Result, Stage};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

/// A loaded model.
pub struct Loaded {
    /// The engine, with its drafter.
    pub engine: Engine,
    /// The chat template; `None` if there is none.
    pub template: Option<ChatTemplate>,
    /// Whether tokens are drafted.
    pub has_drafter: bool,
    /// What answers may be.
    pub constraint: Option<Constraint>,
    /// The model's file.
    pub path: PathBuf,
}

/// Loads the model that the flags name, until `stop` is set.
///
/// # Errors
/// If it cannot be found, loaded or run, or was stopped.
pub fn load(args: &mut Args, stop: &Arc<AtomicBool>) -> Result<Loaded> {
    let template = args.template()?;
    let path = choose(args)?;
    let options = args.options();
    let mut observer = LogObserver { stop: stop.clone(), stage: None, has_drafter: false };
    let model = options.model(&path, &mut observer)?;
    let template = match template {
        None => ChatTemplate::from_gguf(model.gguf().metadata())?,
        given => given,
    };
    if template.is_none() {
        tracing::warn!("the model has no chat template; chats are refused without --chat-template");
    }
    let grammar = args.grammar.grammar()?;
    let constraint = grammar.map(|grammar| model.constraint(&grammar)).transpose()?;
    let mut engine = options.engine(model, args.parallel, &mut observer)?;
    engine.set_prefix_cache(args.cache_ram.saturating_mul(1 << 20));
    Ok(Loaded { engine, template, has_drafter: observer.has_drafter, constraint, path })
}

/// The model's file, fetched if need be.
fn choose(args: &mut Args) -> Result<PathBuf> {
    let note = &mut |line: &str| tracing::info!("{line}");
    if let Some(repo) = &args.hf_repo_draft {
        let choice = FileChoice { file: None, drafter: true };
        args.drafting.model_draft = Some(args.hub.fetch(repo, choice, note)?.path);
    }
    let model = args.hub.model(args.model(), note)?.map(|fetched| fetched.path);
    model.ok_or_else(|| {
        let what = "no model is named; name a .gguf file, or fetch one with -hf USER/REPO";
        Error::Invalid(what.into())
    })
}

/// Writes notices to the log.
struct LogObserver {
    stop: Arc<AtomicBool>,
    stage: Option<Stage>,
    has_drafter: bool,
}

impl Observer for LogObserver {
    fn progress(&mut self, stage: Stage, _: u64, _: u64) -> bool {
        if self.stage.replace(stage) != Some(stage) {
            match stage {
                Stage::Loading => tracing::info!("loading the model"),
                Stage::Measuring => {
                    tracing::info!("measuring this machine, once, for a few seconds")
                }
            }
        }
        !self.stop.load(SeqCst)
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Drafter(_) => self.has_drafter = true,
            Notice::NoDrafter(_) => self.has_drafter = false,
            _ => {}
        }
        match notice.lines(&FlagNames) {
            (Level::Note, lines) => lines.lines().for_each(|line| tracing::info!("{line}")),
            (Level::Detail, lines) => lines.lines().for_each(|line| tracing::debug!("{line}")),
        }
    }
}
