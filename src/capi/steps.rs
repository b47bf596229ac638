//! Sessions step by step: tokens instead of text, and pieces fetched one by one instead of passed to a callback.

use super::options::dovetail_sampling;
use super::piece::dovetail_piece;
use super::pointer;
use super::session::dovetail_session;
use super::state;
use super::status::dovetail_status::{self, DOVETAIL_END, DOVETAIL_OK};

/// Makes tokens the sequence. Other than with dovetail_session_prompt_text, no tokens are added.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_prompt_tokens(
    session: *mut dovetail_session,
    tokens: *const u32,
    n_tokens: usize,
) -> dovetail_status {
    state::call_for_prompt(session, |state| {
        // SAFETY: as the head of `capi` requires.
        let tokens = unsafe { pointer::slice(tokens, n_tokens, "the array of tokens") }?;
        state.prompt(tokens)
    })
}

/// Copies the tokens of the sequence, prompt and answer, to a buffer, as dovetail_tokenize does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_get_tokens(
    session: *mut dovetail_session,
    tokens: *mut u32,
    capacity: usize,
    n_tokens: *mut usize,
) -> dovetail_status {
    state::call(session, |state| {
        // SAFETY: as the head of `capi` requires.
        unsafe { pointer::fill(state.session.tokens(), tokens, capacity, n_tokens, "tokens") }
    })
}

/// Begins an answer of up to `n_predict` tokens, whose pieces dovetail_session_next or dovetail_step then return.
/// `sampling` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_begin(
    session: *mut dovetail_session,
    sampling: *const dovetail_sampling,
    n_predict: usize,
) -> dovetail_status {
    state::call(session, |state| {
        // SAFETY: as the head of `capi` requires.
        unsafe { state.begin(sampling, n_predict) }?;
        Ok(DOVETAIL_OK)
    })
}

/// Returns the next piece of the answer in `piece`, valid until the next call with this session, or DOVETAIL_END if
/// there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_next(
    session: *mut dovetail_session,
    piece: *mut *const dovetail_piece,
) -> dovetail_status {
    state::call(session, |state| {
        pointer::not_null(piece, "piece")?;
        if !state.next()? {
            return Ok(DOVETAIL_END);
        }
        // SAFETY: it is not NULL.
        unsafe { pointer::put(piece, state.piece.as_ptr()) };
        Ok(DOVETAIL_OK)
    })
}
