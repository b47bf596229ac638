//! Several sessions in one step: one pass over the weights serves all, and each text is the one that its session gives
//! alone.

use super::fence;
use super::handle;
use super::pointer;
use super::session::dovetail_stop::DOVETAIL_STOP_CALLBACK;
use super::session::{dovetail_piece, dovetail_session};
use super::state::{Session, Shown, State};
use super::status::dovetail_status::{self, DOVETAIL_OK};
use crate::session;
use std::ffi::c_void;
use std::ptr::null;
use std::sync::{Arc, MutexGuard};

/// Told each piece of each answer, with the place of its session; false stops that answer there.
pub type dovetail_step_callback = Option<
    unsafe extern "C" fn(userdata: *mut c_void, i: usize, piece: *const dovetail_piece) -> bool,
>;

/// Runs one round for up to 16 sessions of one model whose answers have begun (dovetail_session_begin), and tells
/// `callback` their next pieces, one or more of each. Answers that have ended stay so. `goes_on` becomes whether any goes
/// on. The pass is that of the session with the longest context, on its threads, and its `tree` rules; sessions made with
/// the same drafter guess side by side. If it fails, all are as they were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_step(
    sessions: *const *mut dovetail_session,
    n_sessions: usize,
    callback: dovetail_step_callback,
    userdata: *mut c_void,
    goes_on: *mut bool,
) -> dovetail_status {
    fence::call(null::<c_void>(), || {
        pointer::not_null(goes_on, "the place for goes_on")?;
        // SAFETY: as the head of `capi` has it.
        let handles = unsafe { pointer::slice(sessions, n_sessions, "the sessions") }?;
        let sessions: Vec<Arc<Session>> =
            handles.iter().map(|handle| handle::session(*handle)).collect::<Result<_, _>>()?;
        let mut states: Vec<MutexGuard<State>> =
            sessions.iter().map(|session| session.lock()).collect::<Result<_, _>>()?;
        for (state, session) in states.iter_mut().zip(&sessions) {
            // The others go on.
            let _ = state.check_cancelled(&session.cancelled);
        }
        let mut stopped = vec![false; states.len()];
        let mut shown = Shown::default();
        let mut together: Vec<&mut session::Session> =
            states.iter_mut().map(|state| &mut state.session).collect();
        session::step(&mut together, &mut |i, piece| {
            if !stopped[i] {
                let piece = shown.set(piece);
                // SAFETY: C gave both for this.
                stopped[i] = callback.is_some_and(|tell| unsafe { !tell(userdata, i, piece) });
            }
        })?;
        for (state, stopped) in states.iter_mut().zip(stopped) {
            if stopped {
                state.end(DOVETAIL_STOP_CALLBACK);
            }
            state.has_stopped();
        }
        let any = states.iter().any(|state| state.session.stop().is_none());
        // SAFETY: it is not NULL.
        unsafe { pointer::put(goes_on, any) };
        Ok(DOVETAIL_OK)
    })
}
