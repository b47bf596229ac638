//! Messages and progress on standard error; messages also in a file.
//!
//! Writing never fails: a closed standard error silences the log and does not end the program. Messages quote names
//! from files, so control sequences for a terminal are escaped.

use crate::output;
use crate::progress_line::progress_line;
use dovetail::{Result, file, printable};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

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

/// How far some work is, on the last line of the terminal, removed when dropped.
pub struct Progress {
    label: &'static str,
    unit: Unit,
    begun: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

/// What is counted.
enum Unit {
    Parts,
    /// Shown with their rate and the time that is left.
    Bytes,
}

impl Progress {
    /// Shows nothing until the first update, and nothing at all without a terminal.
    pub fn new(label: &'static str) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress { label, unit: Unit::Parts, begun: Instant::now(), shown: None, terminal }
    }

    /// The same for work on bytes, which is shown if it takes longer than a second.
    pub fn of_bytes(label: &'static str) -> Progress {
        Progress { unit: Unit::Bytes, ..Progress::new(label) }
    }

    /// Whether updates are shown.
    pub fn is_shown(&self) -> bool {
        self.terminal
    }

    /// Shows that `done` of `total` is done.
    pub fn update(&mut self, done: u64, total: u64) {
        if self.terminal
            && let Some(line) = self.line(Instant::now(), done.min(total), total)
        {
            let _ = write!(std::io::stderr(), "\r{line}\x1b[K");
        }
    }

    /// The line to show at a time, if one is due.
    fn line(&mut self, now: Instant, done: u64, total: u64) -> Option<String> {
        const BETWEEN: Duration = Duration::from_millis(100);
        let due = match (self.shown, &self.unit) {
            (Some(shown), _) => shown + BETWEEN,
            (None, Unit::Parts) => self.begun,
            (None, Unit::Bytes) => self.begun + Duration::from_secs(1),
        };
        if now < due {
            return None;
        }
        self.shown = Some(now);
        Some(match self.unit {
            Unit::Parts => format!("{}: {} %", self.label, 100 * done / total.max(1)),
            Unit::Bytes => progress_line(self.label, done, total, (done, now - self.begun)),
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_on_bytes_is_shown_after_a_second_and_ten_times_a_second() {
        let mut progress = Progress::of_bytes("packing weights");
        let start = progress.begun;
        let mut shown = Vec::new();
        for ms in (0..=1300).step_by(50) {
            let done = ms * 2_000_000;
            if let Some(line) =
                progress.line(start + Duration::from_millis(ms), done, 8_000_000_000)
            {
                shown.push((ms, line));
            }
        }
        let times: Vec<u64> = shown.iter().map(|(ms, _)| *ms).collect();
        assert_eq!(times, [1000, 1100, 1200, 1300]);
        let expected = "packing weights  25 %  2.00 GB of 8.00 GB  2.00 GB/s  0:03 left";
        assert_eq!(shown[0].1, expected);
    }

    #[test]
    fn other_work_is_shown_at_once() {
        let mut progress = Progress::new("measuring");
        let start = progress.begun;
        assert_eq!(progress.line(start, 0, 1000).as_deref(), Some("measuring: 0 %"));
        assert_eq!(progress.line(start + Duration::from_millis(99), 500, 1000), None);
        let line = progress.line(start + Duration::from_millis(100), 506, 1000);
        assert_eq!(line.as_deref(), Some("measuring: 50 %"));
    }
}
