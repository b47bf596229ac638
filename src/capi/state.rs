//! The object behind a session's handle.

use super::generation::generation;
use super::handle::{self, Handle};
use super::model::Model;
use super::observer::CallbackObserver;
use super::options::dovetail_log_level::{self, DOVETAIL_LOG_NOTE};
use super::options::dovetail_stage::DOVETAIL_STAGE_PROMPT;
use super::options::{Settings, dovetail_sampling};
use super::panic::{self, Outcome};
use super::piece::dovetail_stop::{self, *};
use super::piece::{dovetail_logprob, dovetail_piece, dovetail_stats};
use super::pointer;
use super::status::dovetail_status::{
    self, DOVETAIL_ERROR_BUSY, DOVETAIL_ERROR_INTERNAL, DOVETAIL_OK,
};
use super::status::{Failure, FieldNames};
use crate::engine;
use crate::error::Error;
use crate::open::{Notice, Options};
use crate::speculate::{LiveStats, Logprobs, Piece, RoundStats, Stats, Stop};
use crate::text::{ChatTemplate, Tokenizer};
use std::ffi::CString;
use std::ptr::null;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// The object behind a session's handle.
pub(super) struct Session {
    state: Mutex<State>,
    pub cancel: Arc<CancelFlags>,
    /// Statistics for callers that ask during a call, and the context length.
    live: (LiveStats, u64),
}

/// Runs the body of a C function with the session of a handle.
pub(super) fn call<H: Handle<Object = Session>>(
    session: *const H,
    work: impl FnOnce(&mut State) -> Outcome,
) -> dovetail_status {
    panic::call(session, || work(&mut *handle::get(session)?.lock()?))
}

/// [`call`] for a prompt, which clears an earlier cancellation.
pub(super) fn call_for_prompt<H: Handle<Object = Session>>(
    session: *const H,
    work: impl FnOnce(&mut State) -> Outcome,
) -> dovetail_status {
    call(session, |state| {
        state.cancel.clear();
        work(state)
    })
}

/// Whether a session's current call must end: it was cancelled, or the session was freed.
#[derive(Default)]
pub(super) struct CancelFlags {
    cancelled: AtomicBool,
    freed: AtomicBool,
}

impl CancelFlags {
    /// Cancels the current call, or else the next one.
    pub fn set(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Cancels all calls from now on, since the session was freed.
    pub fn set_for_good(&self) {
        self.freed.store(true, Ordering::Relaxed);
    }

    /// Clears an earlier cancellation.
    pub fn clear(&self) {
        self.cancelled.store(false, Ordering::Relaxed);
    }

    /// Whether the current call must end.
    pub fn is_set(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.freed.load(Ordering::Relaxed)
    }
}

impl Session {
    pub fn new(model: Arc<Model>, settings: Settings) -> Result<Session, Failure> {
        let cancel = Arc::new(CancelFlags::default());
        let state = State::new(model, settings, cancel.clone())?;
        let live = (state.session.live_stats(), state.session.n_ctx() as u64);
        Ok(Session { state: Mutex::new(state), cancel, live })
    }

    /// Statistics; during a call those so far.
    pub fn stats(&self) -> Result<dovetail_stats, Failure> {
        match self.state.try_lock() {
            Ok(state) => Ok(state.stats()),
            Err(TryLockError::WouldBlock) => {
                let ((stats, rounds), n_ctx) = (self.live.0.read(), self.live.1);
                Ok(dovetail_stats { n_ctx, ..counts(&stats, &rounds) })
            }
            Err(TryLockError::Poisoned(_)) => Err(self.lock().err().expect("it is poisoned")),
        }
    }

    /// Locks the session. Fails while another call uses it, and for good once a call has panicked.
    pub fn lock(&self) -> Result<MutexGuard<'_, State>, Failure> {
        self.state.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Failure::new(
                DOVETAIL_ERROR_BUSY,
                "the session is in the middle of another call; wait for it, or cancel it",
            ),
            TryLockError::Poisoned(_) => Failure::new(
                DOVETAIL_ERROR_INTERNAL,
                "the session was in the middle of a call that failed inside; free it and make another",
            ),
        })
    }
}

/// A session and what belongs to it.
pub(super) struct State {
    pub session: engine::Session,
    model: Arc<Model>,
    settings: Settings,
    /// The chat template of its own options.
    template: Option<ChatTemplate>,
    /// The drafter's kind; `drafter` adds its device.
    kind: String,
    drafter: Option<CString>,
    stop: dovetail_stop,
    pub piece: CPiece,
    cancel: Arc<CancelFlags>,
}

