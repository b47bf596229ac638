//! Errors, and what this library is and can do here.

use super::handle;
use super::panic;
use super::pointer;
use crate::gpu;
use dovetail_kernels::cpu::Kernels;
use std::cell::RefCell;
use std::ffi::{CString, c_char, c_void};

thread_local! {
    /// The line that this thread was handed last.
    static LINE: RefCell<CString> = RefCell::default();
}

/// A line about the last call with this handle that failed: what happened, where, and what to do. With NULL, or a
/// handle that is not there any more, about the last failed call of this thread, which is where to look when something
/// could not be made. Never NULL; empty if nothing failed. The text stays until this thread calls this again.
#[unsafe(no_mangle)]
pub extern "C" fn dovetail_last_error(handle: *const c_void) -> *const c_char {
    panic::value(c"".as_ptr(), || {
        LINE.with_borrow_mut(|line| {
            *line = handle::error(handle.addr());
            line.as_ptr()
        })
    })
}

/// The version of the library at hand, as "1.2.3"; DOVETAIL_VERSION is that of this header.
#[unsafe(no_mangle)]
pub extern "C" fn dovetail_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Whether something can be used here: "gpu", a GPU to draft on; or an instruction set of this CPU: "amx", "avx512",
/// "avxvnni", "avx2", "i8mm", "dotprod", "neon", "scalar". Anything else is not there, nor is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_has_feature(name: *const c_char) -> bool {
    panic::value(false, || {
        // SAFETY: it is NULL or ends in a NUL, as the head of the module has it.
        match unsafe { pointer::name(name, "name") } {
            Ok(Some("gpu")) => {
                gpu::list().is_ok_and(|found| found.iter().any(|gpu| gpu.unusable.is_none()))
            }
            Ok(Some(name)) => Kernels::available().any(|kernels| kernels.name == name),
            _ => false,
        }
    })
}
