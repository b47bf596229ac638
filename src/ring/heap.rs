//! Rings in ordinary memory: both ends in this process, or one end and what a device does at the other.
//!
//! [`Memory`] has the steps of a stream: wait for a doorbell, touch slots, ring a doorbell. The emulated
//! device and tests run these on a thread, by the same protocol and in the same order as a GPU.

use super::shared::{HEAD_AT, LINE, Shared, TAIL_AT, pause};
use super::{Layout, Receiver, Region, Sender};
use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

/// A ring whose ends are both in this process.
pub fn ring(layout: Layout) -> (Sender, Receiver) {
    ring_from(layout, 0)
}

/// The same, with `sequence` for the number of the first message.
pub(super) fn ring_from(layout: Layout, sequence: u32) -> (Sender, Receiver) {
    let memory = Memory::new(layout.bytes());
    memory.ring(HEAD_AT, sequence);
    memory.ring(TAIL_AT, sequence);
    (Sender::new(memory.region(), layout), Receiver::new(memory.region(), layout))
}

/// Zeros for one ring: a region for the end on the host, and the same memory as a device sees it.
pub fn share(bytes: usize) -> (Region, Memory) {
    let memory = Memory::new(bytes);
    (memory.region(), memory)
}

/// The memory of a ring as a device sees it. Clones are the same memory.
///
/// Doorbells are named by their offset: [`Layout::head_at`] and [`Layout::tail_at`] are those that there
/// are; others panic.
#[derive(Clone)]
pub struct Memory {
    shared: Shared,
    lines: Arc<[Line]>,
}

/// Zeros that are written through pointers.
#[repr(C, align(128))]
struct Line(UnsafeCell<[u8; LINE]>);

const _: () = assert!(align_of::<Line>() == LINE && size_of::<Line>() == LINE);

// SAFETY: touched through the pointers of `Shared` alone, whose users keep to the protocol.
unsafe impl Sync for Line {}

impl Memory {
    fn new(bytes: usize) -> Memory {
        let zeros = || Line(UnsafeCell::new([0; LINE]));
        let lines: Arc<[Line]> = (0..bytes.div_ceil(LINE)).map(|_| zeros()).collect();
        let start = NonNull::from(&*lines).cast();
        // SAFETY: the lines are valid and stay where they are while this or a clone lives; a region holds a
        // clone. Nobody but the words' users touches the first two.
        let shared = unsafe { Shared::new(start, lines.len() * LINE) };
        Memory { shared, lines }
    }

    /// For one end. Each of the two must be taken once.
    fn region(&self) -> Region {
        Region { shared: self.shared.clone(), _owner: Box::new(self.lines.clone()) }
    }

    /// Where it begins.
    pub fn start(&self) -> NonNull<u8> {
        self.shared.start()
    }

    /// Its length in bytes: what was asked for, rounded up to 128.
    #[allow(clippy::len_without_is_empty, reason = "a ring has bytes")]
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether `doorbell` is `value` or has passed it, as `cuStreamWaitValue32` compares. What the other side
    /// did before it stored that is seen after `true`.
    pub fn has_rung(&self, doorbell: usize, value: u32) -> bool {
        let word = self.shared.word(doorbell).load(Acquire);
        word.wrapping_sub(value) as i32 >= 0
    }

    /// Waits until `doorbell` is `value` or has passed it, for as long as `go_on` says so. Whether it was.
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

    /// Stores `value` to `doorbell`: what this thread did before is seen by whoever sees it.
    pub fn ring(&self, doorbell: usize, value: u32) {
        self.shared.word(doorbell).store(value, Release);
    }

    /// `len` bytes of a slot from `at` on, to be read.
    ///
    /// # Safety
    /// The other side must not write them meanwhile: it has published the slot, and it is not released.
    ///
    /// # Panics
    /// Where they are not inside the slots.
    pub unsafe fn slot(&self, at: usize, len: usize) -> &[u8] {
        // SAFETY: inside and initialised; the rest is the caller's promise.
        unsafe { &*self.shared.slot(at, len) }
    }

    /// `len` bytes of a slot from `at` on, to be written.
    ///
    /// # Safety
    /// Nobody else must use them meanwhile: the other side has released the slot, it is not published, and
    /// there is no other slice of it.
    ///
    /// # Panics
    /// Where they are not inside the slots.
    #[allow(
        clippy::mut_from_ref,
        reason = "memory that two sides see; the caller has this part alone"
    )]
    pub unsafe fn slot_mut(&self, at: usize, len: usize) -> &mut [u8] {
        // SAFETY: inside and initialised; the rest is the caller's promise.
        unsafe { &mut *self.shared.slot_mut(at, len) }
    }
}
