//! Answers the prompts of a file, several at once; each answer is a line of JSON.

use crate::args::Args;
use crate::interrupt::{EXIT_CODE, Interrupt};
use crate::log::Log;
use crate::open::{self, Loaded, LogObserver};
use crate::prompts::{self, Prompt};
use crate::report::{self, BatchStats};
use crate::request::{self, Answering};
use crate::runner::End;
use crate::stdout::emit;
use crate::words::{self, FlagNames};
use dovetail::{ChatTemplate, Engine, Error, Notice, Request, RequestId, Result};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// A prompt that is being answered.
struct Job {
    id: RequestId,
    /// Index of the prompt.
    prompt: usize,
    text: String,
}

/// State of answering a file.
struct Batch<'a> {
    log: &'a Log,
    prompts: &'a [Prompt],
    engine: Engine,
    jobs: Vec<Job>,
    lines: Vec<Option<String>>, // (prompts)
    printed: usize,
    total: BatchStats,
    /// Whether a prompt could not be answered.
    has_failed: bool,
}

/// Answers all prompts of the file that `-f` names, up to `slots` at a time. The exit code is 1 if the model's logits were
/// no numbers behind one of them; the others are answered all the same.
///
/// # Errors
/// If there is no file, or a line of it is not a prompt or does not fit, before any prompt is answered; or if an answer
/// cannot be written.
pub fn run(args: &mut Args, slots: usize, model: Option<&Path>, log: &Log) -> Result<ExitCode> {
    let what = "--parallel answers the prompts of a file; give one with -f prompts.jsonl";
    let file = args.file.as_deref().ok_or_else(|| Error::Invalid(what.into()))?;
    let prompts = prompts::read(file, None)?;
    let sampling = args.sampling.sampling();
    let (generation, grammar) = (args.generation(&sampling), args.grammar.grammar()?);
    let flags = Answering { generation, grammar };
    let answering = |prompt| request::answering(prompt, flags.clone());
    let answerings = prompts.iter().map(answering).collect::<Result<Vec<_>>>()?;
    for name in request::without_effect(&prompts) {
        log.note(&format!("{}: the field \"{name}\" has no effect", file.display()));
    }
    let slots = slots.min(prompts.len());
    let (template, interrupt) = (args.template()?, Interrupt::new()?);
    let path = open::choose(args, model, log)?;
    let Some(loaded) = open::load(args, &path, template, &interrupt, log)? else {
        return Ok(ExitCode::from(EXIT_CODE));
    };
    let Loaded { model, template, options } = loaded;
    if template.is_none() && !args.raw {
        log.note("the model has no chat template: completing the prompts as they are");
    }
    let engine = options.engine(model, slots, &mut LogObserver::new(log, None))?;
    log.detail(&format!("seed {}", sampling.seed));
    let tokens = tokens(args, &prompts, template.as_ref(), &engine)?;
    let model = engine.model();
    let request = |((prompt, answering), place): ((Vec<u32>, Answering), &Prompt)| {
        let Answering { mut generation, grammar } = answering;
        if let Some(grammar) = grammar {
            let constraint = model.constraint(&grammar);
            let at_place = |error| Error::Invalid(format!("{}: {error}", place.place));
            generation.constraint = Some(constraint.map_err(at_place)?.behind(&prompt));
        }
        Ok(Request { prompt, generation, drafter: None })
    };
    let requests = tokens.into_iter().zip(answerings).zip(&prompts).map(request);
    let mut requests = requests.collect::<Result<Vec<_>>>()?.into_iter();
    let mut batch = Batch {
        log,
        prompts: &prompts,
        engine,
        jobs: Vec::with_capacity(slots),
        lines: vec![None; prompts.len()],
        printed: 0,
        total: BatchStats::default(),
        has_failed: false,
    };
    let start = Instant::now();
    interrupt.defer();
    while !interrupt.came() && batch.step(&mut requests)? {}
    batch.total.time = start.elapsed();
    batch.print(true)?;
    log.note(&batch.total.line());
    report::learned(args.explain, batch.engine.planner(), batch.engine.save_acceptance(), log);
    if let Some(rounds) = batch.total.draft_stats() {
        log.detail(&report::draft_stats(rounds));
    }
    Ok(match (interrupt.came(), batch.has_failed) {
        (true, _) => ExitCode::from(EXIT_CODE),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    })
}

