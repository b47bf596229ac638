//! How the caller hands a phase to the members and waits for them.
//!
//! # Protocol
//! One word holds the number of the phase, whether it is open, the number of members at work on it other than the
//! caller, and whether the pool ends. The caller writes `job`, then opens a new phase. A member joins by adding itself
//! with a compare-and-swap that succeeds only while the phase is open; it subtracts itself when no chunk is left. When
//! the caller finds no chunk left, it closes the phase and waits only for the members that have joined: a member that
//! the system does not run is not waited for, unless it is in the middle of a chunk. After that no member can reach the
//! job, so the borrows in it outlive their use.
//!
//! A thread that has waited long increments `asleep`, looks at the word a last time, and sleeps until it changes. A
//! thread that changes the word reads `asleep` afterwards and wakes the sleepers.
//!
//! The number tells a member whether the phase is new; it may wrap around.
//!
//! # Ordering
//! - A phase is opened with `Release`, and joined with `Acquire`: the job, and what was written before the
//!   phase, are seen by members.
//! - A member leaves with `Release`, and the caller's look at the word is `Acquire`: what members wrote is seen
//!   behind the phase, and members have read the job before the caller clears it. The word is only changed
//!   by steps that read and write (between them no store breaks a release sequence), so the last member's
//!   number carries what those before it have written, and closing needs no ordering of its own.
//! - Joining needs an `Acquire` of its own beside that of the look before it: numbers wrap around, so the
//!   word that it compares equal may be a later phase's.
//! - Sleeping: one thread adds itself to `asleep` and then reads the word, another changes the word and then
//!   reads `asleep`. One of the two must see the other's step. The sleeper's last look is therefore a
//!   step that reads and writes (`AcqRel`), as is each change of the word: if the look comes first, the
//!   change reads what it wrote, and behind that `asleep` is not 0; if it comes second, it reads the
//!   change. No step is `SeqCst`.
//! - The rest is `Relaxed`: `asleep`'s own steps are ordered by the word, and the flag of a panic is written
//!   before its member leaves and read after that.
//!
//! `model.rs` runs this under loom: it fails where one of the orderings above becomes `Relaxed`.

