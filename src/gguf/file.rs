//! The bytes of one file: mapped, or read into memory.
//!
//! A mapping is the default because it costs nothing to open and shares pages between processes.
//! Read into memory, the same bytes lie in an anonymous mapping, so that both kinds are page-aligned
//! and both can be locked.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use memmap2::{Advice, Mmap, MmapMut, MmapOptions, UncheckedAdvice};

use crate::error::{Error, Result};

/// Pages are released in whole multiples of this, the largest page size of our machines.
const RELEASE_UNIT: usize = 64 * 1024;

/// How to bring a model's bytes into the address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Read the file into memory instead of mapping it (`--no-mmap`).
    pub no_mmap: bool,
    /// Keep the bytes from being swapped out (`--mlock`).
    pub mlock: bool,
}

/// The bytes of one file, read-only, page-aligned.
#[derive(Debug)]
pub(super) struct FileBytes {
    map: Mmap,
    /// Whether dropped pages come back from a file; those of an anonymous mapping would be zeros.
    mapped_file: bool,
}

impl FileBytes {
    pub(super) fn open(path: &Path, options: OpenOptions) -> Result<Self> {
        let io = |source| Error::io(path, source);
        let mut file = File::open(path).map_err(io)?;
        let info = file.metadata().map_err(io)?;
        if info.is_dir() {
            return Err(Error::gguf(path, "is a directory; name a .gguf file inside it"));
        }
        if info.is_file() && info.len() == 0 {
            return Err(Error::gguf(path, "is empty; download it again"));
        }
        if !info.is_file() {
            // Pipes have no length to map or check against.
            return Err(Error::gguf(path, "is not a regular file; save the model to disk first"));
        }
        let bytes = if options.no_mmap {
            let len = usize::try_from(info.len())
                .map_err(|_| Error::gguf(path, "is larger than the address space"))?;
            let mut memory = MmapMut::map_anon(len).map_err(io)?;
            file.read_exact(&mut memory).map_err(io)?;
            Self { map: memory.make_read_only().map_err(io)?, mapped_file: false }
        } else {
            // SAFETY: the mapping is read-only and private to us, and is only ever seen as bytes,
            // for which every pattern is valid. Should another process shorten the file meanwhile,
            // touching the lost pages ends this process with SIGBUS: no worse memory error can
            // follow, and every mapping reader of models accepts it; `no_mmap` avoids it.
            let map = unsafe { MmapOptions::new().map(&file) }.map_err(io)?;
            Self { map, mapped_file: true }
        };
        if options.mlock {
            bytes.lock(path)?;
        }
        Ok(bytes)
    }

    /// Copies bytes that came from elsewhere, so that they are aligned like a mapped file.
    pub(super) fn from_slice(bytes: &[u8], path: &Path) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::gguf(path, "is empty"));
        }
        let io = |source| Error::io(path, source);
        let mut memory = MmapMut::map_anon(bytes.len()).map_err(io)?;
        memory.copy_from_slice(bytes);
        Ok(Self { map: memory.make_read_only().map_err(io)?, mapped_file: false })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    #[cfg(unix)]
    fn lock(&self, path: &Path) -> Result<()> {
        self.map.lock().map_err(|error| {
            Error::Unsupported(format!(
                "{}: cannot lock {} bytes in memory ({error}); \
                 raise the limit (ulimit -l) or leave --mlock out",
                path.display(),
                self.map.len()
            ))
        })
    }

    #[cfg(not(unix))]
    fn lock(&self, _: &Path) -> Result<()> {
        Err(Error::Unsupported("--mlock works on Unix only; leave it out".into()))
    }

    /// Asks for read-ahead of a range. Advice: failure changes speed, never results.
    pub(super) fn will_need(&self, start: usize, len: usize) {
        #[cfg(unix)]
        if self.mapped_file && self.covers(start, len) {
            let _ = self.map.advise_range(Advice::WillNeed, start, len);
        }
    }

    /// Gives back the whole pages inside a range; reading them again fetches them from the file.
    pub(super) fn release(&self, start: usize, len: usize) {
        #[cfg(unix)]
        if self.mapped_file && self.covers(start, len) {
            let first = start.next_multiple_of(RELEASE_UNIT);
            let end = (start + len) / RELEASE_UNIT * RELEASE_UNIT;
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
