//! Writing files: under a temporary name beside the target, renamed over it when all is written.
//!
//! What was there before stays until then, and for good where something fails: a full disk loses nothing. All files that
//! this crate and its programs replace are written here.
//!
//! - Only regular files are replaced. A device, a pipe or a folder is refused and stays as it is.
//! - A symbolic link stays; the file that it points to is replaced.
//! - A file that is replaced keeps its owner and its permissions; who may read a new one says [`Access`].
//! - The temporary name is random, and the file must be new: a link that somebody planted is never followed.
//! - The temporary file is locked while it is written, and the lock ends with the program. So the next program that writes
//!   the same target tells what a killed one left behind from what another one is writing now, and removes the former. If
//!   two programs write the same target, the last to finish gives it its contents.
//!
//! Lists of access rights (ACLs) and other extended attributes of a replaced file are not kept.

use crate::file;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The ending of a file that is being written.
const ENDING: &str = "part";
/// Random letters and digits in its name.
const RANDOM_CHARS: usize = 16;
/// Bytes of the target's name in it: the whole name may have 255.
const STEM_MAX_BYTES: usize = 200;
/// How often somebody who removes leftovers may take a file that has just been made for one.
const ATTEMPTS: u32 = 100;

/// Who may read a file.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// Its owner alone if it is new; one that is replaced keeps its permissions.
    Private,
    /// Whom the system lets read new files if it is new; one that is replaced keeps its permissions.
    Usual,
    /// Who may read this file, whether it is new or not; its owner may write it.
    Like(&'a Path),
}

/// A file that is being written. Dropped, it vanishes, unless [`TempFile::publish`] gave it its name.
#[derive(Debug)]
pub struct TempFile<'a> {
    file: NamedTempFile,
    target: PathBuf,
    access: Access<'a>,
}

/// Writes a file: `write` is given an empty one, which replaces `path` if all goes well.
///
/// # Errors
/// When it cannot be written, or `path` is there and no regular file; what was there is there still.
pub fn replace(
    path: &Path,
    access: Access,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = TempFile::new(path, access)?;
    write(file.file())?;
    file.publish()
}

/// Whether a file could be written now, for a program that has long to work before it knows what to write.
///
/// # Errors
/// Those of [`replace`], but for a full disk.
pub fn check(path: &Path) -> io::Result<()> {
    TempFile::new(path, Access::Private).map(drop)
}

impl<'a> TempFile<'a> {
    /// An empty file that will become `path`. Removes what killed programs have left behind of the same one.
    ///
    /// # Errors
    /// When it cannot be made, or `path` is there and no regular file.
    pub fn new(path: &Path, access: Access<'a>) -> io::Result<TempFile<'a>> {
        let (target, old) = resolve(path)?;
        let Some(name) = target.file_name() else {
            return Err(io::Error::new(ErrorKind::InvalidInput, "names no file"));
        };
        let folder = folder_of(&target);
        let prefix = prefix(name);
        remove_leftovers(folder, |name| is_leftover(name, &prefix));
        let new = || {
            let suffix = format!(".{ENDING}");
            let mut new = tempfile::Builder::new();
            new.prefix(&prefix).suffix(&suffix).rand_bytes(RANDOM_CHARS);
            #[cfg(unix)]
            if matches!(access, Access::Usual) && old.is_none() {
                // Without this the owner alone may read it.
                new.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            }
            new.tempfile_in(folder)
        };
        for _ in 0..ATTEMPTS {
            let file = new()?;
            // Somebody who removes leftovers may have found it before it was locked.
            let taken = matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock));
            if !taken && file.path().try_exists()? {
                return Ok(TempFile { file, target, access });
            }
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    /// The file, to be written.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Makes sure that there is room for so many bytes, where the system can; also makes writing faster.
    ///
    /// # Errors
    /// When there is no room.
    pub fn reserve(&self, len: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            let reserved = fallocate(self.file.as_file(), FallocateFlags::empty(), 0, len);
            let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge];
            reserved
                .map_err(io::Error::from)
                .or_else(|error| if full.contains(&error.kind()) { Err(error) } else { Ok(()) })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = len;
            Ok(())
        }
    }

    /// Gives the file its name, in place of what had it.
    ///
    /// # Errors
    /// When it cannot be renamed, or what has the name is no regular file; that is there still.
    pub fn publish(self) -> io::Result<()> {
        let old = found(&self.target)?;
        old.as_ref().map_or(Ok(()), file::check_regular)?;
        set_access(self.file.as_file(), self.access, old.as_ref())?;
        self.file.persist(&self.target).map(drop).map_err(|error| error.error)
    }
}

