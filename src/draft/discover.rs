//! Finds the drafter that was trained for a model, and those beside it that may fit.

use super::trained;
use crate::error::Result;
use crate::gguf::{Gguf, OpenOptions};
use crate::machine;
use crate::model::Model;
use std::path::{Path, PathBuf};

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

/// The first drafter beside a model's file that can be run, and does not say which model it was trained for: whether it
/// fits, its user has to know.
pub(crate) fn offered(model: &Path) -> Option<PathBuf> {
    let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let has_name = |path: &&PathBuf| {
        path.extension().is_some_and(|ending| ending == "gguf")
            && path.file_name().is_some_and(|name| is_drafter_to_run(&name.to_string_lossy()))
    };
    let can_run = |path: &&PathBuf| {
        Gguf::open(path).is_ok_and(|gguf| {
            let arch = gguf.metadata().get_str("general.architecture").ok().flatten();
            arch.is_some_and(is_trained) && trained::target_of(&gguf).is_none()
        })
    };
    paths.iter().filter(has_name).find(can_run).cloned()
}

/// Whether files with this name are drafters, by what their makers call them.
pub fn is_drafter_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    is_drafter_to_run(&name) || name.starts_with("mtp-") || name.contains("dflash")
}

/// Whether files with this name are drafters of kinds that can be run.
pub fn is_drafter_to_run(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("eagle3") || name.ends_with(ENDING)
}

/// Whether this is the architecture of trained drafters that can be run.
pub fn is_trained(arch: &str) -> bool {
    trained::ARCHITECTURES.contains(&arch)
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

    /// A file without tensors whose drafter was trained for `target`.
    fn file(arch: &str, target: &str) -> Vec<u8> {
        let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
        let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes(), &0u64.to_le_bytes()].concat();
        let target_key = format!("{arch}.target.fingerprint");
        let keys = [("general.architecture", arch), (&*target_key, target)];
        let keys: Vec<_> = keys.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        bytes.extend((keys.len() as u64).to_le_bytes());
        for (key, value) in keys {
            bytes.extend([string(key), 8u32.to_le_bytes().to_vec(), string(value)].concat());
        }
        bytes
    }

    #[test]
    fn a_drafter_beside_the_model_is_offered_if_it_can_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: Vec<u8>| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        };
        for (name, bytes) in [
            ("a-eagle3.gguf", b"broken".to_vec()),
            ("b-eagle3.gguf", file("llama", "")),
            ("c-eagle3.gguf", file("eagle3", "mine")),
            ("d-eagle3.txt", file("eagle3", "")),
            ("e.gguf", file("eagle3", "")),
            ("mtp-m.gguf", file("qwen3next", "")),
            ("m-dflash.gguf", file("dflash", "")),
        ] {
            put(name, bytes);
        }
        let model = folder.path().join("model.gguf");
        assert_eq!(offered(&model), None);
        for name in ["m-EAGLE3-q8_0.gguf", "eagle3-m.gguf"] {
            put(name, file("eagle3", ""));
        }
        assert_eq!(offered(&model), Some(folder.path().join("eagle3-m.gguf")));
        assert_eq!(offered(Path::new("/nonexistent/model.gguf")), None);
        for (name, is, runs) in [
            ("mtp-m.gguf", true, false),
            ("m-DFlash-bf16.gguf", true, false),
            ("m-EAGLE3.gguf", true, true),
            ("m.dgf.gguf", true, true),
            ("m-Q4_K_M.gguf", false, false),
        ] {
            assert_eq!((is_drafter_name(name), is_drafter_to_run(name)), (is, runs), "{name}");
        }
    }

    #[test]
    fn the_smallest_of_the_right_drafters_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let find = |fingerprint: &str| {
            let nowhere = folder.path().join("nowhere");
            first_of([nowhere, folder.path().to_owned()].into_iter(), fingerprint)
        };
        assert_eq!(find("mine").unwrap(), None);
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
