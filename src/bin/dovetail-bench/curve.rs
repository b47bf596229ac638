//! Time of one pass by its number of rows: what decides whether speculation pays.

use crate::{Common, Format, at_least_one, median};
use clap::Args;
use dovetail::target::Outputs;
use dovetail::{Error, Result};
use serde_json::json;
use std::time::Instant;

/// Numbers of rows measured.
const ROWS: [usize; 10] = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64];

/// Options of `curve`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Tokens in the context before each pass
    #[arg(short, long, default_value_t = 256)]
    context: usize,
    /// Repetitions, of which the median counts
    #[arg(short, long, default_value_t = 15, value_parser = at_least_one())]
    repetitions: usize,
}

/// Runs all row counts in turn, over and over, and prints the median of each.
pub fn run(o: &Options) -> Result<()> {
    let most = ROWS[ROWS.len() - 1];
    let mut session = o.common.session(o.context + most + 1, most.max(512))?;
    let n_vocab = session.model().config().n_vocab as u32;
    let tokens: Vec<u32> = (0..(o.context + most) as u32).map(|i| (i * 31 + 7) % n_vocab).collect();
    let target = session.target();
    for chunk in tokens[..o.context].chunks(target.max_rows()) {
        target.append(chunk, Outputs::None)?;
    }
    let mut times = ROWS.map(|_| Vec::new());
    for repetition in 0..=o.repetitions {
        for (n, times) in ROWS.iter().zip(&mut times) {
            let start = Instant::now();
            target.append(&tokens[o.context..][..*n], Outputs::All)?;
            if repetition > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            target.truncate(o.context);
        }
    }
    let medians = times.map(median);
    if medians.iter().any(|ms| !ms.is_finite()) {
        return Err(Error::Invalid("nothing was measured; raise --repetitions".into()));
    }
    match o.common.output {
        Format::Md => {
            println!("| rows | ms | × one row | ms a row |");
            println!("| --: | --: | --: | --: |");
            for (n, ms) in ROWS.iter().zip(medians) {
                println!("| {n} | {ms:.2} | {:.2} | {:.2} |", ms / medians[0], ms / *n as f64);
            }
        }
        Format::Json => {
            let rows: Vec<_> =
                ROWS.iter().zip(medians).map(|(n, ms)| json!({ "n": n, "ms": ms })).collect();
            let (isa, threads) = (target.isa(), target.threads());
            println!(
                "{}",
                json!({ "rows": rows, "context": o.context, "isa": isa, "threads": threads })
            );
        }
    }
    Ok(())
}
