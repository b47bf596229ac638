//! One file, from a hub to the cache.
//!
//! The bytes go to a file `….incomplete`, which stays if the program ends and is gone on with the next time. It gets its
//! name when all bytes are there and their SHA-256 is the one that the hub said.

use super::api::{HubFile, Source};
use super::cache::RepoCache;
use super::event::{Event, FetchObserver};
use super::http::Failure;
use super::repo::Repo;
use crate::error::{Error, Result};
use crate::file;
use crate::machine;
use crate::setting::Advice;
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 1 << 18;

/// Fetches a file into the cache, unless it is there. Waits if another program fetches it.
///
/// # Errors
/// If the hub does not have it or cannot be reached, the disk has no room, or the bytes are not those that the hub said.
pub fn download(source: Source, cache: &RepoCache, observer: &mut FetchObserver) -> Result<()> {
    let HubFile { blob, bytes, path } = source.file;
    let _lock = lock(cache, blob, path, observer)?;
    if cache.has(blob, *bytes) {
        return Ok(());
    }
    let mut part = PartialFile::open(cache.incomplete(blob), source.file)?;
    receive(&source, &mut part, observer)?;
    part.finish(&source, &cache.blob(blob))
}

/// Whether what is missing of some files fits the disk.
///
/// # Errors
/// If it does not.
pub fn check_room(repo: &Repo, files: &[&HubFile], cache: &RepoCache) -> Result<()> {
    let missing = files.iter().filter(|file| !cache.has(&file.blob, file.bytes)).map(|file| {
        let part = fs::metadata(cache.incomplete(&file.blob)).map_or(0, |about| about.len());
        file.bytes.saturating_sub(part)
    });
    let needed = missing.fold(0, u64::saturating_add);
    // Of the folder itself the system tells nothing before it is there.
    let free = cache.folder().ancestors().find_map(machine::free_disk);
    let Some(free) = free.filter(|free| *free < needed) else { return Ok(()) };
    let [needed, free] = [needed, free].map(machine::human_bytes);
    Err(Error::Hub {
        subject: repo.id(),
        what: format!(
            "{needed} are to be fetched and {free} are free in {}",
            cache.folder().display()
        ),
        advice: vec![
            Advice::Do("make room".into()),
            Advice::Do("name another folder in HF_HUB_CACHE".into()),
        ],
    })
}

/// The lock on some contents; a system without locks goes on without.
fn lock(cache: &RepoCache, blob: &str, file: &str, observer: &mut FetchObserver) -> Result<File> {
    let path = cache.blob(blob);
    let lock = cache.lock_file(blob).map_err(|source| Error::io(&path, source))?;
    if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
        if !observer(Event::Waiting { file }) {
            return Err(Failure::Cancelled.error(file));
        }
        lock.lock().map_err(|source| Error::io(&path, source))?;
    }
    Ok(lock)
}

/// Asks for what is missing until nothing is.
fn receive(source: &Source, part: &mut PartialFile, observer: &mut FetchObserver) -> Result<()> {
    let subject = source.subject();
    let (mut attempts, mut etag, mut furthest) = (source.attempts(), None, part.len);
    while part.len < source.file.bytes {
        let received = source.get(part.len, etag.as_deref()).and_then(|response| {
            etag = strong_etag(&response);
            part.receive(response, source.file, observer)
        });
        let Err(failure) = received else { continue };
        // A server that begins anew each time would be asked for ever.
        if part.len > furthest {
            furthest = part.len;
            attempts.renew();
        }
        attempts.wait(failure, observer).map_err(|failure| failure.error(&subject))?;
    }
    Ok(())
}

/// The tag of a file's contents, if equal tags mean equal bytes.
fn strong_etag(response: &Response<Body>) -> Option<String> {
    let etag = response.headers().get(header::ETAG)?.to_str().ok()?;
    etag.starts_with('"').then(|| etag.to_owned())
}

/// The part of a file that has arrived.
struct PartialFile {
    path: PathBuf,
    file: File,
    len: u64,
    hash: Sha256,
}

impl PartialFile {
    /// What an earlier download has left, or an empty part. Without a checksum nothing tells whether it fits, so that it
    /// begins anew.
    fn open(path: PathBuf, of: &HubFile) -> Result<PartialFile> {
        let open = || {
            let options = &mut File::options();
            let mut file = file::open_with(&path, options.create(true).read(true).write(true))?;
            if of.sha256().is_none() || file.metadata()?.len() > of.bytes {
                file.set_len(0)?;
            }
            let mut hash = Sha256::new();
            let len = io::copy(&mut file, &mut hash)?;
            Ok((file, hash, len))
        };
        let (file, hash, len) = open().map_err(|source| Error::io(&path, source))?;
        Ok(PartialFile { path, file, len, hash })
    }

    /// Appends an answer's bytes, or begins anew with them. An answer that cannot be the file changes nothing.
    fn receive(
        &mut self,
        response: Response<Body>,
        of: &HubFile,
        observer: &mut FetchObserver,
    ) -> std::result::Result<(), Failure> {
        let transient = |what: String| Failure::Transient { what, after: None };
        let start = start(&response).filter(|start| [0, self.len].contains(start));
        let Some(start) = start else {
            return Err(transient("the hub does not send the bytes that were asked for".into()));
        };
        let missing = of.bytes - start;
        if let Some(sent) = length(&response).filter(|sent| *sent != missing) {
            let what = format!("the hub sends {sent} bytes in place of {missing}");
            return Err(Failure::Permanent { what, advice: Vec::new() });
        }
        if start != self.len {
            self.restart().map_err(|error| self.refused(&error))?;
        }
        let mut body = response.into_body().into_reader().take(missing);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let n = match body.read(&mut chunk) {
                Ok(0) if self.len < of.bytes => {
                    return Err(transient("the hub cut the connection".into()));
                }
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) => return Err(transient(error.to_string())),
            };
            self.file.write_all(&chunk[..n]).map_err(|error| self.refused(&error))?;
            self.hash.update(&chunk[..n]);
            self.len += n as u64;
            if !observer(Event::Progress { file: &of.path, done: self.len, total: of.bytes }) {
                return Err(Failure::Cancelled);
            }
        }
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.len, self.hash) = (0, Sha256::new());
        Ok(())
    }

    /// The disk refuses bytes: what was asked for cannot be had.
    fn refused(&self, error: &io::Error) -> Failure {
        let what = format!("cannot write {}: {error}", self.path.display());
        Failure::Permanent { what, advice: Vec::new() }
    }

    /// Checks all bytes, and gives the file its name.
    fn finish(self, source: &Source, blob: &Path) -> Result<()> {
        let found = format!("{:x}", self.hash.finalize());
        let io = |error| Error::io(&self.path, error);
        if let Some(expected) = source.file.sha256().filter(|expected| *expected != found) {
            fs::remove_file(&self.path).map_err(io)?;
            return Err(Error::Hub {
                subject: source.subject(),
                what: format!(
                    "was damaged on the way and is deleted (SHA-256 {found}, not {expected})"
                ),
                advice: vec![Advice::Do("fetch it again".into())],
            });
        }
        self.file.sync_data().map_err(io)?;
        fs::rename(&self.path, blob).map_err(io)
    }
}

/// The number of an answer's bytes, if it says so; an empty answer does too.
fn length(response: &Response<Body>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The place of an answer's first byte in the file; `None` if it has none of its bytes.
fn start(response: &Response<Body>) -> Option<u64> {
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
            range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
        }
        StatusCode::OK => Some(0),
        _ => None,
    }
}
