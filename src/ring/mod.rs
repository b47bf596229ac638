//! The ring between target and drafter: messages in memory that both see.

pub mod pinned;
use std::ptr::NonNull;

/// Memory that two sides see. It is as long as its owner lives.
pub struct Region {
    start: NonNull<u8>,
    len: usize,
    _owner: Box<dyn Send>,
}

// SAFETY: the memory belongs to `_owner`, which can be sent; whoever reads or writes it keeps to the ring's
// protocol.
unsafe impl Send for Region {}

impl Region {
    /// Memory that belongs to `owner`.
    ///
    /// # Safety
    /// `len` bytes from `start` on, initialised and aligned to 128, must be valid until `owner` is dropped,
    /// and must be used through this region and by the other side of a ring alone.
    pub unsafe fn new(start: NonNull<u8>, len: usize, owner: Box<dyn Send>) -> Region {
        Region { start, len, _owner: owner }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }
}
