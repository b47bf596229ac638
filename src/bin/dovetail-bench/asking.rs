//! Prompts and their answers: the options of all that answers prompts, and reading and answering them.

use crate::guessing::Guessing;
use crate::{Common, at_least_one};
use clap::Args;
use dovetail::{ChatTemplate, Error, Message, Result, Sampling, Session};
use serde_json::Value;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// What is asked, and how it is answered.
#[derive(Args)]
pub struct Asking {
    #[command(flatten)]
    pub common: Common,
    /// Prompts in Spec-Bench's form, a JSON object a line: {"category": …, "turns": [TEXT, …]}, of which
    /// the first turn is answered
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// So many prompts, the first ones [default: all]
    #[arg(long, value_name = "K", value_parser = at_least_one())]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub guessing: Guessing,
    /// Most tokens of an answer
    #[arg(short = 'n', long = "predict", default_value_t = 128, value_parser = at_least_one())]
    pub n_predict: usize,
    /// Temperature; 0: always the most likely token
    #[arg(long, default_value = "0", value_parser = temperature)]
    pub temp: f32,
    /// Selects one of all possible texts
    #[arg(short, long, default_value_t = 1)]
    pub seed: u64,
    /// Tokens of prompt and answer together
    #[arg(short, long, default_value_t = 4096, value_parser = at_least_one())]
    pub ctx_size: usize,
}

/// A prompt and the category it counts for.
pub struct Prompt {
    /// Counted from 1, those left out included.
    pub number: usize,
    pub category: String,
    pub tokens: Vec<u32>,
}

impl Asking {
    /// A session, and the prompts that fit its context.
    pub fn begin(&self) -> Result<(Session, Vec<Prompt>)> {
        self.guessing.check()?;
        let texts = read(&self.prompts, self.limit)?;
        let session = self.common.session(self.ctx_size, 512)?;
        let template = ChatTemplate::from_gguf(session.model().gguf().metadata())?;
        let mut prompts = Vec::new();
        for (i, (category, text)) in texts.into_iter().enumerate() {
            let tokens = encode(&session, template.as_ref(), &text)?;
            let (number, n, room) = (i + 1, tokens.len(), session.n_ctx());
            if n < room {
                prompts.push(Prompt { number, category, tokens });
            } else {
                eprintln!(
                    "prompt {number} is left out: its {n} tokens do not fit the context of {room}"
                );
            }
        }
        Ok((session, prompts))
    }

    /// How the next token is chosen.
    pub fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temp, seed: self.seed, ..Sampling::default() }
    }
}

/// What to say where a drafter is needed and there is none.
pub fn nobody_guesses() -> Error {
    let none = "nobody guesses for this model; name a drafter with -md FILE or --spec-type TYPE";
    Error::Invalid(none.into())
}

/// The answer's tokens.
pub fn answer(s: &mut Session, prompt: &[u32], sampling: &Sampling, n: usize) -> Result<Vec<u32>> {
    s.prompt(prompt, &mut |_, _| true)?;
    for piece in s.generate(sampling, n) {
        piece?;
    }
    Ok(s.tokens()[prompt.len()..].to_vec())
}

/// Says on a terminal how far it is; takes that away again when it is dropped.
pub struct Progress {
    of: usize,
    terminal: bool,
}

impl Progress {
    pub fn new(prompts: &[Prompt]) -> Progress {
        Progress { of: prompts.len(), terminal: std::io::stderr().is_terminal() }
    }

    /// The `i`th prompt, counted from 0, is next.
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

fn temperature(text: &str) -> std::result::Result<f32, String> {
    let value = text.parse().ok().filter(|x: &f32| x.is_finite() && *x >= 0.0);
    value.ok_or_else(|| "give 0 or a positive number".into())
}

fn encode(session: &Session, template: Option<&ChatTemplate>, text: &str) -> Result<Vec<u32>> {
    let tokenizer = session.model().tokenizer();
    match template {
        Some(template) => template.prompt(tokenizer, &[Message::new("user", text)], true),
        None => tokenizer.encode(text, true, true),
    }
}

/// Reads the prompts, category and text each. The categories of MT-Bench count as one, as Spec-Bench has
/// it.
fn read(path: &Path, limit: Option<usize>) -> Result<Vec<(String, String)>> {
    const OTHERS: [&str; 5] = ["translation", "summarization", "qa", "math_reasoning", "rag"];
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let prompts = lines.take(limit.unwrap_or(usize::MAX)).map(|(i, line)| {
        let wrong =
            |what: &str| Error::Invalid(format!("{}, line {}: {what}", path.display(), i + 1));
        let value: Value =
            serde_json::from_str(line).map_err(|error| wrong(&format!("no JSON: {error}")))?;
        let turn = value["turns"][0].as_str();
        let text = turn.ok_or_else(|| wrong("no text in \"turns\"[0]"))?.to_owned();
        let category = value["category"].as_str().unwrap_or("other");
        let category =
            if OTHERS.contains(&category) || category == "other" { category } else { "mt_bench" };
        Ok((category.to_owned(), text))
    });
    let prompts = prompts.collect::<Result<Vec<_>>>()?;
    if prompts.is_empty() {
        return Err(Error::Invalid(format!("{}: no prompts", path.display())));
    }
    Ok(prompts)
}
