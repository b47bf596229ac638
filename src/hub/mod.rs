//! Models from a hub, such as Hugging Face's, and models that lie on the disk already.
//!
//! ```text
//! repo.rs      names of repositories               choose.rs    which files of one are the model
//! http.rs      requests, tried again if need be     api.rs       the files of a repository and their bytes
//! cache.rs     where they lie on the disk           download.rs  one file, from the hub to the cache
//! disk.rs      models that other programs fetched   header.rs    what a model's file says of itself
//! event.rs     progress                            token.rs     what a hub knows a user by
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
mod token;

pub use choose::FileChoice;
pub use disk::{Folder, Layout, LocalModel, find, folders, models};
pub use event::{Event, FetchObserver};
pub use header::{Header, read as header};
pub use repo::Repo;
pub use token::Token;

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

/// Which hub, and where its files are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The hub's address.
    pub endpoint: String,
    /// What it knows the user by. No other server is told.
    pub token: Option<Token>,
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
    /// `HF_HUB_OFFLINE`; `HF_HUB_CACHE` and `HF_HOME`. There is no token for a hub that would be told it in clear text, over
    /// a network: it is meant for another one.
    ///
    /// # Errors
    /// If nothing names the folder of the cache.
    pub fn from_env(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Options> {
        let text = |name| cache::path_variable(variable, name)?.into_os_string().into_string().ok();
        let endpoint = text("MODEL_ENDPOINT").or_else(|| text("HF_ENDPOINT"));
        let endpoint = endpoint.unwrap_or_else(|| ENDPOINT.into());
        let token_file = cache::path_variable(variable, "HF_TOKEN_PATH")
            .or_else(|| Some(cache::home(variable)?.join("token")));
        let token = text("HF_TOKEN").or_else(|| file::read_text(&token_file?).ok());
        // Its file ends in a newline.
        let token = token.map(|token| Token::from(token.trim()));
        let token =
            token.filter(|token| token.header_value().is_ok() && http::is_private(&endpoint));
        let offline = text("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&&*value.to_ascii_lowercase())
        });
        let no_cache =
            || Error::Invalid("there is no folder for models; set HOME or HF_HOME".into());
        Ok(Options {
            endpoint,
            token,
            offline,
            cache: cache::folder(variable).ok_or_else(no_cache)?,
            pause: PAUSE,
            silence: SILENCE,
        })
    }
}

/// Fetches a model of a repository, unless it is in the cache.
///
/// # Errors
/// If the token is none; if the hub does not have the model or cannot be reached and it is not in the cache; if the disk has no room; if the observer
/// cancels. What has arrived stays, and the next call goes on with it.
pub fn fetch(
    repo: &Repo,
    choice: FileChoice,
    options: &Options,
    observer: &mut FetchObserver,
) -> Result<Fetched> {
    let Options { endpoint, token, pause, silence, .. } = options;
    let token = token.as_ref().map(Token::header_value).transpose()?;
    let client = Client::new(endpoint, token, *pause, *silence);
    let cache = RepoCache::new(&options.cache, repo);
    let Some(listing) = listing(&client, repo, options.offline, &cache, observer)? else {
        return cached(repo, choice, &cache);
    };
    let paths: Vec<_> = listing.files.iter().map(|file| &*file.path).collect();
    let chosen = choose_in(repo, &paths, choice)?;
    let files: Vec<_> = chosen.into_iter().map(|i| &listing.files[i]).collect();
    let commit = &*listing.commit;
    download::check_room(repo, &files, &cache)?;
    let mut found = Vec::new();
    for file in files {
        let linked = match cache.file(commit, &file.path, file.bytes) {
            Some(path) => Ok(path),
            None => {
                download::download(
                    Source { client: &client, repo, commit, file },
                    &cache,
                    observer,
                )?;
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
    observer: &mut FetchObserver,
) -> Result<Option<Listing>> {
    if offline {
        return Ok(None);
    }
    let is_cached = !cache.files().is_empty();
    let attempts = if is_cached { client.one_attempt() } else { client.attempts() };
    match api::listing(client, repo, attempts, observer) {
        Ok(listing) => Ok(Some(listing)),
        Err(failure) => match failure.passes().filter(|_| is_cached) {
            Some(why) if observer(Event::Unreachable { what: &why }) => Ok(None),
            Some(_) => Err(Failure::Cancelled.error(&repo.id())),
            None => Err(failure.error(&repo.id())),
        },
    }
}

/// The model as it was fetched earlier.
fn cached(repo: &Repo, choice: FileChoice, cache: &RepoCache) -> Result<Fetched> {
    let mut files = cache.files();
    if files.is_empty() {
        return Err(Error::Hub {
            subject: repo.id(),
            what: "was not fetched yet, and the hub is not asked offline".into(),
            advice: vec![Advice::LeaveOut(Setting::Offline.into())],
        });
    }
    let paths: Vec<_> = files.iter().map(|(path, _)| &**path).collect();
    let (chosen, drafters) = (choose_in(repo, &paths, choice)?, drafters(&paths));
    Ok(Fetched { path: files.swap_remove(chosen[0]).1, drafters })
}

fn choose_in(repo: &Repo, paths: &[&str], choice: FileChoice) -> Result<Vec<usize>> {
    choose::choose(paths, repo.tag(), choice).map_err(|what| Error::Hub {
        subject: repo.id(),
        what,
        advice: vec![Advice::Replace(Setting::HubFile)],
    })
}

fn drafters(paths: &[&str]) -> Vec<String> {
    choose::drafters(paths).into_iter().map(str::to_owned).collect()
}
