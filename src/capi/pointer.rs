//! What C's pointers point to.
//!
//! All functions here rely on what the head of the module `capi` asks of callers: a pointer is NULL or points to
//! what its type and its length say, for as long as the call lasts. The lifetimes they give are the caller's word.

use super::status::Failure;
use super::status::dovetail_status::{self, DOVETAIL_ERROR_BUFFER, DOVETAIL_OK};
use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;

/// A structure that begins with its size.
///
/// A later version may only put new fields behind the last one, and never into its padding: then `size` tells which
/// fields a program knows.
///
/// # Safety
/// It is `repr(C)`, its first field is its size, `LEAST` bytes of it are whole fields, and every pattern of bytes is
/// valid for it but where `BOOLS` has a byte that is neither 0 nor 1.
pub(super) unsafe trait Versioned: Copy {
    /// What it is called.
    const NAME: &'static str;
    /// Bytes of it in the first version.
    const LEAST: usize;
    /// Where its fields of type `bool` are.
    const BOOLS: &'static [usize];
}

/// More bytes than a structure will ever have.
const MOST_BYTES: usize = 4096;

fn check_size<T: Versioned>(size: usize) -> Result<(), Failure> {
    if (T::LEAST..=MOST_BYTES).contains(&size) {
        return Ok(());
    }
    let (name, now) = (T::NAME, size_of::<T>());
    Err(Failure::argument(format!(
        "the size of {name} is {size}; set it to sizeof({name}), {now} in this version"
    )))
}

/// A copy of a structure, none if it is NULL. One of a later version may be longer if what it has more is all zero.
///
/// # Safety
/// See the module.
pub(super) unsafe fn read<T: Versioned + Default>(from: *const T) -> Result<Option<T>, Failure> {
    if from.is_null() {
        return Ok(None);
    }
    aligned(from, T::NAME)?;
    // SAFETY: it is not NULL, and begins with its size.
    let size = unsafe { from.cast::<usize>().read() };
    check_size::<T>(size)?;
    // SAFETY: the caller says that it has this many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), size) };
    let (known, more) = bytes.split_at(size.min(size_of::<T>()));
    if more.iter().any(|byte| *byte != 0) {
        let name = T::NAME;
        let line = format!("{name} sets what this version of the library does not know; update it");
        return Err(Failure::argument(line));
    }
    if T::BOOLS.iter().filter_map(|at| known.get(*at)).any(|byte| *byte > 1) {
        let name = T::NAME;
        let line =
            format!("a bool of {name} is neither true nor false; let {name}_init fill it first");
        return Err(Failure::argument(line));
    }
    let mut value = T::default();
    // SAFETY: there are so many bytes on both sides, and what they say is a `T`'s: its `bool`s were looked at.
    unsafe { (&raw mut value).cast::<u8>().copy_from_nonoverlapping(known.as_ptr(), known.len()) };
    Ok(Some(value))
}

/// Writes a structure of `size` bytes, as much as there is room for; what a later version has more becomes zero.
///
/// # Safety
/// See the module.
pub(super) unsafe fn write<T: Versioned>(to: *mut T, size: usize, value: T) -> Result<(), Failure> {
    not_null(to, T::NAME)?;
    check_size::<T>(size)?;
    let known = size.min(size_of::<T>());
    // SAFETY: the caller says that there are `size` bytes, a `T` has `known`, and its first field is its size.
    unsafe {
        to.cast::<u8>().write_bytes(0, size);
        to.cast::<u8>().copy_from_nonoverlapping((&raw const value).cast(), known);
        to.cast::<usize>().write(size);
    }
    Ok(())
}

/// Fails for NULL where something is handed out, and for addresses at which there can be no `T`.
pub(super) fn not_null<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::argument(format!("{name} is NULL; give a place for it")));
    }
    aligned(pointer, name)
}

fn aligned<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    if pointer.is_aligned() {
        return Ok(());
    }
    Err(Failure::argument(format!("{name} is at {pointer:p}, where no value of its type can be")))
}

/// Writes what a call hands out.
///
/// # Safety
/// See the module.
pub(super) unsafe fn put<T>(to: *mut T, value: T) {
    // SAFETY: the callers have looked that it is not NULL.
    unsafe { to.write(value) }
}

