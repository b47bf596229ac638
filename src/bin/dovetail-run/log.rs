//! Messages and progress on standard error; messages also in a file.
//!
//! Writing never fails: a closed standard error silences the log and does not end the program. Messages quote names
//! from files, so control sequences for a terminal are escaped.

use crate::output;
use dovetail::{Result, file, printable};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;

/// Where messages go.
#[derive(Debug, Default)]
pub struct Log {
    verbose: bool,
    file: Option<File>,
}

impl Log {
    /// A log that shows details if `verbose`, and writes all messages to a file if one is given.
    ///
    /// # Errors
    /// If the file cannot be opened or is not a regular file.
    pub fn new(verbose: bool, path: Option<&Path>) -> Result<Log> {
        let open = |path: &Path| {
            let file = file::open_with(path, File::options().create(true).append(true));
            file.map_err(|source| output::refused("--log-file", path, source))
        };
        Ok(Log { verbose, file: path.map(open).transpose()? })
    }

    /// Whether details are shown.
    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Writes lines that everyone should read.
    pub fn note(&self, lines: &str) {
        let lines = printable::lines(lines);
        let _ = writeln!(std::io::stderr(), "{lines}");
        self.keep(&lines);
    }

    /// Writes lines that `-v` asks for.
    pub fn detail(&self, lines: &str) {
        let lines = printable::lines(lines);
        if self.verbose {
            let _ = writeln!(std::io::stderr(), "{lines}");
        }
        self.keep(&lines);
    }

    fn keep(&self, lines: &str) {
        if let Some(mut file) = self.file.as_ref() {
            let _ = writeln!(file, "{lines}");
        }
    }
}

/// A percentage on the last line of the terminal, removed when dropped.
pub struct Progress {
    label: &'static str,
    shown: Option<u64>,
    terminal: bool,
}

impl Progress {
    /// Shows nothing until the first update, and nothing at all without a terminal.
    pub fn new(label: &'static str) -> Progress {
        Progress { label, shown: None, terminal: std::io::stderr().is_terminal() }
    }

    /// Whether updates are shown.
    pub fn is_shown(&self) -> bool {
        self.terminal
    }

    /// Shows the fraction `part` that is done, from 0 to 1.
    pub fn update(&mut self, part: f64) {
        let percent = (part.clamp(0.0, 1.0) * 100.0) as u64;
        if self.terminal && self.shown != Some(percent) {
            self.shown = Some(percent);
            let _ = write!(std::io::stderr(), "\r{}: {percent} %", self.label);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
