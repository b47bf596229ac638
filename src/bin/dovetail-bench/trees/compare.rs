//! Policies side by side: their speed on recorded answers, on machines that cost tables describe.

use super::read::{Answer, read};
use super::replay::{Outcome, Time, replay};
use crate::common_options::Format;
use dovetail::planner::Policy;
use dovetail::planner::Report;
use dovetail::planner::cost::Costs;
use dovetail::speculate::json::costs_from_json;
use dovetail::{Error, Result, file};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The default policies, besides the best of [`SIZES`].
const USUAL: [&str; 4] = ["cost", "cast", "eagle2:60", "eagle2:16"];

/// Fixed sizes. Only the one that is best for the whole record counts, which is not known in advance.
const SIZES: [&str; 30] = [
    "chain:1",
    "chain:2",
    "chain:3",
    "chain:4",
    "chain:5",
    "chain:6",
    "chain:7",
    "beam:2,2,4",
    "beam:2,2,5",
    "beam:3,3,5",
    "beam:3,3,6",
    "beam:3,3,8",
    "beam:4,4,6",
    "beam:4,4,8",
    "beam:4,4,10",
    "beam:5,4,6",
    "beam:5,4,7",
    "beam:5,4,8",
    "beam:5,4,10",
    "beam:5,4,12",
    "beam:6,5,8",
    "beam:6,5,10",
    "beam:6,5,12",
    "beam:6,5,16",
    "beam:7,6,12",
    "beam:7,6,16",
    "beam:7,6,20",
    "beam:7,6,24",
    "beam:7,8,32",
    "beam:7,8,48",
];

/// Options of a replay.
pub struct Options {
    pub record: PathBuf,
    pub costs: Vec<PathBuf>,
    /// Empty for the default policies.
    pub policies: Vec<Policy>,
    /// Time of a round besides drafting and verification, as a fraction of a plain pass.
    pub rest: f64,
    pub output: Format,
}

/// A policy's name and its result on the record.
type Row = (String, Outcome);

/// Replays the record with each cost table.
pub fn run(o: &Options) -> Result<()> {
    let costs = o.costs.iter().map(|path| costs(path)).collect::<Result<Vec<_>>>()?;
    let answers = read(&o.record)?.answers;
    let mut all = Vec::new();
    for (path, costs) in o.costs.iter().zip(&costs) {
        let rows = rows(&answers, costs, o);
        match o.output {
            Format::Md => print(o, path, answers.len(), &rows),
            Format::Json => all.push(json(path, &rows)),
        }
    }
    if o.output == Format::Json {
        let record = o.record.display().to_string();
        println!("{}", json!({ "record": record, "rest": o.rest, "costs": all }));
    }
    Ok(())
}

fn costs(path: &Path) -> Result<Costs> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let text = file::read_text(path).map_err(failed)?;
    let value = serde_json::from_str(&text).map_err(|_| "no JSON".to_owned());
    value.and_then(|value| costs_from_json(&value)).map_err(|what| {
        let how = "dovetail-bench calibrate -o json writes such a file";
        Error::Invalid(format!("{}: no costs: {what}; {how}", path.display()))
    })
}

fn rows(answers: &[Answer], costs: &Costs, o: &Options) -> Vec<Row> {
    let rest = o.rest * costs.verify.seconds(1, 256, 1);
    let replayed = |policy: Policy| replay(answers, costs, policy, rest);
    let named = |name: &str| {
        let policy = name.parse().expect("it is one");
        (name.to_owned(), replayed(policy))
    };
    if !o.policies.is_empty() {
        return o.policies.iter().map(|p| (p.to_string(), replayed(*p))).collect();
    }
    let sizes = SIZES.iter().map(|name| named(name));
    let (best, outcome) =
        sizes.max_by(|a, b| a.1.speedup().total_cmp(&b.1.speedup())).expect("there are some sizes");
    let best = (format!("best fixed: {best}"), outcome);
    USUAL.iter().map(|name| named(name)).chain([best]).collect()
}

fn print(o: &Options, costs: &Path, answers: usize, rows: &[Row]) {
    println!(
        "{} answers of {}, costs of {}, {} % of a plain pass beside drafting and verifying; times plain decoding:\n",
        answers,
        o.record.display(),
        costs.display(),
        100.0 * o.rest,
    );
    let categories: Vec<&str> = rows[0].1.times.keys().map(|name| &name[..]).collect();
    println!(
        "| policy | {} | mean | tokens a round | nodes a round | expected / came |",
        categories.join(" | ")
    );
    println!("| --- |{}", " --: |".repeat(categories.len() + 4));
    for (name, outcome) in rows {
        let by = outcome.times.values().map(|time| format!("{:.3}", time.speedup()));
        let [tokens, nodes, expected] = averages(&outcome.report);
        println!(
            "| {name} | {} | **{:.3}** | {tokens:.2} | {nodes:.2} | {expected:.3} |",
            by.collect::<Vec<_>>().join(" | "),
            outcome.speedup(),
        );
    }
    println!();
}

fn json(costs: &Path, rows: &[Row]) -> Value {
    let row = |(name, outcome): &Row| {
        let by: serde_json::Map<_, _> =
            outcome.times.iter().map(|(name, time)| (name.clone(), speedup(time))).collect();
        let [tokens, nodes, expected] = averages(&outcome.report);
        json!({
            "policy": name,
            "speedup": outcome.speedup(),
            "categories": by,
            "tokens_per_round": tokens,
            "nodes_per_round": nodes,
            "expected_by_came": expected,
        })
    };
    json!({ "file": costs.display().to_string(), "policies": rows.iter().map(row).collect::<Vec<_>>() })
}

fn speedup(time: &Time) -> Value {
    json!(time.speedup())
}

/// Tokens and nodes per round, and expected tokens as a fraction of actual ones.
fn averages(report: &Report) -> [f64; 3] {
    let rounds = report.nodes.iter().sum::<usize>() as f64;
    let nodes: usize = report.nodes.iter().enumerate().map(|(n, times)| n * times).sum();
    let tokens = report.tokens as f64;
    [tokens / rounds, nodes as f64 / rounds, report.expected_tokens / tokens]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_policies_that_are_named_here_are_some() {
        for name in USUAL.iter().chain(&SIZES) {
            name.parse::<Policy>().unwrap();
        }
    }

    #[test]
    fn costs_that_ship_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/record/costs");
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
        assert!(files.len() >= 4);
        for file in files {
            let costs = costs(&file.unwrap().path()).unwrap();
            assert!(costs.verify.seconds(1, 256, 8) < 8.0 * costs.verify.seconds(1, 256, 1));
        }
    }

    #[test]
    fn averages_are_those_of_all_rounds() {
        let mut report = Report { tokens: 6, expected_tokens: 3.0, ..Report::default() };
        (report.nodes[1], report.nodes[5]) = (3, 1);
        assert_eq!(averages(&report), [1.5, 2.0, 0.5]);
    }
}
