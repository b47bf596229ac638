//! The table of handles.
//!
//! A handle is a number in a table, not an address. So handles that were freed, made up or are of another kind are
//! detected, and an object that is freed in the middle of a call lives until the call ends.

use super::pointer;
use super::status::Failure;
use super::status::dovetail_status::DOVETAIL_ERROR_HANDLE;
use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// A kind of handle.
pub(super) trait Handle {
    /// The object behind the handle.
    type Object: Any + Send + Sync;
    /// Its name in messages.
    const NAME: &'static str;
}

/// An object and what belongs to its handle.
struct Entry {
    object: Arc<dyn Any + Send + Sync>,
    /// The name of the handle's kind in messages.
    name: &'static str,
    /// The error line of the last failed call with it.
    line: CString,
}

/// All handles, and the last number that was given.
#[derive(Default)]
struct Table {
    entries: HashMap<usize, Entry>,
    last: usize,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates a handle for an object.
pub(super) fn add<H: Handle>(object: Arc<H::Object>) -> *mut H {
    let mut table = table();
    // Multiples of 16 look like aligned pointers to programs that tag these.
    table.last += 16;
    let handle = table.last;
    table.entries.insert(handle, Entry { object, name: H::NAME, line: CString::default() });
    std::ptr::without_provenance_mut(handle)
}

/// Removes a handle and returns its object. A handle of another kind is left alone.
pub(super) fn remove<H: Handle>(handle: *const H) -> Option<Arc<H::Object>> {
    let object = get(handle).ok()?;
    // The object is dropped after the table is unlocked.
    let _entry = table().entries.remove(&handle.addr());
    Some(object)
}

/// The object of a handle.
pub(super) fn get<H: Handle>(handle: *const H) -> Result<Arc<H::Object>, Failure> {
    let table = table();
    let entry = table.entries.get(&handle.addr());
    if let Some(Ok(object)) = entry.map(|entry| entry.object.clone().downcast()) {
        return Ok(object);
    }
    let found = match entry {
        None => "NULL, was freed, or was never handed out".into(),
        Some(entry) => format!("a {}'s", entry.name),
    };
    let line = format!("a {}'s handle is needed and this one is {found}", H::NAME);
    Err(Failure::new(DOVETAIL_ERROR_HANDLE, line))
}

thread_local! {
    /// The error line of this thread's last failed call.
    static LINE: RefCell<CString> = RefCell::default();
}

/// The error line of the last failed call with a handle if it exists, else of this thread's last failed call.
pub(super) fn error(handle: usize) -> CString {
    let own = table().entries.get(&handle).map(|entry| entry.line.clone());
    own.unwrap_or_else(|| LINE.with_borrow(CString::clone))
}

/// Records the error line of a failed call with this handle, for the handle if it exists and for the thread.
pub(super) fn remember(handle: usize, line: &str) {
    let line = pointer::c_string(line);
    if let Some(entry) = table().entries.get_mut(&handle) {
        entry.line.clone_from(&line);
    }
    LINE.set(line);
}
