//! Plain and speculative decoding of the same prompts: checks that the texts are equal, and measures acceptance and
//! speedup.

use crate::common_options::Format;
use crate::explain::explain;
use crate::plot::{self, PLOT};
use crate::prompt_options::{Progress, PromptOptions, answer, no_drafter};
use crate::{output, words};
use clap::Args;
use dovetail::planner::Report;
use dovetail::planner::{Planner, Policy};
use dovetail::speculate::{ConfiguredDrafter, RoundStats, SpecSampling};
use dovetail::{Drafting, Error, Result, Session};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Options of `spec`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    answers: PromptOptions,
    /// Another --tree for the prompts, in turns with the others; may be given several times
    #[arg(long, value_name = "POLICY")]
    against: Vec<Policy>,
    /// Report what was measured, which sizes were chosen and what they gained
    #[arg(long)]
    explain: bool,
    /// Draw speeds and acceptance into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Tokens, seconds and rounds of the prompts of one category.
#[derive(Default)]
struct Row {
    prompts: usize,
    /// Tokens and time: plain, with the drafter, and with each other policy.
    tokens: Vec<usize>,
    times: Vec<Duration>,
    rounds: RoundStats,
    /// Sum over the prompts of their tokens per round.
    lengths: f64,
}

impl Row {
    fn add(&mut self, other: &Row) {
        self.prompts += other.prompts;
        self.tokens.resize(other.tokens.len(), 0);
        self.times.resize(other.times.len(), Duration::ZERO);
        for side in 0..other.tokens.len() {
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
        [0, 1].map(|side| self.speed(side))
    }

    fn speed(&self, side: usize) -> f64 {
        self.tokens[side] as f64 / self.times[side].as_secs_f64()
    }

    /// Speedups over plain decoding.
    fn speedup(&self, side: usize) -> f64 {
        self.speed(side) / self.speed(0)
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
            "speedup": self.speedup(1),
            "speedup_against": (2..self.tokens.len()).map(|side| self.speedup(side)).collect::<Vec<_>>(),
        })
    }

    fn rest(&self) -> Duration {
        self.times[1].saturating_sub(self.rounds.draft_time + self.rounds.verify_time)
    }
}

/// A way to answer.
struct Side {
    name: String,
    /// Its planner, while another way answers.
    planner: Planner,
    report: Report,
}

/// Answers every prompt plainly and with the drafter, in turns.
pub fn run(o: &Options) -> Result<()> {
    o.answers.check_against(&o.against)?;
    if let Some(path) = &o.plot {
        output::check(PLOT, path)?;
    }
    let (mut session, prompts) = o.answers.begin()?;
    let (sampling, n) = (o.answers.sampling(), o.answers.n_predict);
    let open = |session: &Session| -> Result<ConfiguredDrafter> {
        o.answers.drafting.options().open(session.setup(None))?.ok_or_else(no_drafter)
    };
    let mut opened = open(&session)?;
    let description = opened.description();
    let planner = Planner::default;
    let mut sides =
        vec![Side { name: "plain".into(), planner: planner(), report: Report::default() }];
    let chosen = opened.policy;
    for policy in [chosen].into_iter().chain(o.against.iter().copied()) {
        opened.policy = policy;
        // Fixed trees need no planner, unless policies are compared: then all use one.
        let planned = opened.planner(
            o.explain || !o.against.is_empty(),
            1,
            session.calibrator(&mut |_| true),
        )?;
        let planner = planned.map_or_else(planner, |(planner, _)| planner);
        sides.push(Side { name: policy.to_string(), planner, report: Report::default() });
    }
    opened.policy = chosen;
    let planned = sides[1].planner.costs().is_some();
    let mut speculation = opened.speculation(planned);
    if let Some(notice) = speculation.take_notice() {
        eprintln!("{notice}");
    }
    session.speculate(Some(speculation))?;
    let mut categories: Vec<(String, Row)> = Vec::new();
    let mut different = Vec::new();
    let progress = Progress::new(&prompts);
    for (i, prompt) in prompts.iter().enumerate() {
        progress.show(i);
        let mut row = Row { prompts: 1, ..Row::default() };
        row.times.resize(sides.len(), Duration::ZERO);
        row.tokens.resize(sides.len(), 0);
        let mut texts = vec![Vec::new(); sides.len()];
        // The order changes from prompt to prompt, since the machine's speed may drift.
        for turn in 0..sides.len() {
            let side = (turn + i) % sides.len();
            session.set_drafting(if side > 0 { Drafting::Auto } else { Drafting::Off });
            let planner = std::mem::take(&mut sides[side].planner);
            session.plan(planner);
            texts[side] = answer(&mut session, &prompt.tokens, &sampling, n)?;
            row.times[side] = session.stats().predicted_time;
            row.tokens[side] = session.stats().predicted_n;
            if side == 1 {
                row.rounds = session.rounds().cloned().unwrap_or_default();
                row.lengths = row.rounds.mean_acceptance_length();
            }
            if let Some(notice) = session.take_drafter_notice() {
                eprintln!("prompt {}: {notice}", prompt.number);
            }
            if let Some(error) = session.take_drafter_error() {
                let (number, why) = (prompt.number, words::line(&error));
                eprintln!("prompt {number}: the drafter failed: {why}");
                let again = open(&session)?.speculation(planned);
                session.speculate(Some(again))?;
            }
            sides[side].planner = session.plan(Planner::default());
            let Side { planner, report, .. } = &mut sides[side];
            report.add(planner.report());
        }
        let same = texts.iter().all(|text| *text == texts[0]);
        if o.answers.drafting.spec_sampling == SpecSampling::Matching && !same {
            different.push(prompt.number);
        }
        if row.tokens.contains(&0) {
            continue; // an answer that ended at once says nothing about speed
        }
        match categories.iter_mut().find(|(name, _)| *name == prompt.category) {
            Some((_, sum)) => sum.add(&row),
            None => categories.push((prompt.category.clone(), row)),
        }
    }
    drop(progress);
    if categories.is_empty() {
        return Err(Error::Invalid("no prompt was answered; give others, or a larger -c".into()));
    }
    categories.sort_by(|a, b| a.0.cmp(&b.0));
    print(o, &description, &categories, &different);
    if !o.against.is_empty() && o.answers.common.output == Format::Md {
        compare(&sides, &categories);
    }
    if o.explain {
        let Side { planner, report, .. } = &sides[1];
        eprintln!("\n{}", explain(planner, report, Some(mean(&categories, |row| row.speedup(1)))));
    }
    if let Some(path) = &o.plot {
        output::write(PLOT, path, &picture(&description, &categories))?;
    }
    match different.first() {
        None => Ok(()),
        Some(prompt) => Err(Error::Invalid(format!(
            "the texts of {} prompts differ, that of prompt {prompt} first: this is a fault of ours",
            different.len()
        ))),
    }
}

