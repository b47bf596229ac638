//! A model file beside an empty cache directory, in a folder that vanishes.

use super::alone::Alone;
use super::gguf::Parts;
use super::tiny::N_VOCAB;
use dovetail::infer::Outputs;
use dovetail::model::{Packing, Repack, WeightStorage};
use dovetail::{LoadOptions, Model};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tempfile::TempDir;

/// The folder.
pub struct Folder(TempDir);

impl Folder {
    /// A folder with this model.
    pub fn new(parts: &Parts) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::write(folder.model(), parts.bytes()).unwrap();
        folder
    }

    /// The model's file.
    pub fn model(&self) -> PathBuf {
        self.0.path().join("model.gguf")
    }

    /// The cache directory; it is not there before something is written to it.
    pub fn cache(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    /// What the folder of sidecars holds.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cache().join("packed")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The one file there.
    pub fn sidecar(&self) -> PathBuf {
        let [path] = <[PathBuf; 1]>::try_from(self.files()).unwrap();
        path
    }

    /// To load the model, with two threads.
    pub fn options(&self, repack: Repack) -> LoadOptions<'_> {
        LoadOptions { repack, cache: Some(self.cache()), threads: 2, ..LoadOptions::default() }
    }

    /// Loads the model.
    pub fn load(&self, repack: Repack) -> Model {
        super::load_with(&self.model(), self.options(repack)).unwrap()
    }

    /// Loads the model from its sidecar, which is then there and alone. Returns the bits of its
    /// logits, whether the sidecar was written for it, and why there had to be another.
    pub fn load_sidecar(&self) -> (Vec<u32>, bool, String) {
        let model = self.load(Repack::Cache);
        let Packing { storage, bytes, reason } = model.packing().clone();
        let WeightStorage::Sidecar { path, new } = storage else {
            panic!("{storage:?}: {reason:?}")
        };
        assert_eq!((&path, bytes), (&self.sidecar(), fs::metadata(&path).unwrap().len()));
        (logits(model), new, reason.unwrap_or_default())
    }
}

/// The bits of all logits of some tokens, fed one by one and together.
pub fn logits(model: impl Into<Arc<Model>>) -> Vec<u32> {
    let mut target = Alone::new(model.into(), 64, 2, 33);
    let (mut bits, mut row) = (Vec::new(), Vec::new());
    for width in [1, 1, 33] {
        let tokens: Vec<u32> = (0..width).map(|i| (i * 31 + 7) % N_VOCAB as u32).collect();
        target.append(&tokens, Outputs::All).unwrap();
        for i in 0..width as usize {
            target.logits(i).copy_to(&mut row);
            bits.extend(row.iter().map(|x| x.to_bits()));
        }
    }
    bits
}

/// Changes a file, and keeps the time of its last change if that is given.
pub fn rewrite(path: &Path, time: Option<SystemTime>, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
    if let Some(time) = time {
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
}

/// When a file was last changed.
pub fn time_of(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}
