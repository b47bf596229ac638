//! One line a request on standard error, written when its last byte is on its way.

use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU16, AtomicUsize};
use std::time::Instant;
use tracing_subscriber::EnvFilter;

/// Starts the log. `RUST_LOG` chooses what is shown, as it does elsewhere.
pub fn start(verbose: bool) {
    let usual = if verbose { "dovetail_server=debug" } else { "dovetail_server=info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    log.with_ansi(false).with_writer(std::io::stderr).init();
}

/// A request's line, which is written when the last owner drops it: the response, or the answer that is being sent.
#[derive(Debug, Default)]
pub struct RequestLog {
    request: Option<(String, String, Instant)>,
    status: AtomicU16,
    tokens: AtomicUsize,
    /// What went wrong behind the head of the response.
    error: Mutex<Option<String>>,
}

impl RequestLog {
    /// The line of this request.
    pub fn new(method: &str, path: &str) -> RequestLog {
        let mut log = RequestLog::default();
        log.request = Some((method.to_owned(), path.to_owned(), Instant::now()));
        log
    }

    /// Notes the response's status.
    pub fn set_status(&self, status: u16) {
        self.status.store(status, Relaxed);
    }

    /// Counts tokens that were generated.
    pub fn add_tokens(&self, n: usize) {
        self.tokens.fetch_add(n, Relaxed);
    }

    /// Notes an error.
    pub fn set_error(&self, error: &str) {
        *self.error.lock().expect("nobody panics with it") = Some(error.to_owned());
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let Some((method, path, start)) = &self.request else { return };
        // Without a status the client has gone before the response: 499, as other servers log it.
        let status = Some(self.status.load(Relaxed)).filter(|status| *status > 0).unwrap_or(499);
        let tokens = self.tokens.load(Relaxed);
        let ms = start.elapsed().as_millis();
        let error = self.error.get_mut().ok().and_then(|error| error.take());
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        tracing::info!("{method} {path:?} {status} {ms} ms {tokens} tokens{error}");
    }
}
