//! Several prompts at once: measures the gain of sharing passes, and checks that the texts stay the same.

use crate::common_options::{Format, at_least_one};
use crate::explain::explain;
use crate::median::median;
use crate::output;
use crate::plot::{self, PLOT};
use crate::prompt_options::{Prompt, PromptOptions, answer};
use clap::Args;
use dovetail::infer::MAX_SEQUENCES;
use dovetail::planner::Report;
use dovetail::planner::{Planner, Policy};
use dovetail::speculate::SpecSampling;
use dovetail::{Drafting, Engine, Error, Request, RequestId, Result};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Options of `batch`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    answers: PromptOptions,
    /// Number of prompts at once; 1 is one after another
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MAX_SEQUENCES as i64))]
    parallel: Vec<u16>,
    /// Another --tree for answering several prompts at once, in turns with the others; may be given several times
    #[arg(long, value_name = "POLICY")]
    against: Vec<Policy>,
    /// Report what was measured, which sizes were chosen and what they gained
    #[arg(long)]
    explain: bool,
    /// Number of repetitions; the median counts
    #[arg(short, long, default_value_t = 3, value_parser = at_least_one())]
    repetitions: usize,
    /// Draw the speedups over plain decoding into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// A published figure to draw as a line; may be given several times
    #[arg(long, value_name = "NAME=TIMES", value_parser = published, requires = "plot")]
    published: Vec<(String, f64)>,
}

/// A name and a number.
fn published(text: &str) -> std::result::Result<(String, f64), String> {
    let pair = text.rsplit_once('=').and_then(|(name, times)| Some((name, times.parse().ok()?)));
    let (name, times): (&str, f64) = pair
        .filter(|(_, times): &(_, f64)| times.is_finite() && *times > 0.0)
        .ok_or("give a name and how many times as fast as plain decoding it is, as in CAST=2.28")?;
    Ok((name.to_owned(), times))
}

/// A way to answer: a number of prompts at once, plainly or with a drafter.
struct Side {
    parallel: usize,
    policy: String,
    /// Whether the drafter is used.
    drafts: bool,
    planner: Planner,
    report: Report,
    /// Seconds of each repetition, and of each without its prompts: (categories, repetitions).
    seconds: Vec<Vec<f64>>,
    decoding: Vec<Vec<f64>>,
    rounds: usize,
}

/// Prompts that are answered together, and the answer that each gets alone.
struct Task {
    category: String,
    prompts: Vec<(Prompt, Vec<u32>)>,
}

impl Task {
    fn tokens(&self) -> usize {
        self.prompts.iter().map(|(_, answer)| answer.len()).sum()
    }
}

