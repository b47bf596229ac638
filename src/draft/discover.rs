//! Finds the drafter that was trained for a model.

use super::trained;
use crate::error::Result;
use crate::gguf::{Gguf, OpenOptions};
use crate::machine;
use crate::model::Model;
use std::path::PathBuf;

/// The folder of drafters in the cache directory.
const FOLDER: &str = "drafters";

/// Ending of the names of drafters' files.
const ENDING: &str = "dgf.gguf";

/// The drafter for this model. Looks for files with names in `dgf.gguf` beside the model's file, then in `drafters` of
/// the cache directory; takes the smallest, which needs the least time beside the target.
///
/// # Errors
/// If there is none, and a file that may have been one cannot be read.
pub fn find(model: &Model) -> Result<Option<PathBuf>> {
    let beside = model.gguf().path().parent().map(|folder| match folder.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => folder.to_owned(),
    });
    let discover = machine::cache_folder().map(|folder| folder.join(FOLDER));
    let fingerprint = model.fingerprint();
    first_of(beside.into_iter().chain(discover), &fingerprint)
}

fn first_of(folders: impl Iterator<Item = PathBuf>, fingerprint: &str) -> Result<Option<PathBuf>> {
    let mut unreadable = Ok(None);
    for path in folders.flat_map(drafters_in) {
        match Gguf::open_with(&path, OpenOptions::default()) {
            Ok(gguf) if trained::target_of(&gguf) == Some(fingerprint) => return Ok(Some(path)),
            Ok(_) => {}
            Err(error) => unreadable = unreadable.and(Err(error)),
        }
    }
    unreadable
}

/// Files of a folder with this ending, the smallest first.
fn drafters_in(folder: PathBuf) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ENDING));
    paths.sort_by_cached_key(|path| {
        (path.metadata().map_or(u64::MAX, |metadata| metadata.len()), path.clone())
    });
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_of_the_right_drafters_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let find = |fingerprint: &str| {
            let nowhere = folder.path().join("nowhere");
            first_of([nowhere, folder.path().to_owned()].into_iter(), fingerprint)
        };
        assert_eq!(find("mine").unwrap(), None);
        let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
        let file = |arch: &str, target: &str| {
            let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes(), &0u64.to_le_bytes()].concat();
            bytes.extend(2u64.to_le_bytes());
            for (key, value) in
                [("general.architecture", arch), (&format!("{arch}.target.fingerprint"), target)]
            {
                bytes.extend([string(key), 8u32.to_le_bytes().to_vec(), string(value)].concat());
            }
            bytes
        };
        for (name, bytes) in [
            ("a.dgf.gguf", b"no file of this kind".to_vec()),
            ("b.dgf.gguf", file("dovetail-dgf", "other")),
            ("c.dgf.gguf", file("llama", "mine")),
            ("d.gguf", file("dovetail-dgf", "mine")),
            ("dd-dgf.gguf", file("eagle3", "third")),
            ("e-dgf.gguf", file("dovetail-dgf", "mine")),
            ("f-dgf.gguf", file("dovetail-dgf", "mine")),
            ("a-large-dgf.gguf", [file("dovetail-dgf", "mine"), vec![0; 64]].concat()),
        ] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        assert_eq!(find("mine").unwrap(), Some(folder.path().join("e-dgf.gguf")));
        assert_eq!(find("third").unwrap(), Some(folder.path().join("dd-dgf.gguf")));
        assert!(find("yours").unwrap_err().to_string().contains("a.dgf.gguf"), "the broken one");
    }
}
