//! Where a model's weights are packed to: memory, a file of the cache directory, or nowhere.
//!
//! ```text
//! plan.rs     which packed bytes lie where
//! sidecar.rs  the file: its format, when it is believed, how it is written
//! ```
//!
//! Never is more than one copy of the weights in memory, but for a few megabytes: what was packed is
//! dropped from the mapped model, and what is written to the sidecar goes through two small buffers.

mod plan;
mod sidecar;

use super::weights::{Matrix, MatrixPlace};
use crate::error::{Error, Result};
use crate::gguf::{FileBytes, Gguf};
use crate::machine;
use crate::setting::{Face, Setting};
use dovetail_kernels::SharedBytes;
use plan::{Failure, Plan};
use sidecar::Sidecar;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// WeightMatrix weights of less are packed at every start, in [`Repack::Auto`]: that takes a fraction of a
/// second, and leaves no file behind.
const SMALL_BYTES: usize = 256 << 20;

/// What [`Repack::Auto`] leaves free on the disk.
const SPARE_BYTES: u64 = 1 << 30;

/// The folder of sidecars in the cache directory.
const FOLDER: &str = "packed";

/// Where weights are packed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repack {
    /// To a sidecar if the model is large and the disk has room; else to memory.
    Auto,
    /// To a sidecar in the cache directory, found again at the next start; to memory where that
    /// cannot be written.
    Cache,
    /// To memory, at every start.
    #[default]
    Memory,
    /// Nowhere: rows are packed each time they are multiplied, which takes time and no memory.
    Off,
}

impl FromStr for Repack {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Repack, String> {
        match name {
            "auto" => Ok(Repack::Auto),
            "cache" => Ok(Repack::Cache),
            "memory" => Ok(Repack::Memory),
            "off" => Ok(Repack::Off),
            _ => Err("give auto, cache, memory or off".into()),
        }
    }
}

/// Where a loaded model's weights are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Where they are.
    pub storage: WeightStorage,
    /// The weights' bytes there.
    pub bytes: u64,
    /// Why there is no sidecar though one was wanted, or why the one that was there had to be
    /// replaced: a clause that names the folder or the file.
    pub reason: Option<String>,
}

