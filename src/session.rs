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

use crate::draft::{Drafter, DrafterContext};
use crate::error::{Error, Result};
use crate::infer::{CacheTypes, MAX_SEQUENCES, Target};
use crate::model::Model;
use crate::planner::Planner;
use crate::sample::Sampling;
use crate::speculate::calibrate::{Calibrator, Counts};
use crate::speculate::{ConfiguredDrafter, RoundStats, Speculation};
use crate::stream::{Piece, SessionOptions, Stats, Stop, Stream, round};
use smallvec::SmallVec;
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

    /// Lets a drafter guess that was opened for this session's [setup](Session::setup), with what plans for up to
    /// `batch` sequences in a pass; `explained`, also where all trees are of one size. What that has to know is
    /// measured first, unless it is known; `progress` is told the part that is done, `false` ends it. Returns where
    /// it is kept how often guesses are right.
    ///
    /// # Errors
    /// When a pass fails, the drafter asks for what this model does not have, or `progress` ended it; who guessed before
    /// still does.
    pub fn guess(
        &mut self,
        mut opened: ConfiguredDrafter,
        explained: bool,
        batch: usize,
        progress: &mut dyn FnMut(f64) -> bool,
    ) -> Result<Option<Counts>> {
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
        let (planner, counts) = planned.unzip();
        self.plan(planner);
        Ok(counts)
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
    pub fn setup<'a>(&'a self, path: Option<&'a Path>) -> DrafterContext<'a> {
        DrafterContext::new(&self.target, path)
    }

    /// Who guesses, if anybody does.
    pub fn drafter(&self) -> Option<&dyn Drafter> {
        self.stream.speculation().map(Speculation::drafter)
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

    /// Saves the sequence with its keys and values and what the drafter knows of it; the format is in `saved.rs`.
    ///
    /// # Errors
    /// When the file cannot be written; one that was there is there still.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        self.stream.save(path, self.target.model(), self.cache)
    }

    /// Makes what was saved the sequence; the text that follows is the one that would have followed there. A drafter
    /// of another file has seen nothing of it, and joins there.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or was saved with another model, other types of the cache, or more
    /// tokens than the context has; the session is then as it was.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        self.stream.load(path, &self.target, self.cache)
    }

    /// Generates up to `n_predict` tokens after the sequence, one at each `next`.
    pub fn generate<'a>(&'a mut self, sampling: &Sampling, n_predict: usize) -> Generate<'a> {
        self.begin(sampling, n_predict, false);
        Generate { session: self }
    }

    /// Begins to generate what [`Session::next_piece`] or [`step`] then gives; `ignore_end` goes on past end
    /// tokens, which become pieces without text.
    pub fn begin(&mut self, sampling: &Sampling, n_predict: usize, ignore_end: bool) {
        self.stream.generate(sampling, n_predict, ignore_end);
    }

    /// The next piece of what was begun; none at the model's end token, the length, or a full context.
    ///
    /// # Errors
    /// When there was no prompt, or the target fails; the text has ended then.
    pub fn next_piece(&mut self) -> Result<Option<Piece>> {
        if self.stop().is_some() {
            return Ok(None);
        }
        let start = Instant::now();
        let piece = self.piece();
        self.stream.spent(start.elapsed());
        if piece.is_err() {
            self.stream.end(Stop::Length);
        }
        piece
    }

    /// Ends what was begun before its end.
    pub fn end(&mut self) {
        self.stream.end(Stop::Length);
    }

    fn piece(&mut self) -> Result<Option<Piece>> {
        let Session { target, stream, planner, .. } = self;
        if stream.tokens().is_empty() {
            return Err(Error::Prompt("nothing to continue; give a prompt first".into()));
        }
        let piece = stream.take(target.model().tokenizer());
        if piece.is_some() || stream.stop().is_some() {
            return Ok(piece);
        }
        round(target, &mut [stream], planner)?;
        Ok(stream.take(target.model().tokenizer()))
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
}

impl Iterator for Generate<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        self.session.next_piece().transpose()
    }
}

