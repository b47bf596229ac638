//! Sessions in files.
//!
//! A file has the sequence, its keys and values, and what the drafter knows of it, so that the next prompt or answer goes
//! on at once. It can be taken to another machine, and from a drafter on a GPU to one on the CPU. Files of another model,
//! or damaged ones, are refused with a reason.

use super::pointer;
use super::session::dovetail_session;
use super::state;
use super::status::dovetail_status::{self, DOVETAIL_OK};
use std::ffi::c_char;

/// Saves a session. A regular file that was there is replaced when the new one is whole, and keeps its permissions; a new
/// one can be read by its owner alone. A link stays and its target is replaced. Anything else is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_save(
    session: *mut dovetail_session,
    path: *const c_char,
) -> dovetail_status {
    state::call(session, |state| {
        // SAFETY: as the head of `capi` has it.
        let path = unsafe { pointer::path(path, "path") }?;
        state.session.save(&path)?;
        Ok(DOVETAIL_OK)
    })
}

/// Makes what was saved the sequence of a session, which keeps its drafter. DOVETAIL_ERROR_SESSION_FILE if it was saved
/// with another model or other types of the cache, has more tokens than the context holds, or is damaged; the session is
/// then as it was. An answer that was going on is over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_load(
    session: *mut dovetail_session,
    path: *const c_char,
) -> dovetail_status {
    state::call(session, |state| {
        // SAFETY: as the head of `capi` has it.
        let path = unsafe { pointer::path(path, "path") }?;
        state.session.load(&path)?;
        state.loaded();
        Ok(DOVETAIL_OK)
    })
}
