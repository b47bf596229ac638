//! The file of a saved sequence: tokens, keys and values, and the drafter's state.
//!
//! ```text
//!  0  "DVTLSESS"
//!  8  u32  version                      12  u32  0
//! 16  u64  the model's fingerprint      24  u32 ×2  types of keys and values
//! 32  u64  number of tokens             40  u64  positions of them in the cache
//! 48  u64  positions that the drafter   56  u64  bytes of the drafter's state
//!          was notified of
//! 64  tokens, u32 · rows of the cache · the drafter's state · u64 XXH3 of all bytes before
//! ```
//!
//! All numbers are little-endian. Rows do not depend on the machine's cache layout (`KvCache::write_rows`), so a file
//! can be used wherever the model can. An existing file stays until the new one is complete on the disk. A file
//! contains a conversation, so a new one is readable by its owner only.

use crate::error::{Error, Result};
use crate::file;
use crate::infer::{CacheType, CacheTypes, KvCache, Sequence};
use crate::model::Model;
use crate::speculate::stream::SavedStream;
use crate::temp_file::{self, Access};
use std::hash::Hasher;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use twox_hash::XxHash3_64;

const MAGIC: &[u8; 8] = b"DVTLSESS";
/// Changes whenever the meaning of the bytes changes.
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
/// Bytes of the checksum.
const SUM_BYTES: u64 = 8;

/// The numbers at the start of a file.
struct Header {
    model: u64,
    types: [u32; 2],
    tokens: u64,
    cached: u64,
    draft_len: u64,
    drafter_bytes: u64,
}

/// Computes the checksum of the bytes that pass through.
struct Checksummed<T> {
    inner: T,
    sum: XxHash3_64,
}

impl<T> Checksummed<T> {
    fn new(inner: T) -> Checksummed<T> {
        Checksummed { inner, sum: XxHash3_64::new() }
    }
}

impl<T: Write> Write for Checksummed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sum.write(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Checksummed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(bytes)?;
        self.sum.write(&bytes[..n]);
        Ok(n)
    }
}

/// Writes a sequence of `model`.
///
/// # Errors
/// If the file cannot be written, or is not a regular file; an existing file is then unchanged.
pub(super) fn save(
    path: &Path,
    model: &Model,
    types: CacheTypes,
    saved: &SavedStream<&Sequence>,
) -> Result<()> {
    let header = Header {
        model: model.cache_fingerprint(saved.sequence.capacity()),
        types: number(types),
        tokens: saved.tokens.len() as u64,
        cached: saved.cached as u64,
        draft_len: saved.draft_len as u64,
        drafter_bytes: saved.draft.len() as u64,
    };
    let written = temp_file::replace(path, Access::Private, |file| {
        let mut out = Checksummed::new(BufWriter::new(file));
        out.write_all(&header.bytes())?;
        for token in &saved.tokens {
            out.write_all(&token.to_le_bytes())?;
        }
        saved.sequence.cache().write_rows(saved.cached, &mut out)?;
        out.write_all(&saved.draft)?;
        let sum = out.sum.finish();
        out.inner.write_all(&sum.to_le_bytes())?;
        out.inner.into_inner()?.sync_all()
    });
    written.map_err(|source| Error::io(path, source))
}