/// One round for up to [`MAX_SEQUENCES`] sessions of one model that have [begun](Session::begin), all in one pass;
/// `take` gets their pieces, in order, with the place of the session. Answers that have ended stay so. The pass is that of
/// the session with the longest context; how large trees are decides the [planner of one](planning). Returns whether
/// any session goes on.
///
/// Each text is the one that the session gives alone, to the bit.
///
/// # Errors
/// When there are too many sessions, one has no prompt or another model, their drafters learn from different hidden
/// states, guesses of one of several are drawn, or the pass fails; all sessions are then as they were.
pub fn step(sessions: &mut [&mut Session], take: &mut dyn FnMut(usize, Piece)) -> Result<bool> {
    let start = Instant::now();
    let taps = check_together(sessions)?;
    for Session { target, stream, .. } in sessions.iter_mut().map(|session| &mut **session) {
        // The first token of an answer is in the logits of the session's own pass.
        if stream.is_fresh() {
            round(target, &mut [stream], &mut None)?;
        }
    }
    round_together(sessions, &taps)?;
    let time = start.elapsed();
    let mut goes_on = false;
    for (i, session) in sessions.iter_mut().enumerate() {
        let Session { target, stream, .. } = &mut **session;
        if stream.stop().is_none() {
            stream.spent(time);
        }
        while let Some(piece) = stream.take(target.model().tokenizer()) {
            take(i, piece);
        }
        goes_on |= stream.stop().is_none();
    }
    Ok(goes_on)
}

/// Whether these can share a pass; the hidden states that their drafters learn from.
fn check_together(sessions: &[&mut Session]) -> Result<Vec<usize>> {
    let wrong = |what: String| Err(Error::Invalid(what));
    let n = sessions.len();
    if n > MAX_SEQUENCES {
        return wrong(format!("{n} sessions in one step; at most {MAX_SEQUENCES} fit"));
    }
    let mut taps: &[usize] = &[];
    for session in sessions {
        if !Arc::ptr_eq(session.model(), sessions[0].model()) {
            return wrong("the sessions are of different models; step those of one".into());
        }
        if session.tokens().is_empty() {
            return Err(Error::Prompt("nothing to continue; give each session a prompt".into()));
        }
        if n > 1 && session.stream.speculation().is_some_and(Speculation::draws) {
            return wrong(
                "guesses of one session are drawn (--spec-sampling rejection), and its text depends on the \
                 tree; step it alone"
                    .into(),
            );
        }
        let theirs = session.stream.speculation().map_or(&[][..], |s| s.drafter().taps());
        if !(taps.is_empty() || theirs.is_empty() || taps == theirs) {
            return wrong(format!(
                "the drafters learn from the hidden states {taps:?} and {theirs:?}; give all sessions \
                 drafters from one file"
            ));
        }
        taps = if theirs.is_empty() { taps } else { theirs };
    }
    Ok(taps.to_vec())
}

/// The session of some whose planner decides in [`step`], and learns: of those that have one, the one with the longest
/// context.
pub fn planning(sessions: &[&mut Session]) -> Option<usize> {
    let planned = sessions.iter().enumerate().filter(|(_, session)| session.planner.is_some());
    planned.rev().max_by_key(|(_, session)| session.n_ctx()).map(|(i, _)| i)
}

/// One round in the pass of the session with the longest context.
fn round_together(sessions: &mut [&mut Session], taps: &[usize]) -> Result<()> {
    let longest = sessions.iter().map(|session| session.n_ctx()).max();
    let planning = planning(sessions);
    let (mut lead, mut nobody, mut deciding) = (None, None, None);
    let mut streams: SmallVec<[&mut Stream; MAX_SEQUENCES]> = SmallVec::new();
    for (i, session) in sessions.iter_mut().enumerate() {
        let Session { target, stream, planner, .. } = &mut **session;
        if lead.is_none() && Some(target.n_ctx()) == longest {
            // What it would have chosen from is overwritten.
            stream.lose_logits();
            lead = Some(target);
        }
        if planning == Some(i) {
            deciding = Some(planner);
        }
        streams.push(stream);
    }
    let Some(target) = lead else { return Ok(()) };
    if !taps.is_empty() {
        target.tap(taps)?;
    }
    round(target, &mut streams, deciding.unwrap_or(&mut nobody))
}