/// Removes those files of a folder that killed programs have left behind, of names that `is_ours` knows.
pub(crate) fn remove_leftovers(folder: &Path, is_ours: impl Fn(&OsStr) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_part = path.extension() == Some(ENDING.as_ref()) && is_ours(&entry.file_name());
        // Who writes it would have locked it.
        if is_part && file::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// What the names of temporary files for the target of this name begin with.
fn prefix(name: &OsStr) -> String {
    let mut stem = name.to_string_lossy().into_owned();
    while stem.len() > STEM_MAX_BYTES {
        stem.pop();
    }
    stem + "."
}

fn is_leftover(name: &OsStr, prefix: &str) -> bool {
    let random = || name.to_str()?.strip_prefix(prefix)?.strip_suffix(ENDING)?.strip_suffix('.');
    random().is_some_and(|random| {
        random.len() == RANDOM_CHARS && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What has this name, links not followed.
fn found(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file that a path leads to over symbolic links, and the regular file that is there, if there is one.
fn resolve(path: &Path) -> io::Result<(PathBuf, Option<Metadata>)> {
    let mut path = path.to_owned();
    loop {
        let metadata = found(&path)?;
        if !metadata.as_ref().is_some_and(Metadata::is_symlink) {
            metadata.as_ref().map_or(Ok(()), file::check_regular)?;
            return Ok((path, metadata));
        }
        // The system ends circles, and may forbid to follow a link, as one of another user's in /tmp.
        if let Err(error) = fs::metadata(&path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let folder = folder_of(&path);
        if fs::canonicalize(folder)?.starts_with("/proc") {
            // To replace what standard output goes to would lose what is written there besides.
            let what = "leads to an open file of a process; name a file";
            return Err(io::Error::new(ErrorKind::InvalidInput, what));
        }
        path = folder.join(fs::read_link(&path)?);
    }
}

/// Lets those read `file` that `access` names; `old` is the file that it replaces.
#[cfg(unix)]
fn set_access(file: &File, access: Access, old: Option<&Metadata>) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let mode = match (access, old) {
        (Access::Like(model), _) => fs::metadata(model)?.mode() & 0o666 | 0o600,
        (_, None) => return Ok(()),
        (_, Some(old)) => {
            let new = file.metadata()?;
            let other = (new.uid(), new.gid()) != (old.uid(), old.gid());
            let kept = !other || fchown(file, Some(old.uid()), Some(old.gid())).is_ok();
            let group =
                kept || old.gid() == new.gid() || fchown(file, None, Some(old.gid())).is_ok();
            let mode = old.mode() & 0o777;
            // Another group may do what everybody may.
            if group { mode } else { mode & 0o707 | (mode & 0o007) << 3 }
        }
    };
    file.set_permissions(PermissionsExt::from_mode(mode))
}

#[cfg(not(unix))]
fn set_access(_: &File, _: Access, _: Option<&Metadata>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn write(path: &Path, text: &str, access: Access) -> io::Result<()> {
        replace(path, access, |file| file.write_all(text.as_bytes()))
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole_and_else_vanishes() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("m.packed");
        fs::write(&target, "old").unwrap();
        let [mut kept, dropped] = [(); 2].map(|()| TempFile::new(&target, Access::Usual).unwrap());
        assert_eq!(names(folder.path()).len(), 3, "two at once do not meet");
        kept.reserve(3).unwrap();
        kept.file().write_all(b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old", "not before it is whole");
        kept.publish().unwrap();
        drop(dropped);
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["m.packed"]);
        assert!(check(&folder.path().join("absent/m.packed")).is_err());
        let huge = TempFile::new(&target, Access::Usual).unwrap();
        assert!(!cfg!(target_os = "linux") || huge.reserve(1 << 60).is_err());
    }

    #[test]
    fn nothing_is_lost_where_writing_fails() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        write(&target, "old", Access::Private).unwrap();
        let failed = replace(&target, Access::Private, |file| {
            file.write_all(b"ne")?;
            Err(ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn leftovers_of_killed_programs_are_removed_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let dead = {
            let file = TempFile::new(&place("a"), Access::Private).unwrap();
            // As it is when a program is killed: the lock is gone, the file is not.
            let (_, path) = file.file.keep().unwrap();
            path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        let alive = TempFile::new(&place("a.b"), Access::Private).unwrap();
        for name in
            ["a.part", "a.0123456789abcdef.part2", "a.backup.part", "b.0123456789abcdef.part"]
        {
            fs::write(place(name), "somebody's").unwrap();
        }
        #[cfg(unix)]
        file::tests::make_pipe(&place("a.ffffffffffffffff.part"));
        let before = names(folder.path());
        assert!(before.contains(&dead), "{dead} in {before:?}");
        write(&place("a"), "new", Access::Private).unwrap();
        let mut expected: Vec<_> = before.into_iter().filter(|name| *name != dead).collect();
        expected.push("a".into());
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        alive.publish().unwrap();
        write(&place("b"), "new", Access::Private).unwrap();
        assert!(!place("b.0123456789abcdef.part").exists());
    }

    #[test]
    fn names_of_any_length_have_a_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x".repeat(255), "é".repeat(127), "a".repeat(199) + "é"] {
            let target = folder.path().join(name);
            write(&target, "new", Access::Private).unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"new");
        }
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_regular_file_is_refused_and_stays() {
        use std::os::unix::fs::FileTypeExt;
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        file::tests::make_pipe(&pipe);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("pipe", &link).unwrap();
        for (path, part) in [
            (&*pipe, "is a pipe, not a regular file"),
            (&*link, "is a pipe"),
            (folder.path(), "is a directory"),
            ("/dev/full".as_ref(), "is a device"),
            ("/dev/stdin".as_ref(), "an open file of a process"),
            ("".as_ref(), "names no file"),
        ] {
            for error in [check(path).unwrap_err(), write(path, "x", Access::Usual).unwrap_err()] {
                assert!(error.to_string().contains(part), "{path:?}: {error}");
            }
        }
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
        assert_eq!(names(folder.path()), ["link", "pipe"]);
        // One that takes the place while the file is written.
        let target = folder.path().join("new");
        let late = TempFile::new(&target, Access::Usual).unwrap();
        file::tests::make_pipe(&target);
        assert!(late.publish().unwrap_err().to_string().contains("is a pipe"));
        assert!(fs::metadata(&target).unwrap().file_type().is_fifo());
    }

    #[test]
    #[cfg(unix)]
    fn a_symbolic_link_stays_and_its_target_is_replaced() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::create_dir(place("deep")).unwrap();
        fs::write(place("deep/real"), "old").unwrap();
        symlink("deep/second", place("first")).unwrap();
        symlink("real", place("deep/second")).unwrap();
        symlink(place("deep/absent"), place("dangling")).unwrap();
        symlink("circle", place("circle")).unwrap();
        for (link, real) in [("first", "deep/real"), ("dangling", "deep/absent")] {
            write(&place(link), "new", Access::Usual).unwrap();
            assert!(fs::symlink_metadata(place(link)).unwrap().is_symlink());
            assert_eq!(fs::read(place(real)).unwrap(), b"new");
        }
        assert_eq!(names(&place("deep")), ["absent", "real", "second"]);
        assert!(write(&place("circle"), "new", Access::Usual).is_err());
    }

    #[test]
    #[cfg(unix)]
    fn permissions_are_kept_and_new_files_are_private_if_they_should_be() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let mode = |name: &str| fs::metadata(place(name)).unwrap().permissions().mode() & 0o7777;
        write(&place("private"), "x", Access::Private).unwrap();
        write(&place("usual"), "x", Access::Usual).unwrap();
        fs::write(place("by hand"), "x").unwrap();
        assert_eq!((mode("private"), mode("usual")), (0o600, mode("by hand")));
        for kept in [0o600, 0o644, 0o660, 0o400] {
            for access in [Access::Private, Access::Usual] {
                fs::set_permissions(place("usual"), PermissionsExt::from_mode(kept)).unwrap();
                write(&place("usual"), "y", access).unwrap();
                assert_eq!(mode("usual"), kept);
            }
            fs::set_permissions(place("by hand"), PermissionsExt::from_mode(kept)).unwrap();
            write(&place("private"), "z", Access::Like(&place("by hand"))).unwrap();
            assert_eq!(mode("private"), kept | 0o600);
        }
        // Nobody else can read it on its way, even if its target may be read by all later.
        fs::set_permissions(place("usual"), PermissionsExt::from_mode(0o600)).unwrap();
        let file = TempFile::new(&place("usual"), Access::Usual).unwrap();
        assert_eq!(file.file.as_file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// Only root can tell whether the owner is kept.
    #[test]
    #[cfg(unix)]
    fn the_owner_is_kept() {
        use std::os::unix::fs::{MetadataExt, chown};
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        fs::write(&target, "old").unwrap();
        if chown(&target, Some(12_345), Some(23_456)).is_err() {
            return;
        }
        write(&target, "new", Access::Usual).unwrap();
        let metadata = fs::metadata(&target).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12_345, 23_456));
    }
}
