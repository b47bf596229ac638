//! Several sessions in one step: one pass over the weights serves all of them, and each text is the one that its
//! session produces alone.

use super::handle;
use super::panic;
use super::piece::dovetail_piece;
use super::piece::dovetail_stop::DOVETAIL_STOP_CALLBACK;
use super::pointer;
use super::session::dovetail_session;
use super::state::{CPiece, Session, State};
use super::status::Failure;
use super::status::dovetail_status::{self, DOVETAIL_OK};
use crate::engine::{self, Engine};
use crate::error::Error;
use std::ffi::c_void;
use std::ptr::null;
use std::sync::{Arc, MutexGuard};

/// Receives each piece of each answer, with the index of its session. Returns false to stop that answer there.
pub type dovetail_step_callback = Option<
    unsafe extern "C" fn(userdata: *mut c_void, i: usize, piece: *const dovetail_piece) -> bool,
>;

/// Runs one round for up to 16 sessions of one model whose answers have begun (dovetail_session_begin), and passes
/// their next pieces, one or more for each, to `callback`. Answers that have ended stay ended. If a session was
/// cancelled, or its logits are no numbers, its answer ends and the others go on; dovetail_session_get_stats says why,
/// and dovetail_last_error has the line of the latter. `goes_on` is set to whether any answer goes on.
///
/// The pass runs with the threads of the session with the longest context. Among the sessions whose `tree` is "cost" or
/// "cast", the one with the longest context decides how large the trees are. If the round fails, no answer receives
/// another token, and dovetail_last_error returns the line for each session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_step(
    sessions: *const *mut dovetail_session,
    n_sessions: usize,
    callback: dovetail_step_callback,
    userdata: *mut c_void,
    goes_on: *mut bool,
) -> dovetail_status {
    panic::call(null::<c_void>(), || {
        pointer::not_null(goes_on, "goes_on")?;
        // SAFETY: as the head of `capi` requires.
        let handles = unsafe { pointer::slice(sessions, n_sessions, "the array of sessions") }?;
        let stepped = step(handles, &mut |i, piece| {
            // SAFETY: C passed both for this purpose.
            callback.is_none_or(|tell| unsafe { tell(userdata, i, piece) })
        });
        let any = stepped.inspect_err(|failure| {
            handles.iter().for_each(|handle| handle::remember(handle.addr(), &failure.line));
        })?;
        // SAFETY: it is not NULL.
        unsafe { pointer::put(goes_on, any) };
        Ok(DOVETAIL_OK)
    })
}

/// Runs one step and passes pieces to `tell`, until it returns false for a session. Returns whether any answer goes on.
fn step(
    handles: &[*mut dovetail_session],
    tell: &mut dyn FnMut(usize, *const dovetail_piece) -> bool,
) -> Result<bool, Failure> {
    let sessions: Vec<Arc<Session>> =
        handles.iter().map(|handle| handle::get(*handle)).collect::<Result<_, _>>()?;
    let mut states: Vec<MutexGuard<State>> =
        sessions.iter().map(|session| session.lock()).collect::<Result<_, _>>()?;
    for state in &mut states {
        // The other sessions go on.
        let _ = state.check_cancelled();
    }
    let mut stopped = vec![false; states.len()];
    let mut c_piece = CPiece::default();
    if states.iter().any(|state| state.session.tokens().is_empty()) {
        let what = "nothing to continue; give each session a prompt";
        return Err(Error::Prompt(what.into()).into());
    }
    let mut engines: Vec<&mut Engine> =
        states.iter_mut().map(|state| state.session.engine()).collect();
    let planning = engine::planning(&engines);
    engine::step_together(&mut engines, &mut |i, _, piece| {
        // A session that a callback has freed or cancelled receives no more pieces.
        stopped[i] = stopped[i] || sessions[i].cancel.is_set() || !tell(i, c_piece.set(piece));
    })?;
    for (i, (state, stopped)) in states.iter_mut().zip(stopped).enumerate() {
        let cancelled = sessions[i].cancel.is_set();
        if stopped && !cancelled {
            state.end(DOVETAIL_STOP_CALLBACK);
        }
        let _ = state.check_cancelled();
        if let Some(error) = state.session.failure() {
            handle::remember(handles[i].addr(), &Failure::from(error).line);
        }
        state.record_stop(planning == Some(i));
    }
    Ok(states.iter().any(|state| state.session.stop().is_none()))
}
