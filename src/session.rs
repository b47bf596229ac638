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

use crate::draft::Setup;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::sample::Sampling;
use crate::spec::calibrate::Calibrator;
use crate::spec::{RoundStats, Speculation};
use crate::stream::{Piece, SessionOptions, Stats, Stop, Stream, round};
use crate::target::{CacheTypes, Target};
use crate::tree::Planner;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// One sequence of one model.
pub struct Session {
    target: Target,
    n_ubatch: usize,
    cache: CacheTypes,
    stream: Stream,
    planner: Option<Box<Planner>>,
}

impl Session {
    /// An empty session.
    ///
    /// # Errors
    /// When the context is larger than memory allows, the types of the cache do not fit the model, or
    /// `DOVETAIL_ISA` names what this CPU lacks.
    pub fn new(model: Arc<Model>, options: SessionOptions) -> Result<Session> {
        let target = options.target(model, 1)?;
        let stream = Stream::new(&target, options.cache)?;
        let (n_ubatch, cache) = (options.n_ubatch.max(1), options.cache);
        Ok(Session { target, n_ubatch, cache, stream, planner: None })
    }

    /// Lets a drafter guess what comes next, or nobody, which the text does not show; returns who did.
    ///
    /// # Errors
    /// When the drafter asks for what this model does not have; the session is then as it was.
    pub fn speculate(&mut self, new: Option<Speculation>) -> Result<Option<Speculation>> {
        let taps = new.as_ref().map_or(&[][..], |new| new.drafter().taps());
        self.target.tap(taps)?;
        Ok(self.stream.speculate(new))
    }

    /// Lets a planner choose how large trees are, or nobody: then all are as large as the speculation was made for.
    /// Returns who did.
    pub fn plan(&mut self, planner: Option<Planner>) -> Option<Planner> {
        std::mem::replace(&mut self.planner, planner.map(Box::new)).map(|planner| *planner)
    }

    /// What chooses how large trees are.
    pub fn planner(&self) -> Option<&Planner> {
        self.planner.as_deref()
    }

    /// Measures what a planner has to know of this session's passes; `progress` is told the part that is done,
    /// `false` ends it.
    pub fn calibrator<'a>(
        &'a mut self,
        progress: &'a mut dyn FnMut(f64) -> bool,
    ) -> Calibrator<'a> {
        let cache = self.cache;
        Calibrator::new(self.target(), cache, progress)
    }

    /// What a drafter for this session is opened with; `path` is its file.
    pub fn setup<'a>(&'a self, path: Option<&'a Path>) -> Setup<'a> {
        Setup::new(&self.target, path)
    }

    /// Counts and times of guessing since the last prompt.
    pub fn rounds(&self) -> Option<&RoundStats> {
        self.stream.rounds()
    }

    /// Why the drafter was given up, once: the text goes on without it.
    pub fn take_drafter_error(&mut self) -> Option<Error> {
        self.stream.take_drafter_error()
    }

    /// What people should know of the drafter, once: it goes on, though not as it was meant to.
    pub fn take_drafter_notice(&mut self) -> Option<String> {
        self.stream.take_drafter_notice()
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.target.model()
    }

    /// The target, for measuring single passes of other sequences.
    pub fn target(&mut self) -> &mut Target {
        self.stream.lose_logits();
        &mut self.target
    }

    /// Most tokens of the sequence.
    pub fn n_ctx(&self) -> usize {
        self.target.n_ctx()
    }

    /// The sequence so far: prompt and answer.
    pub fn tokens(&self) -> &[u32] {
        self.stream.tokens()
    }

    /// Counts and times since the last prompt.
    pub fn stats(&self) -> &Stats {
        self.stream.stats()
    }

    /// Why the last generation ended; `None` while it has not, or when the caller stopped taking.
    pub fn stop(&self) -> Option<Stop> {
        self.stream.stop()
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
        if let Some(planner) = &mut self.planner {
            planner.reset_report();
        }
        self.stream.prompt(&mut self.target, self.n_ubatch, prompt, progress)
    }

    /// Generates up to `n_predict` tokens after the sequence, one at each `next`.
    pub fn generate<'a>(&'a mut self, sampling: &Sampling, n_predict: usize) -> Generate<'a> {
        self.stream.generate(sampling, n_predict, false);
        Generate { session: self }
    }
}

/// Iterator over generated pieces; ends at the model's end token, the length, or a full context.
pub struct Generate<'a> {
    session: &'a mut Session,
}

impl Generate<'_> {
    /// Goes on past end tokens, which then become pieces without text.
    pub fn ignore_end(self, ignore: bool) -> Self {
        self.session.stream.ignore_end(ignore);
        self
    }

    fn step(&mut self) -> Result<Option<Piece>> {
        let Session { target, stream, planner, .. } = &mut *self.session;
        if stream.tokens().is_empty() {
            return Err(Error::Prompt("nothing to continue; give a prompt first".into()));
        }
        let piece = stream.take(target.model().tokenizer());
        if piece.is_some() || stream.stop().is_some() {
            return Ok(piece);
        }
        round(target, std::slice::from_mut(stream), planner)?;
        Ok(stream.take(target.model().tokenizer()))
    }
}

impl Iterator for Generate<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        if self.session.stop().is_some() {
            return None;
        }
        let start = Instant::now();
        let piece = self.step().transpose();
        self.session.stream.spent(start.elapsed());
        if let Some(Err(_)) = &piece {
            self.session.stream.end(Stop::Length);
        }
        piece
    }
}
