//! Drafters: what guesses the next tokens.
//!
//! ```text
//! choice.rs  who guesses
//! guesser.rs from a drafter's logits to a tree
//! ngram.rs   what followed the last tokens the last time
//! lm.rs      a small model with the same vocabulary
//! trained/   a drafter trained for the target, from a file: on the CPU or a GPU
//! discover.rs  which file that is, where none is named
//! ```
//!
//! A drafter only proposes. Whatever it says, fails at or forgets, the text is the target's own; a bad
//! guess costs time alone. To add one: a file with an `impl Drafter`, and a row in [`DRAFTERS`].

mod choice;
mod discover;
mod guesser;
mod lm;
mod ngram;
pub(crate) mod trained;

pub use choice::{SpecType, choose};
pub use guesser::{CandidateSelector, Guesses};
pub use ngram::NGram;
pub use trained::{DraftDevice, Placement};

use crate::error::{Error, Result};
use crate::gguf::{Gguf, OpenOptions};
use crate::infer::{MAX_SEQUENCES, Target};
use crate::model::Model;
use crate::planner::Planner;
use crate::tree::{Tree, TreeShape};
use dovetail_kernels::cpu::ThreadPool;
use smallvec::SmallVec;
use std::path::Path;
use std::sync::Arc;
use trained::CpuDrafter;

/// Guesses what follows a sequence.
///
/// The session tells it the sequence each time. A drafter that keeps state keeps it for a sequence it has
/// seen, and compares.
pub trait Drafter: Send {
    /// The target's hidden states that it learns from: see [`crate::infer::Target::tap`].
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
        pool: &mut ThreadPool,
    ) -> Result<()> {
        let _ = (first, tokens, features, pool);
        Ok(())
    }

    /// Says that it was not asked for a while: of what it was told since, all but the last `n` positions may be
    /// forgotten, and all before, where catching up would take longer than a tree.
    fn skip_to_last(&mut self, n: usize) {
        let _ = n;
    }

    /// Begins what [`Drafter::expand`] does for the same tokens, which follows, as far as another device does it: those
    /// of all sequences of a round work at once so.
    ///
    /// # Errors
    /// When it cannot guess any more; the session then goes on without it.
    fn begin(
        &mut self,
        tokens: &[u32],
        guesser: &CandidateSelector,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        let _ = (tokens, guesser, pool);
        Ok(())
    }

    /// Grows `tree`, which is its root alone: the last of `tokens`, the whole sequence so far, all others
    /// having been committed. How large, and which guesses are chosen, the `guesser` knows.
    ///
    /// # Errors
    /// When it cannot guess any more; the session then goes on without it.
    fn expand(
        &mut self,
        tokens: &[u32],
        guesser: &mut CandidateSelector,
        tree: &mut Tree,
        pool: &mut ThreadPool,
    ) -> Result<()>;

    /// A drafter for another sequence of the same target, which has seen nothing yet and shares its weights with
    /// this one; none if it has to be opened like this one was.
    fn another(&self) -> Option<Result<Box<dyn Drafter>>> {
        None
    }

    /// Itself, if it is one that grows trees side by side with others; what wraps one grows trees alone.
    #[doc(hidden)]
    fn as_dgf(&mut self) -> Option<&mut CpuDrafter> {
        None
    }

    /// Appends what it knows of its sequence, as [`Drafter::restore`] takes it on any device; nothing if there is
    /// nothing that it would have to be told.
    ///
    /// # Errors
    /// When a device fails.
    fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let _ = out;
        Ok(())
    }

    /// Makes of a sequence of these tokens what was saved its own, which may have known more; what it knew before is
    /// void. Returns whether it could: not if another drafter saved it.
    ///
    /// # Errors
    /// When a device fails.
    fn restore(&mut self, tokens: &[u32], state: &[u8]) -> Result<bool> {
        let _ = (tokens, state);
        Ok(false)
    }

    /// Where it runs, for people.
    fn place(&self) -> &str {
        "on the CPU"
    }

    /// Why it does not run where it runs fastest, for those who wonder.
    fn why_there(&self) -> Option<&str> {
        None
    }

    /// What people should know of something that it could help itself out of, once.
    fn take_notice(&mut self) -> Option<String> {
        None
    }
}

/// One sequence's part in the guessing of a round.
pub(crate) struct DraftJob<'a> {
    pub drafter: &'a mut dyn Drafter,
    /// The sequence.
    pub tokens: &'a [u32],
    pub guesser: &'a mut CandidateSelector,
    /// Of which there is only the root.
    pub tree: &'a mut Tree,
    /// Whether it could grow; if not, only the root is there, and the drafter should be given up.
    pub grown: Result<()>,
}

