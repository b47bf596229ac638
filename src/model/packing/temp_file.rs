//! A sidecar on its way: under a name of its own, locked, renamed when it is whole.
//!
//! Two programs may pack the same model at once; the last to finish gives the file its contents. What
//! a killed program leaves behind is told by its lock, which ended with it.

use super::sidecar;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The ending of a file that is being written.
const ENDING: &str = "part";
/// Programs of one number, on several machines or one after the other, that leave a file behind.
const ATTEMPTS: u32 = 100;

/// A new, empty file that is removed when dropped, unless [`Part::publish`] gave it its name.
pub(super) struct Part {
    pub(super) file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Part {
    /// A file that will become `target`.
    pub(super) fn new(target: &Path) -> io::Result<Part> {
        let (name, id) = (target.display(), std::process::id());
        for attempt in 0..ATTEMPTS {
            let path = PathBuf::from(format!("{name}.{id}-{attempt}.{ENDING}"));
            let file = File::options().read(true).write(true).create_new(true).open(&path);
            let file = match file {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            // Somebody who tidies up may have found it in the meantime.
            let taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            if !taken && path.try_exists()? {
                return Ok(Part { file, path, target: target.to_owned() });
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Makes sure that there is room, where the system can; also makes writing faster.
    pub(super) fn reserve(&self, len: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            let reserved = fallocate(&self.file, FallocateFlags::empty(), 0, len);
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
    pub(super) fn publish(mut self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes what killed programs left behind, and sidecars of models that are gone from their folders.
pub(super) fn tidy(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let useless = match path.extension().and_then(|ending| ending.to_str()) {
            Some(ENDING) => File::open(&path).is_ok_and(|file| file.try_lock().is_ok()),
            Some(sidecar::ENDING) => sidecar::source_of(&path).is_some_and(|model| is_gone(&model)),
            _ => false,
        };
        if useless {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether a file was there and is no more: not merely on a disk that is not mounted.
fn is_gone(file: &Path) -> bool {
    file.try_exists().is_ok_and(|exists| !exists) && file.parent().is_some_and(Path::is_dir)
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

    #[test]
    fn a_part_gets_its_name_when_it_is_whole_and_else_vanishes() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("m.packed");
        fs::write(&target, "old").unwrap();
        let [mut kept, dropped] = [(); 2].map(|()| Part::new(&target).unwrap());
        assert_eq!(names(folder.path()).len(), 3, "two at once do not meet");
        kept.reserve(3).unwrap();
        kept.file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old", "not before it is whole");
        kept.publish().unwrap();
        drop(dropped);
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["m.packed"]);
        assert!(Part::new(&folder.path().join("absent/m.packed")).is_err());
        let huge = Part::new(&target).unwrap();
        assert!(!cfg!(target_os = "linux") || huge.reserve(1 << 60).is_err());
    }

    #[test]
    fn tidying_removes_what_the_dead_left_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let alive = Part::new(&folder.path().join("alive.packed")).unwrap();
        fs::write(folder.path().join("dead.packed.1-0.part"), "half").unwrap();
        fs::write(folder.path().join("other.packed"), "no sidecar").unwrap();
        fs::write(folder.path().join("note.txt"), "somebody's").unwrap();
        tidy(folder.path());
        let left = names(folder.path());
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(left[0].starts_with("alive.packed."), "{left:?}");
        assert_eq!(left[1..], ["note.txt", "other.packed"]);
        drop(alive);
    }
}
