//! Statistics for people.

use crate::explain;
use crate::log::Log;
use crate::timings::{ms, per_second};
use dovetail::Stats;
use dovetail::planner::Planner;
use dovetail::speculate::{RoundCounts, RoundStats};
use std::time::Duration;

/// The line after an answer.
pub fn turn(stats: &Stats) -> String {
    format!(
        "[ Prompt: {:.1} t/s | Generation: {:.1} t/s ]",
        per_second(stats.prompt_n, stats.prompt_time),
        per_second(stats.predicted_n, stats.predicted_time)
    )
}

/// The lines that `-v` adds.
pub fn block(stats: &Stats, load_time: Duration) -> String {
    let row = |name: &str, n: usize, of: &str, time: Duration| {
        let each = ms(time) / n.max(1) as f64;
        let rate = per_second(n, time);
        let time = ms(time);
        format!(
            "{name:>16} = {time:10.2} ms / {n:5} {of} ({each:8.2} ms per token, {rate:8.2} tokens per second)"
        )
    };
    let total = stats.prompt_time + stats.predicted_time;
    let n = stats.prompt_n + stats.predicted_n;
    [
        format!("{:>16} = {:10.2} ms", "load time", ms(load_time)),
        row("prompt eval time", stats.prompt_n, "tokens", stats.prompt_time),
        row("eval time", stats.predicted_n, "runs  ", stats.predicted_time),
        format!("{:>16} = {:10.2} ms", "grammar time", ms(stats.mask_time)),
        format!("{:>16} = {:10.2} ms / {n:5} tokens", "total time", ms(total)),
        format!(
            "{:>16} = {:5} of {}",
            "prompt reused",
            stats.cached_n,
            stats.cached_n + stats.prompt_n
        ),
    ]
    .join("\n")
}

/// Statistics of the draft tokens. Under a grammar they are easily right, so the first line is of the rounds without one;
/// where these are not all, the second line says so.
pub fn draft_stats(rounds: &RoundStats) -> String {
    let RoundStats { without_grammar: counted, second_choices, .. } = *rounds;
    let RoundCounts { drafted, accepted, .. } = counted;
    let rate = |n: usize, of: usize| n as f64 / of.max(1) as f64;
    // Relative to all rounds that drafted, not to those that reached the depth.
    let tested = rounds.depths.first().map_or(0, |(tested, _)| *tested);
    let positions: Vec<_> =
        rounds.depths.iter().map(|(_, n)| format!("{:.3}", rate(*n, tested))).collect();
    format!(
        "draft acceptance = {:.5} ({accepted} accepted / {drafted} generated), \
         mean acceptance length = {:.2}, acceptance rate per position = ({}), \
         second choices = {second_choices}\n\
         draft time = {:.2} ms, verify time = {:.2} ms / {} rounds{}",
        rate(accepted, drafted),
        counted.mean_acceptance_length(),
        positions.join(", "),
        ms(rounds.draft_time),
        ms(rounds.verify_time),
        rounds.rounds,
        match rounds.rounds - counted.rounds {
            0 => String::new(),
            n => format!(" (the line above leaves out {n} with a grammar)"),
        },
    )
}

/// Statistics of many answers, and the time from the first prompt to the last token.
#[derive(Default)]
pub struct BatchStats {
    /// Number of passes, which sequences may have shared.
    pub rounds: usize,
    /// Time from the first prompt to the last token.
    pub time: Duration,
    prompts: usize,
    prompt_n: usize,
    predicted_n: usize,
    draft_stats: Option<RoundStats>,
}

impl BatchStats {
    /// Adds an answer and the statistics of its draft tokens.
    pub fn add(&mut self, stats: &Stats, draft_stats: Option<&RoundStats>) {
        self.prompts += 1;
        self.prompt_n += stats.prompt_n + stats.cached_n;
        self.predicted_n += stats.predicted_n;
        if let Some(draft_stats) = draft_stats {
            self.draft_stats.get_or_insert_default().add(draft_stats);
        }
    }

