//! Reads and writes through C's pointers.
//!
//! All functions here rely on what the head of the module `capi` requires of callers: a pointer is NULL or points to
//! what its type and length say, for as long as the call lasts. The lifetimes that they return are the caller's
//! promise.

use super::status::Failure;
use super::status::dovetail_status::{self, DOVETAIL_ERROR_BUFFER, DOVETAIL_OK};
use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;

/// A structure that begins with its size.
///
/// A later version may add fields only after the last one, and never in its padding. So `size` tells which fields a
/// program knows.
///
/// # Safety
/// It is `repr(C)`, its first field is its size, its first `MIN_BYTES` bytes are whole fields, and every pattern of bytes
/// is valid except that the bytes at `BOOLS` must be 0 or 1.
pub(super) unsafe trait Versioned: Copy {
    /// Its name in messages.
    const NAME: &'static str;
    /// Its size in the first version, in bytes.
    const MIN_BYTES: usize;
    /// Offsets of its fields of type `bool`.
    const BOOLS: &'static [usize];
}

/// More bytes than a structure will ever have.
const MAX_BYTES: usize = 4096;

fn check_size<T: Versioned>(size: usize) -> Result<(), Failure> {
    if (T::MIN_BYTES..=MAX_BYTES).contains(&size) {
        return Ok(());
    }
    let (name, now) = (T::NAME, size_of::<T>());
    Err(Failure::argument(format!(
        "the size of {name} is {size}; set it to sizeof({name}), {now} in this version"
    )))
}

/// Copies a structure; `None` if it is NULL. One of a later version may be longer if all its additional bytes are zero.
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
    // SAFETY: the caller promises that it has this many bytes.
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
    // SAFETY: both sides have this many bytes, and they are valid for a `T`: its `bool`s were checked.
    unsafe { (&raw mut value).cast::<u8>().copy_from_nonoverlapping(known.as_ptr(), known.len()) };
    Ok(Some(value))
}

/// Writes a structure of `size` bytes, as far as it fits. Bytes that only a later version knows become zero.
///
/// # Safety
/// See the module.
pub(super) unsafe fn write<T: Versioned>(to: *mut T, size: usize, value: T) -> Result<(), Failure> {
    not_null(to, T::NAME)?;
    check_size::<T>(size)?;
    let known = size.min(size_of::<T>());
    // SAFETY: the caller promises `size` bytes, a `T` has `known`, and its first field is its size.
    unsafe {
        to.cast::<u8>().write_bytes(0, size);
        to.cast::<u8>().copy_from_nonoverlapping((&raw const value).cast(), known);
        to.cast::<usize>().write(size);
    }
    Ok(())
}

/// Fails if an output pointer is NULL or not aligned for a `T`.
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

/// Writes a result.
///
/// # Safety
/// See the module.
pub(super) unsafe fn put<T>(to: *mut T, value: T) {
    // SAFETY: callers have checked that it is not NULL.
    unsafe { to.write(value) }
}

/// A slice of `n` values; empty if `n` is 0, even if the pointer is NULL.
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
    // SAFETY: it is not NULL, is aligned, and the caller promises this many.
    Ok(unsafe { std::slice::from_raw_parts(from, n) })
}

/// A text of `len` bytes, checked to be UTF-8.
///
/// # Safety
/// See the module.
pub(super) unsafe fn text<'a>(
    from: *const c_char,
    len: usize,
    name: &str,
) -> Result<&'a str, Failure> {
    // SAFETY: as the module requires.
    let bytes = unsafe { slice(from.cast::<u8>(), len, name) }?;
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Failure::argument(format!("{name}: byte {at} is not UTF-8; convert it to UTF-8 text"))
    })
}

/// A string that ends in a NUL; `None` if the pointer is NULL.
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

/// A text for C, without the NULs inside it, which would end it.
pub(super) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).expect("there is no NUL")
}

/// Copies values to the caller's buffer of `capacity` values, which messages call `name`. `len` is set to the number of
/// values, even if they do not fit.
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
        // SAFETY: the caller promises room for `capacity` values, which is enough.
        unsafe { buffer.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    }
    Ok(DOVETAIL_OK)
}

/// Writes a structure, as much of it as fits the size that the caller has set in it.
///
/// # Safety
/// See the module.
pub(super) unsafe fn put_sized<T: Versioned>(to: *mut T, value: T) -> Result<(), Failure> {
    not_null(to, T::NAME)?;
    // SAFETY: it is not NULL, and begins with its size.
    let size = unsafe { to.cast::<usize>().read() };
    // SAFETY: as the module requires.
    unsafe { write(to, size, value) }
}
