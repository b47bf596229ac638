//! Explains a planner's choices in words.

use dovetail::planner::Report;
use dovetail::planner::{Planner, Policy};
use std::fmt::Write;

/// Explains these rounds of the planner in a few lines; the last one says whether speculation is worth it. Seconds are
/// the planner's current estimates. `measured` is the speedup over plain decoding, if both were timed; it replaces the
/// planner's estimate.
pub fn explain(planner: &Planner, report: &Report, measured: Option<f64>) -> String {
    if planner.costs().is_none() {
        return "what passes cost was not measured".into();
    }
    let plain = planner.pass_seconds(1);
    let mut out = format!(
        "a plain pass takes {:.2} ms; over 2, 4, 8, 16 rows {}\n",
        1e3 * plain,
        [2, 4, 8, 16].map(|n| format!("{:.2}", planner.pass_seconds(n) / plain)).join(", ")
            + " times that",
    );
    let _ = writeln!(
        out,
        "drafting takes {:.2} of a plain pass for the first level of a tree, and {} for another one of 1, 2, 4 nodes",
        planner.first_seconds() / plain,
        [1, 2, 4].map(|n| format!("{:.2}", planner.level_seconds(n) / plain)).join(", "),
    );
    let rounds: usize = report.nodes.iter().sum();
    if rounds == 0 {
        return out + "no round of drafting has run yet";
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
    let gain = measured.unwrap_or(report.plain_seconds / report.seconds);
    out + &verdict(planner.policy(), report, gain)
}

/// The distribution of tree sizes.
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

/// Whether speculation is worth it, in one sentence. `gain` is the speedup over plain decoding.
fn verdict(policy: Policy, report: &Report, gain: f64) -> String {
    let is_plain = report.nodes[1] * 10 > 9 * report.nodes.iter().sum::<usize>();
    match policy {
        Policy::Cost if is_plain && gain < 1.02 => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use dovetail::planner::acceptance::ByTemperature;
    use dovetail::planner::cost::{Costs, Curve};
    use dovetail::planner::{RoundTimes, TreeLimits};
    use dovetail::tree::{GrowingTree, TreeShape};

    /// A planner that assumes a second for a pass that takes half a second.
    fn corrected() -> Planner {
        let mut costs = Costs::unit();
        costs.draft.level = Curve::new(&[(1, 0.1)]).unwrap();
        let mut planner = Planner::new(Policy::Cost, costs, ByTemperature::default());
        for _ in 0..200 {
            planner.begin(1, 0, true);
            let mut tree = GrowingTree::default();
            planner.start(&mut tree, 7, &TreeLimits::of(TreeShape::ROOT));
            planner.choose(&mut [&mut tree]);
            planner.accepted(&tree, &[0]);
            planner.end(Some(RoundTimes { draft: 0.0, verify: 0.5, whole: 0.5 }));
        }
        planner
    }

    #[test]
    fn what_was_measured_is_the_only_figure_for_the_gain() {
        let (planner, mut report) = (corrected(), Report::default());
        (report.nodes[2], report.tokens) = (10, 20);
        (report.seconds, report.plain_seconds) = (10.0, 12.4);
        assert!(
            explain(&planner, &report, None).ends_with(": 1.24 times as fast as plain decoding.")
        );
        let said = explain(&planner, &report, Some(1.51));
        assert!(said.contains("1.51 times as fast") && !said.contains("1.24"), "{said}");
        // Even if hardly anything was drafted.
        report.nodes[1] = 1000;
        assert!(explain(&planner, &report, Some(1.51)).contains("1.51 times as fast"));
        assert!(explain(&planner, &report, Some(1.0)).contains("was left off"));
    }

    #[test]
    fn a_pass_takes_what_the_planner_believes_by_now() {
        let planner = corrected();
        let said = explain(&planner, planner.report(), None);
        assert!(said.starts_with("a plain pass takes 500.00 ms;"), "{said}");
    }
}