    /// Statistics of the draft tokens, if there was a drafter.
    pub fn draft_stats(&self) -> Option<&RoundStats> {
        self.draft_stats.as_ref()
    }

    /// The line after a file of prompts.
    pub fn line(&self) -> String {
        let BatchStats { prompts, prompt_n, predicted_n, rounds, time, .. } = self;
        format!(
            "[ Prompts: {prompts} of {prompt_n} tokens | Generation: {predicted_n} tokens, {:.1} t/s, {rounds} \
             rounds ]",
            per_second(*predicted_n, *time)
        )
    }
}

/// Reports whether acceptance rates were saved, and explains the planner's choices.
pub fn learned(explain: bool, planner: &Planner, saved: std::io::Result<()>, log: &Log) {
    if let Err(error) = saved {
        log.detail(&format!("how often draft tokens were right is not kept: {error}"));
    }
    if explain && planner.costs().is_some() {
        log.note(&explain::explain(planner, planner.report(), None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Stats {
        Stats {
            prompt_n: 50,
            prompt_time: Duration::from_millis(250),
            cached_n: 7,
            predicted_n: 30,
            predicted_time: Duration::from_millis(1500),
            mask_time: Duration::from_micros(12340),
        }
    }

    #[test]
    fn the_printed_lines_are_those_of_llama_cpp() {
        assert_eq!(turn(&stats()), "[ Prompt: 200.0 t/s | Generation: 20.0 t/s ]");
        assert_eq!(turn(&Stats::default()), "[ Prompt: 0.0 t/s | Generation: 0.0 t/s ]");
        let block = block(&stats(), Duration::from_millis(1234));
        for part in [
            "       load time =    1234.00 ms",
            "prompt eval time =     250.00 ms /    50 tokens (    5.00 ms per token,   200.00 tokens per second)",
            "       eval time =    1500.00 ms /    30 runs   (   50.00 ms per token,    20.00 tokens per second)",
            "    grammar time =      12.34 ms",
            "      total time =    1750.00 ms /    80 tokens",
            "   prompt reused =     7 of 57",
        ] {
            assert!(block.contains(part), "{block}");
        }
    }

    #[test]
    fn many_answers_are_one_line() {
        let mut total =
            BatchStats { rounds: 40, time: Duration::from_secs(3), ..BatchStats::default() };
        total.add(&stats(), None);
        total.add(&stats(), Some(&RoundStats { rounds: 7, ..RoundStats::default() }));
        let line = "[ Prompts: 2 of 114 tokens | Generation: 60 tokens, 20.0 t/s, 40 rounds ]";
        assert_eq!(total.line(), line);
        assert_eq!(total.draft_stats().unwrap().rounds, 7);
    }

    #[test]
    fn draft_stats_are_told_as_llama_cpp_tells_them() {
        let mut rounds = RoundStats {
            rounds: 87,
            drafted: 259,
            accepted: 167,
            without_grammar: RoundCounts { rounds: 87, drafted: 259, accepted: 167 },
            depths: vec![(87, 70), (70, 55), (55, 42)],
            second_choices: 9,
            draft_time: Duration::from_millis(12),
            verify_time: Duration::from_millis(870),
        };
        let text = draft_stats(&rounds);
        let expected = "draft acceptance = 0.64479 (167 accepted / 259 generated), \
                        mean acceptance length = 2.92, \
                        acceptance rate per position = (0.805, 0.632, 0.483), second choices = 9\n\
                        draft time = 12.00 ms, verify time = 870.00 ms / 87 rounds";
        assert_eq!(text, expected);
        // Further rounds with a grammar change the second line alone.
        (rounds.rounds, rounds.drafted, rounds.accepted) = (100, 300, 205);
        let expected = expected.replace("87 rounds", "100 rounds");
        let expected = format!("{expected} (the line above leaves out 13 with a grammar)");
        assert_eq!(draft_stats(&rounds), expected);
        assert!(draft_stats(&RoundStats::default()).contains("(0 accepted / 0 generated)"));
    }
}
