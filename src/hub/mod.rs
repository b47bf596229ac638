//! Models from a hub, such as Hugging Face's, and models that lie on the disk already.
//!
//! ```text
//! repo.rs      names of repositories               choose.rs    which files of one are the model
//! http.rs      requests, tried again if need be     api.rs       the files of a repository and their bytes
//! cache.rs     where they lie on the disk           download.rs  one file, from the hub to the cache
//! disk.rs      models that other programs fetched   header.rs    what a model's file says of itself
//! event.rs     progress
//! ```
//!
//! A repository's files are fetched into the cache that Hugging Face's programs and llama.cpp use, so that nothing is
//! fetched twice. What a hub says is not trusted: names, lengths and checksums are checked before they are used.

mod api;
mod cache;
mod choose;
mod disk;
mod download;
mod event;
mod header;
mod http;
mod repo;

pub use choose::Wish;
pub use disk::{Folder, Layout, LocalModel, find, folders, models};
pub use event::{Event, Watch};
pub use header::{Header, read as header};
pub use repo::Repo;

use crate::error::{Error, Result};
use crate::file;
use crate::setting::{Advice, Setting};
use api::{Listing, Source};
use cache::RepoCache;
use http::{Client, Failure};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The hub if the environment names no other.
const ENDPOINT: &str = "https://huggingface.co";
/// The time until a failed request is first made again.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest silence of a server in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(30);

/// Which hub, and where its files are kept. It holds a secret, so that it is not printed whole.
#[derive(Clone)]
pub struct Options {
    /// The hub's address.
    pub endpoint: String,
    /// What it knows the user by. No other server is told.
    pub token: Option<String>,
    /// Only what was fetched earlier is used.
    pub offline: bool,
    /// The cache, which Hugging Face's programs share.
    pub cache: PathBuf,
    /// Time until a failed request is first made again.
    pub pause: Duration,
    /// Longest time in which nothing of an answer arrives, before the request is made again.
    pub silence: Duration,
}

/// A model that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its first file.
    pub path: PathBuf,
    /// Drafters in the same repository that can be run, by their paths in it.
    pub drafters: Vec<String>,
}

impl Options {
    /// The options that the environment names, as llama.cpp and Hugging Face's programs read it: `MODEL_ENDPOINT` or
    /// `HF_ENDPOINT`; `HF_TOKEN`, or the file that `HF_TOKEN_PATH` names or that their login has written;
    /// `HF_HUB_OFFLINE`; `HF_HUB_CACHE` and `HF_HOME`.
    ///
    /// # Errors
    /// If nothing names the folder of the cache.
    pub fn from_env(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Options> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let text = |name| set(name).and_then(|value| value.into_string().ok());
        let endpoint = text("MODEL_ENDPOINT").or_else(|| text("HF_ENDPOINT"));
        let token_file = set("HF_TOKEN_PATH")
            .map(PathBuf::from)
            .or_else(|| Some(cache::home(variable)?.join("token")));
        let token = text("HF_TOKEN").or_else(|| file::read_text(&token_file?).ok());
        let offline = text("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&&*value.to_ascii_lowercase())
        });
        let no_cache =
            || Error::Invalid("there is no folder for models; set HOME or HF_HOME".into());
        Ok(Options {
            endpoint: endpoint.unwrap_or_else(|| ENDPOINT.into()),
            token: token.and_then(|token| header_value(&token)),
            offline,
            cache: cache::folder(variable).ok_or_else(no_cache)?,
            pause: PAUSE,
            silence: SILENCE,
        })
    }
}

/// A token without the newline of its file; `None` if it cannot stand in a request.
fn header_value(token: &str) -> Option<String> {
    let token = token.trim();
    let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| token.to_owned())
}

/// Fetches a model of a repository, unless it is in the cache.
///
/// # Errors
/// If the hub does not have it or cannot be reached and it is not in the cache; if the disk has no room; if the observer
/// cancels. What has arrived stays, and the next call goes on with it.
pub fn fetch(repo: &Repo, wish: Wish, options: &Options, watch: &mut Watch) -> Result<Fetched> {
    let Options { endpoint, token, pause, silence, .. } = options;
    let client = Client::new(endpoint, token.as_deref(), *pause, *silence);
    let cache = RepoCache::new(&options.cache, repo);
    let Some(listing) = listing(&client, repo, options.offline, &cache, watch)? else {
        return cached(repo, wish, &cache);
    };
    let paths: Vec<_> = listing.files.iter().map(|file| &*file.path).collect();
    let chosen = choose_in(repo, &paths, wish)?;
    let files: Vec<_> = chosen.into_iter().map(|i| &listing.files[i]).collect();
    let commit = &*listing.commit;
    download::check_room(repo, &files, &cache)?;
    let mut found = Vec::new();
    for file in files {
        let linked = match cache.file(commit, &file.path, file.bytes) {
            Some(path) => Ok(path),
            None => {
                download::download(Source { client: &client, repo, commit, file }, &cache, watch)?;
                cache.link(commit, &file.path, &file.blob)
            }
        };
        found.push(linked.map_err(|source| Error::io(&cache.snapshot(commit), source))?);
    }
    let kept = cache.set_main(commit);
    kept.map_err(|source| Error::io(&cache.snapshot(commit), source))?;
    Ok(Fetched { path: found.swap_remove(0), drafters: drafters(&paths) })
}

/// What the hub has; `None` if it is not asked, or cannot be reached and something is in the cache.
fn listing(
    client: &Client,
    repo: &Repo,
    offline: bool,
    cache: &RepoCache,
    watch: &mut Watch,
) -> Result<Option<Listing>> {
    if offline {
        return Ok(None);
    }
    match api::listing(client, repo, watch) {
        Ok(listing) => Ok(Some(listing)),
        Err(Failure::Unreachable(what) | Failure::Passing { what, .. })
            if !cache.files().is_empty() =>
        {
            match watch(Event::Unreachable { what: &what }) {
                true => Ok(None),
                false => Err(Failure::Cancelled.error(&repo.id())),
            }
        }
        Err(failure) => Err(failure.error(&repo.id())),
    }
}

/// The model as it was fetched earlier.
fn cached(repo: &Repo, wish: Wish, cache: &RepoCache) -> Result<Fetched> {
    let mut files = cache.files();
    if files.is_empty() {
        return Err(Error::Hub {
            subject: repo.id(),
            what: "was not fetched yet, and the hub is not asked offline".into(),
            advice: vec![Advice::LeaveOut(Setting::Offline.into())],
        });
    }
    let paths: Vec<_> = files.iter().map(|(path, _)| &**path).collect();
    let (chosen, drafters) = (choose_in(repo, &paths, wish)?, drafters(&paths));
    Ok(Fetched { path: files.swap_remove(chosen[0]).1, drafters })
}

fn choose_in(repo: &Repo, paths: &[&str], wish: Wish) -> Result<Vec<usize>> {
    choose::choose(paths, wish).map_err(|what| Error::Hub {
        subject: repo.id(),
        what,
        advice: vec![Advice::Replace(Setting::HubFile)],
    })
}

fn drafters(paths: &[&str]) -> Vec<String> {
    choose::drafters(paths).into_iter().map(str::to_owned).collect()
}
