//! Memory that both sides see, the way a ring touches it: two words, and slots.
//!
//! Every access goes through here, so that a model checker sees it: under `--cfg loom` the words are loom's
//! and each line of the slots has a cell of loom's. A slot counts as touched when its pointer is made. That
//! is enough, since what an end does with a slot lies between there and its next store to its own word, the
//! only step that lets the other side go on.

use std::ptr::{NonNull, slice_from_raw_parts, slice_from_raw_parts_mut};
use watch::Watch;
pub(super) use watch::{AtomicU32, pause};

/// Bytes between things that two sides write: two cache lines, since desktop CPUs fetch them in pairs and
/// the lines of a GPU are as long.
pub(super) const LINE: usize = 128;
/// Where the word `head` is.
pub(super) const HEAD_AT: usize = 0;
/// Where the word `tail` is.
pub(super) const TAIL_AT: usize = LINE;
/// Where the slots begin.
pub(super) const SLOTS_AT: usize = 2 * LINE;

/// Bytes that two sides see; clones are the same bytes.
#[derive(Clone)]
pub(super) struct Shared {
    start: NonNull<u8>,
    len: usize,
    watch: Watch,
}

// SAFETY: hands out words, which are atomic, and raw pointers, whose users keep to the protocol.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// `len` bytes from `start` on must be valid while this or a clone is used, initialised and aligned to
    /// [`LINE`]. The lines that begin at [`HEAD_AT`] and [`TAIL_AT`] are touched by atomic operations alone.
    pub unsafe fn new(start: NonNull<u8>, len: usize) -> Shared {
        Shared { start, len, watch: Watch::new(len) }
    }

    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The word at [`HEAD_AT`] or [`TAIL_AT`].
    pub fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at == HEAD_AT || at == TAIL_AT, "there is a doorbell");
        assert!(self.len >= SLOTS_AT, "a ring begins with two lines");
        // SAFETY: both lines are inside, aligned, and touched by atomic operations alone.
        unsafe { self.watch.word(self.start, at) }
    }

    /// `len` bytes from `at` on, which the caller is about to read.
    pub fn slot(&self, at: usize, len: usize) -> *const [u8] {
        self.check(at, len);
        self.watch.reads(at, len);
        // SAFETY: inside.
        slice_from_raw_parts(unsafe { self.start.as_ptr().add(at) }, len)
    }

    /// `len` bytes from `at` on, which the caller is about to write.
    pub fn slot_mut(&self, at: usize, len: usize) -> *mut [u8] {
        self.check(at, len);
        self.watch.writes(at, len);
        // SAFETY: inside.
        slice_from_raw_parts_mut(unsafe { self.start.as_ptr().add(at) }, len)
    }

    fn check(&self, at: usize, len: usize) {
        assert!(at >= SLOTS_AT && at <= self.len && len <= self.len - at, "a slot is inside");
    }
}

#[cfg(not(loom))]
mod watch {
    //! Nobody watches: bare memory.

    use std::ptr::NonNull;
    pub use std::sync::atomic::AtomicU32;

    #[derive(Clone)]
    pub struct Watch;

    impl Watch {
        pub fn new(_len: usize) -> Watch {
            Watch
        }

        /// # Safety
        /// At `at` is a valid, aligned word that is touched by atomic operations alone.
        pub unsafe fn word(&self, start: NonNull<u8>, at: usize) -> &AtomicU32 {
            // SAFETY: the caller's promise; whoever has the `Watch` has the memory.
            unsafe { AtomicU32::from_ptr(start.as_ptr().add(at).cast()) }
        }

        pub fn reads(&self, _at: usize, _len: usize) {}
        pub fn writes(&self, _at: usize, _len: usize) {}
    }

    /// Waits a moment in a loop, for the `turn`-th time: spins first, then leaves the core to others.
    pub fn pause(turn: u32) {
        if turn < 1000 { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

#[cfg(loom)]
mod watch {
    //! What loom sees of the memory.

    use super::{LINE, SLOTS_AT, TAIL_AT};
    use loom::cell::UnsafeCell;
    pub use loom::sync::atomic::AtomicU32;
    use std::ptr::NonNull;
    use std::sync::Arc;

    #[derive(Clone)]
    pub struct Watch(Arc<Watched>);

    struct Watched {
        words: [AtomicU32; 2],
        lines: Vec<UnsafeCell<()>>,
    }

    impl Watch {
        pub fn new(len: usize) -> Watch {
            let words = [AtomicU32::new(0), AtomicU32::new(0)];
            let lines = (0..len.div_ceil(LINE)).map(|_| UnsafeCell::new(())).collect();
            Watch(Arc::new(Watched { words, lines }))
        }

        pub unsafe fn word(&self, _start: NonNull<u8>, at: usize) -> &AtomicU32 {
            &self.0.words[usize::from(at == TAIL_AT)]
        }

        pub fn reads(&self, at: usize, len: usize) {
            self.lines(at, len).iter().for_each(|line| line.with(|_| ()));
        }

        pub fn writes(&self, at: usize, len: usize) {
            self.lines(at, len).iter().for_each(|line| line.with_mut(|_| ()));
        }

        fn lines(&self, at: usize, len: usize) -> &[UnsafeCell<()>] {
            assert!(at >= SLOTS_AT);
            &self.0.lines[at / LINE..(at + len).div_ceil(LINE)]
        }
    }

    /// Lets the other threads run: without it loom would try endlessly many turns of a loop.
    pub fn pause(_turn: u32) {
        loom::thread::yield_now();
    }
}
