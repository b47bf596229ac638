//! Events of fetching a model, for those who wait for it.

use std::time::Duration;

/// An event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A part of a file has arrived.
    Progress {
        /// The file's path in the repository.
        file: &'a str,
        /// Bytes that are on the disk.
        done: u64,
        /// Bytes of the whole file.
        total: u64,
    },
    /// Another program fetches the same file, and its end is waited for.
    Waiting {
        /// The file's path in the repository.
        file: &'a str,
    },
    /// A request failed and is made again.
    Retry {
        /// Why it failed.
        what: &'a str,
        /// Time until it is made again.
        after: Duration,
    },
    /// The hub does not say what it has; the files that were fetched earlier are used.
    Unreachable {
        /// Why.
        what: &'a str,
    },
}

/// Receives events; returns false to cancel.
pub type FetchObserver<'a> = dyn FnMut(Event) -> bool + 'a;
