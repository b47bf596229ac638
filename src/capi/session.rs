//! Sessions.
//!
//! A session is one sequence of tokens: prompts and answers in turn. Give it the whole conversation as the prompt each
//! time: what it has in common with the sequence so far is not run again.

use super::fence;
use super::handle::{self, Object};
use super::model::{Model, dovetail_model};
use super::options::dovetail_log_level::{self, DOVETAIL_LOG_DETAIL, DOVETAIL_LOG_NOTE};
use super::options::dovetail_stage::{DOVETAIL_STAGE_MEASURING, DOVETAIL_STAGE_PROMPT};
use super::options::{Settings, dovetail_options, dovetail_sampling, sampling};
use super::pointer::{self, Sized_};
use super::status::Failure;
use super::status::dovetail_status::{
    self, DOVETAIL_ERROR_BUSY, DOVETAIL_ERROR_INTERNAL, DOVETAIL_OK,
};
use crate::session;
use crate::spec::calibrate::Counts;
use crate::stream::{self, SessionOptions, Stop};
use crate::target::KvCache;
use crate::text::{ChatTemplate, Message};
use std::ffi::{CString, c_char, c_void};
use std::ptr::null;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// A sequence of a model, and who guesses for it.
pub struct dovetail_session {
    _opaque: (),
}

/// One turn of a conversation.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dovetail_message {
    /// "system", "user" or "assistant", and its length.
    pub role: *const c_char,
    /// See `role`.
    pub role_len: usize,
    /// What was said, and its length.
    pub content: *const c_char,
    /// See `content`.
    pub content_len: usize,
}

/// A piece of generated text.
#[repr(C)]
pub struct dovetail_piece {
    /// sizeof(dovetail_piece), set by the library.
    pub size: usize,
    /// What it adds to the text, whole characters, with a NUL behind that is not counted. Empty while a character is
    /// incomplete.
    pub text: *const c_char,
    /// Bytes of it.
    pub text_len: usize,
    /// The token, if there is one: a character cut off at the very end becomes U+FFFD, which is none.
    pub token: u32,
    /// Whether there is a token.
    pub has_token: bool,
    /// Whether a drafter had guessed it.
    pub guessed: bool,
}

/// Told each piece of an answer; false stops it there.
pub type dovetail_piece_callback =
    Option<unsafe extern "C" fn(userdata: *mut c_void, piece: *const dovetail_piece) -> bool>;

/// Why an answer has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dovetail_stop {
    /// It has not, or there was none.
    DOVETAIL_STOP_NONE = 0,
    /// The model ended it.
    DOVETAIL_STOP_END = 1,
    /// It has as many tokens as were asked for.
    DOVETAIL_STOP_LENGTH = 2,
    /// The context is full.
    DOVETAIL_STOP_CONTEXT = 3,
    /// The callback returned false.
    DOVETAIL_STOP_CALLBACK = 4,
    /// It was cancelled.
    DOVETAIL_STOP_CANCELLED = 5,
}

use dovetail_stop::*;

/// Counts and times since the last prompt, as llama.cpp's server names them; times are in milliseconds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dovetail_stats {
    /// sizeof(dovetail_stats), set by the caller.
    pub size: usize,
    /// Tokens of the sequence, and most that it may have.
    pub n_tokens: u64,
    /// See `n_tokens`.
    pub n_ctx: u64,
    /// Prompt tokens that were run, and those that were still in the cache and were not.
    pub prompt_n: u64,
    /// See `prompt_n`.
    pub cache_n: u64,
    /// Time for the prompt.
    pub prompt_ms: f64,
    /// Tokens generated, without an end token.
    pub predicted_n: u64,
    /// Time for them.
    pub predicted_ms: f64,
    /// Rounds: passes of the model over a tree of guesses, or none.
    pub rounds: u64,
    /// Guesses that were verified, and those that were accepted.
    pub draft_n: u64,
    /// See `draft_n`.
    pub draft_n_accepted: u64,
    /// Time of guessing, and of verifying.
    pub draft_ms: f64,
    /// See `draft_ms`.
    pub verify_ms: f64,
    /// Who guesses, and where; NULL if nobody does. It stays until the session is freed or dovetail_session_speculate
    /// is called.
    pub drafter: *const c_char,
    /// Why the last answer has ended.
    pub stop: dovetail_stop,
}

// SAFETY: it is `repr(C)` and begins with its size.
unsafe impl Sized_ for dovetail_stats {
    const NAME: &'static str = "dovetail_stats";

    fn size_mut(&mut self) -> &mut usize {
        &mut self.size
    }
}

