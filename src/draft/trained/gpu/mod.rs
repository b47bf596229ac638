//! A trained drafter on a GPU: whole rounds run there without the host.
//!
//! ```text
//! network.rs  a drafter's weights on a device
//! buffers.rs  what its passes work on
//! forward.rs  a round as a list of launches
//! ```
//!
//! The maths is `dgf`'s. What crosses the bus each way is a message in a [ring](crate::ring): the accepted
//! path with its features, and the next tree. While the CPU verifies, the next round of a drafter that stays
//! [alone](super::Placement::alone) is queued already, behind a wait for the doorbell of the verdict:
//!
//! ```text
//! CPU  … verify ── verdict ─┐                ┌─ tree ── verify … ── verdict ─┐
//! GPU  (waits, queued)      └─ extend · grow ┘          (waits, queued)      └─ extend · grow …
//! ```
//!
//! Any failure ends the drafter, never the text.

mod buffers;
mod forward;
mod network;
#[cfg(test)]
mod tests;

use super::KIND;
use super::entries::Entries;
use super::file::File;
use crate::draft::DrafterContext;
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::gpu::device::Doorbell;
use crate::gpu::launch::Slots;
use crate::model::Model;
use crate::ring::message::{MAX_ROWS, Proposals, VerdictShape, write_halves};
use crate::ring::{Layout, Receiver, Sender};
use crate::tree::{GrowingTree, MAX_NODES, TreeShape};
use forward::{Forward, RecordedWork, SHARE};
use network::embed;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Messages that a ring holds.
const SLOTS: u32 = 4;
/// How long the GPU may take for a round before it is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a message asks for whose rows are only taken in.
const NO_TREE: TreeShape = TreeShape { depth: 0, width: 1, nodes: 1 };

/// Drafters at work in this process. A round that waits for the host in one's stream may hold up others', which share
/// the few channels of a GPU, and work that concerns the whole GPU: so only a single one queues ahead.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// The drafter. See the module.
pub struct GpuDrafter {
    target: Arc<Model>,
    taps: Vec<usize>,
    /// What tells the drafter's file from others.
    fingerprint: u64,
    /// Whether a round may wait on the device for the next message: see [`Placement::alone`](super::Placement).
    alone: bool,
    device: Box<dyn Device>,
    forward: Forward,
    verdicts: Sender,
    proposals: Receiver,
    doorbells: Doorbells,
    shape: VerdictShape,
    entries: Entries,
    /// The round that waits for the next message.
    queued: Option<RecordedWork>,
    /// The tree that is growing.
    begun: Option<(RecordedWork, TreeShape)>,
    embedding: Vec<f32>, // one row
}

/// Words of the rings, which both sides see.
struct Doorbells {
    verdict_head: Doorbell,
    verdict_tail: Doorbell,
    proposals_head: Doorbell,
}

impl GpuDrafter {
    /// The drafter in the file at `path` on this device, and a first round to see that it works.
    ///
    /// # Errors
    /// When the file cannot be read or is of a kind that the GPU does not run, or the device has no room or
    /// fails.
    pub fn open(setup: &DrafterContext, mut device: Box<dyn Device>) -> Result<GpuDrafter> {
        let file = File::native(setup.file(KIND.name)?, setup.target)?;
        let h = file.config.n_embd;
        let shape = VerdictShape::new(file.width, h).ok_or_else(|| {
            Error::Unsupported(format!(
                "a drafter {h} wide runs on the CPU; the GPU takes multiples of 8"
            ))
        })?;
        let verdicts = Layout::new(SLOTS, shape.slot_bytes());
        let proposals = Layout::new(SLOTS, Proposals::SLOT_BYTES);
        let (verdict_region, verdict_memory) = device.share(verdicts.bytes())?;
        let (proposals_region, proposals_memory) = device.share(proposals.bytes())?;
        let forward = Forward::new(
            &mut *device,
            &file,
            setup,
            Slots::new(&verdict_memory, verdicts),
            Slots::new(&proposals_memory, proposals),
        )?;
        let mut drafter = GpuDrafter {
            target: setup.target.clone(),
            taps: file.taps.clone(),
            fingerprint: file.fingerprint,
            alone: setup.placement.alone,
            device,
            forward,
            verdicts: Sender::new(verdict_region, verdicts),
            proposals: Receiver::new(proposals_region, proposals),
            doorbells: Doorbells {
                verdict_head: verdict_memory.doorbell(verdicts.head_at()),
                verdict_tail: verdict_memory.doorbell(verdicts.tail_at()),
                proposals_head: proposals_memory.doorbell(proposals.head_at()),
            },
            shape,
            entries: Entries::new(file.width, file.dynamic_vocab(setup.target)),
            queued: None,
            begun: None,
            embedding: vec![0.0; h],
        };
        AT_WORK.fetch_add(1, Relaxed);
        let growth = setup.placement.growth.unwrap_or(KIND.growth);
        let work = drafter.forward.round(&mut *drafter.device, growth)?;
        drafter.send(0, None, NO_TREE, 0.0)?;
        drafter.queue(work, drafter.verdicts.sequence())?;
        drafter.receive()?;
        Ok(drafter)
    }