/// The last piece, and the text and tokens that its C structure points to.
#[derive(Default)]
pub(super) struct CPiece {
    text: String,
    top: Vec<dovetail_logprob>,
    piece: Option<dovetail_piece>,
}

// SAFETY: the pointers are to the text and the tokens beside them.
unsafe impl Send for CPiece {}

impl CPiece {
    /// Stores a piece and returns it for C.
    pub fn set(&mut self, piece: Piece) -> *const dovetail_piece {
        self.text = piece.text;
        let text_len = self.text.len();
        self.text.push('\0');
        let Logprobs { logprob, top } =
            piece.logprobs.clone().unwrap_or(Logprobs { logprob: 0.0, top: Vec::new() });
        let top = top.into_iter().map(|(token, logprob)| dovetail_logprob { token, logprob });
        self.top = top.collect();
        self.piece.insert(dovetail_piece {
            size: size_of::<dovetail_piece>(),
            text: self.text.as_ptr().cast(),
            text_len,
            token: piece.token.unwrap_or_default(),
            has_token: piece.token.is_some(),
            drafted: piece.drafted,
            has_logprob: piece.logprobs.is_some(),
            logprob,
            top: self.top.as_ptr(),
            n_top: self.top.len(),
        })
    }

    /// The piece that was stored last; NULL if there is none.
    pub fn as_ptr(&self) -> *const dovetail_piece {
        self.piece.as_ref().map_or(null(), std::ptr::from_ref)
    }
}

impl State {
    fn new(
        model: Arc<Model>,
        settings: Settings,
        cancel: Arc<CancelFlags>,
    ) -> Result<State, Failure> {
        let callbacks = &settings.callbacks;
        let mut observer =
            CallbackObserver { callbacks, is_cancelled: &|| cancel.is_set(), drafter: None };
        let session = settings.options.session(model.model.clone(), &mut observer)?;
        let mut state = State {
            session,
            template: settings.template()?,
            model,
            kind: observer.drafter.take().unwrap_or_default(),
            drafter: None,
            stop: DOVETAIL_STOP_NONE,
            piece: CPiece::default(),
            cancel,
            settings,
        };
        state.report_drafter();
        Ok(state)
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        self.model.model.tokenizer()
    }

    /// The chat template, the session's own or the model's.
    pub fn template(&self) -> Result<&ChatTemplate, Failure> {
        self.template.as_ref().map_or_else(|| self.model.template(), Ok)
    }

    /// Attaches the drafter that other settings name.
    pub fn change_drafter(&mut self, settings: Settings) -> Result<(), Failure> {
        let Options { speculation, n_together, .. } = settings.options;
        let options = Options { speculation, n_together, ..self.settings.options.clone() };
        let cancel = self.cancel.clone();
        let mut observer = CallbackObserver {
            callbacks: &self.settings.callbacks,
            is_cancelled: &|| cancel.is_set(),
            drafter: None,
        };
        options.attach(&mut self.session, &mut observer)?;
        self.kind = observer.drafter.unwrap_or_default();
        self.settings.options = options;
        self.report_drafter();
        Ok(())
    }

    fn log(&self, level: dovetail_log_level, line: &str) {
        self.settings.callbacks.log(level, line);
    }

    /// Makes these tokens the sequence.
    pub fn prompt(&mut self, tokens: &[u32]) -> Result<dovetail_status, Failure> {
        self.model.model.config().check_tokens(tokens)?;
        let (callbacks, cancel) = (&self.settings.callbacks, &self.cancel);
        let mut cancelled = false;
        self.session.prompt(tokens, &mut |done, total| {
            let part = done as f64 / total.max(1) as f64;
            cancelled = !callbacks.progress(DOVETAIL_STAGE_PROMPT, part) || cancel.is_set();
            !cancelled
        })?;
        self.stop = DOVETAIL_STOP_NONE;
        cancel.clear();
        if cancelled { Err(Error::Cancelled("reading the prompt").into()) } else { Ok(DOVETAIL_OK) }
    }

    /// Begins an answer.
    ///
    /// # Safety
    /// See `pointer.rs`.
    pub unsafe fn begin(
        &mut self,
        from: *const dovetail_sampling,
        n_predict: usize,
    ) -> Result<(), Failure> {
        // SAFETY: as `pointer.rs` requires.
        self.session.begin(unsafe { generation(from, n_predict, &self.model.model) }?)?;
        self.stop = DOVETAIL_STOP_NONE;
        Ok(())
    }