impl Packing {
    /// What the users of a face should read once: that a file was written, or that something is not as
    /// it was wanted.
    pub fn notice(&self, face: &dyn Face) -> Option<String> {
        let size = machine::human_bytes(self.bytes);
        let in_memory = face.choice(&Setting::Repack.with("memory"));
        match (&self.storage, &self.reason) {
            (WeightStorage::Sidecar { path, new: true }, _) => Some(format!(
                "packed {size} of weights into {}; the next start maps them",
                path.display()
            )),
            (WeightStorage::Memory, Some(why)) => Some(format!(
                "packed weights cannot be kept ({why}): packing them in memory at every start; \
                 DOVETAIL_CACHE names another folder, {in_memory} needs none"
            )),
            (WeightStorage::Native, Some(why)) => Some(format!(
                "no memory for {size} of packed weights, nor a file ({why}): they stay as they are, \
                 and every token takes about twice as long; make room, or name another folder with \
                 DOVETAIL_CACHE"
            )),
            _ => None,
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = machine::human_bytes(self.bytes);
        match &self.storage {
            WeightStorage::Memory => write!(f, "{size} packed in memory"),
            WeightStorage::Sidecar { path, .. } => write!(f, "{size} packed in {}", path.display()),
            WeightStorage::Native => write!(f, "{size} as in the model's file"),
        }?;
        self.reason.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

/// Where the weights are that a pass reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightStorage {
    /// In memory, packed.
    Memory,
    /// In a file, packed and mapped.
    Sidecar {
        /// The file.
        path: PathBuf,
        /// Whether it was written just now.
        new: bool,
    },
    /// In the model's own file, as they are.
    Native,
}

/// How weights are packed.
pub(super) struct Options<'a> {
    pub(super) repack: Repack,
    /// The cache directory, if there is one.
    pub(super) cache: Option<&'a Path>,
    /// Whether packed bytes are locked in memory.
    pub(super) mlock: bool,
    /// Bytes of memory that are free for packed weights which wanted to be in a sidecar.
    pub(super) free_memory: u64,
    /// Packs.
    pub(super) pool: &'a rayon::ThreadPool,
    /// Hears of bytes packed and bytes in all; `false` cancels.
    pub(super) progress: &'a mut dyn FnMut(u64, u64) -> bool,
}

/// Packs matrices, or finds them packed: by name, none if they stay as they are.
pub(super) fn pack(
    gguf: &Gguf,
    matrices: Vec<Matrix>,
    mut o: Options,
) -> Result<(HashMap<MatrixPlace, SharedBytes>, Packing)> {
    let native = matrices.iter().map(|matrix| matrix.rows.bytes().len() as u64).sum();
    let stay = |reason| {
        let packing = Packing { storage: WeightStorage::Native, bytes: native, reason };
        Ok((HashMap::new(), packing))
    };
    let plan = Plan::new(matrices);
    let mut reason = None;
    match o.repack {
        Repack::Off => return stay(None),
        Repack::Auto if plan.len() < SMALL_BYTES => {}
        Repack::Auto | Repack::Cache => match to_sidecar(gguf, &plan, &mut o) {
            Ok(done) => return Ok(done),
            Err(Failure::Cancelled) => return Err(cancelled()),
            Err(Failure::Refused(why)) => {
                if o.free_memory < plan.len() as u64 {
                    return stay(Some(why));
                }
                reason = Some(why);
            }
        },
        Repack::Memory => {}
    }
    let bytes = to_memory(gguf, &plan, &mut o)?;
    let packing = Packing { storage: WeightStorage::Memory, bytes: plan.len() as u64, reason };
    Ok((plan.share(&bytes), packing))
}

fn to_memory(gguf: &Gguf, plan: &Plan, o: &mut Options) -> Result<Arc<FileBytes>> {
    let failed = |error| Error::io(gguf.path(), error);
    let mut memory = FileBytes::room(plan.len(), gguf.path())?;
    let packed = plan.pack(gguf, o.progress, |run| {
        let out = &mut memory[run.at..][..run.len];
        o.pool.install(|| run.rows.pack(run.first, out));
        Ok(())
    });
    packed.map_err(|_| cancelled())?;
    let bytes = FileBytes::from_memory(memory).map_err(failed)?;
    if o.mlock {
        bytes.lock(gguf.path())?;
    }
    Ok(Arc::new(bytes))
}

fn to_sidecar(
    gguf: &Gguf,
    plan: &Plan,
    o: &mut Options,
) -> std::result::Result<(HashMap<MatrixPlace, SharedBytes>, Packing), Failure> {
    let Some(cache) = o.cache else {
        return Err(Failure::Refused("there is no cache directory (HOME is not set)".into()));
    };
    let sidecar = Sidecar::new(&cache.join(FOLDER), gguf, plan, o.pool);
    let (bytes, new, reason) = match sidecar.open(o.progress) {
        Ok(bytes) => (bytes, false, None),
        Err(Failure::Cancelled) => return Err(Failure::Cancelled),
        Err(Failure::Refused(why)) => {
            let reason = sidecar.path().exists().then_some(why);
            let spare_bytes = if o.repack == Repack::Auto { SPARE_BYTES } else { 0 };
            (sidecar.create(gguf, spare_bytes, o.progress)?, true, reason)
        }
    };
    if o.mlock {
        bytes.lock(sidecar.path()).map_err(|error| Failure::Refused(error.to_string()))?;
    }
    let storage = WeightStorage::Sidecar { path: sidecar.path().to_owned(), new };
    let packing = Packing { storage, bytes: sidecar.len() as u64, reason };
    Ok((plan.share(&Arc::new(bytes)), packing))
}

fn cancelled() -> Error {
    Error::Cancelled("loading")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::writer;
    use crate::setting::Plain;
    use dovetail_kernels::{cpu::GgufMatrix, quant};

    #[test]
    fn without_room_anywhere_rows_stay_as_they_are_and_that_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.gguf");
        std::fs::write(&model, writer::file(&[], &[("w", &[32, 16], 0, 0)], 2048)).unwrap();
        let gguf = Gguf::open(&model).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let place = MatrixPlace { tensor: "w".into(), first: 0 };
        let pack = |repack, free_memory| {
            let ty = quant::type_info(0).unwrap();
            let bytes = gguf.share(&gguf.require_tensor("w").unwrap());
            let rows = GgufMatrix::new(ty, 16, 32, bytes).unwrap();
            let progress = &mut |_, _| true;
            let options =
                Options { repack, cache: None, mlock: false, free_memory, pool: &pool, progress };
            pack(&gguf, vec![Matrix { place: place.clone(), rows }], options).unwrap()
        };
        let (packed, packing) = pack(Repack::Cache, 100);
        let notice = packing.notice(&Plain).unwrap();
        assert_eq!((packing.storage, packed.len()), (WeightStorage::Native, 0));
        assert!(notice.contains("HOME") && notice.contains("twice as long"), "{notice}");
        let (packed, packing) = pack(Repack::Cache, 1 << 20);
        assert!(
            packing.storage == WeightStorage::Memory && packed[&place].len() == 2048,
            "{packing:?}"
        );
        let (_, packing) = pack(Repack::Memory, 100);
        assert_eq!(
            (packing.storage, packing.reason),
            (WeightStorage::Memory, None),
            "as it was asked for"
        );
    }
}