use super::sync::{AtomicBool, AtomicU32, LOOKS, Mutex, Sleepers, UnsafeCell, pause};
use crossbeam_utils::CachePadded;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Work of one phase: each member calls it with its number, and it returns when nothing is left.
pub type Job<'a> = &'a (dyn Fn(usize) + Sync + 'a);

/// Payload of a panic.
type Payload = Box<dyn Any + Send>;

/// Largest number of members beside the caller.
pub const MAX_MEMBERS: usize = MEMBERS as usize;

/// Parts of `Phases::word`: number of members at work, open flag, end flag, number of the phase.
const MEMBERS: u32 = (1 << 12) - 1;
const OPEN: u32 = 1 << 12;
const END: u32 = 1 << 13;
const NEXT: u32 = if cfg!(loom) { 1 << 31 } else { 1 << 14 }; // wraps around soon in the model

/// Successive phases, shared by the caller and all members.
pub struct Phases {
    /// In a cache line of its own: the caller writes the job while members spin on the word.
    word: CachePadded<AtomicU32>,
    job: UnsafeCell<Option<Job<'static>>>,
    asleep: AtomicU32,
    sleepers: Sleepers,
    panicked: AtomicBool,
    panic: Mutex<Option<Payload>>,
}

// SAFETY: `job` is written by the caller only while the phase is closed and nobody is at work on it,
// and read by members only between joining an open phase and leaving it.
unsafe impl Sync for Phases {}

impl Phases {
    pub fn new() -> Phases {
        Phases {
            word: CachePadded::new(AtomicU32::new(0)),
            job: UnsafeCell::new(None),
            asleep: AtomicU32::new(0),
            sleepers: Sleepers::new(),
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
        }
    }

    /// Runs one phase: calls `job(0)` here and `job(number)` on the members that join, and returns when all are done.
    /// Resumes the caller's panic, or otherwise the first panic of a member.
    ///
    /// # Safety
    /// No two calls of the same `Phases` at a time, and none after [`Phases::end`].
    pub unsafe fn run(&self, job: Job) {
        // SAFETY: only the lifetime changes; the job is not used once this has returned.
        let job: Job<'static> = unsafe { std::mem::transmute(job) };
        // SAFETY: the phase before was closed and left by all when its `run` returned.
        self.job.with_mut(|place| unsafe { *place = Some(job) });
        let number = self.word.load(Relaxed) & !(OPEN | MEMBERS);
        self.word.swap(number.wrapping_add(NEXT) | OPEN, AcqRel);
        self.wake();
        let mine = catch_unwind(AssertUnwindSafe(|| job(0)));
        self.word.fetch_and(!OPEN, Relaxed);
        self.wait_until(|word| word & MEMBERS == 0);
        // The member's panic is removed even if the caller's is raised, since it belongs to this phase alone.
        match (mine, self.take_panic()) {
            (Ok(()), None) => {}
            (Err(panic), None) | (Ok(()), Some(panic)) => resume_unwind(panic),
            (Err(panic), Some(other)) => {
                discard(other);
                resume_unwind(panic)
            }
        }
    }

    /// Takes part in phases as member `number` until the pool ends.
    pub fn member(&self, number: usize) {
        let mut done = 0;
        loop {
            let word = self.wait_until(|word| word & !MEMBERS != done);
            if word & END != 0 {
                return;
            }
            if word & OPEN == 0 {
                done = word & !MEMBERS; // over before this member saw it
                continue;
            }
            if self.word.compare_exchange(word, word + 1, Acquire, Relaxed).is_err() {
                continue;
            }
            // SAFETY: this member has joined an open phase and has not left it.
            let work = |job: *const Option<Job>| unsafe { (*job).map(|job| job(number)) };
            let outcome = catch_unwind(AssertUnwindSafe(|| self.job.with(work)));
            if let Err(panic) = outcome {
                self.keep_panic(panic);
            }
            done = word & !MEMBERS;
            self.word.fetch_sub(1, AcqRel);
            self.wake();
        }
    }

    /// Makes the members return; no phase may follow.
    pub fn end(&self) {
        self.word.fetch_or(END, Acquire);
        self.wake();
    }

    /// Keeps the first panic of a member for the caller. The member must not have left the phase.
    fn keep_panic(&self, panic: Payload) {
        let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
        let other = if first.is_none() { first.replace(panic) } else { Some(panic) };
        drop(first);
        self.panicked.store(true, Relaxed);
        other.into_iter().for_each(discard);
    }

    /// The panic kept in this phase; all members must have left it.
    fn take_panic(&self) -> Option<Payload> {
        if !self.panicked.load(Relaxed) {
            return None;
        }
        self.panicked.store(false, Relaxed);
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the word once `reached` holds for it: spins, then yields, then sleeps.
    fn wait_until(&self, reached: impl Fn(u32) -> bool) -> u32 {
        for turn in 0..LOOKS {
            let word = self.word.load(Acquire);
            if reached(word) {
                return word;
            }
            pause(turn);
        }
        self.asleep.fetch_add(1, Relaxed);
        loop {
            // A write back of the value read: see "Ordering" above.
            let word = self.word.fetch_or(0, AcqRel);
            if reached(word) {
                self.asleep.fetch_sub(1, Relaxed);
                return word;
            }
            self.sleepers.wait(&self.word, word);
        }
    }

    /// Wakes sleepers after a change of the word.
    fn wake(&self) {
        if self.asleep.load(Relaxed) > 0 {
            self.sleepers.wake_all(&self.word);
        }
    }
}

/// Drops the payload of a panic. Dropping it may panic again, which must not keep a member from leaving the phase.
fn discard(panic: Payload) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(another);
    }
}
