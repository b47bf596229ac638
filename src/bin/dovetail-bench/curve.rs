//! Time of a pass by its number of rows, which decides whether speculation pays.
//!
//! The roofline from ceilings measured in the same run is printed beside it: the maximum of the time to read all
//! weights once and the time to multiply them with each row, `max(bytes / read bandwidth, 2 · weights · rows /
//! integer-dot peak)`, by the fastest unit that multiplies integers.

use crate::ceilings::{self, Ceilings};
use crate::common_options::{CommonOptions, Format, at_least_one};
use crate::median::median;
use clap::Args;
use dovetail::infer::Outputs;
use dovetail::{Error, Result};
use serde_json::json;
use std::time::Instant;

/// The numbers of rows that are measured.
const ROWS: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

/// Options of `curve`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: CommonOptions,
    /// Tokens in the context before each pass
    #[arg(short, long, default_value_t = 256)]
    context: usize,
    /// Number of repetitions; the median counts
    #[arg(short, long, default_value_t = 5, value_parser = at_least_one())]
    repetitions: usize,
}

/// Runs all row counts in turn, repeatedly, and prints the median of each.
pub fn run(o: &Options) -> Result<()> {
    let most = ROWS[ROWS.len() - 1];
    let mut session = o.common.session(o.context + most + 1, most.max(512))?;
    let n_vocab = session.model().config().n_vocab as u32;
    let tokens: Vec<u32> = (0..(o.context + most) as u32).map(|i| (i * 31 + 7) % n_vocab).collect();
    let target = session.target();
    let mut seq = target.sequence(o.common.cache())?;
    for chunk in tokens[..o.context].chunks(target.max_rows()) {
        target.append(&mut seq, chunk, Outputs::None)?;
    }
    let mut ceilings = Ceilings::new(o.common.threads(), target.model().weights().bytes())?;
    let mut times = ROWS.map(|_| Vec::new());
    for repetition in 0..=o.repetitions {
        if repetition > 0 {
            ceilings.measure();
        }
        // Measuring the ceilings has evicted the weights from the caches; the first row count must not pay for that.
        target.append(&mut seq, &tokens[o.context..][..1], Outputs::All)?;
        seq.truncate(o.context);
        for (n, times) in ROWS.iter().zip(&mut times) {
            let start = Instant::now();
            target.append(&mut seq, &tokens[o.context..][..*n], Outputs::All)?;
            if repetition > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            seq.truncate(o.context);
        }
    }
    let medians = times.map(median);
    if medians.iter().any(|ms| !ms.is_finite()) {
        return Err(Error::Invalid("nothing was measured; raise --repetitions".into()));
    }
    let rates = ceilings.rates();
    let weights = target.model().weights();
    let roofline = |n: usize| {
        let reading = weights.bytes() as f64 / rates.read;
        1e3 * reading.max(2.0 * weights.count() as f64 * n as f64 / rates.operations())
    };
    let largest = ROWS.iter().zip(medians).map(|(n, ms)| roofline(*n) / ms).fold(0.0, f64::max);
    let (isa, threads) = (target.isa(), target.threads());
    match o.common.output {
        Format::Md => {
            println!("{}; weights {:.2} GB\n", ceilings.describe(), weights.bytes() as f64 / 1e9);
            println!("| rows | ms | × one row | ms a row | roofline ms | share |");
            println!("| --: | --: | --: | --: | --: | --: |");
            for (n, ms) in ROWS.into_iter().zip(medians) {
                println!(
                    "| {n} | {ms:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
                    ms / medians[0],
                    ms / n as f64,
                    roofline(n),
                    roofline(n) / ms
                );
            }
            if let Some(fault) = ceilings::fault(largest) {
                println!("\n{fault}");
            }
        }
        Format::Json => {
            let rows: Vec<_> = ROWS
                .into_iter()
                .zip(medians)
                .map(|(n, ms)| json!({ "n": n, "ms": ms, "roofline_ms": roofline(n) }))
                .collect();
            println!(
                "{}",
                json!({
                    "rows": rows, "context": o.context, "isa": isa, "threads": threads,
                    "read_bytes_per_s": rates.read, "dot_ops_per_s": rates.dot, "tile_ops_per_s": rates.tiles,
                    "weight_bytes": weights.bytes(), "fault": ceilings::fault(largest),
                })
            );
        }
    }
    Ok(())
}