/// The mean of the categories, each counting once, as in the papers.
fn mean(categories: &[(String, Row)], of: impl Fn(&Row) -> f64) -> f64 {
    categories.iter().map(|(_, row)| of(row)).sum::<f64>() / categories.len() as f64
}

/// Prints the speedup of each policy over plain decoding.
fn compare(sides: &[Side], categories: &[(String, Row)]) {
    let names: Vec<&str> = categories.iter().map(|(name, _)| &name[..]).collect();
    println!("\n| times plain decoding | {} | mean |", names.join(" | "));
    println!("| --- |{}", " --: |".repeat(names.len() + 1));
    for (i, side) in sides.iter().enumerate().skip(1) {
        let all: Vec<f64> = categories.iter().map(|(_, row)| row.speedup(i)).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let all: Vec<String> = all.iter().map(|x| format!("{x:.3}")).collect();
        println!("| {} | {} | **{mean:.3}** |", side.name, all.join(" | "));
    }
}

fn picture(drafter: &str, categories: &[(String, Row)]) -> String {
    let mut all = RoundStats::default();
    categories.iter().for_each(|(_, row)| all.add(&row.rounds));
    let categories = categories.iter();
    let bars: Vec<plot::Bars> =
        categories.map(|(name, row)| plot::Bars { name, speeds: row.speeds() }).collect();
    let by_depth: Vec<f64> = all.depths.iter().map(|(n, yes)| *yes as f64 / *n as f64).collect();
    plot::svg(&plot::title(drafter), &bars, &by_depth)
}

/// Whether all texts were equal; with rejection they may differ.
fn equal(o: &Options, different: &[usize]) -> Option<bool> {
    (o.answers.drafting.spec_sampling == SpecSampling::Matching).then_some(different.is_empty())
}

fn print(o: &Options, drafter: &str, categories: &[(String, Row)], different: &[usize]) {
    let mut all = Row::default();
    categories.iter().for_each(|(_, row)| all.add(row));
    let length = mean(categories, Row::mean_acceptance_length);
    let [plain, spec] = [0, 1].map(|side| mean(categories, |row| row.speed(side)));
    let speedup = mean(categories, |row| row.speedup(1));
    if o.answers.common.output == Format::Json {
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
        o.answers.common.threads(),
        o.answers.temp,
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
            row.speedup(1),
        );
    }
    println!(
        "| mean of the categories | | {length:.2} | | | | {plain:.1} | {spec:.1} | {speedup:.2} |"
    );
}
