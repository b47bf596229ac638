//! Plain and speculative decoding of the same prompts: that the texts are equal, how many guesses are
//! accepted, and what that is worth.

use crate::guessing::Guessing;
use crate::plot;
use crate::prompts::{self, Prompt};
use crate::{Common, Format, at_least_one, temperature};
use clap::Args;
use dovetail::spec::{RoundStats, SpecSampling};
use dovetail::{ChatTemplate, Error, Result, Sampling, Session};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

/// Options of `spec`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Prompts, a JSON object a line: {"prompt": TEXT}, or in Spec-Bench's form {"category": …, "turns":
    /// [TEXT, …]}, of which the first turn is answered
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// So many prompts, the first ones [default: all]
    #[arg(long, value_name = "K", value_parser = at_least_one())]
    limit: Option<usize>,
    #[command(flatten)]
    guessing: Guessing,
    /// Most tokens of an answer
    #[arg(short = 'n', long = "predict", default_value_t = 128, value_parser = at_least_one())]
    n_predict: usize,
    /// Temperature; 0: always the most likely token
    #[arg(long, default_value = "0", value_parser = temperature)]
    temp: f32,
    /// Selects one of all possible texts
    #[arg(short, long, default_value_t = 1)]
    seed: u64,
    /// Draw speeds and acceptance into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Tokens of prompt and answer together
    #[arg(short, long, default_value_t = 4096, value_parser = at_least_one())]
    ctx_size: usize,
}

/// Tokens, seconds and rounds of the prompts of one category.
#[derive(Default)]
struct Row {
    prompts: usize,
    /// Tokens and time, plain and with guesses.
    tokens: [usize; 2],
    times: [Duration; 2],
    rounds: RoundStats,
    /// Sum over the prompts of tokens a round.
    lengths: f64,
}

impl Row {
    fn add(&mut self, other: &Row) {
        self.prompts += other.prompts;
        for side in 0..2 {
            self.tokens[side] += other.tokens[side];
            self.times[side] += other.times[side];
        }
        self.lengths += other.lengths;
        self.rounds.add(&other.rounds);
    }

    fn mean_acceptance_length(&self) -> f64 {
        self.lengths / self.prompts as f64
    }

    fn speeds(&self) -> [f64; 2] {
        std::array::from_fn(|side| self.tokens[side] as f64 / self.times[side].as_secs_f64())
    }

    fn speedup(&self) -> f64 {
        let [plain, spec] = self.speeds();
        spec / plain
    }

    fn json(&self) -> Value {
        let [plain, spec] = self.speeds();
        let r = &self.rounds;
        json!({
            "prompts": self.prompts,
            "tokens": self.tokens[1],
            "rounds": r.rounds,
            "drafted": r.drafted,
            "accepted": r.accepted,
            "mean_acceptance_length": self.mean_acceptance_length(),
            "accepted_by_depth": r.depths.iter().map(|(_, n)| n).collect::<Vec<_>>(),
            "tested_by_depth": r.depths.iter().map(|(n, _)| n).collect::<Vec<_>>(),
            "second_choices": r.second_choices,
            "draft_seconds": r.draft_time.as_secs_f64(),
            "verify_seconds": r.verify_time.as_secs_f64(),
            "rest_seconds": self.rest().as_secs_f64(),
            "plain_tokens_per_second": plain,
            "spec_tokens_per_second": spec,
            "speedup": self.speedup(),
        })
    }

    fn rest(&self) -> Duration {
        self.times[1].saturating_sub(self.rounds.draft_time + self.rounds.verify_time)
    }
}

