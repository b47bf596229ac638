//! SIGTERM and Ctrl-C.

use dovetail::{Error, Result};

/// Signals, none of which is lost from the first moment on.
#[cfg(unix)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Takes over both signals.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new() -> Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        let take = |kind| {
            signal(kind).map_err(|error| Error::Invalid(format!("cannot handle signals ({error})")))
        };
        let (interrupt, terminate) =
            (take(SignalKind::interrupt())?, take(SignalKind::terminate())?);
        Ok(Signals { interrupt, terminate })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Ctrl-C.
#[cfg(windows)]
pub struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    /// Takes it over.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new() -> Result<Signals> {
        let wrong = |error| Error::Invalid(format!("cannot handle Ctrl-C ({error})"));
        tokio::signal::windows::ctrl_c().map(Signals).map_err(wrong)
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}
