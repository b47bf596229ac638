//! Measures the costs of the target's and the drafter's passes anew, keeps them for planners, and prints them.

use crate::common_options::{CommonOptions, Format, at_least_one};
use crate::draft_flags::DraftFlags;
use crate::output;
use crate::plot::{self, PLOT};
use clap::Args;
use dovetail::infer::MAX_SEQUENCES;
use dovetail::planner::Policy;
use dovetail::planner::cost::{Costs, DraftCost, Table};
use dovetail::printable::Printable;
use dovetail::speculate::json::costs_to_json;
use dovetail::speculate::{ConfiguredDrafter, SpecOptions, SpecSampling};
use dovetail::{Error, Result};
use dovetail_kernels::cpu::Kernels;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Options of `calibrate`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    common: CommonOptions,
    #[command(flatten)]
    drafting: DraftFlags,
    /// Also measure passes that this many sequences share
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MAX_SEQUENCES as i64))]
    parallel: u16,
    /// Context length, which bounds the contexts that are measured
    #[arg(short, long, default_value_t = 4096, value_parser = at_least_one())]
    ctx_size: usize,
    /// Draw the costs of passes of one sequence into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// The measured costs and their circumstances.
struct Measurement {
    costs: Costs,
    model: String,
    /// `None` without a drafter.
    drafter: Option<String>,
    threads: usize,
    isa: &'static str,
    took: Duration,
    kept: Vec<PathBuf>,
}

/// Measures and prints.
pub fn run(o: &Options) -> Result<()> {
    o.drafting.check()?;
    if let Some(path) = &o.plot {
        output::check(PLOT, path)?;
    }
    let measured = measure(o)?;
    match o.common.output {
        Format::Md => print(&measured),
        Format::Json => println!("{}", json(&measured)),
    }
    match &o.plot {
        None => Ok(()),
        Some(path) => output::write(PLOT, path, &picture(&measured)),
    }
}

fn measure(o: &Options) -> Result<Measurement> {
    let batch = usize::from(o.parallel);
    let mut engine = o.common.engine(o.ctx_size, batch)?;
    // The costs that a planner needs are always measured.
    let (tree, sampling) = (Some(Policy::Cost), SpecSampling::Matching);
    let options = SpecOptions { tree, sampling, ..o.drafting.options() };
    let mut opened = options.open(engine.setup(None))?;
    let drafter = opened.as_ref().map(ConfiguredDrafter::kind_and_place);
    let model = engine.model().config().name.clone();
    let start = Instant::now();
    let mut go_on = |_| true;
    let mut calibrator = engine.calibrator(&mut go_on).ignore_kept();
    let costs = match &mut opened {
        Some(opened) => opened.costs(batch, &mut calibrator)?,
        None => {
            let verify = calibrator.verify(batch)?;
            verify.map(|verify| Costs { verify, draft: DraftCost::nothing() })
        }
    };
    Ok(Measurement {
        costs: costs.expect("nobody ended it"),
        model,
        drafter,
        threads: o.common.threads(),
        isa: Kernels::choose().map_err(Error::Unsupported)?.name,
        took: start.elapsed(),
        kept: calibrator.saved_files().to_vec(),
    })
}

fn print(m: &Measurement) {
    println!(
        "{}, {} threads, {}, drafter {}; measured in {:.1} s",
        Printable(&m.model),
        m.threads,
        m.isa,
        m.drafter.as_deref().unwrap_or("none"),
        m.took.as_secs_f64()
    );
    for path in &m.kept {
        println!("kept in {}", path.display());
    }
    if m.kept.is_empty() {
        println!(
            "not kept: nothing can be written to the cache directory; DOVETAIL_CACHE names another"
        );
    }
    if !m.costs.verify.is_plausible() || !m.costs.draft.is_plausible() && m.drafter.is_some() {
        println!(
            "measured under load, as more rows take less time: measure again when the machine is idle"
        );
    }
    for Table { batch, context, curve } in m.costs.verify.tables() {
        println!("\nSequences in a pass: {batch}, each behind {context} tokens\n");
        println!("| rows | ms | × a plain pass | ms a row |");
        println!("| --: | --: | --: | --: |");
        for (n, seconds) in curve.measured() {
            let times = seconds / curve.seconds(*batch);
            let [ms, each] = [seconds, seconds / n as f64].map(milliseconds);
            println!("| {n} | {ms} | {times:.2} | {each} |");
        }
    }
    if m.drafter.is_some() {
        print_draft(&m.costs);
    }
}

fn print_draft(costs: &Costs) {
    let plain = costs.verify.tables()[0].curve.seconds(1);
    println!("\n| a drafter's level of a tree | ms | part of a plain pass |");
    println!("| --- | --: | --: |");
    let row = |name: &str, seconds: f64| {
        let part = significant(seconds / plain);
        println!("| {name} | {} | {part} |", milliseconds(seconds));
    };
    row("the first", costs.draft.first);
    for (width, seconds) in costs.draft.level.measured() {
        row(&format!("another, of {width}"), seconds);
    }
}

/// Seconds as milliseconds with the significant digits.
fn milliseconds(seconds: f64) -> String {
    significant(1e3 * seconds)
}

/// Two decimal places, or more if three significant digits need them.
fn significant(x: f64) -> String {
    let leading = if x > 0.0 { libm::floor(libm::log10(x)) } else { 0.0 };
    let places = (2.0 - leading).clamp(2.0, 12.0) as usize;
    format!("{x:.places$}")
}

/// [`costs_to_json`] with the circumstances of the measurement.
fn json(m: &Measurement) -> serde_json::Value {
    let mut value = costs_to_json(&m.costs);
    value["about"] = json!({
        "model": m.model, "drafter": m.drafter, "threads": m.threads, "isa": m.isa,
        "seconds": m.took.as_secs_f64(),
        "kept": m.kept.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
    });
    value
}

fn picture(m: &Measurement) -> String {
    let alone = m.costs.verify.tables().iter().filter(|table| table.batch == 1);
    let names: Vec<String> =
        alone.clone().map(|table| format!("behind {} tokens", table.context)).collect();
    let lines: Vec<plot::Line> = alone
        .zip(&names)
        .map(|(Table { curve, .. }, name)| {
            let points = curve.measured().map(|(n, seconds)| (n, seconds / curve.seconds(1)));
            (&name[..], points.collect())
        })
        .collect();
    plot::curves(&format!("{}, {} threads, {}", m.model, m.threads, m.isa), &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_are_not_shown_as_none() {
        for (seconds, text) in [
            (1.234_567, "1234.57"),
            (0.003_21, "3.21"),
            (0.000_321, "0.321"),
            (2.5e-7, "0.000250"),
            (1e-9, "0.00000100"),
            (0.0, "0.00"),
        ] {
            assert_eq!(milliseconds(seconds), text);
        }
    }
}