/// Answers all prompts repeatedly, category by category, with each batch size, plainly and with each policy in turns.
pub fn run(o: &Options) -> Result<()> {
    o.answers.check_against(&o.against)?;
    if let Some(path) = &o.plot {
        output::check(PLOT, path)?;
    }
    let (mut session, prompts) = o.answers.begin()?;
    let mut tasks: Vec<Task> = Vec::new();
    for prompt in prompts {
        let tokens =
            answer(&mut session, &prompt.tokens, &o.answers.sampling(), o.answers.n_predict)?;
        let task = tasks.iter_mut().find(|task| task.category == prompt.category);
        match task {
            Some(task) => task.prompts.push((prompt, tokens)),
            None => {
                let category = prompt.category.clone();
                tasks.push(Task { category, prompts: vec![(prompt, tokens)] });
            }
        }
    }
    tasks.sort_by(|a, b| a.category.cmp(&b.category));
    let most = o.parallel.iter().copied().max().map_or(1, usize::from);
    let options = o.answers.common.options(o.answers.ctx_size, 512);
    let mut engine = options.engine(session.model().clone(), most, &mut ())?;
    drop(session);
    let mut opened = o.answers.drafting.options().open(engine.setup(None))?;
    let mut description = "no drafter".to_owned();
    let mut policies = Vec::new();
    if let Some(opened) = &mut opened {
        description = opened.description();
        let chosen = opened.policy;
        for policy in [chosen].into_iter().chain(o.against.iter().copied()) {
            opened.policy = policy;
            // If policies are compared, all of them use the planner.
            let even_if_fixed = o.explain || !o.against.is_empty();
            let planned = opened.planner(even_if_fixed, most, engine.calibrator(&mut |_| true))?;
            let planner = planned.map(|(planner, _)| planner).unwrap_or_default();
            policies.push((policy.to_string(), planner));
        }
        opened.policy = chosen;
    }
    let mut sides: Vec<Side> = Vec::new();
    for parallel in o.parallel.iter().copied().map(usize::from) {
        sides.push(Side::new(parallel, "plain", false, Planner::default(), tasks.len()));
        let compared = if parallel > 1 { policies.len() } else { 1 };
        for (policy, planner) in policies.iter().take(compared) {
            sides.push(Side::new(parallel, policy, true, planner.clone(), tasks.len()));
        }
    }
    let planned = policies.iter().any(|(_, planner)| planner.costs().is_some());
    if let Some(opened) = opened {
        engine.add_drafter(opened.speculation(planned))?;
    }
    let mut different = 0;
    for _ in 0..o.repetitions {
        for (t, task) in tasks.iter().enumerate() {
            for side in &mut sides {
                let compares =
                    !side.drafts || o.answers.drafting.spec_sampling == SpecSampling::Matching;
                let wrong = side.answer(o, &mut engine, t, task)?;
                different += if compares { wrong } else { 0 };
            }
        }
    }
    print(o, &description, &sides, &tasks, different);
    if let Some(path) = &o.plot {
        let title = format!("{}, temperature {}", plot::title(&description), o.answers.temp);
        let svg = picture(&title, &sides, &tasks, &o.published);
        output::write(PLOT, path, &svg)?;
    }
    if o.explain {
        let mut plain = &sides[0];
        for side in &sides {
            if !side.drafts {
                plain = side;
                continue;
            }
            let gain = side.mean_gain(plain, tasks.len());
            let explained = explain(&side.planner, &side.report, Some(gain));
            eprintln!("\n{} at once, {explained}", side.parallel);
        }
    }
    match different {
        0 => Ok(()),
        n => Err(Error::Invalid(format!(
            "{n} texts differ from those alone: this is a fault of ours"
        ))),
    }
}

impl Side {
    fn new(parallel: usize, policy: &str, drafts: bool, planner: Planner, tasks: usize) -> Side {
        let (policy, report, times) =
            (policy.to_owned(), Report::default(), vec![Vec::new(); tasks]);
        let (seconds, decoding) = (times.clone(), times);
        Side { parallel, policy, drafts, planner, report, seconds, decoding, rounds: 0 }
    }

    /// Answers all prompts of task number `t`. Returns how many texts differ from those written alone.
    fn answer(&mut self, o: &Options, engine: &mut Engine, t: usize, task: &Task) -> Result<usize> {
        engine.plan(std::mem::take(&mut self.planner));
        let mut at: Vec<(RequestId, usize)> = Vec::new(); // (request, prompt)
        let (mut next, mut reading, mut different) = (0, Duration::ZERO, 0);
        let start = Instant::now();
        while next < task.prompts.len() || !at.is_empty() {
            while next < task.prompts.len() && at.len() < self.parallel {
                let prompt = task.prompts[next].0.tokens.clone();
                let mut request = Request::new(prompt, o.answers.n_predict);
                request.generation.sampling = o.answers.sampling();
                request.generation.drafting =
                    if self.drafts { Drafting::Auto } else { Drafting::Off };
                at.push((engine.add(request)?, next));
                next += 1;
            }
            engine.step(&mut |_, _| {})?;
            self.rounds += 1;
            let ended = at.extract_if(.., |(id, _)| engine.stop(*id).is_some());
            for (id, prompt) in ended.collect::<Vec<_>>() {
                if let Some(error) = engine.failure(id) {
                    return Err(error);
                }
                let answer = engine.remove(id).expect("it has ended");
                if let Some(error) = answer.drafter_error {
                    return Err(error);
                }
                reading += answer.stats.prompt_time;
                different += usize::from(answer.tokens != task.prompts[prompt].1);
            }
        }
        let time = start.elapsed();
        self.seconds[t].push(time.as_secs_f64());
        self.decoding[t].push(time.saturating_sub(reading).as_secs_f64());
        self.planner = engine.plan(Planner::default());
        self.report.add(self.planner.report());
        self.planner.reset_report();
        Ok(different)
    }

