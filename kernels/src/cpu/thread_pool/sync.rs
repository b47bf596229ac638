//! What the pool takes from the system: words, cells, threads, and sleeping until a word changes.
//!
//! Everything that two threads touch goes through here, so that a model checker sees it: under `--cfg loom` all
//! of it is loom's.

pub use system::*;

#[cfg(not(loom))]
mod system {
    //! The system itself.

    pub use std::sync::Mutex;
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
    pub use std::thread;

    /// How often a word is looked at before a thread sleeps: spinning for tens of microseconds, then yielding.
    pub const LOOKS: u32 = SPINS + 200;
    const SPINS: u32 = 4000;

    /// Waits a moment after the `turn`-th look.
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

        /// Wakes all that sleep on this word.
        pub fn wake_all(&self, word: &AtomicU32) {
            atomic_wait::wake_all(word);
        }
    }

    /// `std`'s, with the functions of loom's.
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        /// Gives `f` the contents to read.
        pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Gives `f` the contents to write.
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(loom)]
mod system {
    //! The system as loom has it.

    pub use loom::cell::UnsafeCell;
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
    pub use loom::thread;
    use std::sync::atomic::Ordering::Relaxed;

    /// loom tries what happens when it fails and when it succeeds; more would only take longer.
    pub const LOOKS: u32 = 1;

    pub fn pause(_turn: u32) {}

    /// A futex is a lock around the look at the word and the list of sleepers.
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
