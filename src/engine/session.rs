//! One sequence of a model: reads prompts and generates text.
//!
//! ```no_run
//! use dovetail::{LoadOptions, Model, Sampling, Session, SessionOptions};
//! # fn main() -> dovetail::Result<()> {
//! let model = Model::load("model.gguf".as_ref(), LoadOptions::default())?;
//! let prompt = model.tokenizer().encode_prompt("Once upon a time")?;
//! let mut session = Session::new(model.into(), SessionOptions::default())?;
//! session.prompt(&prompt, &mut |_, _| true)?;
//! for piece in session.generate(&Sampling::default(), 100) {
//!     print!("{}", piece?.text);
//! }
//! # Ok(())
//! # }
//! ```

use super::engine::Engine;
use super::options::SessionOptions;
use super::request::DrafterId;
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
    /// Whether the generation ended with an error, which was returned.
    has_failed: bool,
}

impl Session {
    /// An empty session.
    ///
    /// # Errors
    /// If memory does not hold the context, the cache types do not fit the model, or `DOVETAIL_ISA` names an
    /// instruction set that this CPU lacks.
    pub fn new(model: Arc<Model>, options: SessionOptions) -> Result<Session> {
        let engine = Engine::new(model, options, 1)?;
        Ok(Session { engine, drafter: None, drafting: Drafting::Auto, has_failed: false })
    }

    /// Sets or removes the drafter, and returns the previous one. By rule A the text does not depend on the drafter.
    ///
    /// # Errors
    /// If the model lacks something the drafter needs, or there is no memory for it; the session is then as it was.
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

    /// Attaches an opened drafter with a planner for up to `batch` sequences in a pass. Measures the costs of passes
    /// first if they are unknown; with `explained`, also if all trees have one shape. `progress` gets the fraction that
    /// is measured and ends the measurement with `false`.
    ///
    /// # Errors
    /// If a pass fails, the model lacks something the drafter needs, or `progress` ended the measurement. The previous
    /// drafter then stays.
    pub fn attach(
        &mut self,
        mut opened: ConfiguredDrafter,
        explained: bool,
        batch: usize,
        progress: &mut dyn FnMut(f64) -> bool,
    ) -> Result<()> {
        let planned = opened.planner(explained, batch, self.calibrator(progress))?;
        self.speculate(Some(opened.speculation(planned.is_some())))?;
        self.engine.plan_and_count(planned);
        Ok(())
    }

    /// Removes the drafter and its planner.
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
    /// If the file cannot be written.
    pub fn save_acceptance(&self) -> std::io::Result<()> {
        self.engine.save_acceptance()
    }

    /// Sets the planner that decides tree sizes, and returns the previous one. [`Planner::default`] leaves trees the
    /// shape of the speculation.
    pub fn plan(&mut self, planner: Planner) -> Planner {
        self.engine.plan(planner)
    }

    /// The planner that decides tree sizes.
    pub fn planner(&self) -> &Planner {
        self.engine.planner()
    }

