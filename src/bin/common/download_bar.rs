//! Shows how far a download is: a line that is written over on a terminal, else a line now and then.

use crate::progress_line::progress_line;
use dovetail::hub::Event;
use dovetail::machine::human_bytes;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two lines on a terminal, and elsewhere.
const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(30);

/// Writes lines for people.
pub type Note<'a> = &'a mut dyn FnMut(&str);

/// The state of the download that is shown.
pub struct DownloadBar<'a> {
    note: Note<'a>,
    terminal: bool,
    /// When the current file was begun, and how much of it was there.
    begun: Option<(Instant, u64)>,
    shown: Option<Instant>,
}

impl DownloadBar<'_> {
    /// Shows nothing until something happens. `note` writes lines that stay.
    pub fn new(note: Note<'_>) -> DownloadBar<'_> {
        let terminal = std::io::stderr().is_terminal();
        DownloadBar { note, terminal, begun: None, shown: None }
    }

    /// Shows an event.
    pub fn show(&mut self, event: Event) {
        match event {
            Event::Progress { file, done, total } => self.progress(file, done, total),
            Event::Waiting { file } => {
                self.say(&format!("{file}: waiting for another program that fetches it"))
            }
            Event::Retry { what, after } => {
                self.say(&format!("{what}; asking again in {} s", after.as_secs_f32().ceil()));
            }
            Event::Unreachable { what } => {
                self.say(&format!("{what}; using what was fetched earlier"));
            }
        }
    }

    fn progress(&mut self, file: &str, done: u64, total: u64) {
        let now = Instant::now();
        if self.begun.is_none() {
            (self.note)(&format!("fetching {file}, {}", human_bytes(total)));
        }
        // A server that cannot go on begins anew, with fewer bytes than were there.
        let begun = self.begun.filter(|(_, there)| *there <= done).unwrap_or((now, done));
        self.begun = Some(begun);
        let pause = if self.terminal { ON_TERMINAL } else { ELSEWHERE };
        let due = now.duration_since(self.shown.unwrap_or(begun.0)) >= pause;
        if due && done < total {
            let name = file.rsplit('/').next().unwrap_or(file);
            let line = progress_line(name, done, total, (done - begun.1, now - begun.0));
            self.shown = Some(now);
            match self.terminal {
                true => drop(write!(std::io::stderr(), "\r{line}\x1b[K")),
                false => (self.note)(&line),
            }
        }
        if done == total {
            self.clear();
            self.begun = None;
        }
    }

    fn say(&mut self, line: &str) {
        self.clear();
        (self.note)(line);
    }

    /// Removes the line on the terminal.
    fn clear(&mut self) {
        if self.shown.take().is_some() && self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for DownloadBar<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_is_said_once() {
        let mut lines = Vec::new();
        let mut note = |line: &str| lines.push(line.to_owned());
        let mut bar = DownloadBar::new(&mut note);
        bar.terminal = false;
        for event in [
            Event::Progress { file: "m.gguf", done: 1, total: 4_000_000 },
            Event::Progress { file: "m.gguf", done: 2, total: 4_000_000 },
            Event::Retry { what: "the hub cut the connection", after: Duration::from_millis(1500) },
            Event::Progress { file: "m.gguf", done: 4_000_000, total: 4_000_000 },
            Event::Progress { file: "n.gguf", done: 9, total: 9 },
            Event::Unreachable { what: "the hub answers 429" },
        ] {
            bar.show(event);
        }
        drop(bar);
        let expected = [
            "fetching m.gguf, 4.0 MB",
            "the hub cut the connection; asking again in 2 s",
            "fetching n.gguf, 0.0 MB",
            "the hub answers 429; using what was fetched earlier",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_file_that_begins_anew_has_a_speed() {
        let mut lines = Vec::new();
        let mut note = |line: &str| lines.push(line.to_owned());
        let mut bar = DownloadBar::new(&mut note);
        bar.terminal = false;
        bar.show(Event::Progress { file: "m.gguf", done: 5_000_000, total: 9_000_000 });
        // A line is due.
        bar.shown = Instant::now().checked_sub(2 * ELSEWHERE);
        bar.show(Event::Progress { file: "m.gguf", done: 1_000_000, total: 9_000_000 });
        assert_eq!(bar.begun.map(|(_, there)| there), Some(1_000_000));
        drop(bar);
        let expected = ["fetching m.gguf, 9.0 MB", "m.gguf  11 %  1.0 MB of 9.0 MB  0.0 MB/s  "];
        assert_eq!((lines.len(), &*lines[0]), (2, expected[0]));
        assert!(lines[1].starts_with(expected[1]), "{lines:?}");
    }
}
