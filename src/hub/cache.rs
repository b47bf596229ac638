//! The hub's cache on the disk, as Hugging Face's programs lay it out, so that all find what one has fetched.
//!
//! ```text
//! models--USER--REPO/blobs/CHECKSUM                contents; CHECKSUM.incomplete until they are whole
//! models--USER--REPO/snapshots/COMMIT/PATH         a link to them
//! models--USER--REPO/refs/main                     the commit that was fetched last
//! .locks/models--USER--REPO/CHECKSUM.lock          locked by who fetches it
//! ```

use super::api::is_hex;
use super::repo::Repo;
use crate::temp_file::{self, Access};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// How deep the files of a snapshot lie at most.
const DEPTH_MAX: usize = 6;

/// The folder of a repository in a cache.
#[derive(Clone, Debug)]
pub struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// The folder in which all others lie. It may not be there yet.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// That of a repository in the cache at `cache`.
    pub fn new(cache: &Path, repo: &Repo) -> RepoCache {
        let name = repo.folder();
        RepoCache { folder: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    /// The file of some contents.
    pub fn blob(&self, blob: &str) -> PathBuf {
        self.folder.join("blobs").join(blob)
    }

    /// The file of contents that are being fetched.
    pub fn incomplete(&self, blob: &str) -> PathBuf {
        self.blob(&format!("{blob}.incomplete"))
    }

    /// Whether the contents are there, all of them.
    pub fn has(&self, blob: &str, bytes: u64) -> bool {
        fs::metadata(self.blob(blob)).is_ok_and(|about| about.is_file() && about.len() == bytes)
    }

    /// A file of a commit's snapshot, if all its bytes are there.
    pub fn file(&self, commit: &str, path: &str, bytes: u64) -> Option<PathBuf> {
        let file = self.snapshot(commit).join(path);
        let about = fs::metadata(&file).ok()?;
        (about.is_file() && about.len() == bytes).then_some(file)
    }

    /// The file that is locked while contents are fetched. Makes all folders that this needs.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn lock_file(&self, blob: &str) -> io::Result<File> {
        fs::create_dir_all(self.folder.join("blobs"))?;
        fs::create_dir_all(&self.locks)?;
        let path = self.locks.join(format!("{blob}.lock"));
        crate::file::open_with(&path, File::options().create(true).append(true))
    }

    /// Gives contents their path in a commit's snapshot. Returns that path.
    ///
    /// # Errors
    /// If the link cannot be made.
    pub fn link(&self, commit: &str, path: &str, blob: &str) -> io::Result<PathBuf> {
        let link = self.snapshot(commit).join(path);
        fs::create_dir_all(link.parent().expect("a snapshot is a folder"))?;
        let up = "../".repeat(2 + path.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{blob}"));
        let is_there = || fs::read_link(&link).is_ok_and(|old| old == target);
        let mut made = symlink(&target, &link);
        if is_error(&made, &[ErrorKind::AlreadyExists]) && !is_there() {
            // It leads to older contents.
            let removed = fs::remove_file(&link);
            if !is_error(&removed, &[ErrorKind::NotFound]) {
                removed?;
            }
            made = symlink(&target, &link);
        }
        if is_error(&made, &[ErrorKind::AlreadyExists]) && is_there() {
            return Ok(link);
        }
        // Where there are no links the contents move, as they do for Hugging Face's programs.
        if is_error(&made, &[ErrorKind::Unsupported, ErrorKind::PermissionDenied]) {
            made = fs::rename(self.blob(blob), &link);
        }
        made.map(|()| link)
    }

    /// Keeps the commit of the branch `main`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_main(&self, commit: &str) -> io::Result<()> {
        let path = self.folder.join("refs/main");
        fs::create_dir_all(self.folder.join("refs"))?;
        temp_file::replace(&path, Access::Usual, |file| file.write_all(commit.as_bytes()))
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The commit of the branch `main`, as it was when something was fetched last.
    pub fn main(&self) -> Option<String> {
        let text = crate::file::read_text(&self.folder.join("refs/main")).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_hex(commit, 40))
    }

    /// The files that are there, by their paths in the repository: of the branch `main`, then of other commits.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        let main = self.main();
        let entries = fs::read_dir(self.folder.join("snapshots")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut commits: Vec<_> = names.filter(|name| is_hex(name, 40)).collect();
        commits.sort_by_key(|commit| (Some(commit) != main.as_ref(), commit.clone()));
        let mut all: Vec<(String, PathBuf)> = Vec::new();
        for commit in commits {
            let (snapshot, mut paths) = (self.snapshot(&commit), Vec::new());
            walk(&snapshot, "", DEPTH_MAX, &mut paths);
            paths.retain(|path| all.iter().all(|(known, _)| known != path));
            // A link may lead to contents that somebody deleted.
            paths.retain(|path| snapshot.join(path).is_file());
            paths.sort();
            all.extend(paths.into_iter().map(|path| (path.clone(), snapshot.join(path))));
        }
        all
    }
}

