//! What a planner chose and why, in words.

use dovetail::planner::Report;
use dovetail::planner::{Planner, Policy};
use std::fmt::Write;

/// Some lines about these rounds of the planner, the last one saying whether guessing is worth it.
pub fn explain(planner: &Planner, report: &Report) -> String {
    let Some(costs) = planner.costs() else { return "what passes cost was not measured".into() };
    let plain = costs.verify.seconds(1, 0, 1);
    let mut out = format!(
        "a plain pass takes {:.2} ms; over 2, 4, 8, 16 rows {}\n",
        1e3 * plain,
        [2, 4, 8, 16].map(|n| format!("{:.2}", costs.verify.seconds(1, 0, n) / plain)).join(", ")
            + " times that",
    );
    let draft = &costs.draft;
    let _ = writeln!(
        out,
        "drafting takes {:.2} of a plain pass for the first level of a tree, and {} for another one of 1, 2, 4 guesses",
        draft.first / plain,
        [1, 2, 4].map(|n| format!("{:.2}", draft.level.seconds(n) / plain)).join(", "),
    );
    let rounds: usize = report.nodes.iter().sum();
    if rounds == 0 {
        return out + "no round of guessing has run yet";
    }
    let _ = writeln!(out, "tree {}: {}", planner.policy(), sizes(report, rounds));
    let per_round = |tokens: f64| tokens / rounds as f64;
    let _ = writeln!(
        out,
        "tokens a round: {:.2} expected, {:.2} came; milliseconds a round: {:.2} expected, {:.2} taken",
        per_round(report.expected_tokens),
        per_round(report.tokens as f64),
        1e3 * per_round(report.expected_seconds),
        1e3 * per_round(report.seconds),
    );
    out + &verdict(planner.policy(), report)
}

/// How many trees had how many nodes.
fn sizes(report: &Report, rounds: usize) -> String {
    let percent = |n: usize| 100.0 * n as f64 / rounds as f64;
    let mut classes = Vec::new();
    for (from, to) in
        [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 8), (9, 12), (13, 16), (17, 32), (33, 64)]
    {
        let n: usize = report.nodes[from..=to].iter().sum();
        if n > 0 {
            let nodes = if from == to { from.to_string() } else { format!("{from}-{to}") };
            classes.push(format!("{nodes} in {:.0} %", percent(n)));
        }
    }
    let paused = match report.paused {
        0 => String::new(),
        n => format!(
            ", {:.0} % of them without asking the drafter, since it had not paid",
            percent(n)
        ),
    };
    format!("{rounds} trees, nodes {}{paused}", classes.join(", "))
}

/// One sentence: is it worth it?
fn verdict(policy: Policy, report: &Report) -> String {
    let gain = report.plain_seconds / report.seconds;
    let is_plain = report.nodes[1] * 10 > 9 * report.nodes.iter().sum::<usize>();
    match policy {
        Policy::Cost if is_plain => {
            "Speculation is not worth it on this text with this drafter here, and was left off: as fast as plain decoding."
                .into()
        }
        _ if gain >= 1.02 => format!(
            "Speculation is worth it on this machine with this model: {gain:.2} times as fast as plain decoding."
        ),
        _ if gain >= 0.98 => "Speculation makes no difference here: as fast as plain decoding.".into(),
        Policy::Cost => format!("Speculation has cost here so far: {gain:.2} times as fast as plain decoding."),
        _ => format!("Speculation is not worth it here: {gain:.2} times as fast as plain decoding; try --tree cost."),
    }
}
