//! `dovetail-run`: a chat, or one answer, from a model file.
//!
//! ```text
//! args.rs     the flags: names and defaults · parse.rs  a command line to them, the model and the prompt
//! escapes.rs  backslashes in texts · foreign.rs  flags of llama.cpp that are set aside
//! models.rs   the list of models on the disk
//! open.rs     which model, loading it, the context that memory holds, drafters
//! runner.rs   a prompt to an answer, and what is reported about it · stdout.rs  text on standard output
//! report.rs   the printed timings
//! once.rs     one prompt, one answer
//! batch.rs    the prompts of a file, several at once · request.rs  what their lines ask for
//! chat.rs     a conversation on a terminal · commands.rs  its commands · editor.rs  what is typed
//! wrap.rs     lines broken between words
//! generate.rs the man page, completions for shells
//! log.rs      lines and progress on standard error · interrupt.rs  Ctrl-C
//! ../common   argv.rs  flags as llama.cpp's users type them · mistake.rs  wrong ones in one line
//!             draft_flags.rs  flags of drafters
//!             hub_flags.rs  models that are fetched or found · download_bar.rs  how far that is
//!             progress_line.rs  a line that says so
//!             grammar_flags.rs  grammars of answers · prompts.rs  files of prompts · output.rs  files for results
//!             words.rs    what errors call flags, exit codes · values.rs  what values of flags may be
//!             rope_flags.rs  flags of long contexts · sampling_flags.rs  how tokens are sampled
//!             timings.rs  statistics as JSON
//!             generation_fields.rs  fields of requests that say how they are answered
//! ```
//!
//! Only the text goes to standard output. Exit codes: 0; 1 if the model or the machine cannot do it; 2 for a mistake of
//! the caller; 130 after Ctrl-C.

#![forbid(unsafe_code)]

mod args;
#[path = "../common/argv.rs"]
mod argv;
mod batch;
mod chat;
mod commands;
#[path = "../common/download_bar.rs"]
mod download_bar;
#[path = "../common/draft_flags.rs"]
mod draft_flags;
mod editor;
mod escapes;
#[path = "../common/explain.rs"]
mod explain;
mod foreign;
mod generate;
#[path = "../common/generation_fields.rs"]
mod generation_fields;
#[path = "../common/grammar_flags.rs"]
mod grammar_flags;
#[path = "../common/hub_flags.rs"]
mod hub_flags;
mod interrupt;
mod log;
#[path = "../common/mistake.rs"]
mod mistake;
mod models;
mod once;
mod open;
#[path = "../common/output.rs"]
mod output;
mod parse;
#[path = "../common/progress_line.rs"]
mod progress_line;
#[path = "../common/prompts.rs"]
mod prompts;
mod report;
mod request;
#[path = "../common/rope_flags.rs"]
mod rope_flags;
mod runner;
#[path = "../common/sampling_flags.rs"]
mod sampling_flags;
mod stdout;
#[path = "../common/timings.rs"]
mod timings;
#[path = "../common/values.rs"]
mod values;
#[path = "../common/words.rs"]
mod words;
mod wrap;

use args::Args;
use clap::CommandFactory;
use dovetail::gpu::{self, GpuInfo};
use dovetail::{Error, Result};
use dovetail_kernels::cpu::Kernels;
use log::Log;
use parse::Parsed;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use stdout::STDOUT;

fn main() -> ExitCode {
    let (mut args, model) = match parse::parse(std::env::args_os()) {
        Parsed::Run(args, model) => (args, model),
        Parsed::Help(text) => {
            let _ = write!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Parsed::Wrong(line) => {
            let _ = writeln!(std::io::stderr(), "error: {line}");
            return ExitCode::from(2);
        }
    };
    let log = match Log::new(args.verbose, args.log_file.as_deref()) {
        Ok(log) => log,
        Err(error) => return fail(&Log::default(), &error),
    };
    match run(&mut args, model.as_deref(), &log) {
        Ok(code) => code,
        Err(error) => fail(&log, &error),
    }
}

/// Prints an error, unless nothing reads standard output any more (`| head`).
fn fail(log: &Log, error: &Error) -> ExitCode {
    match error {
        Error::Io { path, source }
            if path == Path::new(STDOUT) && source.kind() == ErrorKind::BrokenPipe =>
        {
            ExitCode::SUCCESS
        }
        error => {
            log.note(&format!("error: {}", words::line(error)));
            words::exit_code(error)
        }
    }
}

fn run(args: &mut Args, model: Option<&Path>, log: &Log) -> Result<ExitCode> {
    if args.version {
        return print(&version());
    }
    if let Some(what) = args.generate {
        return print(&what.text(Args::command())?);
    }
    if args.list_devices {
        return print(&devices()?);
    }
    if args.list_models {
        return print(&models::table());
    }
    args.check(log)?;
    if let Some(slots) = args.parallel {
        return batch::run(args, slots, model, log);
    }
    let terminal = std::io::stdin().is_terminal();
    let prompt = once::prompt(args, terminal, log)?;
    if prompt.is_none() && args.raw {
        let what = "--raw completes a prompt; give one with -p TEXT or -f FILE";
        return Err(Error::Invalid(what.into()));
    }
    let template = args.template()?;
    let interrupt = interrupt::Interrupt::new()?;
    let path = open::choose(args, model, log)?;
    let Some(mut runner) = open::open(args, &path, template, &interrupt, log)? else {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    };
    match prompt {
        Some(prompt) => once::run(&mut runner, &prompt),
        None => chat::run(&mut runner),
    }
}

fn print(text: &str) -> Result<ExitCode> {
    let written = writeln!(std::io::stdout(), "{text}");
    written.map_err(|source| Error::Io { path: STDOUT.into(), source })?;
    Ok(ExitCode::SUCCESS)
}

fn version() -> String {
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let drafts = if cfg!(feature = "gpu") { "NVIDIA's GPUs" } else { "the CPU alone" };
    format!(
        "dovetail-run {}\nbuilt for {arch} {os} ({build}), drafts on {drafts}",
        env!("CARGO_PKG_VERSION")
    )
}

/// The CPU, and each GPU or why there is none.
fn devices() -> Result<String> {
    let chosen = Kernels::choose().map_err(Error::Invalid)?.name;
    let all: Vec<_> = Kernels::available().map(|kernels| kernels.name).collect();
    let cores = dovetail::machine::physical_cores();
    let cpu = format!(
        "CPU: {}, {cores} physical cores, {cores} threads unless -t says otherwise, instruction set {chosen} \
         (available: {})",
        dovetail::machine::cpu_name(),
        all.join(", ")
    );
    let gpus = match gpu::list() {
        Ok(found) => found.iter().map(about_gpu).collect(),
        Err(why) => vec![format!("GPU: none is used: {why}")],
    };
    Ok([vec![cpu], gpus].concat().join("\n"))
}

fn about_gpu(found: &GpuInfo) -> String {
    let GpuInfo { ordinal, name, capability: (major, minor), memory_bytes, unusable } = found;
    let use_of_it = match unusable {
        None => format!("can draft: --draft-device gpu{ordinal}"),
        Some(why) => format!("is not used: {why}"),
    };
    let mib = memory_bytes >> 20;
    format!("GPU {ordinal}: {name}, compute capability {major}.{minor}, {mib} MiB, {use_of_it}")
}
