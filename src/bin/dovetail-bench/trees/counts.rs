//! Acceptance counts of a record, which are shipped with a drafter as a planner's initial rates.

use super::read::{Answer, read};
use crate::output;
use dovetail::planner::acceptance::{AcceptanceStats, ByTemperature};
use dovetail::speculate::json::{acceptance_from_json, acceptance_to_json};
use dovetail::{Error, Result, file};
use std::io::ErrorKind;
use std::path::Path;

/// The flag of the file.
const COUNTS: &str = "--counts";

/// Adds the draft tokens of a record to the counts in this file, which is created if missing.
pub fn run(record: &Path, path: &Path) -> Result<()> {
    output::check(COUNTS, path)?;
    let wrong =
        |what: String| Error::Invalid(format!("{}: {what}; name another file", path.display()));
    let mut counts = match file::read(path) {
        Ok(bytes) => {
            let value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
            acceptance_from_json(&value).map_err(wrong)?
        }
        Err(error) if error.kind() == ErrorKind::NotFound => ByTemperature::default(),
        Err(error) => return Err(output::refused(COUNTS, path, error)),
    };
    let record = read(record)?;
    let confidences = counts.at_mut(record.temperature);
    record.answers.iter().for_each(|answer| count(answer, confidences));
    output::write(COUNTS, path, &format!("{}\n", acceptance_to_json(&counts)))
}

/// Counts the draft tokens at each position of an answer; those that match the answer are accepted.
fn count(answer: &Answer, counts: &mut AcceptanceStats) {
    for (at, tree) in answer.trees.iter().enumerate() {
        let mut path = vec![0];
        while let Some(token) = answer.tokens.get(at + path.len())
            && let Some(child) = tree.child(path[path.len() - 1], *token)
        {
            path.push(child);
        }
        counts.count(tree, &path, 1.0);
    }
}
