//! Drafters: what drafts the next tokens.
//!
//! ```text
//! job.rs       one sequence's part in the drafting of a round
//! selector.rs  from a drafter's logits to the candidates of a tree
//! ngram.rs     what followed the last tokens the last time
//! lm.rs        a small model with the same vocabulary
//! trained/     a drafter trained for the target, from a file: on the CPU or a GPU
//! choice.rs    which kind drafts             discover.rs  which file that is, where none is named
//! shared.rs    weights that several drafters of this process read
//! solo.rs      a drafter with one sequence, without a target
//! ```
//!
//! A drafter only proposes. Whatever it says, fails at or forgets, the text is the target's own; a wrong
//! token costs time alone. To add one: a file with an `impl Drafter`, and a row in [`DRAFTERS`].

mod choice;
mod discover;
mod job;
mod lm;
mod ngram;
mod selector;
mod shared;
mod solo;
pub(crate) mod trained;

pub use choice::{SpecType, choose};
pub use job::{DraftJob, DraftState, RoundContext};
pub use ngram::NGram;
pub use selector::CandidateSelector;
pub use solo::SoloDraft;
pub use trained::{DraftDevice, Placement};

use crate::error::Result;
use crate::gguf::{Gguf, OpenOptions};
use crate::infer::Target;
use crate::model::Model;
use crate::setting::{Advice, Setting};
use crate::tree::TreeShape;
use dovetail_kernels::cpu::ThreadPool;
use std::path::Path;
use std::sync::Arc;

/// Drafts what follows sequences: its weights are there once, and what it knows of a sequence is a [`DraftState`].
///
/// A state is told the sequence as the target runs it, and asked for a tree with all of it. One that has missed
/// something compares, and catches up or drafts nothing.
pub trait Drafter: Send {
    /// The target's hidden states that it learns from: see [`crate::infer::Target::tap`].
    fn taps(&self) -> &[usize] {
        &[]
    }

    /// A state that has seen nothing of its sequence yet.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn state(&mut self) -> Result<DraftState> {
        Ok(DraftState::new(()))
    }

    /// What drafters have in common that can expand each other's states, as those can that share weights; `None` for
    /// one that knows its own alone.
    fn family(&self) -> Option<u64> {
        None
    }

    /// The target has run `tokens` at positions `first..`, with these hidden states, (taps, n_embd) each. What the state
    /// was told of these positions and of later ones is void.
    ///
    /// # Errors
    /// When it cannot draft for this sequence any more; the sequence then goes on without it.
    fn commit(
        &mut self,
        state: &mut DraftState,
        first: usize,
        tokens: &[u32],
        features: &mut dyn Iterator<Item = &[f32]>,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        let _ = (state, first, tokens, features, pool);
        Ok(())
    }

    /// Drafting was left off for a while. The state may drop all pending positions but the last `n` if catching up would
    /// cost more than a tree.
    fn skip_to_last(&mut self, state: &mut DraftState, n: usize) {
        let _ = (state, n);
    }

    /// Grows the trees of some sequences, side by side if it can. One whose tree cannot be grown has
    /// [failed](DraftJob::fail).
    fn expand(&mut self, jobs: &mut [DraftJob], round: &mut RoundContext) {
        for job in jobs {
            if let Err(error) = self.expand_one(job, round) {
                job.fail(error);
            }
        }
    }

    /// Grows the tree of one sequence: for drafters that do not grow several side by side.
    ///
    /// # Errors
    /// When it cannot draft for this sequence any more; the sequence then goes on without it.
    fn expand_one(&mut self, job: &mut DraftJob, round: &mut RoundContext) -> Result<()> {
        let _ = (job, round);
        Ok(())
    }

    /// Appends what a state knows, as [`Drafter::restore`] takes it on any device; nothing if there is
    /// nothing that it would have to be told.
    ///
    /// # Errors
    /// When a device fails.
    fn save(&mut self, state: &mut DraftState, out: &mut Vec<u8>) -> Result<()> {
        let _ = (state, out);
        Ok(())
    }

    /// Restores what was saved for these tokens, in place of what the state knows. Returns `false` if another drafter
    /// saved it.
    ///
    /// # Errors
    /// When a device fails.
    fn restore(&mut self, state: &mut DraftState, tokens: &[u32], saved: &[u8]) -> Result<bool> {
        let _ = (state, tokens, saved);
        Ok(false)
    }

    /// Whether a level of several trees is one pass of it.
    fn is_side_by_side(&self) -> bool {
        false
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

/// A kind of drafter.
#[derive(Debug)]
pub struct DrafterKind {
    /// What `--spec-type` calls it.
    pub name: &'static str,
    /// The tree it grows where nothing else is asked for.
    pub growth: TreeShape,
    /// The least probability of a path that it follows there.
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
        let missing = || Setting::SpecType.with(name).refuse("needs the drafter's file");
        self.path.ok_or_else(|| missing().or(Advice::Name(Setting::DraftModel)).into())
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