/// Grows the trees of all sequences of a round: on other devices all at once, and on the CPU side by side where drafters
/// [share](Drafter::another) their weights. How large they grow the `planner` decides.
pub(crate) fn expand(
    parts: &mut [DraftJob],
    planner: &mut Option<Box<Planner>>,
    pool: &mut ThreadPool,
) {
    for DraftJob { drafter, tokens, guesser, grown, .. } in &mut *parts {
        *grown = drafter.begin(tokens, guesser, pool);
    }
    let mut rest: SmallVec<[&mut DraftJob; MAX_SEQUENCES]> =
        parts.iter_mut().filter(|part| part.grown.is_ok()).collect();
    while let Some(first) = rest.first_mut() {
        let Some(family) = first.drafter.as_dgf().map(|drafter| drafter.family()) else {
            let DraftJob { drafter, tokens, guesser, tree, grown } = rest.remove(0);
            std::mem::swap(planner, guesser.planner_mut());
            *grown = drafter.expand(tokens, guesser, tree, pool);
            std::mem::swap(planner, guesser.planner_mut());
            continue;
        };
        let mut together: SmallVec<[&mut DraftJob; MAX_SEQUENCES]> = SmallVec::new();
        let mut others: SmallVec<[&mut DraftJob; MAX_SEQUENCES]> = SmallVec::new();
        for part in rest {
            let is_of_it = part.drafter.as_dgf().is_some_and(|drafter| drafter.family() == family);
            if is_of_it { together.push(part) } else { others.push(part) }
        }
        rest = others;
        trained::expand_together(&mut together, planner, pool);
    }
}

/// A kind of drafter.
#[derive(Debug)]
pub struct DrafterKind {
    /// What `--spec-type` calls it.
    pub name: &'static str,
    /// The tree it grows where nothing else is asked for.
    pub growth: TreeShape,
    /// The least probability of a path that it follows there: see [`CandidateSelector::with_p_min`].
    pub p_min: f32,
    /// Where its file comes from.
    pub file: FileFrom,
    /// One that has seen nothing yet.
    pub open: fn(&DrafterContext) -> Result<Box<dyn Drafter>>,
}

impl DrafterKind {
    /// Whether a GPU may run it.
    pub fn is_for_gpu(&self) -> bool {
        self.file == FileFrom::Shelf
    }
}

/// Where a drafter's file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFrom {
    /// It has none.
    Nowhere,
    /// It is named.
    User,
    /// It is named, or found: see `discover.rs`.
    Shelf,
}

/// What a drafter is made for: see [`crate::Session::setup`].
pub struct DrafterContext<'a> {
    /// The target.
    pub target: &'a Arc<Model>,
    /// Most tokens of the sequence.
    pub n_ctx: usize,
    /// Members of the thread pool it will be given, at most.
    pub threads: usize,
    /// The drafter's file.
    pub path: Option<&'a Path>,
    /// Where it is to run.
    pub placement: Placement,
}

impl<'a> DrafterContext<'a> {
    /// For this target, on whatever device is best; `path` is the drafter's file.
    pub fn new(target: &'a Target, path: Option<&'a Path>) -> DrafterContext<'a> {
        let (n_ctx, threads, placement) = (target.n_ctx(), target.threads(), Placement::default());
        DrafterContext { target: target.model(), n_ctx, threads, path, placement }
    }
}

impl DrafterContext<'_> {
    /// The file that a drafter of this kind cannot do without.
    fn file(&self, name: &str) -> Result<&Path> {
        let missing =
            || format!("--spec-type {name} needs the drafter's file; name it with -md FILE");
        self.path.ok_or_else(|| Error::Invalid(missing()))
    }
}

/// All kinds of drafters.
pub const DRAFTERS: &[DrafterKind] = &[ngram::KIND, lm::KIND, trained::KIND];

/// The kind with this name.
pub fn kind(name: &str) -> Option<&'static DrafterKind> {
    DRAFTERS.iter().find(|row| row.name == name)
}

/// The kind of drafter that a file is.
///
/// # Errors
/// When it cannot be read.
pub fn kind_of(path: &Path) -> Result<&'static DrafterKind> {
    let gguf = Gguf::open_with(path, OpenOptions::default())?;
    let arch = gguf.metadata().get_str("general.architecture")?;
    let trained = arch.is_some_and(|arch| trained::ARCHITECTURES.contains(&arch));
    Ok(if trained { &trained::KIND } else { &lm::KIND })
}
