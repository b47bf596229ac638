//! What handles stand for.
//!
//! A handle is a number in a table, not an address: one that was freed, made up, or is of another kind is found out,
//! and what is freed in the middle of a call lives until its end.

use super::model::Model;
use super::state::Session;
use super::status::Failure;
use super::status::dovetail_status::DOVETAIL_ERROR_HANDLE;
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// What a handle may stand for.
#[derive(Clone)]
pub(super) enum Object {
    Model(Arc<Model>),
    Session(Arc<Session>),
}

/// All of them, and the number of the last one.
#[derive(Default)]
struct Table {
    objects: HashMap<usize, (Object, CString)>,
    last: usize,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle for this.
pub(super) fn add<T>(object: Object) -> *mut T {
    let mut table = table();
    // Multiples of 16 look like what they are not, pointers, to whoever tags these.
    table.last += 16;
    let handle = table.last;
    table.objects.insert(handle, (object, CString::default()));
    std::ptr::without_provenance_mut(handle)
}

/// Forgets a handle, if it is one.
pub(super) fn remove<T>(handle: *const T) -> Option<Object> {
    // What it stood for is dropped when the table is free again.
    table().objects.remove(&handle.addr()).map(|(object, _)| object)
}

fn get<T>(handle: *const T) -> Option<Object> {
    table().objects.get(&handle.addr()).map(|(object, _)| object.clone())
}

/// The model of a handle.
pub(super) fn model<T>(handle: *const T) -> Result<Arc<Model>, Failure> {
    match get(handle) {
        Some(Object::Model(model)) => Ok(model),
        other => Err(wrong(other, "model")),
    }
}

/// The session of a handle.
pub(super) fn session<T>(handle: *const T) -> Result<Arc<Session>, Failure> {
    match get(handle) {
        Some(Object::Session(session)) => Ok(session),
        other => Err(wrong(other, "session")),
    }
}

fn wrong(found: Option<Object>, wanted: &str) -> Failure {
    let found = match found {
        None => "NULL, was freed, or was never handed out",
        Some(Object::Model(_)) => "a model's",
        Some(Object::Session(_)) => "a session's",
    };
    let line = format!("a {wanted}'s handle is needed and this one is {found}");
    Failure::new(DOVETAIL_ERROR_HANDLE, line)
}

/// The line of the last failed call with a handle, if it is one.
pub(super) fn error(handle: usize) -> Option<CString> {
    table().objects.get(&handle).map(|(_, line)| line.clone())
}

/// Remembers such a line.
pub(super) fn set_error(handle: usize, line: &CString) {
    if let Some((_, place)) = table().objects.get_mut(&handle) {
        place.clone_from(line);
    }
}
