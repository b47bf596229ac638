//! Files for results that flags name.

use dovetail::temp_file::{self, Access};
use dovetail::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Checks that a file can be written, before anything is computed for it.
///
/// # Errors
/// If it cannot be written; the error names the flag.
pub fn check(flag: &str, path: &Path) -> Result<()> {
    temp_file::check(path).map_err(|source| refused(flag, path, source))
}

/// Replaces a file as a whole or not at all.
///
/// # Errors
/// If it cannot be written; the error names the flag.
pub fn write(flag: &str, path: &Path, text: &str) -> Result<()> {
    let written = temp_file::replace(path, Access::Usual, |file| file.write_all(text.as_bytes()));
    written.map_err(|source| refused(flag, path, source))
}

/// The error of a flag whose file the system refused.
pub fn refused(flag: &str, path: &Path, source: std::io::Error) -> Error {
    let error = Error::Io { path: path.into(), source };
    Error::Invalid(format!("{flag} {error}"))
}
