//! The line editor of the chat: a history across starts, and Tab for commands and paths.

use crate::args::Args;
use crate::commands::COMMANDS;
use crate::log::Log;
use dovetail::file;
use dovetail::temp_file::{self, Access};
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{Behavior, Config, Context, Editor, Helper};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Most lines that are kept.
const HISTORY_LINES: usize = 1000;
/// The first line of the file that keeps them: newlines and backslashes are escaped, as rustyline and its programs do.
const HISTORY_HEAD: &str = "#V2";

/// Reads messages from the terminal.
pub struct LineEditor<'a> {
    editor: Editor<Completion, MemHistory>,
    /// The file of the history, if one is kept.
    history: Option<PathBuf>,
    colour: bool,
    log: &'a Log,
}

impl<'a> LineEditor<'a> {
    /// An editor with the history that was kept.
    ///
    /// # Errors
    /// If there is no terminal.
    pub fn new(args: &Args, log: &'a Log) -> rustyline::Result<LineEditor<'a>> {
        // The editor writes to the terminal itself, so that standard output has only the answers.
        let config = Config::builder().behavior(Behavior::PreferTerm);
        let config = config.max_history_size(HISTORY_LINES)?.build();
        let lines = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, lines)?;
        editor.set_helper(Some(Completion));
        let history = if args.no_history { None } else { history_file() };
        let history = history.filter(|path| match make_folder(path).and_then(|()| load(path)) {
            Ok(lines) => {
                lines.iter().for_each(|line| drop(editor.add_history_entry(line)));
                true
            }
            Err(error) => {
                log.detail(&format!("no history is kept: {}: {error}", path.display()));
                false
            }
        });
        Ok(LineEditor { editor, history, colour: args.color, log })
    }

    /// Reads a message; a line that ends in a backslash continues in the next one.
    ///
    /// # Errors
    /// If the terminal is gone, Ctrl-C or Ctrl-D was pressed, or what was typed is not UTF-8.
    pub fn read(&mut self) -> rustyline::Result<String> {
        let prompts = if self.colour { ["\x1b[1;32m> ", "\x1b[1;32m. "] } else { ["> ", ". "] };
        let mut line = self.editor.readline(prompts[0]);
        while let Ok(begun) = &line
            && let Some(begun) = begun.strip_suffix('\\')
        {
            line = self.editor.readline(prompts[1]).map(|more| format!("{begun}\n{more}"));
        }
        if self.colour {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"\x1b[0m");
        }
        if let Ok(line) = &line {
            self.keep(line);
        }
        line
    }

    /// Appends a line to the history, unless it is the same as the one before. What cannot be written is no reason to
    /// stop.
    fn keep(&mut self, line: &str) {
        let is_new = self.editor.add_history_entry(line).unwrap_or(false);
        if let Some(path) = self.history.as_ref().filter(|_| is_new)
            && let Err(error) = append(path, line)
        {
            self.log.detail(&format!("no history is kept: {}: {error}", path.display()));
            self.history = None;
        }
    }
}

/// The file of the history, in the directory that XDG names for the state of programs.
fn history_file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    Some(state.join("dovetail/history"))
}

/// Makes the folder of a file, for its owner alone, unless it is there.
fn make_folder(path: &Path) -> io::Result<()> {
    let mut folder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.recursive(true).create(path.parent().unwrap_or(path))
}

/// The lines that a file keeps; none if it is not there.
fn load(path: &Path) -> io::Result<Vec<String>> {
    let text = match file::read_text(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let escaped = text.strip_prefix(HISTORY_HEAD).and_then(|rest| rest.strip_prefix('\n'));
    Ok(match escaped {
        Some(lines) => lines.lines().map(unescaped).collect(),
        None => text.lines().map(str::to_owned).collect(),
    })
}

/// Appends a line to those that the file keeps by now: another program may have added some.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut lines = load(path)?;
    lines.push(line.to_owned());
    let last = &lines[lines.len().saturating_sub(HISTORY_LINES)..];
    let text: String = last.iter().map(|line| escaped(line) + "\n").collect();
    temp_file::replace(path, Access::Private, |file| write!(file, "{HISTORY_HEAD}\n{text}"))
}

fn escaped(line: &str) -> String {
    line.replace('\\', r"\\").replace('\n', r"\n")
}

