//! The ring between target and drafter: messages in memory that both see, one sender, one receiver.
//!
//! There is one ring in each direction. The target's side is always a CPU. The drafter's may be a GPU, which sees the
//! memory across the bus; then its operations are queued on a stream: a wait for a doorbell, kernels that use the slot,
//! a write of a doorbell ([`heap::Memory`] does the same on a thread). Messages are written and read in place;
//! [`message`] has their contents.
//!
//! # Bytes
//! ```text
//! 0                        head    u32: messages published, written by the sender alone
//! 128                      tail    u32: messages released, written by the receiver alone
//! 256 + stride · i         slot i  a message; stride is its length rounded up to 128
//! ```
//! Words and numbers are little endian, as on every GPU. Each word has 128 bytes of its own, so that one side's stores
//! do not invalidate the cache line on which the other side waits.
//!
//! # Protocol
//! Message number `n`, counting from 0, is in slot `n mod slots`. Both words wrap around from `u32::MAX` to 0; since
//! `slots` is a power of two, the slots keep their order there, and differences are taken modulo 2³². The ring is full
//! if `head - tail = slots` and empty if `head = tail`.
//!
//! | | the sender of message `n` | its receiver |
//! | --- | --- | --- |
//! | waits until | `tail - n + slots ≥ 1` | `head - n ≥ 1` |
//! | then | writes the slot | reads the slot |
//! | then stores | `head = n + 1` | `tail = n + 1` |
//!
//! A GPU waits with `cuStreamWaitValue32` for `n + 1` (as receiver) or `n + 1 - slots` (as sender): its comparison
//! `GEQ` tests the sign of the difference, so it also works across the wrap-around. Neither side stores to the other's
//! word, and neither needs an atomic read-modify-write.
//!
//! # Ordering
//! An end loads its own word once, `Relaxed`, since the other side never stores to it. `head` is stored with `Release`,
//! since the bytes of the slot must be visible before the number that announces them, and loaded with `Acquire`, since
//! the slot must not be read before that number: together they make the message complete. `tail` is stored with
//! `Release`, since the slot must have been read before it is given back, and loaded with `Acquire`, since the slot
//! must not be written before: together they keep the next message from overwriting one that is being read. Words only
//! grow, so what an end has seen stays true: it keeps the other's word, and loads it again only when that says full or
//! empty. `SeqCst` is not needed: every decision depends on one word of the other side, and the order of stores to
//! different words never matters. The same holds with a GPU on the other side: CUDA's memory model gives the host's
//! atomics system scope, work queued after a wait begins after the word was seen (an `Acquire`), and
//! `cuStreamWriteValue32` by default comes with a system-wide fence after the kernels queued before it (a `Release`),
//! whether they wrote the slot or read it.

pub mod heap;
pub mod message;
#[cfg(all(test, loom))]
mod model;
#[cfg(feature = "gpu")]
pub mod pinned;
mod shared;
#[cfg(all(test, not(loom)))]
mod tests;

use shared::{HEAD_AT, LINE, SLOTS_AT, Shared, TAIL_AT};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Offsets of the words `head` and `tail` in a ring's memory: the doorbells that a device waits for and rings.
pub const DOORBELLS_AT: [usize; 2] = [HEAD_AT, TAIL_AT];

/// The layout of a ring's memory: see the module's byte map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    slots: u32,
    slot_bytes: usize,
}

impl Layout {
    /// A ring of `slots` messages of up to `slot_bytes`.
    ///
    /// # Panics
    /// If `slots` is not a power of two (messages would change slots at the wrap-around) or above 2³⁰ (a GPU compares
    /// by sign), `slot_bytes` is 0, or the ring exceeds the address space.
    pub const fn new(slots: u32, slot_bytes: usize) -> Layout {
        assert!(slots.is_power_of_two() && slots <= 1 << 30, "slots are a power of two");
        let most = (isize::MAX as usize - SLOTS_AT) / slots as usize;
        assert!(slot_bytes > 0 && slot_bytes <= most - most % LINE, "a ring fits in memory");
        Layout { slots, slot_bytes }
    }

    /// Number of messages that it holds.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Length of a message in bytes.
    pub const fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// Length of the whole ring in bytes.
    pub const fn bytes(&self) -> usize {
        SLOTS_AT + self.slots as usize * self.stride()
    }

    /// Offset of the word `head`.
    pub const fn head_at(&self) -> usize {
        HEAD_AT
    }

    /// Offset of the word `tail`.
    pub const fn tail_at(&self) -> usize {
        TAIL_AT
    }

    /// Offset of message number `sequence`.
    pub const fn slot_at(&self, sequence: u32) -> usize {
        SLOTS_AT + (sequence % self.slots) as usize * self.stride()
    }

    /// Bytes from one slot to the next.
    pub const fn stride(&self) -> usize {
        self.slot_bytes.next_multiple_of(LINE)
    }
}

/// The memory of one ring, which two sides see. It is valid as long as this lives.
pub struct Region {
    shared: Shared,
    _owner: Box<dyn Send>,
}

