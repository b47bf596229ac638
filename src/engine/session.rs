//! A sequence of tokens and what may follow it.
//!
//! ```no_run
//! use dovetail::{LoadOptions, Model, Sampling, Session, SessionOptions};
//! # fn main() -> dovetail::Result<()> {
//! let model = Model::load("model.gguf".as_ref(), LoadOptions::default())?;
//! let prompt = model.tokenizer().encode("Once upon a time", true, false)?;
//! let mut session = Session::new(model.into(), SessionOptions::default())?;
//! session.prompt(&prompt, &mut |_, _| true)?;
//! for piece in session.generate(&Sampling::default(), 100) {
//!     print!("{}", piece?.text);
//! }
//! # Ok(())
//! # }
//! ```

use super::engine::{DrafterId, Engine};
use super::options::SessionOptions;
use super::saved;
use crate::draft::{Drafter, DrafterContext};
use crate::error::{Error, Result};
use crate::infer::Target;
use crate::model::Model;
use crate::planner::Planner;
use crate::sample::Sampling;
use crate::speculate::calibrate::Calibrator;
use crate::speculate::{
    ConfiguredDrafter, Drafting, Generation, LiveStats, Piece, RoundStats, Speculation, Stats, Stop,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// One sequence of one model: an [`Engine`] of one slot.
pub struct Session {
    engine: Engine,
    drafter: Option<DrafterId>,
    drafting: Drafting,
}

impl Session {
    /// An empty session.
    ///
    /// # Errors
    /// When the context is larger than memory allows, the types of the cache do not fit the model, or
    /// `DOVETAIL_ISA` names what this CPU lacks.
    pub fn new(model: Arc<Model>, options: SessionOptions) -> Result<Session> {
        let engine = Engine::new(model, options, 1)?;
        Ok(Session { engine, drafter: None, drafting: Drafting::Auto })
    }

    /// Lets a drafter draft what comes next, or nobody, which the text does not show; returns the one that did.
    ///
    /// # Errors
    /// When the drafter asks for what this model does not have, or has no memory; the session is then as it was.
    pub fn speculate(&mut self, new: Option<Speculation>) -> Result<Option<Speculation>> {
        let id = new.map(|speculation| self.engine.add_drafter(speculation)).transpose()?;
        let old = std::mem::replace(&mut self.drafter, id);
        if let Some(id) = id
            && let Err(error) = self.engine.join_session(id)
        {
            self.engine.remove_drafter(id);
            self.drafter = old;
            if let Some(old) = old {
                self.engine.join_session(old)?;
            }
            return Err(error);
        }
        Ok(old.and_then(|old| self.engine.remove_drafter(old)))
    }

    /// Sets when the drafter drafts.
    pub fn set_drafting(&mut self, drafting: Drafting) {
        self.drafting = drafting;
        let (stream, ..) = self.engine.parts();
        stream.set_drafting(drafting);
    }

    /// Attaches an opened drafter, calibrating costs first if they are unknown, with a planner for up to `batch`
    /// sequences in a pass; `explained`, also where all trees have one shape. `progress` is told the part that is
    /// measured; `false` ends it.
    ///
    /// # Errors
    /// When a pass fails, the drafter asks for what this model does not have, or `progress` ended it; the drafter of before
    /// still drafts.
    pub fn attach(
        &mut self,
        mut opened: ConfiguredDrafter,
        explained: bool,
        batch: usize,
        progress: &mut dyn FnMut(f64) -> bool,
    ) -> Result<()> {
        let mut ended = false;
        let mut progress = |part| {
            ended = !progress(part);
            !ended
        };
        let planned = opened.planner(explained, batch, self.calibrator(&mut progress))?;
        if ended {
            return Err(Error::Cancelled("measuring"));
        }
        self.speculate(Some(opened.speculation(planned.is_some())))?;
        self.engine.plan_and_count(planned);
        Ok(())
    }

    /// Lets nobody draft.
    ///
    /// # Errors
    /// Never, at present: see [`speculate`](Self::speculate).
    pub fn detach(&mut self) -> Result<()> {
        self.speculate(None)?;
        self.engine.plan_and_count(None);
        Ok(())
    }

    /// See [`Engine::save_acceptance`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_acceptance(&self) -> std::io::Result<()> {
        self.engine.save_acceptance()
    }

    /// Lets a planner choose how large trees are; [`Planner::default`] leaves them the shape that the speculation was
    /// made for. Returns the one that chose before.
    pub fn plan(&mut self, planner: Planner) -> Planner {
        self.engine.plan(planner)
    }

    /// What chooses how large trees are.
    pub fn planner(&self) -> &Planner {
        self.engine.planner()
    }

    /// Measures what a planner has to know of this session's passes; `progress` is told the part that is done,
    /// `false` ends it.
    pub fn calibrator<'a>(
        &'a mut self,
        progress: &'a mut dyn FnMut(f64) -> bool,
    ) -> Calibrator<'a> {
        self.engine.calibrator(progress)
    }

    /// What a drafter for this session is opened with; `path` is its file.
    pub fn setup<'a>(&'a self, path: Option<&'a Path>) -> DrafterContext<'a> {
        self.engine.setup(path)
    }

    /// The drafter, if there is one that has not failed.
    pub fn drafter(&self) -> Option<&dyn Drafter> {
        let speculation = self.engine.drafter(self.drafter?)?;
        self.engine.stream().has_draft().then(|| speculation.drafter())
    }

    /// Counts and times of drafting since the last prompt.
    pub fn rounds(&self) -> Option<&RoundStats> {
        self.engine.stream().rounds()
    }

    /// Why the drafter was given up, once: the text goes on without it.
    pub fn take_drafter_error(&mut self) -> Option<Error> {
        let (stream, ..) = self.engine.parts();
        stream.take_drafter_error()
    }

    /// What people should know of the drafter, once: it goes on, though not as it was meant to.
    pub fn take_drafter_notice(&mut self) -> Option<String> {
        self.engine.take_drafter_notice()
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.engine.model()
    }

    /// The target, for measuring single passes of other sequences.
    pub fn target(&mut self) -> &mut Target {
        self.engine.target()
    }

    /// The engine whose only sequence this is, to step it [together](super::step_together) with others.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Most tokens of the sequence.
    pub fn n_ctx(&self) -> usize {
        self.engine.n_ctx()
    }

    /// The sequence so far: prompt and answer.
    pub fn tokens(&self) -> &[u32] {
        self.engine.stream().tokens()
    }

    /// Counts and times since the last prompt.
    pub fn stats(&self) -> &Stats {
        self.engine.stream().stats()
    }

    /// The same, to be read on other threads while the session works.
    pub fn live_stats(&self) -> LiveStats {
        self.engine.stream().live_stats().clone()
    }

    /// Why the last generation ended; `None` while it has not, or when the caller stopped taking.
    pub fn stop(&self) -> Option<Stop> {
        self.engine.stream().stop()
    }

    /// Makes `prompt` the sequence. What it has in common with the present one is not run again; the
    /// text that follows does not depend on that. `progress` is called with tokens run and tokens to
    /// run; `false` interrupts, the tokens run so far being the sequence then. Returns whether the
    /// whole prompt was run.
    ///
    /// # Errors
    /// When the prompt is empty or leaves no room in the context; the session is then as it was.
    pub fn prompt(
        &mut self,
        prompt: &[u32],
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool> {
        self.engine.stream().check_prompt(prompt)?;
        self.engine.planner_mut().reset_report();
        self.engine.prompt_session(prompt);
        let to_run = self.engine.stream().unread();
        while self.engine.stream().unread() > 0 {
            self.engine.read_chunk()?;
            let stream = self.engine.stream();
            let whole = stream.unread() == 0;
            if !progress(stream.stats().prompt_n, to_run) {
                let (stream, ..) = self.engine.parts();
                stream.stop_reading();
                return Ok(whole);
            }
        }
        Ok(true)
    }

    /// Saves the sequence with its keys and values and what the drafter knows of it; the format is in `saved.rs`.
    ///
    /// # Errors
    /// When the file cannot be written; one that was there is there still.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let types = self.engine.cache();
        let (stream, target, mut drafters) = self.engine.parts();
        saved::save(path, target.model(), types, &stream.saved(&mut drafters))
    }

    /// Makes what was saved the sequence; the text that follows is the one that would have followed there. A drafter
    /// of another file has seen nothing of it, and joins there.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or was saved with another model, other types of the cache, or more
    /// tokens than the context has; the session is then as it was.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let types = self.engine.cache();
        let (stream, target, mut drafters) = self.engine.parts();
        let loaded = saved::load(path, target.model(), target.sequence(types)?, types)?;
        stream.load(loaded, &mut drafters);
        Ok(())
    }

    /// Generates up to `n_predict` tokens after the sequence, one at each `next`.
    pub fn generate<'a>(&'a mut self, sampling: &Sampling, n_predict: usize) -> Generate<'a> {
        let sampling = sampling.clone();
        let begun = self.begin(Generation { sampling, n_predict, ..Generation::default() });
        Generate { session: self, failure: begun.err() }
    }

    /// Begins to generate what [`Session::next_piece`] or [`step_together`](super::step_together) then gives.
    ///
    /// # Errors
    /// When a number of the sampling is out of range, or a stop string cannot be read.
    pub fn begin(&mut self, what: Generation) -> Result<()> {
        let drafting = match what.drafting {
            Drafting::Auto => self.drafting,
            drafting => drafting,
        };
        self.engine.begin_session(Generation { drafting, ..what })
    }

    /// The next piece of what was begun; `None` at the model's end token, the length, or a full context.
    ///
    /// # Errors
    /// When there was no prompt, or the target fails; the text has ended then.
    pub fn next_piece(&mut self) -> Result<Option<Piece>> {
        if self.stop().is_some() {
            return Ok(None);
        }
        let start = Instant::now();
        let piece = self.piece();
        let (stream, ..) = self.engine.parts();
        stream.spent(start.elapsed());
        if piece.is_err() {
            stream.end(Stop::Length);
        }
        piece
    }

    /// Ends what was begun before its end.
    pub fn end(&mut self) {
        let (stream, ..) = self.engine.parts();
        stream.end(Stop::Length);
    }

    fn piece(&mut self) -> Result<Option<Piece>> {
        if self.tokens().is_empty() {
            return Err(Error::Prompt("nothing to continue; give a prompt first".into()));
        }
        let (stream, target, _) = self.engine.parts();
        let piece = stream.take(target.model().tokenizer());
        if piece.is_some() || stream.stop().is_some() {
            return Ok(piece);
        }
        self.engine.round()?;
        let (stream, target, _) = self.engine.parts();
        Ok(stream.take(target.model().tokenizer()))
    }
}

/// Iterator over generated pieces; ends at the model's end token, the length, or a full context.
pub struct Generate<'a> {
    session: &'a mut Session,
    /// Why nothing was begun.
    failure: Option<Error>,
}

impl Generate<'_> {
    /// Goes on past end tokens, which then become pieces without text.
    pub fn ignore_end(self, ignore: bool) -> Self {
        let (stream, ..) = self.session.engine.parts();
        stream.ignore_end(ignore);
        self
    }
}

impl Iterator for Generate<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        match self.failure.take() {
            Some(error) => {
                self.session.end();
                Some(Err(error))
            }
            None => self.session.next_piece().transpose(),
        }
    }
}
