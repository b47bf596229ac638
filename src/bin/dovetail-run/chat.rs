//! A conversation on a terminal.
//!
//! The whole conversation is rendered again each turn; the session runs only what differs from its sequence. A message
//! that cannot be answered is taken back, so user and assistant always alternate.

use crate::args::read_text;
use crate::commands::{COMMANDS, Command, usages};
use crate::editor::LineEditor;
use crate::interrupt::EXIT_CODE;
use crate::runner::{Answer, End, Runner};
use crate::stdout::STDOUT;
use crate::words;
use dovetail::printable::Printable;
use dovetail::{Error, Message, Result};
use rustyline::error::ReadlineError;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A second Ctrl-C leaves if it comes this soon after the first one.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);

struct Chat<'r, 'a> {
    runner: &'r mut Runner<'a>,
    /// All messages except the system prompt: user and assistant in turn.
    messages: Vec<Message>,
    /// Files read for the next message.
    attached: String,
    /// Number of earlier answers to the last message.
    attempt: u64,
}

/// What the loop does after a line.
enum Next {
    Read,
    Leave,
    /// Like `Read`, but after Ctrl-C: one that follows at once ends the program.
    Interrupted,
}

/// Reads messages and answers them until the user leaves.
///
/// # Errors
/// If there is no chat template, or the terminal is gone.
pub fn run(runner: &mut Runner) -> Result<ExitCode> {
    runner.chat_prompt(&[Message::new("user", "")])?;
    let gone = |source| Error::Io { path: "terminal".into(), source };
    let editor = LineEditor::new(runner.args, runner.log);
    let mut editor = editor.map_err(|error| gone(std::io::Error::other(error)))?;
    let (name, n_ctx) = (&runner.session.model().config().name, runner.session.n_ctx());
    let (name, log) = (Printable(name), runner.log);
    log.note(&format!("{name}, context {n_ctx} tokens; Ctrl-C stops an answer; {}", usages()));
    let single = runner.args.single_turn;
    let mut chat = Chat { runner, messages: Vec::new(), attached: String::new(), attempt: 0 };
    let mut interrupted: Option<Instant> = None;
    loop {
        match editor.read() {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => match chat.line(&line)? {
                Next::Leave => return Ok(ExitCode::SUCCESS),
                _ if single && !chat.messages.is_empty() => return Ok(ExitCode::SUCCESS),
                next => interrupted = matches!(next, Next::Interrupted).then(Instant::now),
            },
            Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
            Err(ReadlineError::Interrupted)
                if interrupted.is_some_and(|at| at.elapsed() < LEAVES_WITHIN) =>
            {
                return Ok(ExitCode::from(EXIT_CODE));
            }
            Err(ReadlineError::Interrupted) => {
                interrupted = Some(Instant::now());
                log.note("Ctrl-C once more, or /exit, to leave");
            }
            Err(ReadlineError::Io(source)) if source.kind() == ErrorKind::InvalidData => {
                log.note("what was typed is not UTF-8 and is left out; set the terminal to UTF-8");
            }
            Err(ReadlineError::Io(source)) => return Err(gone(source)),
            Err(error) => return Err(gone(std::io::Error::other(error))),
        }
    }
}

impl Chat<'_, '_> {
    fn line(&mut self, line: &str) -> Result<Next> {
        let log = self.runner.log;
        let (command, argument) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match (command, argument.trim()) {
            ("/exit" | "/bye", "") => return Ok(Next::Leave),
            ("/help", "") => {
                let line = |command: &Command| format!("{:12} {}", command.usage(), command.what);
                log.note(&COMMANDS.iter().map(line).collect::<Vec<_>>().join("\n"));
                log.note("A line that ends in a backslash continues in the next one.");
            }
            ("/clear", "") => {
                self.messages.clear();
                self.attached.clear();
                log.note("the conversation is forgotten");
            }
            ("/regen", "") => return self.regenerate(),
            ("/read", "") => log.note("name the file: /read FILE"),
            ("/read", file) => match read_text(Path::new(file)) {
                Ok(text) => {
                    log.note(&format!(
                        "{} bytes of {file} go before your next message",
                        text.len()
                    ));
                    self.attached.push_str(&format!("{file}:\n{text}\n\n"));
                }
                Err(error) => log.note(&format!("error: {}", words::line(&error))),
            },
            (command, "") if looks_like_command(command) => {
                log.note(&format!("{command} is no command; there are {}", usages()));
            }
            _ => return self.ask(line),
        }
        Ok(Next::Read)
    }

    fn ask(&mut self, line: &str) -> Result<Next> {
        let content = format!("{}{line}", self.attached);
        self.messages.push(Message::new("user", content));
        let attempt = std::mem::replace(&mut self.attempt, 0);
        let Some(answer) = self.answer()? else {
            self.messages.pop();
            self.attempt = attempt;
            return Ok(Next::Interrupted);
        };
        self.attached.clear();
        Ok(self.keep(answer))
    }

    fn regenerate(&mut self) -> Result<Next> {
        let Some(before) = self.messages.pop() else {
            self.runner.log.note("there is no answer to give anew");
            return Ok(Next::Read);
        };
        self.attempt += 1;
        let Some(answer) = self.answer()? else {
            self.messages.push(before);
            return Ok(Next::Interrupted);
        };
        Ok(self.keep(answer))
    }

    /// The answer to the last message; `None` if there is none, for a reason that was already printed.
    fn answer(&mut self) -> Result<Option<Answer>> {
        let system = self.runner.args.system_prompt.iter();
        let system = system.map(|text| Message::new("system", text));
        let messages: Vec<_> = system.chain(self.messages.iter().cloned()).collect();
        let prompt = self.runner.chat_prompt(&messages);
        let log = self.runner.log;
        match prompt.and_then(|prompt| self.runner.answer(&prompt, self.attempt)) {
            Ok(answer) if answer.end == End::Interrupted && answer.text.is_empty() => {
                log.note("stopped before the answer began: your message is taken back");
                Ok(None)
            }
            Ok(answer) => Ok(Some(answer)),
            Err(Error::Context { needed, available }) => {
                log.note(&format!(
                    "the conversation with this message takes {needed} tokens and the context holds \
                     {available}: the message is taken back; /clear forgets the conversation, \
                     a larger -c holds more"
                ));
                Ok(None)
            }
            Err(Error::Io { path, source }) if path == Path::new(STDOUT) => {
                Err(Error::Io { path, source })
            }
            Err(error) => {
                log.note(&format!("error: {}", words::line(&error)));
                Ok(None)
            }
        }
    }

    fn keep(&mut self, answer: Answer) -> Next {
        self.messages.push(Message::new("assistant", answer.text));
        self.runner.print_turn();
        let remedy = "/clear forgets the conversation, a larger -c at the start holds more";
        self.runner.explain_end(answer.end, remedy);
        if answer.end == End::Interrupted { Next::Interrupted } else { Next::Read }
    }
}

/// True for `/help`, but not for `/usr/bin`.
fn looks_like_command(word: &str) -> bool {
    word.strip_prefix('/').is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_are_no_commands() {
        assert!(["/help", "/"].iter().all(|word| super::looks_like_command(word)));
        assert!(["/usr/bin", "/x.txt", "hi"].iter().all(|word| !super::looks_like_command(word)));
    }
}
