//! Rings in ordinary memory: both ends are in this process, or one end and an emulated device.
//!
//! [`Memory`] has the operations of a stream: wait for a doorbell, use slots, ring a doorbell. The emulated device and
//! tests run them on a thread, by the same protocol and in the same order as a GPU.

use super::shared::{HEAD_AT, LINE, Shared, TAIL_AT, pause};
use super::{Layout, Receiver, Region, Sender};
use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

/// A ring with both ends in this process.
pub fn ring(layout: Layout) -> (Sender, Receiver) {
    ring_from(layout, 0)
}

/// The same; the first message has the number `sequence`.
pub(super) fn ring_from(layout: Layout, sequence: u32) -> (Sender, Receiver) {
    let memory = Memory::new(layout.bytes());
    memory.ring(HEAD_AT, sequence);
    memory.ring(TAIL_AT, sequence);
    (Sender::new(memory.region(), layout), Receiver::new(memory.region(), layout))
}

/// Zeroed memory for one ring: a region for the host's end, and the same memory as a device sees it.
pub fn share(bytes: usize) -> (Region, Memory) {
    let memory = Memory::new(bytes);
    (memory.region(), memory)
}

/// The memory of a ring as a device sees it. Clones are the same memory.
///
/// Doorbells are named by their offset, [`Layout::head_at`] or [`Layout::tail_at`]; others panic.
#[derive(Clone)]
pub struct Memory {
    shared: Shared,
    lines: Arc<[Line]>,
}

/// Zeros that are written through pointers.
#[repr(C, align(128))]
struct Line(UnsafeCell<[u8; LINE]>);

const _: () = assert!(align_of::<Line>() == LINE && size_of::<Line>() == LINE);

// SAFETY: only used through the pointers of `Shared`, whose users keep to the protocol.
unsafe impl Sync for Line {}

impl Memory {
    fn new(bytes: usize) -> Memory {
        let zeros = || Line(UnsafeCell::new([0; LINE]));
        let lines: Arc<[Line]> = (0..bytes.div_ceil(LINE)).map(|_| zeros()).collect();
        let start = NonNull::from(&*lines).cast();
        // SAFETY: the lines are valid and stay in place while this or a clone lives; a region holds a clone. The first
        // two are only used as words.
        let shared = unsafe { Shared::new(start, lines.len() * LINE) };
        Memory { shared, lines }
    }

    /// The region for one end. Call it once for each end.
    fn region(&self) -> Region {
        Region { shared: self.shared.clone(), _owner: Box::new(self.lines.clone()) }
    }

    /// Address of the first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.shared.start()
    }

    /// Length in bytes: the requested length, rounded up to 128.
    #[allow(clippy::len_without_is_empty, reason = "a ring has bytes")]
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether `doorbell` has reached `value` or passed it, by the comparison of `cuStreamWaitValue32`. If true, the
    /// effects of what the other side did before its store are visible.
    pub fn has_rung(&self, doorbell: usize, value: u32) -> bool {
        let word = self.shared.word(doorbell).load(Acquire);
        word.wrapping_sub(value) as i32 >= 0
    }

    /// Waits until `doorbell` has reached `value` or passed it, while `go_on` returns true. Returns whether it has.
    pub fn wait(&self, doorbell: usize, value: u32, mut go_on: impl FnMut() -> bool) -> bool {
        let mut turn = 0u32;
        while !self.has_rung(doorbell, value) {
            if !go_on() {
                return false;
            }
            pause(turn);
            turn = turn.saturating_add(1);
        }
        true
    }

    /// Stores `value` to `doorbell`. A reader that sees it also sees what this thread did before.
    pub fn ring(&self, doorbell: usize, value: u32) {
        self.shared.word(doorbell).store(value, Release);
    }

    /// `len` bytes of a slot from `at` on, for reading.
    ///
    /// # Safety
    /// The other side must not write them meanwhile: it has published the slot, and the slot is not released.
    ///
    /// # Panics
    /// If they are not inside the slots.
    pub unsafe fn slot(&self, at: usize, len: usize) -> &[u8] {
        // SAFETY: inside and initialised; the rest is the caller's promise.
        unsafe { &*self.shared.slot(at, len) }
    }

    /// `len` bytes of a slot from `at` on, for writing.
    ///
    /// # Safety
    /// Nothing else may use them meanwhile: the other side has released the slot, it is not published, and there is no
    /// other slice of it.
    ///
    /// # Panics
    /// If they are not inside the slots.
    #[allow(
        clippy::mut_from_ref,
        reason = "memory that two sides see; the caller has this part alone"
    )]
    pub unsafe fn slot_mut(&self, at: usize, len: usize) -> &mut [u8] {
        // SAFETY: inside and initialised; the rest is the caller's promise.
        unsafe { &mut *self.shared.slot_mut(at, len) }
    }
}