    /// Measures the costs of this session's passes for a planner. `progress` gets the fraction that is done, and ends
    /// the measurement with `false`.
    pub fn calibrator<'a>(
        &'a mut self,
        progress: &'a mut dyn FnMut(f64) -> bool,
    ) -> Calibrator<'a> {
        self.engine.calibrator(progress)
    }

    /// The context in which a drafter for this session is opened; `path` is the drafter's file.
    pub fn setup<'a>(&'a self, path: Option<&'a Path>) -> DrafterContext<'a> {
        self.engine.setup(path)
    }

    /// The drafter, if there is one and it has not failed.
    pub fn drafter(&self) -> Option<&dyn Drafter> {
        let speculation = self.engine.drafter(self.drafter?)?;
        self.engine.stream().has_draft().then(|| speculation.drafter())
    }

    /// Counts and times of drafting since the last prompt.
    pub fn rounds(&self) -> Option<&RoundStats> {
        self.engine.stream().rounds()
    }

    /// The error of a drafter that failed; returned once. The text goes on without the drafter.
    pub fn take_drafter_error(&mut self) -> Option<Error> {
        let (stream, ..) = self.engine.parts();
        stream.take_drafter_error()
    }

    /// A notice for users about a fault that the drafter recovered from; returned once.
    pub fn take_drafter_notice(&mut self) -> Option<String> {
        self.engine.take_drafter_notice()
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.engine.model()
    }

    /// The target, for measurements of single passes over other sequences.
    pub fn target(&mut self) -> &mut Target {
        self.engine.target()
    }

    /// The engine whose only sequence this is, for steps [together](super::step_together) with other engines.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Largest number of tokens of the sequence.
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

    /// Counts and times for other threads, updated while the session works.
    pub fn live_stats(&self) -> LiveStats {
        self.engine.stream().live_stats().clone()
    }

    /// The reason why the last generation ended; `None` if it has not ended, or the caller stopped it.
    pub fn stop(&self) -> Option<Stop> {
        self.engine.stream().stop()
    }

    /// See [`Engine::failure`].
    pub fn failure(&self) -> Option<Error> {
        self.engine.session_failure()
    }

    /// Makes `prompt` the sequence. The common prefix with the present sequence is not run again; the text that follows
    /// does not depend on that. `progress` gets the numbers of tokens run and to be run, and interrupts with `false`;
    /// the tokens run so far are then the sequence. Returns whether the whole prompt was run.
    ///
    /// # Errors
    /// If the prompt is empty or leaves no room in the context; the session is then as it was.
    pub fn prompt(
        &mut self,
        prompt: &[u32],
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool> {
        self.engine.stream().check_prompt(prompt)?;
        self.engine.planner_mut().reset_report();
        self.engine.prompt_session(prompt);
        self.has_failed = false;
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

    /// Saves the sequence with its KV cache and the drafter's state; the format is in `saved.rs`.
    ///
    /// # Errors
    /// If the file cannot be written; an existing file is then unchanged.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let types = self.engine.cache();
        let (stream, target, mut drafters) = self.engine.parts();
        saved::save(path, target.model(), types, &stream.saved(&mut drafters))
    }

    /// Replaces the sequence by a saved one; the text that follows is the one that would have followed there. A drafter
    /// from another file starts without the sequence's history.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or was saved with another model, other cache types, or more tokens than
    /// the context holds. The session is then as it was.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let types = self.engine.cache();
        let (stream, target, mut drafters) = self.engine.parts();
        let loaded = saved::load(path, target.model(), target.sequence(types)?, types)?;
        stream.load(loaded, &mut drafters);
        Ok(())
    }

    /// Generates up to `n_predict` tokens after the sequence, one for each `next`.
    pub fn generate<'a>(&'a mut self, sampling: &Sampling, n_predict: usize) -> Generate<'a> {
        let sampling = sampling.clone();
        let begun = self.begin(Generation { sampling, n_predict, ..Generation::default() });
        Generate { session: self, failure: begun.err() }
    }

    /// Starts a generation, whose pieces come from [`Session::next_piece`] or [`step_together`](super::step_together).
    ///
    /// # Errors
    /// If a number of the sampling is out of range, or a stop string cannot be tokenized.
    pub fn begin(&mut self, what: Generation) -> Result<()> {
        let drafting = match what.drafting {
            Drafting::Auto => self.drafting,
            drafting => drafting,
        };
        self.engine.begin_session(Generation { drafting, ..what })?;
        self.has_failed = false;
        Ok(())
    }

    /// The next piece of the generation; `None` at an end token, a stop string, the requested length, or a full
    /// context.
    ///
    /// # Errors
    /// If there was no prompt, the target fails, or its logits are no numbers; the text ends there.
    pub fn next_piece(&mut self) -> Result<Option<Piece>> {
        if self.has_failed || self.stop().is_some_and(|stop| stop != Stop::NotANumber) {
            return Ok(None);
        }
        let start = Instant::now();
        let piece = self.piece();
        let (stream, ..) = self.engine.parts();
        stream.spent(start.elapsed());
        if piece.is_err() {
            stream.end(Stop::Length);
            self.has_failed = true;
        }
        piece
    }

    /// Ends the generation early, unless it has ended.
    pub fn end(&mut self) {
        let (stream, ..) = self.engine.parts();
        stream.end(Stop::Length);
    }

    fn piece(&mut self) -> Result<Option<Piece>> {
        if self.tokens().is_empty() {
            return Err(Error::Prompt("nothing to continue; give a prompt first".into()));
        }
        let mut piece = self.take();
        if piece.is_none() && self.stop().is_none() {
            self.engine.round()?;
            piece = self.take();
        }
        match self.stop() {
            Some(Stop::NotANumber) if piece.is_none() => self.failure().map_or(Ok(None), Err),
            _ => Ok(piece),
        }
    }

    /// The next piece, if it needs no round.
    fn take(&mut self) -> Option<Piece> {
        let (stream, target, _) = self.engine.parts();
        stream.take(target.model().tokenizer())
    }
}

/// Iterator over generated pieces; it ends at an end token, the requested length, or a full context.
pub struct Generate<'a> {
    session: &'a mut Session,
    /// The error of starting the generation.
    failure: Option<Error>,
}

impl Generate<'_> {
    /// Forbids end tokens, so that the answer goes on.
    pub fn ignore_end(self) -> Self {
        let (stream, target, _) = self.session.engine.parts();
        stream.ignore_end(target.model().tokenizer());
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
