//! `dovetail-bench`: how fast and how exact a model runs on this machine.
//!
//! ```text
//! speed.rs           tokens per second, GB/s, share of the read bandwidth of the same run
//! curve.rs           time of one pass by its number of rows
//! ppl.rs             perplexity of a text, as llama.cpp defines it
//! gpu.rs             what a GPU can do for a drafter
//! spec.rs            plain and speculative decoding of the same prompts
//! batch.rs           several prompts at once
//! pause.rs           how long others wait while a long prompt is read
//! calibrate.rs       what passes and drafting cost, measured anew for planners
//! plot.rs            pictures of it
//! trees/             what a drafter proposes at every position of answers, and what policies make of that
//! common_options.rs  options that several commands have · prompt_options.rs  prompts and their answers
//! ceilings.rs        what memory delivers and the integer units multiply · median.rs
//! ../common          argv.rs  flags as llama.cpp's users type them · draft_flags.rs  flags of drafters
//!                    hub_flags.rs  models that are fetched or found · download_bar.rs  how far that is
//!                    progress_line.rs  a line that says so
//!                    prompts.rs  files of prompts · output.rs  files for results
//!                    words.rs    what errors call flags, exit codes
//! ```

#[path = "../common/argv.rs"]
mod argv;
mod batch;
mod calibrate;
mod ceilings;
mod common_options;
mod curve;
#[path = "../common/download_bar.rs"]
mod download_bar;
#[path = "../common/draft_flags.rs"]
mod draft_flags;
#[path = "../common/explain.rs"]
mod explain;
#[cfg(feature = "gpu")]
mod gpu;
#[path = "../common/hub_flags.rs"]
mod hub_flags;
mod median;
#[path = "../common/output.rs"]
mod output;
mod pause;
mod plot;
mod ppl;
#[path = "../common/progress_line.rs"]
mod progress_line;
mod prompt_options;
#[path = "../common/prompts.rs"]
mod prompts;
mod spec;
mod speed;
mod trees;
#[path = "../common/words.rs"]
mod words;

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// How fast and how exact a model runs on this machine.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prompt and decoding speed, as llama-bench shows it, against the machine's read bandwidth
    Speed(speed::Options),
    /// Time of one pass of 1, 2, 4, … 64 rows
    Curve(curve::Options),
    /// Speculative against plain decoding of prompts: texts, acceptance, speed
    Spec(spec::Options),
    /// What passes of a model and its drafter cost, measured anew and kept for dovetail-run
    Calibrate(calibrate::Options),
    /// Draft trees at every position of the answers to prompts, into a file, and the speed of policies for their size
    /// on that file
    Trees(trees::Options),
    /// Prompts one after another and several at once, plainly and with a drafter: texts, speed
    Batch(batch::Options),
    /// How long sequences that are being written wait while a long prompt is read beside them
    Pause(pause::Options),
    /// A GPU: latency of the ring, speed of products, time of a drafter's rounds
    #[cfg(feature = "gpu")]
    Gpu(gpu::Options),
    /// Perplexity of a text: windows of --ctx-size tokens, the second half of each counted
    Ppl(ppl::Options),
}

/// Flags of several letters after one dash, and their long names.
const LONG: &[(&str, &str)] = &[
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-hf", "--hf-repo"),
    ("-hff", "--hf-file"),
    ("-hfr", "--hf-repo"),
    ("-hft", "--hf-token"),
    ("-md", "--model-draft"),
    ("-ngld", "--gpu-layers-draft"),
];

fn main() -> ExitCode {
    let argv = match argv::rewrite(std::env::args_os(), &Cli::command(), LONG) {
        Ok(argv) => argv,
        Err(wrong) => {
            eprintln!("error: {wrong}");
            return ExitCode::from(2);
        }
    };
    let outcome = match Cli::parse_from(argv).command {
        Command::Speed(options) => speed::run(&options),
        Command::Curve(options) => curve::run(&options),
        Command::Spec(options) => spec::run(&options),
        Command::Calibrate(options) => calibrate::run(&options),
        Command::Trees(options) => trees::run(&options),
        Command::Batch(options) => batch::run(&options),
        Command::Pause(options) => pause::run(&options),
        #[cfg(feature = "gpu")]
        Command::Gpu(options) => gpu::run(&options),
        Command::Ppl(options) => ppl::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", words::line(&error));
            words::exit_code(&error)
        }
    }
}
