//! Sessions in files.
//!
//! A file holds the sequence, its KV cache and the drafter's state, so that the next prompt or answer continues at
//! once. It can be moved to another machine, and from a drafter on a GPU to one on the CPU. Files of another model and
//! damaged files are refused with a reason.

use super::pointer;
use super::session::dovetail_session;
use super::state;
use super::status::dovetail_status::{self, DOVETAIL_OK};
use std::ffi::c_char;

/// Saves a session. An existing regular file is replaced once the new one is complete, and keeps its permissions; a new
/// file can be read by its owner only. A symbolic link stays and its target is replaced. Anything else is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_save(
    session: *mut dovetail_session,
    path: *const c_char,
) -> dovetail_status {
    state::call(session, |state| {
        // SAFETY: as the head of `capi` requires.
        let path = unsafe { pointer::path(path, "path") }?;
        state.session.save(&path)?;
        Ok(DOVETAIL_OK)
    })
}

/// Restores a saved sequence into a session, which keeps its drafter. Returns DOVETAIL_ERROR_SESSION_FILE if it was
/// saved with another model or other cache types, has more tokens than the context holds, or is damaged; the session is
/// then unchanged. An answer in progress ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_session_load(
    session: *mut dovetail_session,
    path: *const c_char,
) -> dovetail_status {
    state::call(session, |state| {
        // SAFETY: as the head of `capi` requires.
        let path = unsafe { pointer::path(path, "path") }?;
        state.session.load(&path)?;
        state.loaded();
        Ok(DOVETAIL_OK)
    })
}
