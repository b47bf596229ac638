//! A trained drafter on the CPU: it runs the target's features and the next tokens through a few decoder blocks.
//!
//! The step at position `i` takes the target's feature `f_i` and the token `t_{i+1}`, and predicts `t_{i+2}`; deeper
//! steps take the drafter's own output in place of the feature.
//!
//! ```text
//! a = W1 · norm(f)    b = silu(W2 · norm(E[t]))    z = sigmoid(Wz · [a; b])
//! h = blocks(z ⊙ a + (1 − z) ⊙ b)                  logits = head · norm(h)
//! ```
//!
//! EAGLE's drafters differ in the fusion of feature and embedding, [`Fusion`], and in their norms.
//!
//! [`Entries`] lists the entries. The last one, whose token is the root of the tree, is run when a tree is grown, and
//! the rows of the tree follow it in the cache. Drafters that share weights grow their trees side by side: one level of
//! all trees is one pass.
//!
//! # Source
//! Dovetail, arXiv 2412.18934, section "DGF"; EAGLE 1 to 3, arXiv 2401.15077, 2406.16858, 2503.01840.

mod forward;
mod state;
mod weights;

pub use forward::ROWS;
pub use state::CpuState;

use crate::draft::shared::{file_key, shared};
use crate::draft::trained::KIND;
use crate::draft::{DraftJob, DrafterContext, RoundContext};
use crate::error::Result;
use crate::infer::{CacheTypes, KvCache, KvSize};
use crate::tree::MAX_NODES;
use dovetail_kernels::cpu::ThreadPool;
use forward::Forward;
use state::AddedTokens;
use std::sync::Arc;
use weights::Weights;

/// A drafter on the CPU: weights that others can share, and the buffers of its passes.
pub struct CpuDrafter {
    weights: Arc<Weights>,
    forward: Forward,
    /// Smallest number of slots in a sequence's cache.
    positions: usize,
    threads: usize,
}

/// Identifies the weights of a file for a target. Weights keep the target alive, so its address identifies it.
///
/// # Errors
/// If there is no file.
pub fn key(setup: &DrafterContext) -> Result<String> {
    let target = Arc::as_ptr(setup.target).addr();
    Ok(format!("trained {target:x} {}", file_key(setup.file(KIND.name)?)))
}

/// The cache of a sequence of `n_ctx` slots.
fn kv_size(n_ctx: usize) -> KvSize {
    KvSize { n_ctx, rows: ROWS, types: CacheTypes::default() }
}

impl CpuDrafter {
    /// Opens the drafter in the file of this context.
    ///
    /// # Errors
    /// If the file cannot be read or belongs to another target, or there is too little memory.
    pub fn open(setup: &DrafterContext) -> Result<CpuDrafter> {
        let weights = shared(key(setup)?, || Weights::open(setup))?;
        let positions = setup.n_ctx + MAX_NODES;
        KvCache::check_memory(weights.config(), kv_size(positions), 1)?;
        let forward = Forward::new(&weights, positions, setup.threads);
        Ok(CpuDrafter { weights, forward, positions, threads: setup.threads })
    }

    pub fn taps(&self) -> &[usize] {
        self.weights.taps()
    }

    /// A state without entries.
    ///
    /// # Errors
    /// If there is too little memory.
    pub fn state(&self) -> Result<CpuState> {
        let (c, size) = (self.weights.config(), kv_size(self.positions));
        KvCache::check_memory(c, size, 1)?;
        Ok(CpuState {
            kv: KvCache::new(c, size)?,
            entries: self.weights.entries(),
            added: AddedTokens::default(),
            outputs: vec![0.0; MAX_NODES * c.n_embd],
        })
    }

    /// Makes the buffers large enough for sequences of `slots` slots: another drafter with these weights may have made
    /// them.
    fn make_room(&mut self, slots: usize) {
        if slots > self.positions {
            self.positions = slots;
            self.forward = Forward::new(&self.weights, slots, self.threads);
        }
    }

    /// See [`Drafter::commit`](crate::draft::Drafter::commit).
    pub fn commit(
        &mut self,
        state: &mut CpuState,
        first: usize,
        tokens: &[u32],
        features: &mut dyn Iterator<Item = &[f32]>,
        pool: &mut ThreadPool,
    ) {
        self.make_room(state.kv.capacity());
        state.entries.commit(first, tokens, features);
        let n = state.entries.waiting();
        // Rows of a prompt, or enough to fill a pass, are run now; fewer wait for a tree, which may never be needed.
        if tokens.len() > MAX_NODES || n > ROWS {
            self.forward.take_in(&self.weights, state, n - 1, pool);
        }
    }

    /// Appends the state, to be saved.
    pub fn save(&self, state: &CpuState, out: &mut Vec<u8>) {
        let CpuState { kv, entries, .. } = state;
        entries.save(self.weights.fingerprint(), out);
        kv.write_rows(entries.filled(), out).expect("a vector takes what is written");
    }

    /// Restores saved state for these tokens; returns `false` if another drafter saved it.
    pub fn restore(&self, state: &mut CpuState, tokens: &[u32], saved: &[u8]) -> bool {
        let CpuState { kv, entries, .. } = state;
        let most = kv.capacity() - MAX_NODES;
        let found = entries.restore(self.weights.fingerprint(), tokens, most, saved);
        let Some((filled, mut rows)) = found else { return false };
        let read = kv.read_rows(filled, &mut rows).is_ok() && rows.is_empty();
        if !read {
            entries.forget();
        }
        read
    }

    /// Grows the trees of some sequences side by side: one level of all trees is one pass.
    pub fn expand(&mut self, jobs: &mut [DraftJob<CpuState>], round: &mut RoundContext) {
        let slots = jobs.iter().map(|job| job.state.kv.capacity()).max();
        self.make_room(slots.unwrap_or_default());
        let CpuDrafter { weights, forward, .. } = self;
        let share = ROWS / jobs.len().max(1);
        for job in &mut *jobs {
            let state = &mut *job.state;
            let added = state.entries.due().map(|tokens| state.added.set(tokens, weights));
            if let Some(Err(error)) = added {
                job.fail(error);
            } else if !state.entries.reach(job.tokens.len() - 1) {
                job.tree.stop();
            } else if state.entries.waiting() > share {
                let n = state.entries.waiting() - share;
                forward.take_in(weights, state, n, round.pool);
            }
        }
        forward.run_roots(weights, jobs, round.pool);
        while round.next_level(jobs) {
            forward.run_level(weights, jobs, round.pool);
        }
    }
}
