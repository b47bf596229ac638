//! What handles stand for.
//!
//! A handle is a number in a table, not an address: one that was freed, made up, or is of another kind is found out,
//! and what is freed in the middle of a call lives until its end.

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
    /// What it stands for.
    type Object: Any + Send + Sync;
    /// What messages call it.
    const NAME: &'static str;
}

/// What a handle stands for.
struct Entry {
    object: Arc<dyn Any + Send + Sync>,
    /// What messages call its kind.
    name: &'static str,
    /// The line of the last failed call with it.
    line: CString,
}

/// All of them, and the number of the last one.
#[derive(Default)]
struct Table {
    entries: HashMap<usize, Entry>,
    last: usize,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle for this.
pub(super) fn add<H: Handle>(object: Arc<H::Object>) -> *mut H {
    let mut table = table();
    // Multiples of 16 look like what they are not, pointers, to whoever tags these.
    table.last += 16;
    let handle = table.last;
    table.entries.insert(handle, Entry { object, name: H::NAME, line: CString::default() });
    std::ptr::without_provenance_mut(handle)
}

/// Forgets a handle and gives what it stood for. A handle of another kind is left alone.
pub(super) fn remove<H: Handle>(handle: *const H) -> Option<Arc<H::Object>> {
    let object = get(handle).ok()?;
    // What it stood for is dropped when the table is free again.
    let _entry = table().entries.remove(&handle.addr());
    Some(object)
}

/// What a handle stands for.
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
    /// The line of this thread's last failed call.
    static LINE: RefCell<CString> = RefCell::default();
}

/// The line of the last failed call with a handle, if it is one, else of this thread's last failed call.
pub(super) fn error(handle: usize) -> CString {
    let own = table().entries.get(&handle).map(|entry| entry.line.clone());
    own.unwrap_or_else(|| LINE.with_borrow(CString::clone))
}

/// Remembers the line of a failed call with this handle, if it had one.
pub(super) fn remember(handle: usize, line: &str) {
    let line = pointer::c_string(line);
    if let Some(entry) = table().entries.get_mut(&handle) {
        entry.line.clone_from(&line);
    }
    LINE.set(line);
}
