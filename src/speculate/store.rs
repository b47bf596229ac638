//! Results of measurements and counts, in small files in the cache directory.
//!
//! A file's name contains a hash of its key, a text that describes what the file is about. The file begins with the
//! key, so two keys with the same hash are told apart. Files that cannot be read are measured again; if a file cannot
//! be written, its contents are measured again the next time.

use crate::temp_file::{self, Access};
use crate::{file, machine};
use serde_json::{Value, json};
use std::fs;
use std::hash::Hasher;
use std::io::Write;
use std::path::{Path, PathBuf};
use twox_hash::XxHash3_64;

/// Changes when the meaning of a file changes.
const VERSION: u32 = 1;

/// What a file holds for its key.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreEntry {
    /// The measurement or the counts.
    pub data: Value,
    /// How many times in succession the measurement was implausible, so made under load; 0 if it is plausible.
    pub under_load: u32,
}

impl StoreEntry {
    /// Plausible data.
    pub fn new(data: Value) -> StoreEntry {
        StoreEntry { data, under_load: 0 }
    }
}

/// A folder of such files.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The folder `measured` of the cache directory, if there is one.
    pub fn open() -> Option<Store> {
        Some(Store::at(machine::cache_folder()?.join("measured")))
    }

    /// This folder, which need not exist yet.
    pub fn at(folder: PathBuf) -> Store {
        Store { folder }
    }

    /// The path of the file for `key`; `name` is for people.
    pub fn path(&self, name: &str, key: &str) -> PathBuf {
        let mut hash = XxHash3_64::new();
        hash.write(key.as_bytes());
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
        let name: String = name.chars().map(safe).take(80).collect();
        self.folder.join(format!("{name}-{:016x}.json", hash.finish()))
    }

    /// Reads the entry of `key`.
    pub fn load(&self, name: &str, key: &str) -> Option<StoreEntry> {
        let mut value = read(&self.path(name, key))?;
        if value["version"] != VERSION || value["about"] != key {
            return None;
        }
        // Files without a mark are not marked.
        let under_load = value["under_load"].as_u64().unwrap_or(0);
        let under_load = u32::try_from(under_load).unwrap_or(u32::MAX);
        Some(StoreEntry { data: value["data"].take(), under_load })
    }

    /// Writes the entry of `key`. The file is replaced as a whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, name: &str, key: &str, entry: &StoreEntry) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = json!({ "version": VERSION, "about": key, "data": entry.data });
        if entry.under_load > 0 {
            file["under_load"] = entry.under_load.into();
        }
        let text = file.to_string();
        let path = self.path(name, key);
        temp_file::replace(&path, Access::Usual, |file| file.write_all(text.as_bytes()))
    }
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&file::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_again_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("new"));
        assert_eq!(store.load("a/b", "key"), None);
        for (data, under_load) in [(json!({ "x": 1.5 }), 2), (json!([2]), 0)] {
            let entry = StoreEntry { data, under_load };
            store.save("a/b", "key", &entry).unwrap();
            assert_eq!(store.load("a/b", "key"), Some(entry));
        }
        assert_eq!(store.load("a/b", "other"), None);
        let path = store.path("a/b", "key");
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
        // A file of another key, of another version, and a truncated one.
        let text = fs::read_to_string(&path).unwrap();
        let cut = text[..text.len() - 2].to_owned();
        for wrong in
            [("key", "kee"), ("\"version\":1", "\"version\":0"), ("\"version\":1", "\"version\":2")]
                .map(|(old, new)| text.replace(old, new))
                .into_iter()
                .chain([cut])
        {
            assert_ne!(wrong, text);
            fs::write(&path, wrong).unwrap();
            assert_eq!(store.load("a/b", "key"), None);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        Store::at(file).save("a", "key", &StoreEntry::new(json!(1))).unwrap_err();
    }
}
