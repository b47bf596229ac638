//! Drafters: they draft the next tokens.
//!
//! ```text
//! job.rs       the job of growing one sequence's tree in a round
//! selector.rs  from a drafter's logits to the candidates of a tree    constrained.rs  what a grammar allows of them
//! ngram.rs     prompt look-up
//! lm.rs        a small model with the same vocabulary
//! trained/     a drafter trained for the target, from a file: on the CPU or a GPU
//! choice.rs    chooses the kind of drafter        discover.rs  finds its file if none is named
//! memory.rs    how much memory it will take
//! shared.rs    weights that several drafters of this process share
//! solo.rs      a drafter with one sequence, without a target
//! ```
//!
//! A drafter only proposes. Whatever it drafts and however it fails, the text is the target's; a rejected token costs
//! only time. To add a drafter: write a file with an `impl Drafter`, and add a row to [`DRAFTERS`].

mod choice;
pub(crate) mod constrained;
mod discover;
mod job;
mod lm;
mod memory;
mod ngram;
mod selector;
mod shared;
mod solo;
pub(crate) mod trained;

pub use choice::{SpecType, choose};
pub(crate) use discover::offered;
pub use discover::{is_drafter_name, is_drafter_to_run, is_trained};
pub use job::{DraftJob, DraftState, RoundContext};
#[doc(hidden)]
pub use memory::DrafterMemory;
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

/// Drafts what follows sequences. A drafter holds its weights once, and a [`DraftState`] for each sequence.
///
/// A state is notified of the sequence as the target runs it, and then expands a tree behind all of it. A state that
/// has missed tokens notices that, and catches up or drafts nothing.
pub trait Drafter: Send {
    /// Layers of the target whose input hidden states it reads: see [`crate::infer::Target::tap`].
    fn taps(&self) -> &[usize] {
        &[]
    }

    /// A state for a sequence of which nothing was committed yet.
    ///
    /// # Errors
    /// If there is no memory for it.
    fn state(&mut self) -> Result<DraftState> {
        Ok(DraftState::new(()))
    }

    /// A number that drafters have in common if they can expand each other's states, because they share weights; `None`
    /// if this one can expand only its own.
    fn family(&self) -> Option<u64> {
        None
    }

    /// Notifies a state that the target has run `tokens` at positions `first..`, with these hidden states: (taps,
    /// n_embd) each. They replace whatever was committed at these and later positions.
    ///
    /// # Errors
    /// If it can no longer draft for this sequence, which then goes on without it.
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

    /// Drafting was paused. The state may drop all pending positions but the last `n` if catching up would cost more
    /// than a tree.
    fn skip_to_last(&mut self, state: &mut DraftState, n: usize) {
        let _ = (state, n);
    }

    /// Grows the trees of some sequences, side by side if it can. A job whose tree cannot be grown
    /// [fails](DraftJob::fail).
    fn expand(&mut self, jobs: &mut [DraftJob], round: &mut RoundContext) {
        for job in jobs {
            if let Err(error) = self.expand_one(job, round) {
                job.fail(error);
            }
        }
    }

    /// Grows the tree of one sequence; for drafters that do not grow several side by side.
    ///
    /// # Errors
    /// If it can no longer draft for this sequence, which then goes on without it.
    fn expand_one(&mut self, job: &mut DraftJob, round: &mut RoundContext) -> Result<()> {
        let _ = (job, round);
        Ok(())
    }

    /// Appends the state in the form that [`Drafter::restore`] reads on any device; nothing if the drafter has no state
    /// worth saving.
    ///
    /// # Errors
    /// If a device fails.
    fn save(&mut self, state: &mut DraftState, out: &mut Vec<u8>) -> Result<()> {
        let _ = (state, out);
        Ok(())
    }

    /// Restores saved state for these tokens, replacing the current state. Returns `false` if another drafter saved it.
    ///
    /// # Errors
    /// If a device fails.
    fn restore(&mut self, state: &mut DraftState, tokens: &[u32], saved: &[u8]) -> Result<bool> {
        let _ = (state, tokens, saved);
        Ok(false)
    }

    /// Whether it runs one level of several trees in one pass.
    fn is_side_by_side(&self) -> bool {
        false
    }

    /// The place where it runs, for users.
    fn place(&self) -> &str {
        "on the CPU"
    }

    /// The reason why it does not run on the fastest device, for users.
    fn why_there(&self) -> Option<&str> {
        None
    }

    /// A notice for users about a fault that it recovered from; returned once.
    fn take_notice(&mut self) -> Option<String> {
        None
    }
}

/// A kind of drafter.
#[derive(Debug)]
pub struct DrafterKind {
    /// Name in `--spec-type`.
    pub name: &'static str,
    /// Default shape of its trees.
    pub growth: TreeShape,
    /// Default of the smallest probability of a path.
    pub p_min: f32,
    /// Where its file comes from.
    pub file: FileFrom,
    /// Opens the drafter.
    pub open: fn(&DrafterContext) -> Result<Box<dyn Drafter>>,
}

impl DrafterKind {
    /// Whether it can run on a GPU.
    pub fn is_for_gpu(&self) -> bool {
        self.file == FileFrom::Shelf
    }
}

/// Where a drafter's file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFrom {
    /// There is no file.
    Nowhere,
    /// The user names it.
    User,
    /// The user names it, or it is found: see `discover.rs`.
    Shelf,
}

/// The context in which a drafter is opened: see [`crate::Session::setup`].
pub struct DrafterContext<'a> {
    /// The target.
    pub target: &'a Arc<Model>,
    /// Largest number of tokens of a sequence.
    pub n_ctx: usize,
    /// Largest number of members of the thread pool.
    pub threads: usize,
    /// The drafter's file.
    pub path: Option<&'a Path>,
    /// Where it runs.
    pub placement: Placement,
}

impl<'a> DrafterContext<'a> {
    /// A context for this target on the best device; `path` is the drafter's file.
    pub fn new(target: &'a Target, path: Option<&'a Path>) -> DrafterContext<'a> {
        let (n_ctx, threads, placement) = (target.n_ctx(), target.threads(), Placement::default());
        DrafterContext { target: target.model(), n_ctx, threads, path, placement }
    }
}

impl DrafterContext<'_> {
    /// The file of a drafter of a kind that needs one.
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

/// The kind of drafter in a file.
///
/// # Errors
/// If the file cannot be read.
pub fn kind_of(path: &Path) -> Result<&'static DrafterKind> {
    let gguf = Gguf::open_with(path, OpenOptions::default())?;
    let arch = gguf.metadata().get_str("general.architecture")?;
    let trained = arch.is_some_and(|arch| trained::ARCHITECTURES.contains(&arch));
    Ok(if trained { &trained::KIND } else { &lm::KIND })
}
