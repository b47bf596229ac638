//! Drafters: what guesses the next tokens.
//!
//! ```text
//! ngram.rs   what followed the last tokens the last time
//! lm.rs      a small model with the same vocabulary
//! dgf/       a drafter trained for the target, from a file
//! shelf.rs   which file that is, where none is named
//! ```
//!
//! A drafter only proposes. Whatever it says, fails at or forgets, the text is the target's own; a bad
//! guess costs time alone. To add one: a file with an `impl Drafter`, and a row in [`DRAFTERS`].

mod dgf;
mod lm;
mod ngram;
mod shelf;

pub use ngram::NGram;
pub use shelf::find as find_file;

use crate::error::{Error, Result};
use crate::gguf::{Gguf, OpenOptions};
use crate::model::Model;
use crate::target::{Candidate, Logits};
use crate::tree::{Growth, Proposal, Tree};
use dovetail_kernels::cpu::{Kernels, LANES, Team};
use std::path::Path;
use std::sync::Arc;

/// Guesses what follows a sequence.
///
/// The session tells it the sequence each time. A drafter that keeps state keeps it for a sequence it has
/// seen, and compares.
pub trait Drafter: Send {
    /// The target's hidden states that it learns from: see [`crate::target::Target::tap`].
    fn taps(&self) -> &[usize] {
        &[]
    }

    /// Takes note that the target has run `tokens` at positions `first..`, with these hidden states,
    /// (taps, n_embd) each. What it was told before of these positions and of later ones is void.
    ///
    /// # Errors
    /// When it cannot guess any more; the session then goes on without it.
    fn commit(
        &mut self,
        first: usize,
        tokens: &[u32],
        features: &mut dyn Iterator<Item = &[f32]>,
        team: &mut Team,
    ) -> Result<()> {
        let _ = (first, tokens, features, team);
        Ok(())
    }

    /// Grows `tree`, which is its root alone: the last of `tokens`, the whole sequence so far, all others
    /// having been committed.
    ///
    /// # Errors
    /// When it cannot guess any more; the session then goes on without it.
    fn expand(
        &mut self,
        tokens: &[u32],
        growth: Growth,
        tree: &mut Tree,
        team: &mut Team,
    ) -> Result<()>;
}

/// A kind of drafter.
#[derive(Debug)]
pub struct Row {
    /// What `--spec-type` calls it.
    pub name: &'static str,
    /// The tree it grows where nothing else is asked for.
    pub growth: Growth,
    /// Where its file comes from.
    pub file: FileFrom,
    /// One that has seen nothing yet.
    pub open: fn(&Setup) -> Result<Box<dyn Drafter>>,
}

/// Where a drafter's file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFrom {
    /// It has none.
    Nowhere,
    /// It is named.
    User,
    /// It is named, or found: see [`find_file`].
    Shelf,
}

/// What a drafter is made for: see [`crate::Session::setup`].
pub struct Setup<'a> {
    /// The target.
    pub target: &'a Arc<Model>,
    /// Most tokens of the sequence.
    pub n_ctx: usize,
    /// Members of the team it will be given, at most.
    pub threads: usize,
    /// The drafter's file.
    pub path: Option<&'a Path>,
}

impl Setup<'_> {
    /// The file that a drafter of this kind cannot do without.
    fn file(&self, name: &str) -> Result<&Path> {
        let missing =
            || format!("--spec-type {name} needs the drafter's file; name it with -md FILE");
        self.path.ok_or_else(|| Error::Invalid(missing()))
    }
}

/// Turns logits into guesses; holds buffers only.
#[derive(Default)]
struct Proposer {
    best: Vec<Candidate>,
    row: Vec<f32>,
}

impl Proposer {
    /// Appends the `width` likeliest tokens as guesses after the frontier's node `parent`; `token` says
    /// which token of the target each is, if any.
    ///
    /// # Errors
    /// When the logits are no numbers.
    fn propose(
        &mut self,
        kernels: &Kernels,
        logits: Logits,
        token: impl Fn(u32) -> Option<u32>,
        parent: usize,
        width: usize,
        proposals: &mut Vec<Proposal>,
    ) -> Result<()> {
        logits.top(width, &mut self.best);
        logits.copy_to(&mut self.row);
        self.row.resize(self.row.len().next_multiple_of(LANES), f32::NEG_INFINITY);
        let largest = self.best[0].logit;
        let sum = libm::logf((kernels.sum_exp)(&self.row, largest));
        if !(largest.is_finite() && sum.is_finite()) {
            return Err(Error::Invalid("its probabilities are no numbers".into()));
        }
        for best in &self.best {
            if let Some(token) = token(best.token) {
                proposals.push(Proposal { parent, token, log_prob: best.logit - largest - sum });
            }
        }
        Ok(())
    }
}

/// All kinds of drafters.
pub const DRAFTERS: &[Row] = &[ngram::ROW, lm::ROW, dgf::ROW];

/// The kind with this name.
///
/// # Errors
/// When there is none: says which there are.
pub fn kind(name: &str) -> std::result::Result<&'static Row, String> {
    let names = || DRAFTERS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    let found = DRAFTERS.iter().find(|row| row.name == name);
    found.ok_or_else(|| format!("there are {}", names()))
}

/// The kind of drafter that a file is.
///
/// # Errors
/// When it cannot be read.
pub fn kind_of(path: &Path) -> Result<&'static Row> {
    let gguf = Gguf::open_with(path, OpenOptions::default())?;
    let arch = gguf.metadata().get_str("general.architecture")?;
    let trained = arch.is_some_and(|arch| dgf::ARCHITECTURES.contains(&arch));
    Ok(if trained { &dgf::ROW } else { &lm::ROW })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_true() {
        for row in DRAFTERS {
            assert_eq!(kind(row.name).unwrap().name, row.name);
            let growth = row.growth.to_string();
            assert_eq!(growth.parse(), Ok(row.growth), "{growth} can be asked for");
        }
        assert_eq!(kind("magic").unwrap_err(), "there are ngram, lm, dgf");
    }
}
