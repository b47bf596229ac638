//! Answers a prompt on standard output.

use crate::args::{Args, STATS_JSON};
use crate::interrupt::Interrupt;
use crate::log::{Log, Progress};
use crate::stdout::{GREEN, show};
use crate::words::FlagNames;
use crate::wrap::{Colour, Wrap};
use crate::{output, report, timings};
use dovetail::{ChatTemplate, Constraint, Error, Generation, Message, Notice, Result, Sampling};
use dovetail::{Session, Stop};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// A session and all that an answer needs.
pub struct Runner<'a> {
    /// The flags.
    pub args: &'a Args,
    /// The model's file.
    pub path: PathBuf,
    /// The session.
    pub session: Session,
    /// The chat template; `None` if there is none, or with `--raw`.
    pub template: Option<ChatTemplate>,
    /// How tokens are sampled.
    pub sampling: Sampling,
    /// What answers may be.
    pub constraint: Option<Constraint>,
    /// Time from the start of loading to the session.
    pub load_time: Duration,
    /// State of Ctrl-C.
    pub interrupt: &'a Interrupt,
    /// Messages on standard error.
    pub log: &'a Log,
    /// The last line on standard output.
    pub wrap: Wrap,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The session ended it.
    Session(Stop),
    /// Ctrl-C came.
    Interrupted,
}

impl End {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            End::Session(Stop::End(_) | Stop::Call) => "end",
            End::Session(Stop::Length) => "length",
            End::Session(Stop::Context) => "context",
            End::Session(Stop::Text(_)) => "stop_string",
            End::Session(Stop::NotANumber) => "not_a_number",
            End::Session(Stop::Constraint) => "constraint",
            End::Interrupted => "interrupted",
        }
    }
}

/// An answer as it was printed.
pub struct Answer {
    /// The text.
    pub text: String,
    /// Why it ended.
    pub end: End,
}

impl Runner<'_> {
    /// The prompt for the next message of a conversation.
    ///
    /// # Errors
    /// If there is no template, it refuses the messages, or they cannot fit the context.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let template = self.template.as_ref().ok_or_else(|| {
            Error::Invalid(format!(
                "{}: the model has no chat template; give one with --chat-template chatml, \
                 or complete a prompt with --raw -p TEXT",
                self.path.display()
            ))
        })?;
        let tokenizer = self.session.model().tokenizer();
        template.prompt(tokenizer, messages, true, self.session.n_ctx())
    }

    /// Generates and prints the answer to a prompt, and reports statistics. `attempt` is added to the seed, so another
    /// attempt gives another text.
    ///
    /// # Errors
    /// If the prompt does not fit, or standard output or the statistics cannot be written.
    pub fn answer(&mut self, prompt: &[u32], attempt: u64) -> Result<Answer> {
        self.interrupt.defer();
        let mut progress = Progress::new("reading the prompt");
        let mut passes = 0;
        let whole = self.session.prompt(prompt, &mut |done, total| {
            // A prompt that takes one pass has no progress to show.
            passes += usize::from(done < total);
            if passes > 0 {
                progress.update(done as u64, total as u64);
            }
            !self.interrupt.came()
        })?;
        drop(progress);
        let sampling =
            Sampling { seed: self.sampling.seed.wrapping_add(attempt), ..self.sampling.clone() };
        let mut answer = Answer { text: String::new(), end: End::Interrupted };
        if whole {
            let mut generation = self.args.generation(&sampling);
            generation.constraint = self.constraint.clone().map(|one| one.behind(prompt));
            let streamed = self.stream(generation, &mut answer);
            if !answer.text.is_empty() && !answer.text.ends_with('\n') {
                self.show("\n", None)?;
            }
            streamed?;
        }
        self.report(&sampling, answer.end)?;
        Ok(answer)
    }

    /// Writes text to standard output at once, on a terminal in a colour if one is given.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn show(&mut self, text: &str, colour: Colour) -> Result<()> {
        show(&mut self.wrap, text, colour)
    }

    fn stream(&mut self, generation: Generation, answer: &mut Answer) -> Result<()> {
        self.session.begin(generation)?;
        while let Some(piece) = self.session.next_piece()? {
            answer.text.push_str(&piece.text);
            let colour = (self.args.color && piece.drafted).then_some(GREEN);
            self.show(&piece.text, colour)?;
            if self.interrupt.came() {
                break;
            }
        }
        if let Some(stop) = self.session.stop() {
            answer.end = End::Session(stop);
        }
        Ok(())
    }

    fn report(&mut self, sampling: &Sampling, end: End) -> Result<()> {
        if let Some(notice) = self.session.take_drafter_notice() {
            self.log.note(&notice);
        }
        if let Some(error) = self.session.take_drafter_error() {
            let (_, line) = Notice::DrafterFailed(&error).lines(&FlagNames);
            self.log.note(&line);
        }
        let saved = self.session.save_acceptance();
        report::learned(self.args.explain, self.session.planner(), saved, self.log);
        let stats = self.session.stats().clone();
        let rounds = self.session.rounds().cloned();
        self.log.detail(&report::block(&stats, self.load_time));
        if let Some(rounds) = &rounds {
            self.log.detail(&report::draft_stats(rounds));
        }
        let Some(path) = &self.args.stats_json else { return Ok(()) };
        let mut json = timings::timings(&stats, &rounds.unwrap_or_default());
        json["load_ms"] = json!(self.load_time.as_secs_f64() * 1e3);
        json["stop"] = json!(end.name());
        json["seed"] = json!(sampling.seed);
        json["model"] = json!(self.path.to_string_lossy());
        json["n_ctx"] = json!(self.session.n_ctx());
        json["threads"] = json!(self.session.target().threads());
        json["isa"] = json!(self.session.target().isa());
        output::write(STATS_JSON, path, &format!("{json:#}\n"))
    }

    /// Prints the line after an answer.
    pub fn print_turn(&self) {
        self.log.note(&report::turn(self.session.stats()));
    }

    /// Says what to do about a full context.
    pub fn explain_end(&self, end: End, remedy: &str) {
        if end == End::Session(Stop::Context) {
            let n = self.session.n_ctx();
            self.log.note(&format!("the context of {n} tokens is full; {remedy}"));
        }
    }
}