/// Reads a file into `sequence`, an empty one of `model` whose cache has these types.
///
/// # Errors
/// If the file cannot be read, is damaged, or was saved for another model, other cache types, or a longer context; or
/// if there is no memory for another cache.
pub(super) fn load(
    path: &Path,
    model: &Model,
    mut sequence: Sequence,
    types: CacheTypes,
) -> Result<SavedStream<Sequence>> {
    let wrong = |what: String| Error::Session { path: path.to_owned(), what };
    let failed = |source| Error::io(path, source);
    let file = file::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let mut file = Checksummed::new(BufReader::new(file));
    let mut bytes = [0; HEADER_BYTES];
    if len < HEADER_BYTES as u64 + SUM_BYTES {
        return Err(wrong("is no session file; name one that was saved".into()));
    }
    file.read_exact(&mut bytes).map_err(failed)?;
    let header = Header::read(&bytes).map_err(wrong)?;
    header.check(model, sequence.capacity(), types).map_err(wrong)?;
    let rows_bytes = sequence.cache().saved_bytes(header.cached);
    if rows_bytes.and_then(|rows| header.bytes_in_all(rows)) != Some(len) {
        return Err(wrong("is damaged or cut off (its length is wrong); save it anew".into()));
    }
    let [n, cached] = [header.tokens, header.cached].map(|n| n as usize);
    if n > sequence.capacity() {
        let most = sequence.capacity();
        return Err(wrong(format!(
            "has {n} tokens and the context holds {most}; make the session with a larger context"
        )));
    }
    KvCache::check_memory(model.config(), sequence.cache().size(), 1)?;
    let mut tokens = Vec::with_capacity(sequence.capacity());
    let mut token = [0; 4];
    for _ in 0..n {
        file.read_exact(&mut token).map_err(failed)?;
        tokens.push(u32::from_le_bytes(token));
    }
    sequence.cache_mut().read_rows(cached, &mut file).map_err(failed)?;
    let mut drafter = vec![0; header.drafter_bytes as usize];
    file.read_exact(&mut drafter).map_err(failed)?;
    let mut sum = [0; SUM_BYTES as usize];
    file.inner.read_exact(&mut sum).map_err(failed)?;
    if u64::from_le_bytes(sum) != file.sum.finish() {
        return Err(wrong("is damaged (its checksum is wrong); save it anew".into()));
    }
    let unknown = model.config().check_tokens(&tokens);
    unknown.map_err(|error| wrong(format!("is damaged ({error}); save it anew")))?;
    let draft_len = header.draft_len as usize;
    let saved = SavedStream { draft_len, draft: drafter, ..SavedStream::of_rows(sequence) };
    Ok(SavedStream { tokens, cached, ..saved })
}

impl Header {
    fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.model.to_le_bytes());
        for (i, ty) in self.types.iter().enumerate() {
            bytes[24 + 4 * i..][..4].copy_from_slice(&ty.to_le_bytes());
        }
        let counts = [self.tokens, self.cached, self.draft_len, self.drafter_bytes];
        for (i, n) in counts.iter().enumerate() {
            bytes[32 + 8 * i..][..8].copy_from_slice(&n.to_le_bytes());
        }
        bytes
    }

    /// Reads a header, which must be one that this program writes.
    fn read(bytes: &[u8; HEADER_BYTES]) -> std::result::Result<Header, String> {
        if &bytes[..8] != MAGIC {
            return Err("is no session file; name one that was saved".into());
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8"));
        let version = u32_at(8);
        if version != VERSION {
            return Err(format!(
                "is a session file of version {version}; this program reads {VERSION}: save it anew"
            ));
        }
        Ok(Header {
            model: u64_at(16),
            types: [24, 28].map(u32_at),
            tokens: u64_at(32),
            cached: u64_at(40),
            draft_len: u64_at(48),
            drafter_bytes: u64_at(56),
        })
    }

    /// Bytes of the whole file; `None` if the numbers are inconsistent or too large.
    fn bytes_in_all(&self, rows_bytes: u64) -> Option<u64> {
        // Every token but the last must be in the cache.
        let inside = (self.tokens.saturating_sub(1)..=self.tokens).contains(&self.cached)
            && self.draft_len <= self.cached;
        let tokens = self.tokens.checked_mul(4).filter(|_| inside)?;
        let all = tokens.checked_add(rows_bytes)?.checked_add(self.drafter_bytes)?;
        all.checked_add(HEADER_BYTES as u64 + SUM_BYTES)
    }

    fn check(
        &self,
        model: &Model,
        n_ctx: usize,
        types: CacheTypes,
    ) -> std::result::Result<(), String> {
        if self.model != model.cache_fingerprint(n_ctx) {
            let name = &model.config().name;
            return Err(format!(
                "was saved with another model than this {name}, or with other positions; load it with the model and the \
                 scaling of positions that it was saved with"
            ));
        }
        if self.types != number(types) {
            let name = |ty: u32| CacheType::ALL.get(ty as usize).map_or("?", |ty| ty.name());
            let [keys, values] = self.types.map(name);
            return Err(format!(
                "has keys of type {keys} and values of type {values}; make the session with these \
                 (-ctk, -ctv)"
            ));
        }
        Ok(())
    }
}

/// The numbers of the types in a file.
fn number(types: CacheTypes) -> [u32; 2] {
    let place =
        |ty| CacheType::ALL.iter().position(|other| *other == ty).expect("it is one") as u32;
    [types.keys, types.values].map(place)
}
