//! One prompt, one answer.

use crate::args::{Args, not_utf8, read_text};
use crate::interrupt::EXIT_CODE;
use crate::runner::{End, Runner};
use crate::stdout::{YELLOW, emit};
use dovetail::{Error, Message, Result, file};
use std::io::IsTerminal;
use std::process::ExitCode;

/// The prompt to answer once: `-p`, `-f`, or standard input unless that is a terminal.
///
/// # Errors
/// If it cannot be read or is empty.
pub fn prompt(args: &Args, stdin_is_terminal: bool) -> Result<Option<String>> {
    let (name, text) = if let Some(text) = &args.prompt {
        ("-p", text.clone())
    } else if let Some(path) = &args.file {
        ("-f", without_last_newline(read_text(path)?))
    } else if stdin_is_terminal {
        return Ok(None);
    } else {
        let bytes = file::read_all(std::io::stdin());
        let bytes = bytes.map_err(|source| Error::Io { path: "standard input".into(), source })?;
        let text = String::from_utf8(bytes).map_err(|e| not_utf8("standard input", &e))?;
        ("standard input", without_last_newline(text))
    };
    if text.is_empty() {
        let what = format!("the prompt from {name} is empty; give some text with -p TEXT");
        return Err(Error::Prompt(what));
    }
    Ok(Some(text))
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
        tokenizer.encode(prompt, true, true)?
    } else {
        let system = args.system_prompt.iter().map(|text| Message::new("system", text));
        let messages: Vec<_> = system.chain([Message::new("user", prompt)]).collect();
        runner.chat_prompt(&messages)?
    };
    if raw && !args.no_display_prompt {
        let colour = args.color && std::io::stdout().is_terminal();
        emit(prompt, colour.then_some(YELLOW))?;
    }
    let answer = runner.answer(&tokens, 0)?;
    if runner.log.is_verbose() || std::io::stderr().is_terminal() {
        runner.print_turn();
    }
    runner.explain_end(answer.end, "-c gives it another size");
    let interrupted = answer.end == End::Interrupted;
    Ok(if interrupted { ExitCode::from(EXIT_CODE) } else { ExitCode::SUCCESS })
}