    /// Bytes of the device's memory that it takes.
    pub fn device_bytes(&self) -> usize {
        self.device.used_bytes()
    }

    /// What it was told and has not sent yet: the first position, tokens and features.
    pub(super) fn waiting(&self) -> (usize, &[u32], impl Iterator<Item = &[f32]>) {
        self.entries.rest()
    }

    /// Queues work behind the message of this number. It should have been sent where there are other drafters: in the
    /// middle of this, a thread may come to wait for all that is queued on the GPU, and others then for this thread.
    fn queue(&mut self, work: RecordedWork, message: u32) -> Result<()> {
        self.device.wait(&self.doorbells.verdict_head, message)?;
        self.device.run(work.number)?;
        self.device.ring(&self.doorbells.verdict_tail, message)?;
        if work.grows.is_some() {
            // There is room: the host takes each tree before it asks for the next one.
            let next = self.proposals.sequence().wrapping_add(1);
            self.device.ring(&self.doorbells.proposals_head, next)?;
            self.queued = Some(work);
        }
        Ok(())
    }

    /// Sends the next `n` rows, `last` being the token after all that wait, and what tree to grow.
    fn send(&mut self, n: usize, last: Option<u32>, growth: TreeShape, floor: f32) -> Result<()> {
        let (needed, available) = (self.entries.filled() + n, self.forward.slots() - MAX_NODES);
        if needed > available {
            // Kernels write to the slots that a message names.
            return Err(Error::Context { needed, available });
        }
        let start = Instant::now();
        while self.verdicts.claim().is_none() {
            patient(start, &mut *self.device)?;
        }
        let slot = self.verdicts.claim().expect("there is room");
        let header = self.shape.header_mut(slot);
        header.rows = n as u32;
        header.first = self.entries.filled() as u32;
        header.grow = u32::from(n > 0 && !growth.is_root());
        header.depth = growth.depth as u32;
        header.width = growth.width as u32;
        header.nodes = growth.nodes as u32;
        header.floor = floor;
        header.n_draft = self.forward.vocabulary().len() as u32;
        if n > 0 {
            let (features, tokens) = self.entries.first(n, last);
            for (to, token) in header.tokens.iter_mut().zip(tokens) {
                *to = token;
            }
            let tokens = header.tokens;
            let width = features.len() / n;
            for (r, feature) in features.chunks_exact(width).enumerate() {
                let (feature_to, embedding_to) = self.shape.row_mut(slot, r);
                write_halves(feature, feature_to);
                embed(&self.target, tokens[r], &mut self.embedding, embedding_to);
            }
            self.entries.fill(n);
        }
        self.verdicts.publish();
        Ok(())
    }

    /// Takes the tree that the queued round has grown.
    fn receive(&mut self) -> Result<Proposals> {
        let start = Instant::now();
        loop {
            if let Some(slot) = self.proposals.receive() {
                let proposals = *Proposals::of(slot);
                self.proposals.release();
                self.queued = None;
                return Ok(proposals);
            }
            patient(start, &mut *self.device)?;
        }
    }

    /// Lets a queued round run without a row.
    fn flush(&mut self) -> Result<()> {
        if self.queued.is_some() {
            self.send(0, None, NO_TREE, 0.0)?;
            self.receive()?;
        }
        Ok(())
    }

    /// Takes in the first `n` positions that wait, without a tree.
    fn absorb(&mut self, mut n: usize, last: Option<u32>) -> Result<()> {
        if n > 0 {
            self.flush()?;
        }
        while n > 0 {
            let rows = n.min(SHARE);
            let work = self.forward.absorb(&mut *self.device)?;
            self.send(rows, last, NO_TREE, 0.0)?;
            self.queue(work, self.verdicts.sequence())?;
            n -= rows;
        }
        Ok(())
    }
}

impl GpuDrafter {
    pub fn taps(&self) -> &[usize] {
        &self.taps
    }

