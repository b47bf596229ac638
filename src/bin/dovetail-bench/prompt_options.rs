//! Options of commands that answer prompts, and reading and answering the prompts.

use crate::common_options::{CommonOptions, at_least_one, temperature};
use crate::draft_flags::DraftFlags;
use crate::prompts;
use crate::words::FlagNames;
use clap::Args;
use dovetail::planner::Policy;
use dovetail::printable::Printable;
use dovetail::{ChatTemplate, Error, Face, Result, Sampling, Session, Setting};
use std::io::IsTerminal;
use std::path::PathBuf;

/// Prompts and how they are answered.
#[derive(Args)]
pub struct PromptOptions {
    #[command(flatten)]
    pub common: CommonOptions,
    /// Prompts, a JSON object a line: {"prompt": TEXT}, or in Spec-Bench's form {"category": …, "turns":
    /// [TEXT, …]}, of which the first turn is answered
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// Number of prompts, counted from the first one [default: all]
    #[arg(long, value_name = "K", value_parser = at_least_one())]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub drafting: DraftFlags,
    /// Most tokens of an answer
    #[arg(short = 'n', long = "predict", default_value_t = 128, value_parser = at_least_one())]
    pub n_predict: usize,
    /// Temperature; 0: always the most likely token
    #[arg(long, default_value = "0", value_parser = temperature)]
    pub temp: f32,
    /// Seed of the random numbers
    #[arg(short, long, default_value_t = 1)]
    pub seed: u64,
    /// Context length: tokens of prompt and answer together
    #[arg(short, long, default_value_t = 4096, value_parser = at_least_one())]
    pub ctx_size: usize,
}

/// A prompt and its category.
pub struct Prompt {
    /// Number of the prompt, from 1, including those left out.
    pub number: usize,
    pub category: String,
    pub tokens: Vec<u32>,
}

impl PromptOptions {
    /// Opens a session, and reads the prompts that fit its context.
    pub fn begin(&self) -> Result<(Session, Vec<Prompt>)> {
        self.drafting.check()?;
        let read = prompts::read(&self.prompts, self.limit)?;
        let session = self.common.session(self.ctx_size, 512)?;
        let template = ChatTemplate::from_gguf(session.model().gguf().metadata())?;
        let mut prompts = Vec::new();
        for (i, prompt) in read.iter().enumerate() {
            // A prompt that does not fit is not an error here, however long it is.
            let tokenizer = session.model().tokenizer();
            let tokens = prompt.tokens(tokenizer, template.as_ref(), None, usize::MAX)?;
            let (number, n, room) = (i + 1, tokens.len(), session.n_ctx());
            if n < room {
                let category = Printable(category(prompt)).to_string();
                prompts.push(Prompt { number, category, tokens });
            } else {
                eprintln!(
                    "prompt {number} is left out: its {n} tokens do not fit the context of {room}"
                );
            }
        }
        Ok((session, prompts))
    }

    /// Checks the additional policies.
    ///
    /// # Errors
    /// If a policy cannot be used.
    pub fn check_against(&self, against: &[Policy]) -> Result<()> {
        let asked = self.drafting.options();
        let check = |policy: &Policy| asked.check_policy(*policy);
        against.iter().try_for_each(check).map_err(|e| Error::Invalid(e.line(&AgainstFlagNames)))
    }

    /// How tokens are sampled.
    pub fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temp, seed: self.seed, ..Sampling::default() }
    }
}

/// The names of settings in errors, with the flag of the other policies.
struct AgainstFlagNames;

impl Face for AgainstFlagNames {
    fn name(&self, setting: Setting) -> &'static str {
        if setting == Setting::Tree { "--against" } else { FlagNames.name(setting) }
    }
}

/// The message if a drafter is needed and there is none.
pub fn no_drafter() -> Error {
    let none = "there is no drafter for this model; name one with -md FILE or --spec-type TYPE";
    Error::Invalid(none.into())
}

/// Answers a prompt. Returns the answer's tokens.
pub fn answer(s: &mut Session, prompt: &[u32], sampling: &Sampling, n: usize) -> Result<Vec<u32>> {
    s.prompt(prompt, &mut |_, _| true)?;
    for piece in s.generate(sampling, n) {
        piece?;
    }
    Ok(s.tokens()[prompt.len()..].to_vec())
}

/// Shows progress on a terminal; removes it when dropped.
pub struct Progress {
    of: usize,
    terminal: bool,
}

impl Progress {
    pub fn new(prompts: &[Prompt]) -> Progress {
        Progress { of: prompts.len(), terminal: std::io::stderr().is_terminal() }
    }

    /// Prompt number `i`, from 0, comes next.
    pub fn show(&self, i: usize) {
        if self.terminal {
            eprint!("\r{} of {} ", i + 1, self.of);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            eprint!("\r               \r");
        }
    }
}

/// The category of a prompt: those of MT-Bench count as one, as in Spec-Bench.
fn category(prompt: &prompts::Prompt) -> &str {
    const OTHERS: [&str; 5] = ["translation", "summarization", "qa", "math_reasoning", "rag"];
    match prompt.line["category"].as_str() {
        None => "other",
        Some(category) if OTHERS.contains(&category) => category,
        Some("other") => "other",
        Some(_) => "mt_bench",
    }
}
