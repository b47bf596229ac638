//! `dovetail-server`: a model behind the HTTP interfaces that other programs speak.
//!
//! ```text
//! args.rs           the flags
//! load.rs           which model, loading it · serve.rs  from the first connection to the last · signals.rs
//! connections.rs    how many connections, and how long a client may take · write_timeout.rs  one that does not read
//! engine_thread.rs  the thread that owns the engine · job.rs  what goes to it and what comes back
//! outbox.rs         events for a client that may be slow · queue.rs  where requests wait
//! state.rs          what all requests see · log.rs  one line a request · metrics.rs  counters
//! router.rs         paths · gate.rs  what stands before all of them: loading, ending, panics · auth.rs  keys
//! error.rs          what goes wrong, in the words of each interface
//! body.rs           what a request sends · fields.rs  its fields, checked one by one
//! unsupported.rs    fields that would change the answer and are refused
//! turns.rs          items and blocks to messages · prompt.rs  messages and texts to tokens · tools.rs  what may be called
//! chat_request.rs   a chat to a request of the engine · deltas.rs  pieces of an answer to what clients show
//! blocks.rs         the same as thoughts, texts and calls that follow each other
//! embedding.rs      vectors of texts
//! answer.rs         an answer on its way · frames.rs  a body that is sent while it is made · sse.rs  events in it
//! openai/           chat and text completions, embeddings, models · responses/  OpenAI's later interface
//! anthropic/        messages · ollama/  Ollama's · native/  those of llama.cpp's server alone
//! page.rs           the page at / · openapi/  all paths as a document · fuzzed.rs  any bytes as a request
//! ../common         as in dovetail-run
//! ```
//!
//! Exit codes: 0 after SIGTERM or Ctrl-C; 1 if the model or the machine cannot do it; 2 for a mistake of the caller; 130
//! after a second Ctrl-C.

#![cfg_attr(not(fuzzing), forbid(unsafe_code))]
#![cfg_attr(
    fuzzing,
    no_main,
    allow(dead_code, reason = "libFuzzer's main stands in place of this one")
)]

mod answer;
mod anthropic;
mod args;
#[path = "../common/argv.rs"]
mod argv;
mod auth;
mod blocks;
mod body;
mod chat_request;
mod connections;
mod deltas;
#[path = "../common/download_bar.rs"]
mod download_bar;
#[path = "../common/draft_flags.rs"]
mod draft_flags;
mod embedding;
mod engine_thread;
mod error;
mod fields;
mod frames;
#[cfg(any(test, fuzzing))]
mod fuzzed;
mod gate;
#[path = "../common/generation_fields.rs"]
mod generation_fields;
#[path = "../common/grammar_flags.rs"]
mod grammar_flags;
#[path = "../common/hub_flags.rs"]
mod hub_flags;
mod job;
mod load;
mod log;
mod metrics;
#[path = "../common/mistake.rs"]
mod mistake;
mod native;
mod ollama;
mod openai;
mod openapi;
mod outbox;
mod page;
#[path = "../common/progress_line.rs"]
mod progress_line;
mod prompt;
mod queue;
mod responses;
#[path = "../common/rope_flags.rs"]
mod rope_flags;
mod router;
#[path = "../common/sampling_flags.rs"]
mod sampling_flags;
mod serve;
mod signals;
mod sse;
mod state;
#[path = "../common/timings.rs"]
mod timings;
mod tools;
mod turns;
mod unsupported;
#[path = "../common/values.rs"]
mod values;
#[path = "../common/words.rs"]
mod words;
mod write_timeout;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os()) {
        args::Parsed::Run(args) => *args,
        args::Parsed::Help(text) => {
            let _ = write!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        args::Parsed::Wrong(line) => {
            let _ = writeln!(std::io::stderr(), "error: {line}");
            return ExitCode::from(2);
        }
    };
    log::start(args.verbose);
    match serve::run(args) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", words::line(&error));
            words::exit_code(&error)
        }
    }
}