/// So many values; none from NULL if there are none.
///
/// # Safety
/// See the module.
pub(super) unsafe fn slice<'a, T>(
    from: *const T,
    n: usize,
    name: &str,
) -> Result<&'a [T], Failure> {
    if n == 0 {
        return Ok(&[]);
    }
    if from.is_null() {
        return Err(Failure::argument(format!(
            "{name} is NULL, but its length is {n}; point it to them, or give the length 0"
        )));
    }
    aligned(from, name)?;
    if n.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Failure::argument(format!("{name} cannot have {n} elements")));
    }
    // SAFETY: it is not NULL, is aligned, and the caller says that there are so many.
    Ok(unsafe { std::slice::from_raw_parts(from, n) })
}

/// Text of so many bytes.
///
/// # Safety
/// See the module.
pub(super) unsafe fn text<'a>(
    from: *const c_char,
    len: usize,
    name: &str,
) -> Result<&'a str, Failure> {
    // SAFETY: as the module has it.
    let bytes = unsafe { slice(from.cast::<u8>(), len, name) }?;
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Failure::argument(format!("{name}: byte {at} is not UTF-8; convert it to UTF-8 text"))
    })
}

/// What ends in a NUL; none if it is NULL.
///
/// # Safety
/// See the module.
pub(super) unsafe fn name<'a>(from: *const c_char, name: &str) -> Result<Option<&'a str>, Failure> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: it ends in a NUL.
    let text = unsafe { CStr::from_ptr(from) }.to_str();
    text.map(Some)
        .map_err(|_| Failure::argument(format!("{name} is not UTF-8; convert it to UTF-8 text")))
}

/// A path that ends in a NUL.
///
/// # Safety
/// See the module.
pub(super) unsafe fn path(from: *const c_char, name: &str) -> Result<PathBuf, Failure> {
    if from.is_null() {
        return Err(Failure::argument(format!("{name} is NULL; name a file")));
    }
    // SAFETY: it ends in a NUL.
    let bytes = unsafe { CStr::from_ptr(from) }.to_bytes();
    #[cfg(unix)]
    let path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes);
    #[cfg(not(unix))]
    let path = std::str::from_utf8(bytes)
        .map_err(|_| Failure::argument(format!("{name} is not UTF-8; convert it to UTF-8 text")))?;
    if bytes.is_empty() {
        return Err(Failure::argument(format!("{name} is empty; name a file")));
    }
    Ok(path.into())
}

/// Text for C, which takes a NUL for its end: those inside are left out.
pub(super) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).expect("there is no NUL")
}

/// Hands out values in the caller's buffer of `capacity`, which it calls `name`. How many there are is written to `len` also where they do not
/// fit.
///
/// # Safety
/// See the module.
pub(super) unsafe fn fill<T: Copy>(
    values: &[T],
    buffer: *mut T,
    capacity: usize,
    len: *mut usize,
    name: &str,
) -> Result<dovetail_status, Failure> {
    if len.is_null() {
        return Err(Failure::argument(format!(
            "the place for the length of {name} is NULL; give one"
        )));
    }
    aligned(len, "the place for a length")?;
    if capacity > 0 {
        if buffer.is_null() {
            return Err(Failure::argument(format!(
                "the buffer for the {name} is NULL, but its capacity is {capacity}; give a buffer, or the capacity 0"
            )));
        }
        aligned(buffer, name)?;
    }
    // SAFETY: it is not NULL.
    unsafe { len.write(values.len()) };
    if values.len() > capacity {
        let line = format!("{} elements do not fit a buffer of {capacity}", values.len());
        return Err(Failure::new(DOVETAIL_ERROR_BUFFER, line));
    }
    if !values.is_empty() {
        // SAFETY: the caller says that there is room for `capacity`, and that is enough.
        unsafe { buffer.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    }
    Ok(DOVETAIL_OK)
}

/// Hands out a structure, as much of it as the size says that the caller has set in it.
///
/// # Safety
/// See the module.
pub(super) unsafe fn put_sized<T: Versioned>(to: *mut T, value: T) -> Result<(), Failure> {
    not_null(to, T::NAME)?;
    // SAFETY: it is not NULL, and begins with its size.
    let size = unsafe { to.cast::<usize>().read() };
    // SAFETY: as the module has it.
    unsafe { write(to, size, value) }
}