/// Answers every prompt twice, plainly and with guesses, in turns.
pub fn run(o: &Options) -> Result<()> {
    o.guessing.check()?;
    let prompts = prompts::read(&o.prompts, o.limit)?;
    let mut session = o.common.session(o.ctx_size, 512)?;
    let template = ChatTemplate::from_gguf(session.model().gguf().metadata())?;
    let sampling = Sampling { temperature: o.temp, seed: o.seed, ..Sampling::default() };
    let open = |session: &Session| {
        let none =
            "nobody guesses for this model; name a drafter with -md FILE or --spec-type TYPE";
        let opened = o.guessing.open(session.setup(None))?;
        let (mut speculation, about) = opened.ok_or_else(|| Error::Invalid(none.into()))?;
        if let Some(notice) = speculation.take_notice() {
            eprintln!("{notice}");
        }
        Ok::<_, Error>((speculation, about))
    };
    let (speculation, about) = open(&session)?;
    let mut idle = Some(speculation);
    let mut categories: Vec<(String, Row)> = Vec::new();
    let mut different = Vec::new();
    let terminal = std::io::stderr().is_terminal();
    for (i, prompt) in prompts.iter().enumerate() {
        if terminal {
            eprint!("\r{} of {} ", i + 1, prompts.len());
        }
        let tokens = prompt.tokens(session.model().tokenizer(), template.as_ref(), None)?;
        if tokens.len() >= session.n_ctx() {
            let (n, room) = (tokens.len(), session.n_ctx());
            eprintln!(
                "prompt {} is left out: its {n} tokens do not fit the context of {room}",
                i + 1
            );
            continue;
        }
        let mut row = Row { prompts: 1, ..Row::default() };
        let mut texts: [Vec<u32>; 2] = Default::default();
        // Who is first changes from prompt to prompt: the machine's speed may drift.
        for turn in 0..2 {
            let speculate = (turn + i) % 2 == 1;
            session.speculate(if speculate { idle.take() } else { None })?;
            texts[usize::from(speculate)] = answer(&mut session, &tokens, &sampling, o.n_predict)?;
            let side = usize::from(speculate);
            row.times[side] = session.stats().predicted_time;
            row.tokens[side] = session.stats().predicted_n;
            if speculate {
                row.rounds = session.rounds().cloned().unwrap_or_default();
                row.lengths = row.rounds.mean_acceptance_length();
                if let Some(notice) = session.take_drafter_notice() {
                    eprintln!("prompt {}: {notice}", i + 1);
                }
                if let Some(error) = session.take_drafter_error() {
                    eprintln!("prompt {}: the drafter failed: {error}", i + 1);
                    idle = Some(open(&session)?.0);
                } else {
                    idle = session.speculate(None)?;
                }
            }
        }
        if o.guessing.spec_sampling == SpecSampling::Matching && texts[0] != texts[1] {
            different.push(i + 1);
        }
        if row.tokens.contains(&0) {
            continue; // an answer that ended at once says nothing about speed
        }
        match categories.iter_mut().find(|(name, _)| name == category(prompt)) {
            Some((_, sum)) => sum.add(&row),
            None => categories.push((category(prompt).to_owned(), row)),
        }
    }
    if terminal {
        eprint!("\r               \r");
    }
    if categories.is_empty() {
        return Err(Error::Invalid("no prompt was answered; give others, or a larger -c".into()));
    }
    categories.sort_by(|a, b| a.0.cmp(&b.0));
    print(o, &about, &categories, &different);
    if let Some(path) = &o.plot {
        std::fs::write(path, picture(&about, &categories))
            .map_err(|source| Error::Io { path: path.clone(), source })?;
    }
    match different.first() {
        None => Ok(()),
        Some(prompt) => Err(Error::Invalid(format!(
            "the texts of {} prompts differ, that of prompt {prompt} first: this is a fault of ours",
            different.len()
        ))),
    }
}

/// The answer's tokens.
fn answer(s: &mut Session, prompt: &[u32], sampling: &Sampling, n: usize) -> Result<Vec<u32>> {
    s.prompt(prompt, &mut |_, _| true)?;
    for piece in s.generate(sampling, n) {
        piece?;
    }
    Ok(s.tokens()[prompt.len()..].to_vec())
}

