//! Sessions.
//!
//! A session is one sequence of tokens: prompts and answers in turn. Pass the whole conversation as the prompt each
//! time: what it has in common with the sequence so far is not computed again.

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

/// A sequence of a model, and its drafter.
pub struct dovetail_session {
    _opaque: (),
}

impl Handle for dovetail_session {
    type Object = Session;
    const NAME: &'static str = "session";
}

/// One message of a conversation.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dovetail_message {
    /// "system", "user" or "assistant", or, if the template knows them, "developer" or "tool"; and its length.
    pub role: *const c_char,
    /// See `role`.
    pub role_len: usize,
    /// The text of the message, and its length.
    pub content: *const c_char,
    /// See `content`.
    pub content_len: usize,
}

/// Creates a session and returns its handle in `session`. If `options` is NULL, those of the model apply; otherwise
/// `repack`, `no_mmap` and `mlock` have no effect, since the model is loaded. If a drafter that was not asked for
/// cannot be used, the session has none, and a line to `log` says so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_new(
    model: *const dovetail_model,
    options: *const dovetail_options,
    session: *mut *mut dovetail_session,
) -> dovetail_status {
    panic::call(model, || {
        pointer::not_null(session, "session")?;
        let model = handle::get(model)?;
        // SAFETY: as the head of `capi` requires.
        let settings = unsafe { settings(options, &model) }?;
        let new = Arc::new(Session::new(model, settings)?);
        // SAFETY: it is not NULL.
        unsafe { pointer::put(session, handle::add(new)) };
        Ok(DOVETAIL_OK)
    })
}

/// Frees a session. A call in progress, on another thread or around the callback that calls this, is cancelled and ends
/// cleanly.
#[unsafe(no_mangle)]
pub extern "C" fn dovetail_session_free(session: *mut dovetail_session) {
    panic::value((), || {
        if let Some(found) = handle::remove(session) {
            found.cancel.set_for_good();
        }
    });
}

/// Renders a conversation with the chat template and makes it the sequence, so that the assistant's next message
/// follows. Texts of control tokens in messages stay text. If it returns DOVETAIL_CANCELLED, the sequence holds the tokens
/// run so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_prompt_chat(
    session: *mut dovetail_session,
    messages: *const dovetail_message,
    n_messages: usize,
) -> dovetail_status {
    state::call_for_prompt(session, |state| {
        // SAFETY: as the head of `capi` requires.
        let messages = unsafe { self::messages(messages, n_messages) }?;
        let n_ctx = state.session.n_ctx();
        let tokens = state.template()?.prompt(state.tokenizer(), &messages, true, n_ctx)?;
        state.prompt(&tokens)
    })
}

/// Makes a text the sequence, for the model to complete. Texts of control tokens in it become those tokens. The token
/// that begins a text comes first, once, if the model wants it; no token that ends a text is added.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_prompt_text(
    session: *mut dovetail_session,
    text: *const c_char,
    text_len: usize,
) -> dovetail_status {
    state::call_for_prompt(session, |state| {
        // SAFETY: as the head of `capi` requires.
        let text = unsafe { pointer::text(text, text_len, "the text") }?;
        state.tokenizer().check_fits(text, state.session.n_ctx())?;
        let tokens = state.tokenizer().encode_prompt(text)?;
        state.prompt(&tokens)
    })
}

/// Generates up to `n_predict` tokens after the sequence, SIZE_MAX for as many as the context holds, and passes each
/// piece to `callback`. Returns DOVETAIL_OK even if the callback stopped the answer; dovetail_session_get_stats says
/// why it ended. `sampling` and `callback` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_generate(
    session: *mut dovetail_session,
    sampling: *const dovetail_sampling,
    n_predict: usize,
    callback: dovetail_piece_callback,
    userdata: *mut c_void,
) -> dovetail_status {
    state::call(session, |state| {
        // SAFETY: as the head of `capi` requires.
        unsafe { state.begin(sampling, n_predict) }?;
        while state.next()? {
            // SAFETY: C passed both for this purpose.
            let go_on = callback.is_none_or(|tell| unsafe { tell(userdata, state.piece.as_ptr()) });
            if !go_on {
                state.end(dovetail_stop::DOVETAIL_STOP_CALLBACK);
            }
        }
        Ok(DOVETAIL_OK)
    })
}

/// Cancels the call in progress, or else the next call that generates; that call soon returns DOVETAIL_CANCELLED. A
/// later prompt clears the cancellation. It may be called from any thread, any number of times. The session can then be
/// used as before, and the generated tokens are part of the sequence.
#[unsafe(no_mangle)]
pub extern "C" fn dovetail_session_cancel(session: *mut dovetail_session) -> dovetail_status {
    panic::call(session, || {
        handle::get(session)?.cancel.set();
        Ok(DOVETAIL_OK)
    })
}

/// Writes statistics to `stats`, whose size the caller has set. During another call with the session they are those so
/// far, without `drafter` and `stop`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_get_stats(
    session: *mut dovetail_session,
    stats: *mut dovetail_stats,
) -> dovetail_status {
    panic::call(session, || {
        let found = handle::get(session)?.stats()?;
        // SAFETY: as the head of `capi` requires.
        unsafe { pointer::put_sized(stats, found) }?;
        Ok(DOVETAIL_OK)
    })
}

/// Replaces the drafter of a session; `spec_type` "none" removes it. Only the drafting options of `options` apply; NULL
/// means those of the model. On failure the session is unchanged. The text is the same with any drafter unless
/// `spec_sampling` is "rejection".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_speculate(
    session: *mut dovetail_session,
    options: *const dovetail_options,
) -> dovetail_status {
    state::call(session, |state| {
        // SAFETY: as the head of `capi` requires.
        let settings = unsafe { settings(options, state.model()) }?;
        state.change_drafter(settings)?;
        Ok(DOVETAIL_OK)
    })
}

/// Reads an array of messages.
///
/// # Safety
/// See `pointer.rs`.
pub(super) unsafe fn messages(
    from: *const dovetail_message,
    n: usize,
) -> Result<Vec<Message>, Failure> {
    // SAFETY: as `pointer.rs` requires.
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

/// Reads options; those of the model if NULL.
///
/// # Safety
/// See `pointer.rs`.
unsafe fn settings(options: *const dovetail_options, model: &Model) -> Result<Settings, Failure> {
    if options.is_null() {
        return Ok(model.settings.clone());
    }
    // SAFETY: as `pointer.rs` requires.
    unsafe { Settings::read(options) }
}
