//! Several sessions in one step: one pass over the weights serves all, and each text is the one that its session gives
//! alone.

use super::handle;
use super::panic;
use super::piece::dovetail_piece;
use super::piece::dovetail_stop::DOVETAIL_STOP_CALLBACK;
use super::pointer;
use super::session::dovetail_session;
use super::state::{Session, Shown, State};
use super::status::Failure;
use super::status::dovetail_status::{self, DOVETAIL_OK};
use crate::engine::{self, Engine};
use crate::error::Error;
use std::ffi::c_void;
use std::ptr::null;
use std::sync::{Arc, MutexGuard};

/// Told each piece of each answer, with the place of its session; false stops that answer there.
pub type dovetail_step_callback = Option<
    unsafe extern "C" fn(userdata: *mut c_void, i: usize, piece: *const dovetail_piece) -> bool,
>;

/// Runs one round for up to 16 sessions of one model whose answers have begun (dovetail_session_begin), and tells
/// `callback` their next pieces, one or more of each. Answers that have ended stay so, and one whose session was cancelled
/// ends here, while the others go on: dovetail_stats says why. `goes_on` becomes whether any goes on. The pass is that of
/// the session with the longest context, on its threads; how large trees are is decided as it is for that one of those
/// whose `tree` is "cost" or "cast" which has the longest context. A session with `spec_sampling` "rejection" steps
/// alone. If the round fails, no answer has another token, and dovetail_last_error has the line for each session.
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
        // SAFETY: as the head of `capi` has it.
        let handles = unsafe { pointer::slice(sessions, n_sessions, "the array of sessions") }?;
        let stepped = step(handles, &mut |i, piece| {
            // SAFETY: C gave both for this.
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

/// One step, which tells pieces until it is told that a session needs no more; whether any goes on.
fn step(
    handles: &[*mut dovetail_session],
    tell: &mut dyn FnMut(usize, *const dovetail_piece) -> bool,
) -> Result<bool, Failure> {
    let sessions: Vec<Arc<Session>> =
        handles.iter().map(|handle| handle::get(*handle)).collect::<Result<_, _>>()?;
    let mut states: Vec<MutexGuard<State>> =
        sessions.iter().map(|session| session.lock()).collect::<Result<_, _>>()?;
    for state in &mut states {
        // The others go on.
        let _ = state.check_cancelled();
    }
    let mut stopped = vec![false; states.len()];
    let mut shown = Shown::default();
    if states.iter().any(|state| state.session.tokens().is_empty()) {
        let what = "nothing to continue; give each session a prompt";
        return Err(Error::Prompt(what.into()).into());
    }
    let mut engines: Vec<&mut Engine> =
        states.iter_mut().map(|state| state.session.engine()).collect();
    let planning = engine::planning(&engines);
    engine::step_together(&mut engines, &mut |i, _, piece| {
        // One that was freed or cancelled by a callback is told no more.
        stopped[i] = stopped[i] || sessions[i].ends.now() || !tell(i, shown.set(piece));
    })?;
    for (i, (state, stopped)) in states.iter_mut().zip(stopped).enumerate() {
        let cancelled = sessions[i].ends.now();
        if stopped && !cancelled {
            state.end(DOVETAIL_STOP_CALLBACK);
        }
        let _ = state.check_cancelled();
        state.has_stopped(planning == Some(i));
    }
    Ok(states.iter().any(|state| state.session.stop().is_none()))
}