/// What a prompt counts for: the categories of MT-Bench count as one, as Spec-Bench has it.
fn category(prompt: &Prompt) -> &str {
    const OTHERS: [&str; 5] = ["translation", "summarization", "qa", "math_reasoning", "rag"];
    match prompt.line["category"].as_str() {
        None => "other",
        Some(category) if OTHERS.contains(&category) => category,
        Some("other") => "other",
        Some(_) => "mt_bench",
    }
}

fn picture(drafter: &str, categories: &[(String, Row)]) -> String {
    let mut all = RoundStats::default();
    categories.iter().for_each(|(_, row)| all.add(&row.rounds));
    let categories = categories.iter();
    let bars: Vec<plot::Bars> =
        categories.map(|(name, row)| plot::Bars { name, speeds: row.speeds() }).collect();
    let by_depth: Vec<f64> = all.depths.iter().map(|(n, yes)| *yes as f64 / *n as f64).collect();
    // The path's folders say nothing and take the picture's width.
    let words = drafter.split(' ').map(|word| word.rsplit('/').next().unwrap_or(word));
    plot::svg(&words.collect::<Vec<_>>().join(" "), &bars, &by_depth)
}

/// Whether all texts were equal; by rejection they need not be.
fn equal(o: &Options, different: &[usize]) -> Option<bool> {
    (o.guessing.spec_sampling == SpecSampling::Matching).then_some(different.is_empty())
}

fn print(o: &Options, drafter: &str, categories: &[(String, Row)], different: &[usize]) {
    let mut all = Row::default();
    categories.iter().for_each(|(_, row)| all.add(row));
    let n = categories.len() as f64;
    // Each category counts once, as in the papers.
    let mean = |of: fn(&Row) -> f64| categories.iter().map(|(_, row)| of(row)).sum::<f64>() / n;
    let length = mean(Row::mean_acceptance_length);
    let [plain, spec] = [mean(|row| row.speeds()[0]), mean(|row| row.speeds()[1])];
    let speedup = mean(Row::speedup);
    if o.common.output == Format::Json {
        let rows: serde_json::Map<_, _> =
            categories.iter().map(|(name, row)| (name.clone(), row.json())).collect();
        println!(
            "{}",
            json!({
                "texts_equal": equal(o, different),
                "different_prompts": different,
                "prompts": all.prompts,
                "drafter": drafter,
                "mean_acceptance_length": length,
                "plain_tokens_per_second": plain,
                "spec_tokens_per_second": spec,
                "speedup": speedup,
                "all": all.json(),
                "categories": rows,
            })
        );
        return;
    }
    println!(
        "{} prompts, {} tokens, {drafter}, {} threads, temperature {}: {}",
        all.prompts,
        all.tokens[1],
        o.common.threads(),
        o.temp,
        match equal(o, different) {
            Some(true) => "all texts equal",
            Some(false) => "TEXTS DIFFER",
            None => "texts of the same distribution, not compared",
        },
    );
    println!(
        "\n| category | rounds | tokens a round | accepted by depth, % | second choices | draft / verify / rest, % \
         | plain t/s | speculative t/s | speed-up |"
    );
    println!("| --- | --: | --: | --- | --: | --- | --: | --: | --: |");
    let total = ("all".to_owned(), all);
    for (name, row) in categories.iter().chain([&total]) {
        let r = &row.rounds;
        let depths =
            r.depths.iter().map(|(tested, n)| format!("{:.0}", 100.0 * *n as f64 / *tested as f64));
        let parts = [r.draft_time, r.verify_time, row.rest()]
            .map(|time| format!("{:.0}", 100.0 * time.as_secs_f64() / row.times[1].as_secs_f64()));
        let [plain, spec] = row.speeds();
        println!(
            "| {name} | {} | {:.2} | {} | {} | {} | {plain:.1} | {spec:.1} | {:.2} |",
            r.rounds,
            row.mean_acceptance_length(),
            depths.collect::<Vec<_>>().join(" "),
            r.second_choices,
            parts.join(" / "),
            row.speedup(),
        );
    }
    println!(
        "| mean of the categories | | {length:.2} | | | | {plain:.1} | {spec:.1} | {speedup:.2} |"
    );
}
