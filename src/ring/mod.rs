//! The ring between target and drafter: messages in memory that both see, one sender, one receiver.
//!
//! There is a ring each way. The target's side is always a CPU; the drafter's may be a GPU, which sees the
//! memory across the bus. Then its ends are queued on a stream: a wait for a doorbell, kernels that use the
//! slot, a write of a doorbell ([`heap::Memory`] is the same on a thread). Messages are written and read
//! where they lie, and what they say is in [`message`].
//!
//! # Bytes
//! ```text
//! 0                        head    u32: messages published, written by the sender alone
//! 128                      tail    u32: messages released, written by the receiver alone
//! 256 + stride · i         slot i  a message; stride is its length rounded up to 128
//! ```
//! Words and numbers are little endian, as on every GPU. Each word has 128 bytes of its own, so that one
//! side's stores do not take the line away that the other side is waiting on.
//!
//! # Protocol
//! Message number `n`, the first being 0, lies in slot `n mod slots`. Both words count on past `u32::MAX` to
//! 0; `slots` is a power of two, so the slots go on in their order there, and differences are taken modulo
//! 2³². The ring is full at `head - tail = slots` and empty at `head = tail`.
//!
//! | | the sender of message `n` | its receiver |
//! | --- | --- | --- |
//! | waits until | `tail - n + slots ≥ 1` | `head - n ≥ 1` |
//! | then | writes the slot | reads the slot |
//! | then stores | `head = n + 1` | `tail = n + 1` |
//!
//! A GPU waits with `cuStreamWaitValue32` for `n + 1` (a receiver), or `n + 1 - slots` (a sender): its
//! comparison `GEQ` is on the sign of the difference, so it goes through the wrap-around too. Nobody stores
//! to the other's word, and nobody needs an atomic step that reads and writes.
//!
//! # Ordering
//! An end's own word is loaded once, `Relaxed`: nobody else stores to it. `head` is stored with `Release`,
//! since the bytes of the slot must be seen before the number that announces them, and loaded with
//! `Acquire`, since the slot must not be read before that number is: these two make the message whole.
//! `tail` is stored with `Release`, since the slot must have been read before it is given back, and loaded
//! with `Acquire`, since it must not be written before that: these two keep the next message out of one that
//! is being read. A number stays true once seen, as words only grow, so an end keeps the other's word and
//! loads it again only when that says full or empty. Nothing is `SeqCst`: every decision hangs on one word
//! of the other side, and no two words are ever compared in time. With a GPU on the other side the same
//! holds: CUDA's memory model counts the host's atomics as of system scope, work queued behind a wait begins
//! after the word was seen (an `Acquire`), and `cuStreamWriteValue32`, unless told otherwise, comes with a
//! system-wide fence after the kernels queued before it (a `Release`), whether these wrote the slot or read
//! it.

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

/// Where a device finds the words `head` and `tail` in a ring's memory: the doorbells that it waits for and rings.
pub const DOORBELLS_AT: [usize; 2] = [HEAD_AT, TAIL_AT];

/// Where everything is in a ring's memory: see the module's byte map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    slots: u32,
    slot_bytes: usize,
}

impl Layout {
    /// A ring of `slots` messages of up to `slot_bytes`.
    ///
    /// # Panics
    /// Where `slots` is not a power of two (numbers would change their slots when they wrap around) or above
    /// 2³⁰ (a GPU compares by sign), `slot_bytes` is 0, or no memory is as large.
    pub const fn new(slots: u32, slot_bytes: usize) -> Layout {
        assert!(slots.is_power_of_two() && slots <= 1 << 30, "slots are a power of two");
        let most = (isize::MAX as usize - SLOTS_AT) / slots as usize;
        assert!(slot_bytes > 0 && slot_bytes <= most - most % LINE, "a ring fits in memory");
        Layout { slots, slot_bytes }
    }

    /// Messages that it holds.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Bytes of a message.
    pub const fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// Bytes of all.
    pub const fn bytes(&self) -> usize {
        SLOTS_AT + self.slots as usize * self.stride()
    }

    /// Where the word `head` is.
    pub const fn head_at(&self) -> usize {
        HEAD_AT
    }

