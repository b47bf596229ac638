//! The hub's API: which files a repository has, and their bytes.
//!
//! `GET api/models/USER/REPO/revision/main?blobs=true` names the commit and its files, with lengths and checksums; `GET
//! USER/REPO/resolve/COMMIT/PATH` answers with a file. What the hub says is not trusted: a name that leads elsewhere, or
//! that would steer a terminal, is left out.

use super::event::FetchObserver;
use super::http::{Attempts, Client, Failure, escaped};
use super::repo::Repo;
use serde::Deserialize;
use std::path::{Component, Path};
use ureq::Body;
use ureq::http::{Response, header};

/// Most bytes of a list of files.
const LISTING_MAX_BYTES: u64 = 64 << 20;

/// The files of a repository at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// Its files.
    pub files: Vec<HubFile>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// Its path in the repository, of ordinary names alone.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Names its contents: the SHA-256 of large files, else git's number of the blob. Hexadecimal.
    pub blob: String,
}

impl HubFile {
    /// The SHA-256 of its contents, if the hub says it.
    pub fn sha256(&self) -> Option<&str> {
        (self.blob.len() == 64).then_some(&self.blob)
    }
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// The files of a repository's branch `main`.
///
/// # Errors
/// If the hub does not say, in as many attempts.
pub fn listing(
    client: &Client,
    repo: &Repo,
    mut attempts: Attempts,
    observer: &mut FetchObserver,
) -> Result<Listing, Failure> {
    let path = format!("api/models/{}/revision/main?blobs=true", repo.id());
    loop {
        match client.get(&path, &[]).and_then(|mut response| read(&mut response)) {
            Ok(text) => return parse(&text),
            Err(failure) => attempts.wait(failure, observer)?,
        }
    }
}

fn read(response: &mut Response<Body>) -> Result<Vec<u8>, Failure> {
    let read = response.body_mut().with_config().limit(LISTING_MAX_BYTES).read_to_vec();
    read.map_err(|error| Failure::Transient { what: error.to_string(), after: None })
}

fn parse(text: &[u8]) -> Result<Listing, Failure> {
    let wrong = |what: String| Failure::Permanent { what, advice: Vec::new() };
    let revision: Revision = serde_json::from_slice(text)
        .map_err(|error| wrong(format!("the hub answers no list of files ({error})")))?;
    if !is_hex(&revision.sha, 40) {
        return Err(wrong("the hub names no commit".into()));
    }
    let files = revision.siblings.into_iter().filter_map(file).collect();
    Ok(Listing { commit: revision.sha, files })
}

/// A file that can be fetched.
fn file(sibling: Sibling) -> Option<HubFile> {
    let Sibling { rfilename: path, size, blob_id, lfs } = sibling;
    let (blob, bytes) = match lfs {
        Some(Lfs { sha256, size }) => (Some(sha256).filter(|sha256| is_hex(sha256, 64))?, size),
        None => (blob_id.filter(|id| is_hex(id, 40))?, size?),
    };
    is_safe(&path).then(|| HubFile { path, bytes, blob: blob.to_ascii_lowercase() })
}

/// Whether a path of a repository stays inside any folder, and is as harmless on a terminal.
pub fn is_safe(path: &str) -> bool {
    let is_name = |component| match component {
        Component::Normal(name) => name.len() <= 255,
        _ => false,
    };
    !path.contains(|c: char| c.is_control() || c == '\\' || c == ':')
        // What `Path` takes for the same: `a//b`, `a/./b`, `a/`.
        && path.split('/').all(|name| !name.is_empty() && name != ".")
        && Path::new(path).components().all(is_name)
}

/// Whether a text is so many hexadecimal digits.
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The place of a file's bytes: its repository, commit and path.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The hub.
    pub client: &'a Client,
    /// The repository.
    pub repo: &'a Repo,
    /// The commit.
    pub commit: &'a str,
    /// The file.
    pub file: &'a HubFile,
}

impl Source<'_> {
    /// Asks for the bytes from `start` on; of a file that has changed since `etag` was said, for all.
    ///
    /// # Errors
    /// If the hub does not answer with them.
    pub fn get(&self, start: u64, etag: Option<&str>) -> Result<Response<Body>, Failure> {
        let path = escaped(&self.file.path);
        let path = format!("{}/resolve/{}/{path}", self.repo.id(), self.commit);
        let mut headers = Vec::new();
        if start > 0 {
            headers.push((header::RANGE, format!("bytes={start}-")));
            headers.extend(etag.map(|etag| (header::IF_RANGE, etag.to_owned())));
        }
        self.client.get(&path, &headers)
    }

    /// Its name in errors.
    pub fn subject(&self) -> String {
        format!("{}/{}", self.repo.id(), self.file.path)
    }

    /// The attempts to get it.
    pub fn attempts(&self) -> Attempts {
        self.client.attempts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_names_with_a_checksum_are_listed() {
        let (commit, oid, git) = ("c".repeat(40), "AB".repeat(32), "d".repeat(40));
        let sibling = |name: &str| serde_json::json!({"rfilename": name, "size": 9, "blobId": git, "lfs": {"sha256": oid, "size": 7}});
        let hostile = [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a/..",
            "./a",
            "a//b",
            "a/",
            "C:\\x",
            "a\\..\\b",
            "a\u{1b}[2J",
            "a\nb",
        ];
        let mut siblings: Vec<_> = hostile.iter().map(|name| sibling(name)).collect();
        siblings.push(sibling("sub/m.gguf"));
        siblings.push(serde_json::json!({"rfilename": "README.md", "size": 5, "blobId": git}));
        siblings.push(serde_json::json!({"rfilename": "nothing", "size": 5}));
        let bad = serde_json::json!({"rfilename": "bad", "lfs": {"sha256": "../../x", "size": 7}});
        siblings.push(bad);
        let text = serde_json::json!({"sha": commit, "siblings": siblings}).to_string();
        let listing = parse(text.as_bytes()).unwrap();
        let [model, readme] = &listing.files[..] else { panic!("{listing:?}") };
        assert_eq!(
            (&*model.path, model.bytes, model.sha256()),
            ("sub/m.gguf", 7, Some(&*oid.to_lowercase()))
        );
        assert_eq!((&*readme.path, readme.bytes, readme.sha256()), ("README.md", 5, None));
        for text in ["", "[]", r#"{"sha": "../main"}"#, "<html>"] {
            assert!(matches!(parse(text.as_bytes()), Err(Failure::Permanent { .. })), "{text}");
        }
    }
}
