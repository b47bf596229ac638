//! Primitives of the pool: atomic words, cells, threads, and sleeping until a word changes.
//!
//! Everything that two threads share goes through this module, so that a model checker sees it: under `--cfg loom` all
//! of it is loom's.

pub use system::*;

#[cfg(not(loom))]
mod system {
    //! Primitives of the system.

    pub use std::sync::Mutex;
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
    pub use std::thread;

    /// Number of looks at a word before a thread sleeps: it spins for tens of microseconds, then yields.
    pub const LOOKS: u32 = SPINS + 200;
    const SPINS: u32 = 4000;

    /// Pauses after the `turn`-th look.
    pub fn pause(turn: u32) {
        if turn < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
    }

    /// Threads that sleep until a word changes.
    pub struct Sleepers;

    impl Sleepers {
        pub fn new() -> Sleepers {
            Sleepers
        }

        /// Sleeps until woken, unless the word is no longer `value`; may return early.
        pub fn wait(&self, word: &AtomicU32, value: u32) {
            atomic_wait::wait(word, value);
        }

        /// Wakes all threads that sleep on this word.
        pub fn wake_all(&self, word: &AtomicU32) {
            atomic_wait::wake_all(word);
        }
    }

    /// `std`'s cell with the methods of loom's.
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        /// Calls `f` with a pointer for reading.
        pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Calls `f` with a pointer for writing.
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(loom)]
mod system {
    //! Primitives of loom.

    pub use loom::cell::UnsafeCell;
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
    pub use loom::thread;
    use std::sync::atomic::Ordering::Relaxed;

    /// One look suffices, since loom tries both its failure and its success.
    pub const LOOKS: u32 = 1;

    pub fn pause(_turn: u32) {}

    /// A futex, modelled as a lock around the comparison of the word and the list of sleepers.
    pub struct Sleepers {
        lock: Mutex<()>,
        woken: loom::sync::Condvar,
    }

    impl Sleepers {
        pub fn new() -> Sleepers {
            Sleepers { lock: Mutex::new(()), woken: loom::sync::Condvar::new() }
        }

        pub fn wait(&self, word: &AtomicU32, value: u32) {
            let lock = self.lock.lock().unwrap();
            if word.load(Relaxed) == value {
                drop(self.woken.wait(lock).unwrap());
            }
        }

        pub fn wake_all(&self, _word: &AtomicU32) {
            drop(self.lock.lock().unwrap());
            self.woken.notify_all();
        }
    }
}