fn unescaped(line: &str) -> String {
    let parts: Vec<_> = line.split(r"\\").map(|part| part.replace(r"\n", "\n")).collect();
    parts.join("\\")
}

/// What Tab completes: commands, and paths behind `/read`.
struct Completion;

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..at];
        if let Some(path) = typed.strip_prefix("/read ") {
            let name = path.rsplit('/').next().unwrap_or(path);
            return Ok((at - name.len(), paths(path)));
        }
        let commands = COMMANDS.iter().map(|command| command.name);
        let matching = commands.filter(|name| typed.starts_with('/') && name.starts_with(typed));
        let candidates = matching.map(|name| {
            let space = if name == "/read" { " " } else { "" };
            Pair { display: name.to_owned(), replacement: format!("{name}{space}") }
        });
        Ok((0, candidates.collect()))
    }
}

impl Helper for Completion {}
impl Highlighter for Completion {}
impl Hinter for Completion {
    type Hint = String;
}
impl Validator for Completion {}

/// The names in a folder that continue a path; hidden ones only if the name begins with a dot.
fn paths(typed: &str) -> Vec<Pair> {
    let (folder, begun) = match typed.rsplit_once('/') {
        Some((folder, begun)) => (format!("{folder}/"), begun),
        None => (".".to_owned(), typed),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let hidden = name.starts_with('.') && !begun.starts_with('.');
        // What would steer the terminal is not offered.
        if name.starts_with(begun) && !hidden && !name.contains(char::is_control) {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            let replacement = format!("{name}{slash}");
            found.push(Pair { display: replacement.clone(), replacement });
        }
    }
    found.sort_by(|a, b| a.display.cmp(&b.display));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> (usize, Vec<String>) {
        let history = MemHistory::new();
        let context = Context::new(&history);
        let (at, found) = Completion.complete(line, line.len(), &context).unwrap();
        (at, found.into_iter().map(|pair| pair.replacement).collect())
    }

    #[test]
    fn tab_completes_commands_and_paths() {
        assert_eq!(complete("/re"), (0, vec!["/regen".into(), "/read ".into()]));
        assert_eq!(complete("/cl"), (0, vec!["/clear".into()]));
        assert!(complete("re").1.is_empty() && complete("").1.is_empty());
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        for name in ["my notes.txt", "my.txt", "other", ".hidden", "my\x1b[2J"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("my folder")).unwrap();
        let at = "/read ".len() + place.len() + 1;
        let mine = vec!["my folder/".into(), "my notes.txt".into(), "my.txt".into()];
        assert_eq!(complete(&format!("/read {place}/my")), (at, mine));
        let notes = vec!["my notes.txt".into()];
        assert_eq!(complete(&format!("/read {place}/my n")), (at, notes));
        assert_eq!(complete(&format!("/read {place}/")).1.len(), 4);
        assert_eq!(complete(&format!("/read {place}/.")).1, [".hidden"]);
        assert!(complete("/read /nonexistent/x").1.is_empty());
    }

    #[test]
    fn the_history_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/history");
        make_folder(&path).unwrap();
        assert_eq!(load(&path).unwrap(), Vec::<String>::new());
        let lines = ["plain", r"a\nb\\", "two\nlines", r"\\n", "\\\n", "é"];
        lines.iter().for_each(|line| append(&path, line).unwrap());
        assert_eq!(load(&path).unwrap(), lines);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#V2\nplain\na\\\\nb"), "{text}");
        // The file that was there is not written into: a second program reads all of it, or all of the next one.
        let before = file::open(&path).unwrap();
        append(&path, "more").unwrap();
        assert_eq!(file::read_all(before).unwrap(), text.as_bytes());
        // Without the first line nothing is escaped.
        fs::write(&path, "old\\n\nother\n").unwrap();
        assert_eq!(load(&path).unwrap(), [r"old\n", "other"]);
        let many: String = (0..HISTORY_LINES).map(|i| format!("{i}\n")).collect();
        fs::write(&path, many).unwrap();
        append(&path, "last").unwrap();
        let kept = load(&path).unwrap();
        assert_eq!((kept.len(), &*kept[0], &*kept[999]), (HISTORY_LINES, "1", "last"));
        fs::write(&path, b"\xff").unwrap();
        assert!(append(&path, "last").is_err(), "what cannot be read is not replaced");
    }
}