impl Region {
    /// Memory that belongs to `owner`.
    ///
    /// # Safety
    /// The `len` bytes from `start` on must be initialised, aligned to 128, and valid until `owner` is dropped. They
    /// must be used only through this region, and by the other side of a ring, which keeps to the protocol.
    pub unsafe fn new(start: NonNull<u8>, len: usize, owner: Box<dyn Send>) -> Region {
        // SAFETY: the caller's promise; this side uses the words only by atomic operations.
        let shared = unsafe { Shared::new(start, len) };
        Region { shared, _owner: owner }
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a ring has bytes")]
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    fn check(&self, layout: Layout) {
        let len = self.len();
        assert!(len >= layout.bytes(), "a ring of {} bytes in a region of {len}", layout.bytes());
    }
}

/// The end that writes messages.
pub struct Sender {
    region: Region,
    layout: Layout,
    /// Number of messages published.
    head: u32,
    /// Number of messages released when the word was last loaded.
    tail: u32,
    claimed: bool,
}

impl Sender {
    /// The sender of the ring in `region`. It continues at the numbers in the words: at message 0 if all is zero.
    ///
    /// # Panics
    /// If the region is shorter than the layout.
    pub fn new(region: Region, layout: Layout) -> Sender {
        region.check(layout);
        let head = region.shared.word(HEAD_AT).load(Relaxed);
        // As if the ring were full, so that the first claim loads the word.
        let tail = head.wrapping_sub(layout.slots);
        Sender { region, layout, head, tail, claimed: false }
    }

    /// The slot of the next message until it is published; `None` if the ring is full. It still contains an older
    /// message, or zeros. Does not wait.
    pub fn claim(&mut self) -> Option<&mut [u8]> {
        if self.is_full() {
            self.tail = self.region.shared.word(TAIL_AT).load(Acquire);
            if self.is_full() {
                return None;
            }
        }
        self.claimed = true;
        let slot = self.layout.slot_at(self.head);
        let slot = self.region.shared.slot_mut(slot, self.layout.slot_bytes);
        // SAFETY: inside the region and initialised. The receiver has released this slot and uses it only after `head`
        // has passed it; `publish` needs this borrow to have ended.
        Some(unsafe { &mut *slot })
    }

    /// Passes the claimed slot to the receiver.
    ///
    /// # Panics
    /// If no slot has been claimed since the last call.
    pub fn publish(&mut self) {
        assert!(std::mem::take(&mut self.claimed), "what is published has been claimed");
        self.head = self.head.wrapping_add(1);
        self.region.shared.word(HEAD_AT).store(self.head, Release);
    }

    /// The number of the next message, which is also the number of messages published, modulo 2³².
    pub fn sequence(&self) -> u32 {
        self.head
    }

    /// The layout of the memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether `head - tail` leaves no slot; an impossible word leaves none.
    fn is_full(&self) -> bool {
        self.head.wrapping_sub(self.tail) >= self.layout.slots
    }
}

/// The end that reads messages.
pub struct Receiver {
    region: Region,
    layout: Layout,
    /// Number of messages published when the word was last loaded.
    head: u32,
    /// Number of messages released.
    tail: u32,
    received: bool,
}

impl Receiver {
    /// The receiver of the ring in `region`. It continues at the numbers in the words: at message 0 if all is zero.
    ///
    /// # Panics
    /// If the region is shorter than the layout.
    pub fn new(region: Region, layout: Layout) -> Receiver {
        region.check(layout);
        let tail = region.shared.word(TAIL_AT).load(Relaxed);
        // As if the ring were empty, so that the first call loads the word.
        Receiver { region, layout, head: tail, tail, received: false }
    }

    /// The oldest message that is not released; `None` if there is none. Returns the same message until
    /// [`Receiver::release`]. Does not wait.
    pub fn receive(&mut self) -> Option<&[u8]> {
        if self.is_empty() {
            self.head = self.region.shared.word(HEAD_AT).load(Acquire);
            if self.is_empty() {
                return None;
            }
        }
        self.received = true;
        let slot = self.layout.slot_at(self.tail);
        let slot = self.region.shared.slot(slot, self.layout.slot_bytes);
        // SAFETY: inside the region and initialised. The sender has published this slot and uses it only after `tail`
        // has passed it; `release` needs this borrow to have ended.
        Some(unsafe { &*slot })
    }

    /// Returns the slot of the received message to the sender.
    ///
    /// # Panics
    /// If no message has been received since the last call.
    pub fn release(&mut self) {
        assert!(std::mem::take(&mut self.received), "what is released has been received");
        self.tail = self.tail.wrapping_add(1);
        self.region.shared.word(TAIL_AT).store(self.tail, Release);
    }

    /// The number of the message that [`Receiver::receive`] returns, which is also the number of messages released,
    /// modulo 2³².
    pub fn sequence(&self) -> u32 {
        self.tail
    }

    /// The layout of the memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether `head - tail` announces no message; an impossible word announces none.
    fn is_empty(&self) -> bool {
        !(1..=self.layout.slots).contains(&self.head.wrapping_sub(self.tail))
    }
}