fn is_error(result: &io::Result<()>, kinds: &[ErrorKind]) -> bool {
    result.as_ref().is_err_and(|error| kinds.contains(&error.kind()))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

fn walk(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{prefix}{name}");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => {
                walk(&entry.path(), &format!("{path}/"), depth - 1, found);
            }
            Ok(kind) if !kind.is_dir() => found.push(path),
            _ => {}
        }
    }
}

/// The cache of Hugging Face's programs: `HF_HUB_CACHE`, or `hub` in `HF_HOME`, or in `huggingface` of the folder for
/// caches.
pub fn folder(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| path_variable(variable, name);
    set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(home(variable)?.join("hub")))
}

/// The folder of Hugging Face's programs: `HF_HOME`, or `huggingface` in the folder for caches.
pub fn home(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| path_variable(variable, name);
    set("HF_HOME")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("huggingface")))
        .or_else(|| Some(set("HOME")?.join(".cache/huggingface")))
}

/// The path that a variable of the environment names; an empty one names none.
pub fn path_variable(variable: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    variable(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_where_hugging_face_s_programs_look() {
        let found = |set: &[(&str, &str)]| {
            let variable = |name: &str| {
                set.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value))
            };
            folder(&variable).map(|path| path.to_str().unwrap().to_owned())
        };
        let all =
            [("HF_HUB_CACHE", "/a"), ("HF_HOME", "/b"), ("XDG_CACHE_HOME", "/c"), ("HOME", "/d")];
        for (from, expected) in [
            (0, Some("/a")),
            (1, Some("/b/hub")),
            (2, Some("/c/huggingface/hub")),
            (3, Some("/d/.cache/huggingface/hub")),
            (4, None),
        ] {
            assert_eq!(found(&all[from..]).as_deref(), expected);
        }
        assert_eq!(
            found(&[("HF_HUB_CACHE", ""), ("HOME", "/d")]).unwrap(),
            "/d/.cache/huggingface/hub"
        );
    }

    #[test]
    #[cfg(unix)]
    fn contents_are_found_by_their_path() {
        let cache = tempfile::tempdir().unwrap();
        let repo = RepoCache::new(cache.path(), &"u/r".parse().unwrap());
        let (commit, other) = ("a".repeat(40), "b".repeat(40));
        drop(repo.lock_file("x1").unwrap());
        fs::write(repo.blob("x1"), "one").unwrap();
        fs::write(repo.blob("x2"), "two").unwrap();
        assert!(repo.has("x1", 3) && !repo.has("x1", 4) && !repo.has("x3", 3));
        for (blob, text) in [("x1", "one"), ("x2", "two"), ("x2", "two")] {
            let path = repo.link(&commit, "deep/er/m.gguf", blob).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert!(path.ends_with(format!("models--u--r/snapshots/{commit}/deep/er/m.gguf")));
        }
        std::thread::scope(|scope| {
            let link = || (0..200).all(|i| repo.link(&commit, &format!("{i}.txt"), "x1").is_ok());
            let all = [(); 8].map(|()| scope.spawn(link));
            assert!(all.into_iter().all(|thread| thread.join().unwrap()), "several make a link");
        });
        assert!(repo.has("x1", 3), "contents stay where links can be made");
        (0..200).for_each(|i| {
            fs::remove_file(repo.snapshot(&commit).join(format!("{i}.txt"))).unwrap()
        });
        fs::create_dir(repo.snapshot(&commit).join("folder")).unwrap();
        assert!(repo.link(&commit, "folder", "x1").is_err() && repo.has("x1", 3));
        repo.link(&commit, "a.gguf", "x1").unwrap();
        assert!(repo.file(&commit, "a.gguf", 3).is_some());
        assert_eq!(
            (repo.file(&commit, "a.gguf", 4), repo.file(&commit, "b.gguf", 3)),
            (None, None)
        );
        let paths = || repo.files().into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!((paths().join(" "), repo.main()), ("a.gguf deep/er/m.gguf".into(), None));
        let newer = repo.link(&other, "deep/er/m.gguf", "x1").unwrap();
        repo.link(&other, "z.gguf", "x2").unwrap();
        assert_eq!(paths(), ["a.gguf", "deep/er/m.gguf", "z.gguf"]);
        assert_ne!(repo.files()[1].1, newer);
        repo.set_main(&other).unwrap();
        assert_eq!(repo.main(), Some(other));
        assert_eq!(repo.files()[0], ("deep/er/m.gguf".into(), newer));
        assert_eq!(paths(), ["deep/er/m.gguf", "z.gguf", "a.gguf"]);
        fs::remove_file(repo.blob("x2")).unwrap();
        assert_eq!(paths(), ["deep/er/m.gguf", "a.gguf"], "the contents of z.gguf are gone");
        repo.set_main("../../elsewhere").unwrap();
        assert_eq!(repo.main(), None);
    }
}
