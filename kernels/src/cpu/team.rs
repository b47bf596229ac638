//! A team of threads that share out one phase of a forward pass after another.
//!
//! [`Team::share`] cuts a buffer into chunks and lets the members, the caller among them, take one
//! chunk after the other until none is left: a member that another program has slowed down simply
//! takes fewer. A phase costs one hand-over and one collection, fractions of a microsecond each while
//! the members spin. A member that waits longer yields, then sleeps.
//!
//! Nothing here allocates or locks once the team stands.
//!
//! # Protocol
//! `epoch` counts phases. The caller writes `job`, sets `working` to the number of other members, and
//! advances `epoch` (release); a member that sees the new epoch (acquire) therefore sees the job. Each
//! member subtracts itself from `working` (release) when it finds no more chunks; the caller returns
//! only after it has seen zero (acquire), so the job's borrows outlive their use and all writes to the
//! chunks are visible. Sleepers register in `asleep` before they look at their word a last time, and
//! the other side looks at `asleep` after it has changed the word, all sequentially consistent, so no
//! wake-up is lost.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Rounds of spinning (tens of microseconds), then of yielding, before a member sleeps.
const SPINS: u32 = 4000;
const YIELDS: u32 = 200;

/// Threads that work on one buffer at a time; ends them when dropped.
pub struct Team {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Work of one phase: called by each member with its number until nothing is left.
type Job<'a> = &'a (dyn Fn(usize) + Sync + 'a);

struct Shared {
    job: UnsafeCell<Option<Job<'static>>>,
    epoch: AtomicU32,
    working: AtomicU32,
    asleep: AtomicU32,
    stop: AtomicBool,
    panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written by the caller only while no member works (`working` is zero and the epoch
// unchanged) and read by members only between their seeing a new epoch and their leaving `working`.
unsafe impl Sync for Shared {}
// SAFETY: the job it may hold is `Sync`, so a reference to it may be sent.
unsafe impl Send for Shared {}

/// A pointer to the chunks of one phase, handed to all members.
struct Chunks<T>(*mut T);
// SAFETY: members form references to disjoint chunks only, see `Team::share`.
unsafe impl<T: Send> Sync for Chunks<T> {}

impl Team {
    /// A team of `members` threads, the caller being one; at least one.
    pub fn new(members: usize) -> Team {
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            epoch: AtomicU32::new(0),
            working: AtomicU32::new(0),
            asleep: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let threads = (1..members)
            .map_while(|member| {
                let shared = shared.clone();
                let work = move || shared.member(member);
                // Where the system allows no more threads, fewer do the work.
                std::thread::Builder::new().name(format!("dovetail-{member}")).spawn(work).ok()
            })
            .collect();
        Team { shared, threads }
    }

    /// Number of members.
    pub fn members(&self) -> usize {
        self.threads.len() + 1
    }

    /// Cuts `data` into chunks of `chunk_len`, the last one perhaps shorter, and calls `work(i, chunk,
    /// scratch)` for each on some member, `scratch` being that member's own; returns when all are done.
    ///
    /// `scratch` needs an element for each member. A panic in `work` comes out here, after the phase.
    pub fn share<T: Send, S: Send>(
        &mut self,
        data: &mut [T],
        chunk_len: usize,
        scratch: &mut [S],
        work: impl Fn(usize, &mut [T], &mut S) + Sync,
    ) {
        assert!(scratch.len() >= self.members(), "each member needs its scratch");
        let count = data.len().div_ceil(chunk_len);
        if count <= 1 || self.threads.is_empty() {
            for (i, chunk) in data.chunks_mut(chunk_len).enumerate() {
                work(i, chunk, &mut scratch[0]);
            }
            return;
        }
        let len = data.len();
        let (data, scratch) = (Chunks(data.as_mut_ptr()), Chunks(scratch.as_mut_ptr()));
        let next = AtomicUsize::new(0);
        self.run(&|member| {
            let (data, scratch) = (&data, &scratch);
            // SAFETY: each member has its own number, below `scratch.len()`, and calls this job once.
            let scratch = unsafe { &mut *scratch.0.add(member) };
            loop {
                let i = next.fetch_add(1, Relaxed);
                if i >= count {
                    return;
                }
                let start = i * chunk_len;
                // SAFETY: `next` hands out each `i` once, so chunks are disjoint; `start < len` as
                // `i < count`; the exclusive borrow of `data` lasts until `run` returns.
                let chunk = unsafe {
                    std::slice::from_raw_parts_mut(data.0.add(start), chunk_len.min(len - start))
                };
                work(i, chunk, scratch);
            }
        });
    }

    fn run(&mut self, job: Job) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; this function returns after the last use of the job.
        let job: Job<'static> = unsafe { std::mem::transmute(job) };
        // SAFETY: no member works now: the last phase ended with `working` zero.
        unsafe { *shared.job.get() = Some(job) };
        shared.working.store(self.threads.len() as u32, Relaxed);
        shared.epoch.fetch_add(1, SeqCst);
        shared.wake(&shared.epoch);
        let mine = catch_unwind(AssertUnwindSafe(|| job(0)));
        loop {
            match shared.working.load(Acquire) {
                0 => break,
                left => shared.wait_while(&shared.working, left),
            }
        }
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        if shared.panicked.swap(false, Relaxed) {
            let panic = shared.panic.lock().ok().and_then(|mut panic| panic.take());
            resume_unwind(panic.unwrap_or_else(|| Box::new("a member of the team panicked")));
        }
    }
}

impl Shared {
    fn member(&self, number: usize) {
        let mut seen = 0;
        loop {
            self.wait_while(&self.epoch, seen);
            seen = seen.wrapping_add(1);
            if self.stop.load(Relaxed) {
                return;
            }
            // SAFETY: a new epoch was seen, so the caller has written the job and leaves it alone until
            // this member has left `working`.
            let job = unsafe { *self.job.get() };
            let outcome = catch_unwind(AssertUnwindSafe(|| job.map(|job| job(number))));
            if let Err(panic) = outcome {
                if let Ok(mut first) = self.panic.lock() {
                    first.get_or_insert(panic);
                }
                self.panicked.store(true, Relaxed);
            }
            self.working.fetch_sub(1, SeqCst);
            self.wake(&self.working);
        }
    }

    /// Returns once `word` differs from `old`: spins, then yields, then sleeps.
    fn wait_while(&self, word: &AtomicU32, old: u32) {
        for turn in 0..SPINS + YIELDS {
            if word.load(Acquire) != old {
                return;
            }
            if turn < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        self.asleep.fetch_add(1, SeqCst);
        while word.load(SeqCst) == old {
            atomic_wait::wait(word, old);
        }
        self.asleep.fetch_sub(1, SeqCst);
    }

    fn wake(&self, word: &AtomicU32) {
        if self.asleep.load(SeqCst) > 0 {
            atomic_wait::wake_all(word);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.shared.epoch.fetch_add(1, SeqCst);
        self.shared.wake(&self.shared.epoch);
        for thread in self.threads.drain(..) {
            // A member's panic has already come out of `share`.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_worked_once_for_any_number_of_members() {
        for members in [1, 2, 3, 7] {
            let mut team = Team::new(members);
            let mut scratch = vec![0usize; members];
            for round in 0..2000 {
                let (len, chunk) = (1 + round % 97, 1 + round % 5);
                let mut data = vec![0usize; len];
                team.share(&mut data, chunk, &mut scratch, |i, chunk, calls| {
                    chunk.iter_mut().for_each(|x| *x += i + 1);
                    *calls += 1;
                });
                assert!(data.iter().enumerate().all(|(i, &x)| x == i / chunk + 1));
                let calls: usize = scratch.iter_mut().map(std::mem::take).sum();
                assert_eq!(calls, len.div_ceil(chunk));
            }
        }
    }

    #[test]
    fn members_that_fell_asleep_wake_up() {
        let mut team = Team::new(3);
        let mut data = [0u32; 64];
        for round in 1..6 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            team.share(&mut data, 1, &mut [(); 3], |_, chunk, ()| {
                std::thread::sleep(std::time::Duration::from_micros(100));
                chunk[0] += 1;
            });
            assert!(data.iter().all(|&x| x == round));
        }
    }

    #[test]
    fn a_panic_comes_out_and_does_not_hang() {
        for at in 0..8 {
            let mut team = Team::new(3);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                team.share(&mut [0; 8], 1, &mut [(); 3], |i, _, ()| assert_ne!(i, at));
            }));
            assert!(outcome.is_err());
            team.share(&mut [0; 8], 1, &mut [(); 3], |_, _, ()| {});
        }
    }
}
