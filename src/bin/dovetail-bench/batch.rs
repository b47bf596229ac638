//! Several prompts at once: what one pass over the weights for all of them is worth, and that the texts stay.

use crate::guessing::{Guessing, Opened};
use crate::prompts::{self, Prompt};
use crate::{Common, Format, at_least_one, median, temperature};
use clap::Args;
use dovetail::spec::{SpecSampling, Speculation};
use dovetail::target::MAX_SEQUENCES;
use dovetail::{ChatTemplate, Engine, Error, Request, Result, Sampling};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Options of `batch`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Prompts, a JSON object a line: {"prompt": TEXT}, or as in Spec-Bench {"turns": [TEXT, …]}
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// So many prompts, the first ones [default: all]
    #[arg(long, value_name = "K", value_parser = at_least_one())]
    limit: Option<usize>,
    /// How many at once, one row for each; 1 is one after another
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MAX_SEQUENCES as i64))]
    parallel: Vec<u16>,
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
    /// Tokens of prompt and answer together
    #[arg(short, long, default_value_t = 4096, value_parser = at_least_one())]
    ctx_size: usize,
    /// Repetitions, of which the median counts
    #[arg(short, long, default_value_t = 3, value_parser = at_least_one())]
    repetitions: usize,
}

/// What was measured of one number of sequences, plainly or with guesses.
struct Row {
    parallel: usize,
    guesses: bool,
    seconds: Vec<f64>,
    /// Seconds without those of the prompts.
    decoding: Vec<f64>,
    rounds: usize,
}

/// Answers all prompts again and again: alone, then so many at once, plainly and with guesses in turns.
pub fn run(o: &Options) -> Result<()> {
    o.guessing.check()?;
    let prompts = prompts::read(&o.prompts, o.limit)?;
    let mut session = o.common.session(o.ctx_size, 512)?;
    let template = ChatTemplate::from_gguf(session.model().gguf().metadata())?;
    let tokenizer = session.model().tokenizer();
    let tokens = |prompt: &Prompt| prompt.tokens(tokenizer, template.as_ref(), None);
    let prompts = prompts.iter().map(tokens).collect::<Result<Vec<_>>>()?;
    let sampling = Sampling { temperature: o.temp, seed: o.seed, ..Sampling::default() };
    let alone = |prompt: &Vec<u32>| {
        session.prompt(prompt, &mut |_, _| true)?;
        session.generate(&sampling, o.n_predict).try_for_each(|piece| piece.map(drop))?;
        Ok(session.tokens()[prompt.len()..].to_vec())
    };
    let expected = prompts.iter().map(alone).collect::<Result<Vec<_>>>()?;
    let most = o.parallel.iter().copied().max().map_or(1, usize::from);
    let options = o.common.options(o.ctx_size, 512);
    let mut engine = Engine::new(session.model().clone(), options, most)?;
    drop(session);
    let mut idle = Vec::new();
    let mut about = "nobody guesses".to_owned();
    let mut opened = Vec::new();
    for _ in 0..most {
        let Some(one) = o.guessing.open(engine.setup(None))? else { break };
        opened.push(one);
    }
    if let Some(first) = opened.first_mut() {
        about = first.about();
        let planned = first.planner(false, most, engine.calibrator(&mut |_| true))?;
        let planner = planned.map(|(planner, _)| planner);
        let speculation = |opened: Opened| opened.speculation(planner.is_some());
        idle.extend(opened.into_iter().map(speculation));
        engine.plan(planner);
    }
    let sides = if idle.is_empty() { &[false][..] } else { &[false, true] };
    let row = |parallel: usize, guesses: bool| Row {
        parallel,
        guesses,
        seconds: Vec::new(),
        decoding: Vec::new(),
        rounds: 0,
    };
    let each = |n: u16| sides.iter().map(move |guesses| row(usize::from(n), *guesses));
    let mut rows: Vec<Row> = o.parallel.iter().copied().flat_map(each).collect();
    let mut different = 0;
    for _ in 0..o.repetitions {
        for row in &mut rows {
            let mut drafters = if row.guesses { std::mem::take(&mut idle) } else { Vec::new() };
            let texts = row.answer(&mut engine, &prompts, &mut drafters, |prompt| Request {
                sampling: sampling.clone(),
                ..Request::new(prompt, o.n_predict)
            })?;
            idle.append(&mut drafters);
            if !row.guesses || o.guessing.spec_sampling == SpecSampling::Matching {
                different += texts.iter().zip(&expected).filter(|(a, b)| a != b).count();
            }
        }
    }
    print(o, &about, &rows, expected.iter().map(Vec::len).sum(), different);
    match different {
        0 => Ok(()),
        n => Err(Error::Invalid(format!(
            "{n} texts differ from those alone: this is a fault of ours"
        ))),
    }
}

impl Row {
    /// Answers all prompts; returns the tokens of each.
    fn answer(
        &mut self,
        engine: &mut Engine,
        prompts: &[Vec<u32>],
        idle: &mut Vec<Speculation>,
        request: impl Fn(Vec<u32>) -> Request,
    ) -> Result<Vec<Vec<u32>>> {
        let mut texts = vec![Vec::new(); prompts.len()];
        let mut at: Vec<(usize, usize)> = Vec::new(); // (slot, prompt)
        let (mut next, mut reading) = (0, Duration::ZERO);
        self.rounds = 0;
        let start = Instant::now();
        while next < prompts.len() || !at.is_empty() {
            while next < prompts.len() && at.len() < self.parallel {
                let mut request = request(prompts[next].clone());
                request.speculation = idle.pop();
                at.push((engine.add(request)?, next));
                next += 1;
            }
            engine.step(&mut |_, _| {})?;
            self.rounds += 1;
            let ended = at.extract_if(.., |(slot, _)| engine.stop(*slot).is_some());
            for (slot, prompt) in ended.collect::<Vec<_>>() {
                let answer = engine.remove(slot).expect("it has ended");
                if let Some(error) = answer.drafter_error {
                    return Err(error);
                }
                reading += answer.stats.prompt_time;
                texts[prompt] = answer.tokens;
                idle.extend(answer.speculation);
            }
        }
        let time = start.elapsed();
        self.seconds.push(time.as_secs_f64());
        self.decoding.push(time.saturating_sub(reading).as_secs_f64());
        Ok(texts)
    }
}

fn print(o: &Options, drafter: &str, rows: &[Row], tokens: usize, different: usize) {
    let speed = |seconds: &[f64]| tokens as f64 / median(seconds.to_vec());
    if o.common.output == Format::Json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "parallel": row.parallel, "guesses": row.guesses, "rounds": row.rounds,
                    "tokens_per_second": speed(&row.seconds),
                    "decoded_per_second": speed(&row.decoding), "samples_s": row.seconds,
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
        o.common.threads(),
        o.temp,
        if different == 0 { "all texts equal" } else { "TEXTS DIFFER" },
    );
    println!("| at once | | rounds | t/s | t/s without prompts |");
    println!("| --: | --- | --: | --: | --: |");
    for row in rows {
        let who = if row.guesses { "guessing" } else { "plain" };
        let [whole, decoding] = [&row.seconds, &row.decoding].map(|seconds| speed(seconds));
        let Row { parallel, rounds, .. } = row;
        println!("| {parallel} | {who} | {rounds} | {whole:.1} | {decoding:.1} |");
    }
}
