//! Tokens per second for prompts and for decoding, and the share of the read bandwidth that decoding reaches.

use crate::ceilings::{self, Ceilings};
use crate::common_options::{CommonOptions, Format, at_least_one};
use crate::median::median;
use clap::Args;
use dovetail::infer::{Outputs, Sequence, Target};
use dovetail::printable::Printable;
use dovetail::{Result, machine};
use serde_json::json;
use std::time::Instant;

/// Options of `speed`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: CommonOptions,
    /// Tokens of the prompt; 0 skips this test
    #[arg(short = 'p', long, default_value_t = 512)]
    n_prompt: usize,
    /// Tokens to decode; 0 skips this test
    #[arg(short, long, default_value_t = 128)]
    n_gen: usize,
    /// Tokens in the context before each test
    #[arg(short = 'd', long, default_value_t = 0)]
    n_depth: usize,
    /// Number of repetitions
    #[arg(short, long, default_value_t = 5, value_parser = at_least_one())]
    repetitions: usize,
    /// Tokens in one pass over the prompt
    #[arg(short = 'u', long = "ubatch-size", default_value_t = 512, value_parser = at_least_one())]
    n_ubatch: usize,
}

/// A row of the table: tokens, rows of a pass, and the seconds of each repetition.
struct Test {
    name: String,
    n: usize,
    rows: usize,
    seconds: Vec<f64>,
}

/// Runs the tests, interleaved with each other and with the bandwidth measurement.
pub fn run(o: &Options) -> Result<()> {
    let n_ctx = o.n_depth + o.n_prompt.max(o.n_gen) + 1;
    let mut session = o.common.session(n_ctx, o.n_ubatch)?;
    let target = session.target();
    let mut seq = target.sequence(o.common.cache())?;
    let at = |name: &str, n: usize| match o.n_depth {
        0 => format!("{name}{n}"),
        depth => format!("{name}{n} @ d{depth}"),
    };
    let mut tests: Vec<Test> = [("pp", o.n_prompt, o.n_ubatch), ("tg", o.n_gen, 1)]
        .into_iter()
        .filter(|(_, n, _)| *n > 0)
        .map(|(name, n, rows)| Test { name: at(name, n), n, rows, seconds: Vec::new() })
        .collect();
    let mut ceilings = Ceilings::new(o.common.threads(), target.model().weights().bytes())?;
    for repetition in 0..=o.repetitions {
        if repetition > 0 {
            ceilings.measure();
        }
        for test in &mut tests {
            seq.truncate(0);
            append(target, &mut seq, o.n_depth, o.n_ubatch)?;
            let start = Instant::now();
            append(target, &mut seq, test.n, test.rows)?;
            // The first round warms caches, threads and clocks.
            if repetition > 0 {
                test.seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    print(o, target, &tests, &ceilings);
    Ok(())
}

/// Appends `n` arbitrary tokens in chunks.
fn append(target: &mut Target, seq: &mut Sequence, n: usize, rows: usize) -> Result<()> {
    let n_vocab = target.model().config().n_vocab as u32;
    let tokens: Vec<u32> = (0..n as u32).map(|i| (i.wrapping_mul(7919) + 13) % n_vocab).collect();
    for tokens in tokens.chunks(rows) {
        target.append(seq, tokens, Outputs::Last)?;
    }
    Ok(())
}

fn print(o: &Options, target: &Target, tests: &[Test], ceilings: &Ceilings) {
    let read = ceilings.rates().read;
    let model = target.model();
    let weights = model.weights().bytes() as f64;
    let rows = tests.iter().map(|test| {
        let speeds: Vec<f64> = test.seconds.iter().map(|s| test.n as f64 / s).collect();
        let mean = speeds.iter().sum::<f64>() / speeds.len() as f64;
        let variance = speeds.iter().map(|s| (s - mean).powi(2)).sum::<f64>();
        let deviation = (variance / (speeds.len() as f64 - 1.0).max(1.0)).sqrt();
        let passes = test.n.div_ceil(test.rows.min(test.n)) as f64;
        let rate = weights * passes / median(test.seconds.clone());
        (test, mean, deviation, rate)
    });
    let fault = ceilings::fault(rows.clone().map(|row| row.3 / read).fold(0.0, f64::max));
    let (cpu, isa, threads) = (machine::cpu_name(), target.isa(), target.threads());
    let name = &model.config().name;
    let file = model.gguf().total_bytes() as f64;
    match o.common.output {
        Format::Md => {
            println!(
                "| model | size | cpu | isa | threads | test | t/s | GB/s | of read bandwidth |"
            );
            println!("| --- | --: | --- | --- | --: | --: | --: | --: | --: |");
            let name = Printable(name);
            for (test, mean, deviation, rate) in rows {
                println!(
                    "| {name} | {:.2} MiB | {cpu} | {isa} | {threads} | {} | {mean:.2} ± {deviation:.2} \
                     | {:.1} | {:.0} % of {:.1} GB/s |",
                    file / 1048576.0,
                    test.name,
                    rate / 1e9,
                    100.0 * rate / read,
                    read / 1e9,
                );
            }
            println!("\n{}", ceilings.describe());
            if let Some(fault) = fault {
                println!("{fault}");
            }
        }
        Format::Json => {
            let rows: Vec<_> = rows
                .map(|(test, mean, deviation, rate)| {
                    json!({
                        "test": test.name, "n": test.n, "avg_ts": mean, "stddev_ts": deviation,
                        "samples_s": test.seconds, "weight_bytes_per_s": rate,
                        "share_of_read_bandwidth": rate / read,
                    })
                })
                .collect();
            println!(
                "{}",
                json!({
                    "model": name, "model_bytes": file, "weight_bytes": weights, "cpu": cpu,
                    "isa": isa, "threads": threads, "read_bytes_per_s": read, "tests": rows,
                    "fault": fault,
                })
            );
        }
    }
}
