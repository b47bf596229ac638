//! Files that flags name for results.

use dovetail::temp_file::{self, Access};
use dovetail::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Refuses a file that could not be written in the end, before anything is computed for it.
///
/// # Errors
/// When it cannot be written; the flag is named.
pub fn check(flag: &str, path: &Path) -> Result<()> {
    temp_file::check(path).map_err(|source| refused(flag, path, source))
}

/// Writes a file, which is then there whole or as it was.
///
/// # Errors
/// When it cannot be written; the flag is named.
pub fn write(flag: &str, path: &Path, text: &str) -> Result<()> {
    let written = temp_file::replace(path, Access::Usual, |file| file.write_all(text.as_bytes()));
    written.map_err(|source| refused(flag, path, source))
}

/// The error of a flag whose file the system refused.
pub fn refused(flag: &str, path: &Path, source: std::io::Error) -> Error {
    let error = Error::Io { path: path.into(), source };
    Error::Invalid(format!("{flag} {error}"))
}
