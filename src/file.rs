//! Opening files that somebody else named: regular files only.
//!
//! A pipe would block the program until somebody writes to it, a device may do anything when it is opened or read, and
//! neither has a length that can be checked. All files that are read by a name that is given or found in a folder are
//! opened here; what this program itself knows, as `/proc/meminfo`, is not.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::string::FromUtf8Error;

/// Most bytes that [`read`] holds in memory: more than any text that fits a context.
const READ_MAX_BYTES: u64 = 1 << 30;

/// Opens a regular file to be read.
///
/// # Errors
/// When it cannot be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, File::options().read(true))
}

/// Opens a regular file, or makes one where the options say so.
///
/// # Errors
/// When it cannot be opened, or is no regular file.
pub fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Some devices act when they are merely opened.
    match fs::metadata(path) {
        Ok(metadata) => check_regular(&metadata)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // The path may name something else by now: opening it must not block, and what was opened is what counts.
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    }
    let file = options.open(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file, all of it.
///
/// # Errors
/// When it cannot be read, is no regular file, or is longer than 1 GiB.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_all(open(path)?)
}

/// Reads a regular file as text.
///
/// # Errors
/// Those of [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    text(read(path)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

/// The text of a file's bytes, without the byte order mark that some editors put in front.
///
/// # Errors
/// If it is not UTF-8.
pub fn text(bytes: Vec<u8>) -> Result<String, FromUtf8Error> {
    let mut text = String::from_utf8(bytes)?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// Reads to the end of something that may never end.
///
/// # Errors
/// When it cannot be read, or is longer than 1 GiB.
pub fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    read_at_most(READ_MAX_BYTES, from)
}

fn read_at_most(n_bytes: u64, from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(n_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > n_bytes {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "is longer than 1 GiB; shorten it"));
    }
    Ok(bytes)
}

/// Refuses what is no regular file.
///
/// # Errors
/// When it is something else; the message says what.
pub fn check_regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = format!("is {}, not a regular file; give another path", kind(metadata));
    Err(io::Error::new(ErrorKind::InvalidInput, what))
}

/// What something is that is no regular file.
fn kind(metadata: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let ty = metadata.file_type();
        if ty.is_fifo() {
            return "a pipe";
        }
        if ty.is_socket() {
            return "a socket";
        }
        if ty.is_block_device() || ty.is_char_device() {
            return "a device";
        }
    }
    if metadata.is_dir() { "a directory" } else { "something else" }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Makes a pipe with a name.
    #[cfg(unix)]
    pub(crate) fn make_pipe(path: &Path) {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::write(place("file"), "text").unwrap();
        std::os::unix::fs::symlink(place("file"), place("link")).unwrap();
        make_pipe(&place("pipe"));
        let _socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
        for name in ["file", "link"] {
            assert_eq!(read_text(&place(name)).unwrap(), "text");
        }
        for (path, part) in [
            (place("pipe"), "is a pipe, not a regular file"),
            (place("socket"), "is a socket"),
            (place("."), "is a directory"),
            ("/dev/null".into(), "is a device"),
        ] {
            for error in [
                read(&path).unwrap_err(),
                open_with(&path, File::options().append(true).create(true)).unwrap_err(),
            ] {
                assert!(error.to_string().contains(part), "{path:?}: {error}");
            }
        }
        assert_eq!(read(&place("nowhere")).unwrap_err().kind(), ErrorKind::NotFound);
        open_with(&place("new"), File::options().append(true).create(true)).unwrap();
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(text(b"\xef\xbb\xbfa\xef\xbb\xbf".to_vec()).unwrap(), "a\u{feff}");
        assert_eq!(text(b"\xef\xbb".to_vec()).unwrap_err().utf8_error().valid_up_to(), 0);
    }

    #[test]
    fn what_never_ends_is_not_read_for_ever() {
        let error = read_at_most(100, io::repeat(0)).unwrap_err();
        assert!(error.to_string().contains("longer than 1 GiB"), "{error}");
        assert_eq!(read_at_most(3, &b"abc"[..]).unwrap(), b"abc");
    }
}
