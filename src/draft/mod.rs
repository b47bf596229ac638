//! Drafters: what guesses the next tokens.
//!
//! ```text
//! ngram.rs   what followed the last tokens the last time
//! ```
//!
//! A drafter only proposes. Whatever it says, fails at or forgets, the text is the target's own; a bad
//! guess costs time alone. To add one: a file with an `impl Drafter`, and a row in [`DRAFTERS`].

mod ngram;

pub use ngram::NGram;

use crate::error::Result;
use crate::tree::{Growth, Tree};
use dovetail_kernels::cpu::Team;

/// Guesses what follows a sequence.
///
/// The session tells it the sequence each time. A drafter that keeps state keeps it for a sequence it has
/// seen, and compares.
pub trait Drafter: Send {
    /// Its row in [`DRAFTERS`].
    fn name(&self) -> &'static str;

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
    /// In a few words.
    pub about: &'static str,
    /// The tree it grows where nothing else is asked for.
    pub growth: Growth,
    /// One that has seen nothing yet.
    pub new: fn() -> Box<dyn Drafter>,
}

/// All kinds of drafters.
pub const DRAFTERS: &[Row] = &[ngram::ROW];

/// The kind with this name.
///
/// # Errors
/// When there is none: says which there are.
pub fn find(name: &str) -> std::result::Result<&'static Row, String> {
    DRAFTERS.iter().find(|row| row.name == name).ok_or_else(|| {
        let rows: Vec<_> = DRAFTERS.iter().map(|row| row.name).collect();
        format!("give none or {}", rows.join(" or "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_true() {
        for row in DRAFTERS {
            assert_eq!((row.new)().name(), row.name);
            assert_eq!(find(row.name).unwrap().name, row.name);
            let growth = row.growth.to_string();
            assert_eq!(growth.parse(), Ok(row.growth), "{growth} can be asked for");
        }
        assert_eq!(find("magic").unwrap_err(), "give none or ngram");
    }
}
