//! The bytes of one file: mapped, or read into memory.
//!
//! A mapping is the default because it costs nothing to open and shares pages between processes.
//! Read into memory, the same bytes lie in an anonymous mapping, so that both kinds are page-aligned
//! and both can be locked. Packed weights lie in the same two kinds of places and are held alike.
//!
//! # What is assumed of a mapped file
//! That nobody changes it while it is mapped. Rust's rules ask for that (bytes behind a shared reference do not change), and
//! no system can enforce it, so a program that changes the file in place, as a download that goes on or a copy over it,
//! takes us outside these rules. Every program that maps models lives with that; the alternative is a copy of gigabytes at
//! every start. What follows in practice is bounded by how the bytes are used:
//!
//! - If the file is shortened, touching a lost page ends the program (SIGBUS).
//! - Whatever has to be valid is copied out of the mapping before it is checked: names, texts, keys, shapes, offsets and
//!   counts (`reader.rs`). A change after that cannot make a checked value wrong.
//! - What is read in place later are weights, for which every pattern of bits is a number, at offsets that were checked and
//!   copied. A change makes wrong numbers, and so wrong text; no index is taken from them.
//!
//! A file that is replaced by renaming, as sidecars are and most downloads, is not changed: its old contents stay mapped.
//! With `no_mmap` passes read nothing from the file once the model is loaded.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use memmap2::{Advice, Mmap, MmapMut, MmapOptions, UncheckedAdvice};

use crate::error::{Error, Result};
use crate::file;

/// Pages are released in whole multiples of this: touching one page of a file, the system maps all
/// that it holds together with it, on Linux up to 2 MB.
const RELEASE_UNIT: usize = 2 << 20;

/// How to bring a model's bytes into the address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Read the file into memory instead of mapping it (`--no-mmap`).
    pub no_mmap: bool,
    /// Keep the bytes from being swapped out (`--mlock`).
    pub mlock: bool,
}

/// The bytes of one file, or as many in memory: read-only, page-aligned.
#[derive(Debug)]
pub(crate) struct FileBytes {
    map: Mmap,
    /// Whether dropped pages come back from a file; those of an anonymous mapping would be zeros.
    mapped_file: bool,
    /// When the file was last changed, as far as the system tells.
    modified: Option<SystemTime>,
}

impl FileBytes {
    pub(super) fn open(path: &Path, options: OpenOptions) -> Result<Self> {
        let io = |source| Error::io(path, source);
        let metadata = std::fs::metadata(path).map_err(io)?;
        if metadata.is_dir() {
            return Err(Error::gguf(path, "is a directory; name a .gguf file inside it"));
        }
        if !metadata.is_file() {
            // Pipes have no length to map or check against.
            return Err(Error::gguf(path, "is not a regular file; save the model to disk first"));
        }
        let mut file = file::open(path).map_err(io)?;
        let info = file.metadata().map_err(io)?;
        if info.len() == 0 {
            return Err(Error::gguf(path, "is empty; download it again"));
        }
        let mut bytes = if options.no_mmap {
            let len = usize::try_from(info.len())
                .map_err(|_| Error::gguf(path, "is larger than the address space"))?;
            let mut memory = Self::room(len, path)?;
            file.read_exact(&mut memory).map_err(io)?;
            Self::from_memory(memory).map_err(io)?
        } else {
            Self::map(&file, 0).map_err(io)?
        };
        bytes.modified = info.modified().ok();
        if options.mlock {
            bytes.lock(path)?;
        }
        Ok(bytes)
    }

    /// Maps a file from byte `start` on, which must be a multiple of the system's pages for what comes before not to be
    /// mapped as well.
    ///
    /// This assumes that nobody changes what is mapped as long as it is; see the module.
    pub(crate) fn map(file: &File, start: u64) -> io::Result<Self> {
        // SAFETY: a shared reference to bytes promises that they do not change. This program never writes to what it has
        // mapped: models are not written, and a sidecar is whole before it is mapped, its header outside the mapping. That
        // nobody else writes to the file meanwhile is an assumption, which no system can be made to keep: the module says
        // what follows if it is broken.
        let map = unsafe { MmapOptions::new().offset(start).map(file) }?;
        Ok(Self { map, mapped_file: true, modified: None })
    }

    /// Memory to be written, for what comes from the file `path`.
    ///
    /// # Errors
    /// When the system refuses it.
    pub(crate) fn room(len: usize, path: &Path) -> Result<MmapMut> {
        MmapMut::map_anon(len).map_err(|source| Error::WeightMemory {
            path: path.to_owned(),
            bytes: len as u64,
            source,
        })
    }

    /// Written memory, from now on read-only.
    pub(crate) fn from_memory(memory: MmapMut) -> io::Result<Self> {
        Ok(Self { map: memory.make_read_only()?, mapped_file: false, modified: None })
    }

    /// Copies bytes that came from elsewhere, so that they are aligned like a mapped file.
    pub(crate) fn from_slice(bytes: &[u8], path: &Path) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::gguf(path, "is empty"));
        }
        let io = |source| Error::io(path, source);
        let mut memory = Self::room(bytes.len(), path)?;
        memory.copy_from_slice(bytes);
        Self::from_memory(memory).map_err(io)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub(super) fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Keeps the bytes from being swapped out. `path` is where they came from, for the message.
    ///
    /// # Errors
    /// When the system's limit is lower, or it cannot do that.
    #[cfg(unix)]
    pub(crate) fn lock(&self, path: &Path) -> Result<()> {
        let bytes = self.map.len();
        self.map.lock().map_err(|source| Error::Lock { path: path.to_owned(), bytes, source })
    }

    #[cfg(not(unix))]
    pub(crate) fn lock(&self, path: &Path) -> Result<()> {
        let (bytes, source) = (self.map.len(), std::io::ErrorKind::Unsupported.into());
        Err(Error::Lock { path: path.to_owned(), bytes, source })
    }

    /// Asks for read-ahead of a range. Advice: failure changes speed, never results.
    pub(super) fn will_need(&self, start: usize, len: usize) {
        #[cfg(unix)]
        if self.mapped_file && self.covers(start, len) {
            let _ = self.map.advise_range(Advice::WillNeed, start, len);
        }
    }

    /// Gives back the pages of a range, and those around it that came with them. Reading fetches them
    /// again.
    pub(super) fn release(&self, start: usize, len: usize) {
        #[cfg(unix)]
        if self.mapped_file && self.covers(start, len) {
            let first = start / RELEASE_UNIT * RELEASE_UNIT;
            let end = (start + len).next_multiple_of(RELEASE_UNIT).min(self.map.len());
            if first < end {
                // SAFETY: dropping pages loses data only where they were written or belong to no
                // file. This is a read-only mapping of a file (`mapped_file`), so later reads see
                // the same bytes; the range lies inside the mapping by `covers`.
                let _ = unsafe {
                    self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, first, end - first)
                };
            }
        }
    }

    fn covers(&self, start: usize, len: usize) -> bool {
        start.checked_add(len).is_some_and(|end| end <= self.map.len())
    }
}

impl AsRef<[u8]> for FileBytes {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}
