//! How often recorded guesses were right, as it is shipped beside a drafter: what a planner believes at first.

use super::read::{Answer, read};
use dovetail::planner::acceptance::{AcceptanceStats, ByTemperature};
use dovetail::speculate::json::{of_confidences, to_confidences};
use dovetail::{Error, Result};
use std::path::Path;

/// Adds the guesses of a record to the counts in this file, which may be missing yet.
pub fn run(record: &Path, path: &Path) -> Result<()> {
    let wrong =
        |what: String| Error::Invalid(format!("{}: {what}; name another file", path.display()));
    let mut counts = match std::fs::read(path) {
        Ok(bytes) => {
            let value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
            to_confidences(&value).map_err(wrong)?
        }
        Err(_) => ByTemperature::default(),
    };
    let record = read(record)?;
    let confidences = counts.at_mut(record.temperature);
    record.answers.iter().for_each(|answer| count(answer, confidences));
    let failed = |source| Error::Io { path: path.to_owned(), source };
    std::fs::write(path, format!("{}\n", of_confidences(&counts))).map_err(failed)
}

/// Counts the guesses at each position of an answer, of which those were right that follow there.
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