    /// Where the word `tail` is.
    pub const fn tail_at(&self) -> usize {
        TAIL_AT
    }

    /// Where message number `sequence` begins.
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
    /// `len` bytes from `start` on, initialised and aligned to 128, must be valid until `owner` is dropped,
    /// and must be used through this region and by the other side of a ring alone, which keeps to the
    /// protocol.
    pub unsafe fn new(start: NonNull<u8>, len: usize, owner: Box<dyn Send>) -> Region {
        // SAFETY: the caller's promise; this side touches the words by atomic operations alone.
        let shared = unsafe { Shared::new(start, len) };
        Region { shared, _owner: owner }
    }

    /// Its length in bytes.
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
    /// Messages published.
    head: u32,
    /// Messages released when the word was last loaded.
    tail: u32,
    claimed: bool,
}

impl Sender {
    /// The sender of the ring in `region`. It goes on where the words stand: at message 0 where all is zero.
    ///
    /// # Panics
    /// Where the region is shorter than the layout.
    pub fn new(region: Region, layout: Layout) -> Sender {
        region.check(layout);
        let head = region.shared.word(HEAD_AT).load(Relaxed);
        // As if the ring were full: the first claim loads the word.
        let tail = head.wrapping_sub(layout.slots);
        Sender { region, layout, head, tail, claimed: false }
    }

    /// The slot of the next message, for as long as it is not published; `None` while the ring is full. What
    /// stands in it is an older message, or zeros. Does not wait.
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
        // SAFETY: inside the region, initialised. The receiver has released this slot and goes there only
        // once `head` has passed it, for which `publish` needs this borrow to be over.
        Some(unsafe { &mut *slot })
    }

    /// Hands the claimed slot to the receiver.
    ///
    /// # Panics
    /// Where no slot has been claimed since the last call.
    pub fn publish(&mut self) {
        assert!(std::mem::take(&mut self.claimed), "what is published has been claimed");
        self.head = self.head.wrapping_add(1);
        self.region.shared.word(HEAD_AT).store(self.head, Release);
    }

    /// The number of the next message: that many have been published, modulo 2³².
    pub fn sequence(&self) -> u32 {
        self.head
    }

    /// Where everything is.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether `head - tail` leaves no slot; a word that cannot be leaves none.
    fn is_full(&self) -> bool {
        self.head.wrapping_sub(self.tail) >= self.layout.slots
    }
}

/// The end that reads messages.
pub struct Receiver {
    region: Region,
    layout: Layout,
    /// Messages published when the word was last loaded.
    head: u32,
    /// Messages released.
    tail: u32,
    received: bool,
}

impl Receiver {
    /// The receiver of the ring in `region`. It goes on where the words stand: at message 0 where all is
    /// zero.
    ///
    /// # Panics
    /// Where the region is shorter than the layout.
    pub fn new(region: Region, layout: Layout) -> Receiver {
        region.check(layout);
        let tail = region.shared.word(TAIL_AT).load(Relaxed);
        // As if the ring were empty: the first call loads the word.
        Receiver { region, layout, head: tail, tail, received: false }
    }

    /// The oldest message that is not released; `None` while there is none. The same one until
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
        // SAFETY: inside the region, initialised. The sender has published this slot and goes there only
        // once `tail` has passed it, for which `release` needs this borrow to be over.
        Some(unsafe { &*slot })
    }

    /// Gives the slot of the received message back to the sender.
    ///
    /// # Panics
    /// Where no message has been received since the last call.
    pub fn release(&mut self) {
        assert!(std::mem::take(&mut self.received), "what is released has been received");
        self.tail = self.tail.wrapping_add(1);
        self.region.shared.word(TAIL_AT).store(self.tail, Release);
    }

    /// The number of the message that [`Receiver::receive`] gives: that many have been released, modulo 2³².
    pub fn sequence(&self) -> u32 {
        self.tail
    }

    /// Where everything is.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether `head - tail` announces no message; a word that cannot be announces none.
    fn is_empty(&self) -> bool {
        !(1..=self.layout.slots).contains(&self.head.wrapping_sub(self.tail))
    }
}