/// Makes a session and hands out its handle. Where `options` is NULL those are taken that the model was loaded with. A
/// drafter that was not asked for and cannot be used is done without, which a line to `log` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_new(
    model: *const dovetail_model,
    options: *const dovetail_options,
    session: *mut *mut dovetail_session,
) -> dovetail_status {
    fence::call(model, || {
        pointer::not_null(session, "the place for the session")?;
        let model = handle::model(model)?;
        // SAFETY: as the head of `capi` has it.
        let settings = unsafe { settings(options, &model) }?;
        let state = Mutex::new(State::new(model, settings)?);
        let new = Arc::new(Session { state, cancelled: AtomicBool::new(false) });
        // SAFETY: it is not NULL.
        unsafe { pointer::put(session, handle::add(Object::Session(new))) };
        Ok(DOVETAIL_OK)
    })
}

/// Lets go of a session. A call that it is in the middle of, on another thread or around the callback that calls this, is
/// cancelled and ends well.
#[unsafe(no_mangle)]
pub extern "C" fn dovetail_session_free(session: *mut dovetail_session) {
    fence::value((), || {
        if let Ok(found) = handle::session(session) {
            found.cancelled.store(true, Ordering::Relaxed);
            drop(handle::remove(session));
        }
    });
}

/// Makes a conversation the sequence, as the chat template has it, so that the assistant's next message follows. A
/// DOVETAIL_CANCELLED leaves what was run so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_prompt_chat(
    session: *mut dovetail_session,
    messages: *const dovetail_message,
    n_messages: usize,
) -> dovetail_status {
    fence::call(session, || {
        let session = handle::session(session)?;
        let mut state = session.lock()?;
        // SAFETY: as the head of `capi` has it.
        let messages = unsafe { self::messages(messages, n_messages) }?;
        let template = match &state.template {
            Some(template) => template,
            None => state.model.template()?,
        };
        let tokens = template.prompt(state.model.model.tokenizer(), &messages, true)?;
        state.prompt(&tokens, &session.cancelled)
    })
}

/// Makes a text the sequence, for the model to complete. Texts of control tokens in it become those tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_prompt_text(
    session: *mut dovetail_session,
    text: *const c_char,
    text_len: usize,
) -> dovetail_status {
    fence::call(session, || {
        let session = handle::session(session)?;
        let mut state = session.lock()?;
        // SAFETY: as the head of `capi` has it.
        let text = unsafe { pointer::text(text, text_len, "the text") }?;
        let tokens = state.model.model.tokenizer().encode(text, true, true)?;
        state.prompt(&tokens, &session.cancelled)
    })
}

/// Generates up to `n_predict` tokens behind the sequence, where SIZE_MAX is as many as the context holds, and tells
/// `callback` each piece. DOVETAIL_OK also where the callback stopped it: dovetail_stats says why it ended. `sampling`
/// and `callback` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_generate(
    session: *mut dovetail_session,
    sampling: *const dovetail_sampling,
    n_predict: usize,
    callback: dovetail_piece_callback,
    userdata: *mut c_void,
) -> dovetail_status {
    fence::call(session, || {
        let session = handle::session(session)?;
        let mut state = session.lock()?;
        // SAFETY: as the head of `capi` has it.
        unsafe { state.begin(sampling, n_predict) }?;
        while state.next(&session.cancelled)? {
            // SAFETY: C gave both for this.
            let go_on = callback.is_none_or(|tell| unsafe { tell(userdata, state.piece.show()) });
            if !go_on {
                state.end(DOVETAIL_STOP_CALLBACK);
            }
        }
        Ok(DOVETAIL_OK)
    })
}

/// Ends what the session is in the middle of, or else its next call that generates, soon and with
/// DOVETAIL_CANCELLED; a prompt that begins later forgets it. From any thread, any number of times. The session can be
/// used as before then: what was generated is part of the sequence.
#[unsafe(no_mangle)]
pub extern "C" fn dovetail_session_cancel(session: *mut dovetail_session) -> dovetail_status {
    fence::call(session, || {
        handle::session(session)?.cancelled.store(true, Ordering::Relaxed);
        Ok(DOVETAIL_OK)
    })
}

/// Writes counts and times to `stats`, whose size the caller has set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_get_stats(
    session: *mut dovetail_session,
    stats: *mut dovetail_stats,
) -> dovetail_status {
    fence::call(session, || {
        let session = handle::session(session)?;
        let found = session.lock()?.stats();
        // SAFETY: as the head of `capi` has it.
        unsafe { pointer::put_sized(stats, found) }?;
        Ok(DOVETAIL_OK)
    })
}

