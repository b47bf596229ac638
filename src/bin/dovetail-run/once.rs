//! One prompt, one answer.

use crate::args::{Args, not_utf8, read_text};
use crate::interrupt::EXIT_CODE;
use crate::log::Log;
use crate::runner::{End, Runner};
use crate::stdout::YELLOW;
use dovetail::{Error, Message, Result, file};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

/// The name of standard input in errors.
const STDIN: &str = "standard input";

/// How long standard input may be silent behind `-p` or `-f` before a line says what is waited for.
const SILENCE: Duration = Duration::from_secs(1);

/// The prompt to answer once: `-p` or `-f`, an empty line, and standard input unless that is a terminal or empty; or
/// one of them alone.
///
/// # Errors
/// If it cannot be read or is empty.
pub fn prompt(args: &Args, stdin_is_terminal: bool, log: &Log) -> Result<Option<String>> {
    let (flag, text) = match (&args.prompt, &args.file) {
        (Some(text), _) => ("-p", text.clone()),
        (None, Some(path)) => ("-f", without_last_newline(read_text(path)?)),
        (None, None) if stdin_is_terminal => return Ok(None),
        (None, None) => return not_empty(STDIN, standard_input()?).map(Some),
    };
    let text = not_empty(flag, text)?;
    let input = if stdin_is_terminal { String::new() } else { input_behind(flag, log)? };
    if input.is_empty() {
        return Ok(Some(text));
    }
    // In a loop over lines of standard input these are the lines that are left.
    let n = input.len();
    log.note(&format!("{n} bytes of standard input follow {flag}; </dev/null leaves it alone"));
    Ok(Some(format!("{text}\n\n{input}")))
}

fn not_empty(name: &str, text: String) -> Result<String> {
    if text.is_empty() {
        let what = format!("the prompt from {name} is empty; give some text with -p TEXT");
        return Err(Error::Prompt(what));
    }
    Ok(text)
}

/// Standard input behind a prompt that a flag gives.
fn input_behind(flag: &str, log: &Log) -> Result<String> {
    let (send, receive) = mpsc::channel();
    // If it never ends, neither does the thread: the program ends with both.
    std::thread::spawn(move || send.send(standard_input()));
    let input = receive.recv_timeout(SILENCE).or_else(|_| {
        let what = "waiting for the end of standard input, which follows";
        log.note(&format!("{what} {flag}; </dev/null says that there is none"));
        receive.recv()
    });
    input.unwrap_or_else(|_| Ok(String::new()))
}

fn standard_input() -> Result<String> {
    let bytes = file::read_all(std::io::stdin());
    let bytes = bytes.map_err(|source| Error::Io { path: STDIN.into(), source })?;
    file::text(bytes).map(without_last_newline).map_err(|error| not_utf8(STDIN, &error))
}

/// Removes the newline at the end of a file, which is the editor's and not the prompt's.
fn without_last_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        text.truncate(text.strip_suffix('\r').unwrap_or(&text).len());
    }
    text
}

/// Answers the prompt and reports.
///
/// # Errors
/// If the prompt does not fit, or the answer cannot be written.
pub fn run(runner: &mut Runner, prompt: &str) -> Result<ExitCode> {
    let args = runner.args;
    let raw = runner.template.is_none();
    let tokens = if raw {
        if !args.raw {
            runner.log.note("the model has no chat template: completing the prompt as it is");
        }
        let tokenizer = runner.session.model().tokenizer();
        tokenizer.check_fits(prompt, runner.session.n_ctx())?;
        tokenizer.encode_prompt(prompt)?
    } else {
        let system = args.system_prompt.iter().map(|text| Message::new("system", text));
        let messages: Vec<_> = system.chain([Message::new("user", prompt)]).collect();
        runner.chat_prompt(&messages)?
    };
    if raw && !args.no_display_prompt {
        runner.show(prompt, args.color.then_some(YELLOW))?;
    }
    let answer = runner.answer(&tokens, 0)?;
    if runner.log.is_verbose() || std::io::stderr().is_terminal() {
        runner.print_turn();
    }
    runner.explain_end(answer.end, "-c gives it another size");
    let interrupted = answer.end == End::Interrupted;
    Ok(if interrupted { ExitCode::from(EXIT_CODE) } else { ExitCode::SUCCESS })
}
