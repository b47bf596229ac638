//! Panics do not cross the C interface.

use super::handle;
use super::status::Failure;
use super::status::dovetail_status::{self, DOVETAIL_ERROR_INTERNAL};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The result of a call.
pub(super) type Outcome = Result<dovetail_status, Failure>;

/// Runs the body of a C function with its handle, NULL if it has none, and records its failure. A panic becomes
/// DOVETAIL_ERROR_INTERNAL; a session whose call panicked is not used again: see [`super::state::Session::lock`].
pub(super) fn call<T>(handle: *const T, work: impl FnOnce() -> Outcome) -> dovetail_status {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let failure = match outcome {
        Ok(Ok(status)) => return status,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let line = format!("an internal error ({}); please report it", message(&*panic));
            Failure::new(DOVETAIL_ERROR_INTERNAL, line)
        }
    };
    // Recording the failure must not panic either.
    value((), || handle::remember(handle.addr(), &failure.line));
    failure.status
}

/// Runs the body of a C function that cannot fail; returns `otherwise` if it panics.
pub(super) fn value<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::c_void;
    use std::ptr::null;

    /// A function like those that C calls, which panics.
    extern "C" fn dovetail_test_panic(how: i32) -> dovetail_status {
        call(null::<c_void>(), || match how {
            0 => panic!("a fixed line"),
            1 => panic!("number {how}"),
            _ => std::panic::panic_any(how),
        })
    }

    #[test]
    fn a_panic_becomes_a_status_and_a_line() {
        let entry: extern "C" fn(i32) -> dovetail_status = dovetail_test_panic;
        for (how, words) in [(0, "(a fixed line)"), (1, "(number 1)"), (2, "(without a word)")] {
            assert_eq!(entry(how), DOVETAIL_ERROR_INTERNAL);
            let line = handle::error(0);
            let line = line.to_str().unwrap();
            assert!(line.contains(words) && line.contains("report"), "{line}");
        }
        assert_eq!(value(7, || panic!("a fixed line")), 7);
    }
}