/// The tokens of all prompts.
fn tokens(
    args: &Args,
    prompts: &[Prompt],
    template: Option<&ChatTemplate>,
    engine: &Engine,
) -> Result<Vec<Vec<u32>>> {
    let available = engine.n_ctx();
    let tokens = |prompt: &Prompt| {
        let system = args.system_prompt.as_deref();
        let tokens = prompt.tokens(engine.model().tokenizer(), template, system, available)?;
        if tokens.len() >= available {
            let error = Error::Context { needed: tokens.len() + 1, available };
            return Err(Error::Invalid(format!("{}: {}", prompt.place, words::line(&error))));
        }
        Ok(tokens)
    };
    prompts.iter().map(tokens).collect()
}

impl Batch<'_> {
    /// Fills free slots, runs one round and prints complete answers. Returns whether there is more to do.
    fn step(&mut self, requests: &mut impl ExactSizeIterator<Item = Request>) -> Result<bool> {
        while self.engine.has_room() && requests.len() > 0 {
            let prompt = self.prompts.len() - requests.len();
            let id = self.engine.add(requests.next().expect("there is one"))?;
            self.jobs.push(Job { id, prompt, text: String::new() });
        }
        let jobs = &mut self.jobs;
        self.engine.step(&mut |id, piece| {
            if let Some(job) = jobs.iter_mut().find(|job| job.id == id) {
                job.text += &piece.text;
            }
        })?;
        self.total.rounds += 1;
        if let Some(notice) = self.engine.take_drafter_notice() {
            self.log.note(&notice);
        }
        let engine = &self.engine;
        let ended = |job: &mut Job| engine.stop(job.id).is_some();
        let ended: Vec<Job> = self.jobs.extract_if(.., ended).collect();
        ended.into_iter().for_each(|job| self.finish(job));
        self.print(false)?;
        Ok(requests.len() > 0 || !self.jobs.is_empty())
    }

    /// Keeps the line of an answer that has ended.
    fn finish(&mut self, job: Job) {
        let prompt = &self.prompts[job.prompt];
        let failure = self.engine.failure(job.id);
        let Some(answer) = self.engine.remove(job.id) else { return };
        if let Some(error) = failure {
            self.log.note(&format!("error: {}: {}", prompt.place, words::line(&error)));
            self.has_failed = true;
        }
        if let Some(error) = answer.drafter_error {
            let (_, line) = Notice::DrafterFailed(&error).lines(&FlagNames);
            self.log.note(&format!("{}: {line}", prompt.place));
        }
        let end = answer.stop.map_or(End::Interrupted, End::Session);
        let n = answer.tokens.len();
        let mut line = json!({ "text": job.text, "tokens": n, "stop": end.name() });
        match prompt.line.get("id") {
            Some(id) => line["id"] = id.clone(),
            None => line["prompt_index"] = json!(job.prompt),
        }
        self.lines[job.prompt] = Some(line.to_string());
        self.total.add(&answer.stats, answer.rounds.as_ref());
    }

    /// Prints answers in the order of their prompts; with `all` also those after a missing one.
    fn print(&mut self, all: bool) -> Result<()> {
        while let Some(line) = self.lines.get_mut(self.printed) {
            match line.take() {
                Some(line) => emit(&format!("{line}\n"))?,
                None if all => {}
                None => return Ok(()),
            }
            self.printed += 1;
        }
        Ok(())
    }
}
