//! Errors, version and features.

use super::handle;
use super::panic;
use super::pointer;
use crate::gpu;
use dovetail_kernels::cpu::Kernels;
use std::cell::RefCell;
use std::ffi::{CString, c_char, c_void};

thread_local! {
    /// The line that this thread received last.
    static LINE: RefCell<CString> = RefCell::default();
}

/// Returns a line about the last failed call with this handle: what happened, where, and what to do. With NULL, or a
/// handle that no longer exists, it is about the last failed call of this thread; use that if a function that creates
/// an object fails. Never NULL; empty if nothing failed. The text is valid until this thread calls this function again.
#[unsafe(no_mangle)]
pub extern "C" fn dovetail_last_error(handle: *const c_void) -> *const c_char {
    panic::value(c"".as_ptr(), || {
        LINE.with_borrow_mut(|line| {
            *line = handle::error(handle.addr());
            line.as_ptr()
        })
    })
}

/// Returns the version of the loaded library, such as "1.2.3"; DOVETAIL_VERSION is the version of this header.
#[unsafe(no_mangle)]
pub extern "C" fn dovetail_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Returns whether a feature can be used on this machine: "gpu", a GPU to draft on, or an instruction set of this CPU:
/// "amx", "avx512", "avxvnni", "avx2", "i8mm", "dotprod", "neon", "scalar". False for NULL and any other name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_has_feature(name: *const c_char) -> bool {
    panic::value(false, || {
        // SAFETY: it is NULL or ends in a NUL, as the head of `capi` requires.
        match unsafe { pointer::name(name, "name") } {
            Ok(Some("gpu")) => {
                gpu::list().is_ok_and(|found| found.iter().any(|gpu| gpu.unusable.is_none()))
            }
            Ok(Some(name)) => Kernels::available().any(|kernels| kernels.name == name),
            _ => false,
        }
    })
}
