//! A trained drafter on the CPU: the target's features and the next tokens through a few decoder blocks.
//!
//! The step at position `i` takes the feature `f_i` of the target and the token `t_{i+1}` and guesses
//! `t_{i+2}`; deeper steps take the drafter's own output in place of the feature.
//!
//! ```text
//! a = W1 · norm(f)    b = silu(W2 · norm(E[t]))    z = sigmoid(Wz · [a; b])
//! h = blocks(z ⊙ a + (1 − z) ⊙ b)                  logits = head · norm(h)
//! ```
//!
//! EAGLE's drafters differ in how feature and embedding meet, [`Fusion`], and in which norms they have.
//!
//! Entries are in [`Entries`]; the last one, with the root of the tree for its token, is run when a tree is
//! grown, and rows of the tree follow it in the cache. Drafters that share their weights grow their trees side by side:
//! a level of all is one pass.
//!
//! # Source
//! Dovetail, arXiv 2412.18934, section "DGF"; EAGLE 1 to 3, arXiv 2401.15077, 2406.16858, 2503.01840.

mod forward;

use super::entries::Entries;
use crate::draft::guesser::{Member, grow_together};
use crate::draft::{CandidateSelector, DraftJob, Drafter, DrafterContext};
use crate::error::Result;
use crate::infer::{CacheTypes, KvCache, MAX_SEQUENCES};
use crate::planner::Planner;
use crate::tree::{MAX_NODES, Tree};
use dovetail_kernels::cpu::{ThreadPool, WeightMatrix};
use forward::{Common, ROWS, Root};
use smallvec::SmallVec;
use std::sync::Arc;

/// The drafter. See the module.
pub struct CpuDrafter {
    common: Arc<Common>,
    state: State,
}

/// What it knows of its sequence.
struct State {
    kv: KvCache,
    entries: Entries,
    added: Added,
    /// The blocks' output for each node of the tree that was run: (nodes, H).
    outputs: Vec<f32>,
}

/// The part of the draft vocabulary that is the sequence's, and its head.
#[derive(Default)]
struct Added {
    tokens: Vec<u32>,
    head: Option<WeightMatrix>, // (tokens, H)
}

impl CpuDrafter {
    /// The drafter in the file of this setup.
    ///
    /// # Errors
    /// When the file cannot be read or belongs to another target, or there is too little memory.
    pub fn open(setup: &DrafterContext) -> Result<CpuDrafter> {
        CpuDrafter::new(Arc::new(Common::open(setup)?))
    }

    /// One for another sequence, with the same weights.
    ///
    /// # Errors
    /// When there is too little memory.
    pub fn another(&self) -> Result<CpuDrafter> {
        CpuDrafter::new(self.common.clone())
    }

    fn new(common: Arc<Common>) -> Result<CpuDrafter> {
        let (c, types, n) = (common.config(), CacheTypes::default(), common.positions());
        KvCache::check_memory(c, n, types, 1)?;
        let state = State {
            kv: KvCache::new(c, n, types)?,
            entries: common.entries(),
            added: Added::default(),
            outputs: vec![0.0; MAX_NODES * c.n_embd],
        };
        Ok(CpuDrafter { common, state })
    }

    /// What those have in common that can work together.
    pub fn family(&self) -> *const () {
        Arc::as_ptr(&self.common).cast()
    }
}

impl Drafter for CpuDrafter {
    fn taps(&self) -> &[usize] {
        self.common.taps()
    }

    fn commit(
        &mut self,
        first: usize,
        tokens: &[u32],
        features: &mut dyn Iterator<Item = &[f32]>,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        let CpuDrafter { common, state } = self;
        state.entries.commit(first, tokens, features);
        let n = state.entries.waiting();
        // Those of a prompt, or as many as fill a pass: fewer wait for a tree, which may never be asked for.
        if tokens.len() > MAX_NODES || n > ROWS {
            common.take_in(state, n - 1, pool);
        }
        Ok(())
    }

    fn skip_to_last(&mut self, n: usize) {
        self.state.entries.skip_to_last(n);
    }

    fn expand(
        &mut self,
        tokens: &[u32],
        guesser: &mut CandidateSelector,
        tree: &mut Tree,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        let mut planner = guesser.planner_mut().take();
        let mut part = DraftJob { drafter: self, tokens, guesser, tree, grown: Ok(()) };
        expand_together(&mut [&mut part], &mut planner, pool);
        *part.guesser.planner_mut() = planner;
        part.grown
    }

    fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let State { kv, entries, .. } = &self.state;
        entries.save(self.common.fingerprint(), out);
        kv.write_rows(entries.filled(), out).expect("a vector takes what is written");
        Ok(())
    }

    fn restore(&mut self, tokens: &[u32], state: &[u8]) -> Result<bool> {
        let State { kv, entries, .. } = &mut self.state;
        let most = kv.capacity() - MAX_NODES;
        let Some((filled, mut rows)) =
            entries.restore(self.common.fingerprint(), tokens, most, state)
        else {
            return Ok(false);
        };
        let read = kv.read_rows(filled, &mut rows).is_ok() && rows.is_empty();
        if !read {
            entries.forget();
        }
        Ok(read)
    }

    fn another(&self) -> Option<Result<Box<dyn Drafter>>> {
        Some(self.another().map(|drafter| Box::new(drafter) as Box<dyn Drafter>))
    }

    fn as_dgf(&mut self) -> Option<&mut CpuDrafter> {
        Some(self)
    }
}

/// Grows the trees of drafters of one [family](CpuDrafter::family) side by side, as large as the `planner` decides.
pub(in crate::draft) fn expand_together(
    parts: &mut [&mut DraftJob],
    planner: &mut Option<Box<Planner>>,
    pool: &mut ThreadPool,
) {
    let mut common = None;
    let mut roots: SmallVec<[Root; MAX_SEQUENCES]> = SmallVec::new();
    let mut members: SmallVec<[Member; MAX_SEQUENCES]> = SmallVec::new();
    let share = ROWS / parts.len().max(1);
    for part in parts {
        let DraftJob { drafter, tokens, guesser, tree, grown } = &mut **part;
        let CpuDrafter { common: c, state } = drafter.as_dgf().expect("they are of one family");
        if let Some(spoken) = state.entries.due() {
            *grown = state.added.set(spoken, c);
        }
        if grown.is_err() || !state.entries.reach(tokens.len() - 1) {
            continue;
        }
        let n = state.entries.waiting();
        if n > share {
            c.take_in(state, n - share, pool);
        }
        roots.push(Root { state, waiting: n.min(share), last: tokens.last().copied() });
        members.push(Member { guesser, tree, grown });
        common = Some(&**c);
    }
    let Some(common) = common else { return };
    let mut work = common.take_work();
    common.begin(&mut work, &mut roots, pool);
    grow_together(&mut members, planner, |levels| {
        common.guess(&mut work, &mut roots, levels, pool)
    });
    common.give_back(work);
}

impl State {
    /// The slot of the tree's root.
    fn root(&self) -> usize {
        self.entries.filled() - 1
    }
}

impl Added {
    /// Makes these tokens what is added.
    fn set(&mut self, tokens: impl Iterator<Item = u32>, common: &Common) -> Result<()> {
        let tokens: Vec<u32> = tokens.collect();
        if tokens != self.tokens {
            self.head = None;
            self.head = (!tokens.is_empty()).then(|| common.head_of(&tokens)).transpose()?;
            self.tokens = tokens;
        }
        Ok(())
    }
}
