//! Memory that both sides see, as a ring uses it: two words, and slots.
//!
//! Every access goes through here, so that a model checker sees it: under `--cfg loom` the words are loom's, and each
//! line of the slots has a loom cell. A slot counts as used when its pointer is created. That suffices: an end uses a
//! slot between that point and its next store to its own word, which alone lets the other side continue.

use std::ptr::{NonNull, slice_from_raw_parts, slice_from_raw_parts_mut};
use watch::Watch;
pub(super) use watch::{AtomicU32, pause};

/// Distance of data that different sides write, in bytes: two cache lines, since desktop CPUs fetch them in pairs and
/// lines of a GPU have this length.
pub(super) const LINE: usize = 128;
/// Offset of the word `head`.
pub(super) const HEAD_AT: usize = 0;
/// Offset of the word `tail`.
pub(super) const TAIL_AT: usize = LINE;
/// Offset of the slots.
pub(super) const SLOTS_AT: usize = 2 * LINE;

/// Memory that two sides see. Clones are the same memory.
#[derive(Clone)]
pub(super) struct Shared {
    start: NonNull<u8>,
    len: usize,
    watch: Watch,
}

// SAFETY: it provides words, which are atomic, and raw pointers, whose users keep to the protocol.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// The `len` bytes from `start` on must be initialised, aligned to [`LINE`], and valid while this or a clone is
    /// used. The lines at [`HEAD_AT`] and [`TAIL_AT`] must be used only by atomic operations.
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
        // SAFETY: both lines are inside, aligned, and used only by atomic operations.
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
    //! Without a model checker: bare memory.

    use std::ptr::NonNull;
    pub use std::sync::atomic::AtomicU32;

    #[derive(Clone)]
    pub struct Watch;

    impl Watch {
        pub fn new(_len: usize) -> Watch {
            Watch
        }

        /// # Safety
        /// At `at` there must be a valid, aligned word that is used only by atomic operations.
        pub unsafe fn word(&self, start: NonNull<u8>, at: usize) -> &AtomicU32 {
            // SAFETY: the caller's promise; the owner of a `Watch` has the memory.
            unsafe { AtomicU32::from_ptr(start.as_ptr().add(at).cast()) }
        }

        pub fn reads(&self, _at: usize, _len: usize) {}
        pub fn writes(&self, _at: usize, _len: usize) {}
    }

    /// Pauses in a waiting loop, for the `turn`-th time: spins at first, then yields the core.
    pub fn pause(turn: u32) {
        if turn < 1000 { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

#[cfg(loom)]
mod watch {
    //! The memory as loom sees it.

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
        #[allow(clippy::arc_with_non_send_sync, reason = "`Shared` is, and loom watches the cells")]
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

    /// Lets other threads run; without it loom would try endlessly many turns of a loop.
    pub fn pause(_turn: u32) {
        loom::thread::yield_now();
    }
}