    /// See [`Drafter::commit`](crate::draft::Drafter::commit).
    ///
    /// # Errors
    /// When the device fails, as everywhere here.
    pub fn commit(
        &mut self,
        first: usize,
        tokens: &[u32],
        features: &mut dyn Iterator<Item = &[f32]>,
    ) -> Result<()> {
        self.entries.commit(first, tokens, features);
        let known = self.entries.waiting().saturating_sub(1);
        if known >= SHARE {
            self.absorb(known / SHARE * SHARE, None)?;
        }
        Ok(())
    }

    /// Asks the device for the tree behind `tokens`, which it grows meanwhile.
    pub fn begin(&mut self, tokens: &[u32], tree: &GrowingTree) -> Result<()> {
        if tree.is_whole() {
            return Err(Error::Unsupported("draft tokens are sampled on the CPU only".into()));
        }
        if let Some(vocab) = self.entries.due() {
            self.forward.vocabulary_mut().add(&mut *self.device, vocab, &self.target)?;
        }
        let (shape, last) = (tree.shape(), tokens.last().copied());
        // The device grows trees behind the root alone.
        if !self.entries.reach(tokens.len() - 1) || shape.is_root() || tree.n_forced() > 0 {
            return Ok(());
        }
        let work = self.forward.round(&mut *self.device, shape)?;
        self.absorb(self.entries.waiting().saturating_sub(work.rows), last)?;
        let waits = self.queued == Some(work);
        if !waits {
            self.flush()?;
        }
        self.send(self.entries.waiting(), last, shape, tree.floor())?;
        if !waits {
            self.queue(work, self.verdicts.sequence())?;
        }
        self.begun = Some((work, shape));
        Ok(())
    }

    /// Takes the tree that the device was asked for, if it was.
    pub fn finish(&mut self, tree: &mut GrowingTree) -> Result<()> {
        let Some((work, shape)) = self.begun.take() else { return Ok(()) };
        let proposals = self.receive()?;
        if self.alone && AT_WORK.load(Relaxed) == 1 {
            self.queue(work, self.verdicts.sequence().wrapping_add(1))?;
        }
        take(&proposals, shape, tree)
    }

    /// Appends what it knows: see [`Drafter::save`](crate::draft::Drafter::save).
    pub fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.flush()?;
        self.entries.save(self.fingerprint, out);
        self.forward.save(&mut *self.device, self.entries.filled(), out)
    }

    /// Restores what was saved for these tokens; `false` if another drafter saved it.
    pub fn restore(&mut self, tokens: &[u32], saved: &[u8]) -> Result<bool> {
        self.flush()?;
        let most = self.forward.slots() - MAX_NODES;
        let Some((filled, rows)) = self.entries.restore(self.fingerprint, tokens, most, saved)
        else {
            return Ok(false);
        };
        let taken = self.forward.restore(&mut *self.device, filled, rows)?;
        if !taken {
            self.entries.forget();
        }
        Ok(taken)
    }
}

impl Drop for GpuDrafter {
    fn drop(&mut self) {
        // What waits for the host would wait forever: the queued round, and a wait behind which nothing could
        // be queued. A device that fails has stopped waiting.
        let _ = self.flush();
        let _ = self.send(0, None, NO_TREE, 0.0);
        AT_WORK.fetch_sub(1, Relaxed);
    }
}

/// Waits a little for what the device does since `start`.
fn patient(start: Instant, device: &mut dyn Device) -> Result<()> {
    /// A round of a small drafter takes less.
    const SPIN: Duration = Duration::from_micros(500);
    for _ in 0..64 {
        std::hint::spin_loop();
    }
    let waited = start.elapsed();
    if waited > SPIN {
        device.check()?;
        std::thread::yield_now();
    }
    if waited > PATIENCE {
        return Err(Error::Device("the GPU has not answered for 10 s".into()));
    }
    Ok(())
}

/// Makes `tree` what the device has grown: it is not believed before it was looked at.
fn take(proposals: &Proposals, shape: TreeShape, tree: &mut GrowingTree) -> Result<()> {
    let len = proposals.len as usize;
    if len == 0 {
        return Err(Error::Invalid("its probabilities are no numbers".into()));
    }
    if !proposals.is_tree() || len > shape.nodes {
        return Err(Error::Device("the GPU's tree is none".into()));
    }
    for node in 1..len {
        let (parent, token) = (proposals.parents[node] as usize, proposals.tokens[node]);
        tree.tree_mut().push_path(parent, token, proposals.log_probs[node]);
    }
    Ok(())
}

const _: () = assert!(MAX_ROWS == MAX_NODES && SHARE <= MAX_ROWS);