    /// Speedup over another way in one task.
    fn gain(&self, other: &Side, t: usize) -> f64 {
        other.task_seconds(t) / self.task_seconds(t)
    }

    /// Mean speedup over all tasks.
    fn mean_gain(&self, other: &Side, tasks: usize) -> f64 {
        (0..tasks).map(|t| self.gain(other, t)).sum::<f64>() / tasks as f64
    }

    /// Seconds of decoding in one task.
    fn task_seconds(&self, t: usize) -> f64 {
        median(self.decoding[t].clone())
    }
}

fn print(o: &Options, drafter: &str, sides: &[Side], tasks: &[Task], different: usize) {
    let tokens: usize = tasks.iter().map(Task::tokens).sum();
    let all = |seconds: &[Vec<f64>]| -> f64 { seconds.iter().map(|s| median(s.clone())).sum() };
    let speed = |seconds: &[Vec<f64>]| tokens as f64 / all(seconds);
    if o.answers.common.output == Format::Json {
        let rows: Vec<_> = sides
            .iter()
            .map(|side| {
                let by_category = tasks.iter().enumerate().map(|(t, task)| {
                    let speed = task.tokens() as f64 / side.task_seconds(t);
                    (task.category.clone(), json!(speed))
                });
                json!({
                    "parallel": side.parallel, "tree": side.policy, "drafts": side.drafts,
                    "rounds": side.rounds / o.repetitions,
                    "tokens_per_second": speed(&side.seconds),
                    "decoded_per_second": speed(&side.decoding),
                    "decoded_per_second_by_category":
                        by_category.collect::<serde_json::Map<_, _>>(),
                    "samples_s": side.seconds,
                })
            })
            .collect();
        let equal = different == 0;
        let json =
            json!({ "texts_equal": equal, "tokens": tokens, "drafter": drafter, "rows": rows });
        println!("{json}");
        return;
    }
    println!(
        "{tokens} tokens, {drafter}, {} threads, temperature {}: {}\n",
        o.answers.common.threads(),
        o.answers.temp,
        if different == 0 { "all texts equal" } else { "TEXTS DIFFER" },
    );
    println!("| at once | | rounds | t/s | t/s without prompts |");
    println!("| --: | --- | --: | --: | --: |");
    for side in sides {
        let Side { parallel, policy, rounds, .. } = side;
        let [whole, decoding] = [&side.seconds, &side.decoding].map(|seconds| speed(seconds));
        let rounds = rounds / o.repetitions;
        println!("| {parallel} | {policy} | {rounds} | {whole:.1} | {decoding:.1} |");
    }
    compare(sides, tasks);
}

/// Speedups of each way over plain decoding of as many prompts at once.
fn picture(title: &str, sides: &[Side], tasks: &[Task], published: &[(String, f64)]) -> String {
    let mut plain = &sides[0];
    let mut ways: Vec<plot::Speedups> = Vec::new();
    for side in sides {
        if side.drafts {
            let times = |t: usize| side.gain(plain, t);
            let name = format!("{} at once, {}", side.parallel, side.policy);
            ways.push((name, (0..tasks.len()).map(times).collect()));
        } else {
            plain = side;
        }
    }
    let names: Vec<&str> = tasks.iter().map(|task| &task.category[..]).collect();
    plot::speedups(title, &names, &ways, published)
}

/// Prints the speedups of all ways over the first one, which is plain.
fn compare(sides: &[Side], tasks: &[Task]) {
    let names: Vec<&str> = tasks.iter().map(|task| &task.category[..]).collect();
    let first = &sides[0];
    println!("\n| times {} {} | {} | mean |", first.parallel, first.policy, names.join(" | "));
    println!("| --- |{}", " --: |".repeat(names.len() + 1));
    for side in &sides[1..] {
        let mean = side.mean_gain(first, tasks.len());
        let all = (0..tasks.len()).map(|t| format!("{:.3}", side.gain(first, t)));
        let all: Vec<String> = all.collect();
        println!("| {} {} | {} | **{mean:.3}** |", side.parallel, side.policy, all.join(" | "));
    }
}