/// Lets another drafter guess for a session, or with `spec_type` "none" nobody: of `options` only what concerns guessing is
/// looked at. If it cannot, the session is as it was. The text is the same with any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_speculate(
    session: *mut dovetail_session,
    options: *const dovetail_options,
) -> dovetail_status {
    fence::call(session, || {
        let session = handle::session(session)?;
        let mut state = session.lock()?;
        // SAFETY: as the head of `capi` has it.
        let Settings { guessing, n_together, .. } = unsafe { settings(options, &state.model) }?;
        let settings = Settings { guessing, n_together, ..state.settings.clone() };
        state.speculate(&settings)?;
        state.settings = settings;
        Ok(DOVETAIL_OK)
    })
}

/// Messages as they are given.
///
/// # Safety
/// See `pointer.rs`.
pub(super) unsafe fn messages(
    from: *const dovetail_message,
    n: usize,
) -> Result<Vec<Message>, Failure> {
    // SAFETY: as `pointer.rs` has it.
    unsafe {
        let messages = pointer::slice(from, n, "the messages")?.iter();
        let message = |m: &dovetail_message| -> Result<Message, Failure> {
            let role = pointer::text(m.role, m.role_len, "the role of a message")?;
            let content = pointer::text(m.content, m.content_len, "the content of a message")?;
            Ok(Message::new(role, content))
        };
        messages.map(message).collect()
    }
}

/// Those of a structure, or the model's.
///
/// # Safety
/// See `pointer.rs`.
unsafe fn settings(options: *const dovetail_options, model: &Model) -> Result<Settings, Failure> {
    if options.is_null() {
        return Ok(model.settings.clone());
    }
    // SAFETY: as `pointer.rs` has it.
    unsafe { Settings::read(options) }
}

/// What the handle of a session stands for.
pub(super) struct Session {
    state: Mutex<State>,
    /// Whether what it does is to end.
    pub cancelled: AtomicBool,
}

impl Session {
    /// The session, unless it is in the middle of a call, or was when something broke.
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
    pub session: session::Session,
    pub model: Arc<Model>,
    settings: Settings,
    /// The chat template that its own options name.
    template: Option<ChatTemplate>,
    /// Where it is kept how often guesses are right.
    counts: Option<Counts>,
    /// Who guesses.
    drafter: Option<CString>,
    stop: dovetail_stop,
    pub piece: Shown,
}

/// A piece as C sees it.
#[derive(Default)]
pub(super) struct Shown {
    text: String,
    piece: Option<dovetail_piece>,
}

// SAFETY: the pointer is to the text beside it.
unsafe impl Send for Shown {}

impl Shown {
    /// Makes this the piece.
    pub fn set(&mut self, piece: stream::Piece) -> *const dovetail_piece {
        self.text = piece.text;
        let text_len = self.text.len();
        self.text.push('\0');
        self.piece.insert(dovetail_piece {
            size: size_of::<dovetail_piece>(),
            text: self.text.as_ptr().cast(),
            text_len,
            token: piece.token.unwrap_or_default(),
            has_token: piece.token.is_some(),
            guessed: piece.guessed,
        })
    }

    /// The piece.
    pub fn show(&self) -> *const dovetail_piece {
        self.piece.as_ref().map_or(null(), std::ptr::from_ref)
    }
}

impl State {
    fn new(model: Arc<Model>, settings: Settings) -> Result<State, Failure> {
        let config = model.model.config();
        let n_ctx = match settings.n_ctx {
            0 => KvCache::largest_context(config, settings.cache, 1),
            n => n,
        };
        if settings.n_ctx == 0 && n_ctx < config.n_ctx {
            let made = config.n_ctx;
            let line = format!("memory holds {n_ctx} tokens of the model's {made}");
            settings.callbacks.log(DOVETAIL_LOG_NOTE, &line);
        }
        let Settings { threads, n_ubatch, cache, .. } = settings;
        let options = SessionOptions { n_ctx, threads, n_ubatch, cache };
        let mut state = State {
            session: session::Session::new(model.model.clone(), options)?,
            template: settings.template()?,
            model,
            counts: None,
            drafter: None,
            stop: DOVETAIL_STOP_NONE,
            piece: Shown::default(),
            settings: settings.clone(),
        };
        state.speculate(&settings)?;
        Ok(state)
    }

    fn log(&self, level: dovetail_log_level, line: &str) {
        self.settings.callbacks.log(level, line);
    }

    /// Lets who is asked for guess; what nobody asked for may fail.
    fn speculate(&mut self, settings: &Settings) -> Result<(), Failure> {
        match self.try_speculate(settings) {
            Err(failure) if !settings.guessing.is_asked() && failure.is_error() => {
                let line = format!("going on without a drafter: {}", failure.line);
                self.log(DOVETAIL_LOG_NOTE, &line);
                self.nobody_guesses()
            }
            done => done,
        }
    }

    fn nobody_guesses(&mut self) -> Result<(), Failure> {
        self.session.speculate(None)?;
        self.session.plan(None);
        (self.counts, self.drafter) = (None, None);
        Ok(())
    }

