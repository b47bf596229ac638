//! Sessions.
//!
//! A session is one sequence of tokens: prompts and answers in turn. Give it the whole conversation as the prompt each
//! time: what it has in common with the sequence so far is not run again.

use super::handle::{self, Handle};
use super::model::{Model, dovetail_model};
use super::options::{Settings, dovetail_options, dovetail_sampling};
use super::panic;
use super::piece::{dovetail_piece_callback, dovetail_stats, dovetail_stop};
use super::pointer;
use super::state::{self, Session};
use super::status::Failure;
use super::status::dovetail_status::{self, DOVETAIL_OK};
use crate::text::Message;
use std::ffi::{c_char, c_void};
use std::sync::Arc;

/// A sequence of a model, and who guesses for it.
pub struct dovetail_session {
    _opaque: (),
}

impl Handle for dovetail_session {
    type Object = Session;
    const NAME: &'static str = "session";
}

/// One turn of a conversation.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dovetail_message {
    /// "system", "user" or "assistant", or where the template knows them "developer" or "tool", and its length.
    pub role: *const c_char,
    /// See `role`.
    pub role_len: usize,
    /// What was said, and its length.
    pub content: *const c_char,
    /// See `content`.
    pub content_len: usize,
}

/// Makes a session and hands out its handle. Where `options` is NULL those are taken that the model was loaded with; of
/// others `repack`, `no_mmap` and `mlock` have no effect, since the model is loaded. A drafter that was not asked for and
/// cannot be used is done without, which a line to `log` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_new(
    model: *const dovetail_model,
    options: *const dovetail_options,
    session: *mut *mut dovetail_session,
) -> dovetail_status {
    panic::call(model, || {
        pointer::not_null(session, "session")?;
        let model = handle::get(model)?;
        // SAFETY: as the head of `capi` has it.
        let settings = unsafe { settings(options, &model) }?;
        let new = Arc::new(Session::new(model, settings)?);
        // SAFETY: it is not NULL.
        unsafe { pointer::put(session, handle::add(new)) };
        Ok(DOVETAIL_OK)
    })
}

/// Lets go of a session. A call that it is in the middle of, on another thread or around the callback that calls this, is
/// cancelled and ends well.
#[unsafe(no_mangle)]
pub extern "C" fn dovetail_session_free(session: *mut dovetail_session) {
    panic::value((), || {
        if let Some(found) = handle::remove(session) {
            found.ends.free();
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
    state::call_for_prompt(session, |state| {
        // SAFETY: as the head of `capi` has it.
        let messages = unsafe { self::messages(messages, n_messages) }?;
        let n_ctx = state.session.n_ctx();
        let tokens = state.template()?.prompt(state.tokenizer(), &messages, true, n_ctx)?;
        state.prompt(&tokens)
    })
}

/// Makes a text the sequence, for the model to complete. Texts of control tokens in it become those tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_prompt_text(
    session: *mut dovetail_session,
    text: *const c_char,
    text_len: usize,
) -> dovetail_status {
    state::call_for_prompt(session, |state| {
        // SAFETY: as the head of `capi` has it.
        let text = unsafe { pointer::text(text, text_len, "the text") }?;
        state.tokenizer().check_fits(text, state.session.n_ctx())?;
        let tokens = state.tokenizer().encode(text, true, true)?;
        state.prompt(&tokens)
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
    state::call(session, |state| {
        // SAFETY: as the head of `capi` has it.
        unsafe { state.begin(sampling, n_predict) }?;
        while state.next()? {
            // SAFETY: C gave both for this.
            let go_on = callback.is_none_or(|tell| unsafe { tell(userdata, state.piece.show()) });
            if !go_on {
                state.end(dovetail_stop::DOVETAIL_STOP_CALLBACK);
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
    panic::call(session, || {
        handle::get(session)?.ends.cancel();
        Ok(DOVETAIL_OK)
    })
}

/// Writes counts and times to `stats`, whose size the caller has set. While another call with the session runs, they are
/// those so far, without the drafter and the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_get_stats(
    session: *mut dovetail_session,
    stats: *mut dovetail_stats,
) -> dovetail_status {
    panic::call(session, || {
        let found = handle::get(session)?.stats()?;
        // SAFETY: as the head of `capi` has it.
        unsafe { pointer::put_sized(stats, found) }?;
        Ok(DOVETAIL_OK)
    })
}

/// Lets another drafter guess for a session, or with `spec_type` "none" nobody: of `options`, NULL for those of the model,
/// only what concerns guessing is looked at. If it cannot, the session is as it was. The text is the same with any, but
/// for `spec_sampling` "rejection".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_speculate(
    session: *mut dovetail_session,
    options: *const dovetail_options,
) -> dovetail_status {
    state::call(session, |state| {
        // SAFETY: as the head of `capi` has it.
        let settings = unsafe { settings(options, state.model()) }?;
        state.change_drafter(settings)?;
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
        let messages = pointer::slice(from, n, "the array of messages")?.iter();
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