    /// Stores the next piece in `piece`. Returns false if the answer has ended.
    pub fn next(&mut self) -> Result<bool, Failure> {
        self.check_cancelled()?;
        if self.stop != DOVETAIL_STOP_NONE {
            return Ok(false);
        }
        match self.session.next_piece() {
            Ok(Some(piece)) => {
                self.piece.set(piece);
                Ok(true)
            }
            Ok(None) => {
                self.record_stop(true);
                Ok(false)
            }
            Err(error) => {
                self.end(DOVETAIL_STOP_FAILED);
                Err(error.into())
            }
        }
    }

    /// Ends the answer if it was cancelled.
    pub fn check_cancelled(&mut self) -> Result<(), Failure> {
        if !self.cancel.is_set() {
            return Ok(());
        }
        self.cancel.clear();
        if self.stop != DOVETAIL_STOP_NONE {
            return Ok(());
        }
        self.end(DOVETAIL_STOP_CANCELLED);
        Err(Error::Cancelled("the answer").into())
    }

    /// Ends the answer early.
    pub fn end(&mut self, why: dovetail_stop) {
        self.session.end();
        self.stop = why;
        self.save_acceptance();
    }

    /// Records why the answer has ended, if it has. `planned` says whether the session's own planner sized the trees.
    pub fn record_stop(&mut self, planned: bool) {
        if self.stop == DOVETAIL_STOP_NONE
            && let Some(stop) = self.session.stop()
        {
            self.stop = match stop {
                Stop::End(_) | Stop::Call => DOVETAIL_STOP_END,
                Stop::Length => DOVETAIL_STOP_LENGTH,
                Stop::Context => DOVETAIL_STOP_CONTEXT,
                Stop::Text(_) => DOVETAIL_STOP_TEXT,
                Stop::NotANumber | Stop::Constraint => DOVETAIL_STOP_FAILED,
            };
            if planned {
                self.save_acceptance();
            }
        }
    }

    /// Saves acceptance rates and reports changes of the drafter.
    pub fn save_acceptance(&mut self) {
        // A failure is ignored: the rates will be learned again.
        let _ = self.session.save_acceptance();
        self.report_drafter();
    }

    /// Reports changes of the drafter.
    pub fn report_drafter(&mut self) {
        if let Some(notice) = self.session.take_drafter_notice() {
            self.log(DOVETAIL_LOG_NOTE, &notice);
        }
        if let Some(error) = self.session.take_drafter_error() {
            let (_, line) = Notice::DrafterFailed(&error).lines(&FieldNames);
            self.log(DOVETAIL_LOG_NOTE, &line);
        }
        let drafter = self.session.drafter();
        let line = drafter.map(|drafter| format!("{} {}", self.kind, drafter.place()));
        self.drafter = line.map(|line| pointer::c_string(&line));
    }

    /// Called after another sequence was loaded.
    pub fn loaded(&mut self) {
        self.stop = DOVETAIL_STOP_NONE;
        self.report_drafter();
    }

    fn stats(&self) -> dovetail_stats {
        let rounds = self.session.rounds().cloned().unwrap_or_default();
        dovetail_stats {
            n_tokens: self.session.tokens().len() as u64,
            n_ctx: self.session.n_ctx() as u64,
            drafter: self.drafter.as_ref().map_or(null(), |line| line.as_ptr()),
            stop: self.stop,
            ..counts(self.session.stats(), &rounds)
        }
    }
}

/// The statistics in C's structure.
fn counts(stats: &Stats, rounds: &RoundStats) -> dovetail_stats {
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    dovetail_stats {
        size: 0,
        n_tokens: (stats.cached_n + stats.prompt_n + stats.predicted_n) as u64,
        n_ctx: 0,
        prompt_n: stats.prompt_n as u64,
        cache_n: stats.cached_n as u64,
        prompt_ms: ms(stats.prompt_time),
        predicted_n: stats.predicted_n as u64,
        predicted_ms: ms(stats.predicted_time),
        rounds: rounds.rounds as u64,
        draft_n: rounds.drafted as u64,
        draft_n_accepted: rounds.accepted as u64,
        draft_ms: ms(rounds.draft_time),
        verify_ms: ms(rounds.verify_time),
        drafter: null(),
        stop: DOVETAIL_STOP_NONE,
    }
}