    fn try_speculate(&mut self, settings: &Settings) -> Result<(), Failure> {
        let opened = self.model.open_drafter(settings, self.session.setup(None))?;
        let Some(opened) = opened else { return self.nobody_guesses() };
        let about = opened.about();
        if let Some(why) = opened.drafter.why_there() {
            self.log(DOVETAIL_LOG_DETAIL, &format!("no GPU is used: {why}"));
        }
        let (callbacks, mut cancelled) = (settings.callbacks.clone(), false);
        let counts = self.session.guess(opened, false, settings.n_together, &mut |part| {
            cancelled = !callbacks.progress(DOVETAIL_STAGE_MEASURING, part);
            !cancelled
        })?;
        if cancelled {
            self.nobody_guesses()?;
            return Err(Failure::cancelled("measuring"));
        }
        self.counts = counts;
        self.log(DOVETAIL_LOG_DETAIL, &format!("drafter {about}"));
        self.drafter = CString::new(about).ok();
        self.tell_of_drafter();
        Ok(())
    }

    /// Makes these tokens the sequence.
    pub fn prompt(
        &mut self,
        tokens: &[u32],
        cancelled: &AtomicBool,
    ) -> Result<dovetail_status, Failure> {
        self.model.model.config().check_tokens(tokens)?;
        cancelled.store(false, Ordering::Relaxed);
        self.stop = DOVETAIL_STOP_NONE;
        let callbacks = &self.settings.callbacks;
        let whole = self.session.prompt(tokens, &mut |done, total| {
            callbacks.progress(DOVETAIL_STAGE_PROMPT, done as f64 / total.max(1) as f64)
                && !cancelled.load(Ordering::Relaxed)
        })?;
        if whole { Ok(DOVETAIL_OK) } else { Err(Failure::cancelled("reading the prompt")) }
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
        // SAFETY: as `pointer.rs` has it.
        let (sampling, ignore_end) = unsafe { sampling(from) }?;
        self.session.begin(&sampling, n_predict, ignore_end);
        self.stop = DOVETAIL_STOP_NONE;
        Ok(())
    }

    /// Takes the next piece, if the answer has one.
    pub fn next(&mut self, cancelled: &AtomicBool) -> Result<bool, Failure> {
        self.check_cancelled(cancelled)?;
        if self.stop != DOVETAIL_STOP_NONE {
            return Ok(false);
        }
        match self.session.next_piece()? {
            Some(piece) => {
                self.piece.set(piece);
                Ok(true)
            }
            None => {
                self.has_stopped();
                Ok(false)
            }
        }
    }

    /// Ends the answer if it was cancelled.
    pub fn check_cancelled(&mut self, cancelled: &AtomicBool) -> Result<(), Failure> {
        if !cancelled.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        self.end(DOVETAIL_STOP_CANCELLED);
        Err(Failure::cancelled("the answer"))
    }

    /// Ends the answer before its end.
    pub fn end(&mut self, why: dovetail_stop) {
        self.session.end();
        self.stop = why;
        self.learn();
    }

    /// Takes note that the answer has come to its end, if it has.
    pub fn has_stopped(&mut self) {
        if self.stop == DOVETAIL_STOP_NONE
            && let Some(stop) = self.session.stop()
        {
            self.stop = match stop {
                Stop::End(_) => DOVETAIL_STOP_END,
                Stop::Length => DOVETAIL_STOP_LENGTH,
                Stop::Context => DOVETAIL_STOP_CONTEXT,
            };
            self.learn();
        }
    }

    /// Keeps what was learned of guesses, and tells what became of the drafter.
    fn learn(&mut self) {
        if let (Some(counts), Some(planner)) = (&self.counts, self.session.planner()) {
            // What cannot be kept is learned again.
            let _ = counts.save(planner.confidences());
        }
        self.tell_of_drafter();
    }

    fn tell_of_drafter(&mut self) {
        if let Some(notice) = self.session.take_drafter_notice() {
            self.log(DOVETAIL_LOG_NOTE, &notice);
        }
        if let Some(error) = self.session.take_drafter_error() {
            let line = format!("the drafter failed, and the answer went on without it: {error}");
            self.log(DOVETAIL_LOG_NOTE, &line);
        }
    }

    fn stats(&self) -> dovetail_stats {
        let (stats, rounds) = (self.session.stats(), self.session.rounds());
        let rounds = rounds.cloned().unwrap_or_default();
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        dovetail_stats {
            size: 0,
            n_tokens: self.session.tokens().len() as u64,
            n_ctx: self.session.n_ctx() as u64,
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
            drafter: self.drafter.as_ref().map_or(null(), |line| line.as_ptr()),
            stop: self.stop,
        }
    }
}
