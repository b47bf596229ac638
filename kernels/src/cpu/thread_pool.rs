//! A thread pool of threads that share out one phase of a forward pass after another.
//!
//! [`ThreadPool::for_chunks`] cuts a buffer into chunks and lets the members, the caller among them, take one
//! chunk after the other until none is left: a member that another program has slowed down simply
//! takes fewer. A phase costs one hand-over and one collection, fractions of a microsecond each while
//! the members spin. A member that waits longer yields, then sleeps.
//!
//! Nothing here allocates or locks once the thread pool stands.
//!
//! # Protocol
//! One word holds the number of the phase, whether it is open, and how many other members are at work
//! on it. The caller writes `job`, then opens a new phase (release). A member joins by adding itself
//! with a compare-and-swap that succeeds only while the phase is open (acquire), so it sees the job;
//! it subtracts itself (release) when no chunk is left. When the caller finds none left it closes the
//! phase and waits only for those who have joined (acquire): a member that the system is keeping from
//! running is not waited for, unless in the middle of a chunk. After that no member can reach the job,
//! so the borrows in it outlive their use, and all writes to the chunks are visible.
//!
//! Sleepers register in `asleep` before they look at the word a last time, and the other side looks at
//! `asleep` after it has changed the word, all sequentially consistent, so no wake-up is lost.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Rounds of spinning (tens of microseconds), then of yielding, before a member sleeps.
const SPINS: u32 = 4000;
const YIELDS: u32 = 200;

/// Threads that work on one buffer at a time; ends them when dropped.
pub struct ThreadPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Work of one phase: called by each member with its number until nothing is left.
type Job<'a> = &'a (dyn Fn(usize) + Sync + 'a);

/// What a panic carries.
type Payload = Box<dyn Any + Send>;

struct Shared {
    job: UnsafeCell<Option<Job<'static>>>,
    phase: AtomicU32,
    asleep: AtomicU32,
    stop: AtomicBool,
    panicked: AtomicBool,
    panic: Mutex<Option<Payload>>,
}

/// Parts of `Shared::phase`: members at work, open or not, number of the phase.
const MEMBERS: u32 = (1 << 12) - 1;
const OPEN: u32 = 1 << 12;
const NEXT: u32 = 1 << 13;

// SAFETY: `job` is written by the caller only while the phase is closed and nobody is at work on it,
// and read by members only between joining an open phase and leaving it.
unsafe impl Sync for Shared {}
// SAFETY: the job it may hold is `Sync`, so a reference to it may be sent.
unsafe impl Send for Shared {}

/// A buffer and how it is cut into chunks.
pub struct ChunkedSlice<'a, T> {
    start: *mut T,
    len: usize,
    chunk_len: usize,
    buffer: PhantomData<&'a mut [T]>,
}
// SAFETY: members form references to disjoint chunks only, see `ThreadPool::for_chunks_of_many`.
unsafe impl<T: Send> Sync for ChunkedSlice<'_, T> {}

impl<'a, T> ChunkedSlice<'a, T> {
    /// Chunks of `chunk_len`, the last one perhaps shorter.
    pub fn new(buffer: &'a mut [T], chunk_len: usize) -> ChunkedSlice<'a, T> {
        ChunkedSlice {
            start: buffer.as_mut_ptr(),
            len: buffer.len(),
            chunk_len,
            buffer: PhantomData,
        }
    }

    fn count(&self) -> usize {
        self.len.div_ceil(self.chunk_len)
    }

    /// Chunk `i`.
    ///
    /// # Safety
    /// `i · chunk_len < len`, and no two calls with the same `i` give references that live at the same
    /// time.
    #[allow(clippy::mut_from_ref, reason = "that is what the chunks are for")]
    unsafe fn get(&self, i: usize) -> &mut [T] {
        let start = i * self.chunk_len;
        let len = self.chunk_len.min(self.len - start);
        // SAFETY: within the borrow that `new` took; different `i` give disjoint chunks.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// The chunks of one piece of work, one of each buffer in their order.
pub struct Chunks<'a, T> {
    cuts: std::slice::Iter<'a, ChunkedSlice<'a, T>>,
    i: usize,
}

impl<'a, T> Iterator for Chunks<'a, T> {
    type Item = &'a mut [T];

    fn next(&mut self) -> Option<&'a mut [T]> {
        // SAFETY: `ThreadPool::for_chunks_of_many` makes one of these for each `i` below every cut's count, and this
        // iterator passes each cut once.
        self.cuts.next().map(|cut| unsafe { cut.get(self.i) })
    }
}

impl ThreadPool {
    /// A thread pool of `members` threads, the caller being one; at least one.
    pub fn new(members: usize) -> ThreadPool {
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            phase: AtomicU32::new(0),
            asleep: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let threads = (1..members.min(MEMBERS as usize))
            .map_while(|member| {
                let shared = shared.clone();
                let work = move || shared.member(member);
                // Where the system allows no more threads, fewer do the work.
                std::thread::Builder::new().name(format!("dovetail-{member}")).spawn(work).ok()
            })
            .collect();
        ThreadPool { shared, threads }
    }

    /// Number of members.
    pub fn members(&self) -> usize {
        self.threads.len() + 1
    }

    /// Cuts `data` into chunks of `chunk_len`, the last one perhaps shorter, and calls `work(i, chunk,
    /// scratch)` for each on some member, `scratch` being that member's own; returns when all are done.
    ///
    /// `scratch` needs an element for each member. A panic in `work` comes out here, after the phase: the
    /// caller's own, or else the first of the other members.
    pub fn for_chunks<T: Send, S: Send>(
        &mut self,
        data: &mut [T],
        chunk_len: usize,
        scratch: &mut [S],
        work: impl Fn(usize, &mut [T], &mut S) + Sync,
    ) {
        // A vector of nothing takes no memory.
        let mut nothing = vec![(); data.len().div_ceil(chunk_len)];
        let data = (data, chunk_len);
        self.for_chunks_of_two(data, (&mut nothing, 1), scratch, |i, chunk, _, s| {
            work(i, chunk, s)
        });
    }

    /// [`ThreadPool::for_chunks`] of two buffers, each with the length of its chunks: chunk `i` of both is one piece
    /// of work. Panics where they have not the same number of chunks.
    pub fn for_chunks_of_two<T: Send, U: Send, S: Send>(
        &mut self,
        (left, left_len): (&mut [T], usize),
        (right, right_len): (&mut [U], usize),
        scratch: &mut [S],
        work: impl Fn(usize, &mut [T], &mut [U], &mut S) + Sync,
    ) {
        let right = &mut [ChunkedSlice::new(right, right_len)];
        self.for_chunks_of_many((left, left_len), right, scratch, |i, left, mut right, s| {
            work(i, left, right.next().expect("one chunk of each buffer"), s);
        });
    }

    /// The same with any number of buffers on the right, whose chunks `i` come one after the other.
    pub fn for_chunks_of_many<T: Send, U: Send, S: Send>(
        &mut self,
        (left, left_len): (&mut [T], usize),
        right: &mut [ChunkedSlice<U>],
        scratch: &mut [S],
        work: impl Fn(usize, &mut [T], Chunks<U>, &mut S) + Sync,
    ) {
        let members = scratch.len();
        assert!(members > 0, "the caller works too");
        let (left, right) = (ChunkedSlice::new(left, left_len), &*right);
        let count = left.count();
        let same = right.iter().all(|right| right.count() == count);
        assert!(same, "as many chunks of one as of the other");
        let scratch = ChunkedSlice::new(scratch, 1);
        let next = AtomicUsize::new(0);
        let job = |member| {
            let (left, scratch) = (&left, &scratch);
            // Made for a smaller thread pool: the others sit out.
            if member >= members {
                return;
            }
            // SAFETY: each member has its own number, below `members`, and calls this job once; the
            // exclusive borrow lasts until `run` returns.
            let scratch = unsafe { &mut scratch.get(member)[0] };
            loop {
                let i = next.fetch_add(1, Relaxed);
                if i >= count {
                    return;
                }
                // SAFETY: `next` hands out each `i` below `count` once; the exclusive borrows of all
                // buffers last until `run` returns.
                let left = unsafe { left.get(i) };
                work(i, left, Chunks { cuts: right.iter(), i }, scratch);
            }
        };
        if count <= 1 || self.threads.is_empty() {
            return job(0);
        }
        self.run(&job);
    }

    fn run(&mut self, job: Job) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; this function returns after the last use of the job.
        let job: Job<'static> = unsafe { std::mem::transmute(job) };
        // SAFETY: the last phase was closed and left by all when its `run` returned.
        unsafe { *shared.job.get() = Some(job) };
        let number = shared.phase.load(Relaxed) & !(OPEN | MEMBERS);
        shared.phase.store(number.wrapping_add(NEXT) | OPEN, SeqCst);
        shared.wake();
        let mine = catch_unwind(AssertUnwindSafe(|| job(0)));
        shared.phase.fetch_and(!OPEN, SeqCst);
        shared.wait_until(|phase| phase & MEMBERS == 0);
        // Taken even where the caller's own panic is the one to raise: it belongs to this phase alone.
        match (mine, shared.take_panic()) {
            (Ok(()), None) => {}
            (Err(panic), None) | (Ok(()), Some(panic)) => resume_unwind(panic),
            (Err(panic), Some(other)) => {
                discard(other);
                resume_unwind(panic)
            }
        }
    }
}

impl Shared {
    fn member(&self, number: usize) {
        let mut done = 0;
        loop {
            let phase = self.wait_until(|phase| phase & !MEMBERS != done);
            if self.stop.load(Relaxed) {
                return;
            }
            if phase & OPEN == 0 {
                done = phase & !MEMBERS; // over before this member saw it
                continue;
            }
            if self.phase.compare_exchange(phase, phase + 1, SeqCst, Relaxed).is_err() {
                continue;
            }
            // SAFETY: this member has joined an open phase and has not left it.
            let job = unsafe { *self.job.get() };
            let outcome = catch_unwind(AssertUnwindSafe(|| job.map(|job| job(number))));
            if let Err(panic) = outcome {
                self.keep_panic(panic);
            }
            done = phase & !MEMBERS;
            self.phase.fetch_sub(1, SeqCst);
            self.wake();
        }
    }

    /// Keeps the first panic of a member for the caller; the phase must not have been left.
    fn keep_panic(&self, panic: Payload) {
        let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
        let other = if first.is_none() { first.replace(panic) } else { Some(panic) };
        drop(first);
        self.panicked.store(true, Relaxed);
        other.into_iter().for_each(discard);
    }

    /// The panic that was kept in this phase; all members must have left it.
    fn take_panic(&self) -> Option<Payload> {
        if !self.panicked.load(Relaxed) {
            return None;
        }
        self.panicked.store(false, Relaxed);
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the phase word once `reached` holds for it: spins, then yields, then sleeps.
    fn wait_until(&self, reached: impl Fn(u32) -> bool) -> u32 {
        for turn in 0..SPINS + YIELDS {
            let phase = self.phase.load(Acquire);
            if reached(phase) {
                return phase;
            }
            if turn < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        self.asleep.fetch_add(1, SeqCst);
        loop {
            let phase = self.phase.load(SeqCst);
            if reached(phase) {
                self.asleep.fetch_sub(1, SeqCst);
                return phase;
            }
            atomic_wait::wait(&self.phase, phase);
        }
    }

    fn wake(&self) {
        if self.asleep.load(SeqCst) > 0 {
            atomic_wait::wake_all(&self.phase);
        }
    }
}

/// Drops what a panic carries. Dropping it may panic, which must not keep a member from leaving the phase.
fn discard(panic: Payload) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(another);
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.shared.phase.fetch_add(NEXT, SeqCst);
        self.shared.wake();
        for thread in self.threads.drain(..) {
            // A member's panic has already come out of `run`.
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
            let mut pool = ThreadPool::new(members);
            let mut scratch = vec![0usize; members];
            for round in 0..2000 {
                let (len, chunk) = (1 + round % 97, 1 + round % 5);
                let mut data = vec![0usize; len];
                pool.for_chunks(&mut data, chunk, &mut scratch, |i, chunk, calls| {
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
    fn chunks_of_two_buffers_belong_together() {
        for members in [1, 3] {
            let mut pool = ThreadPool::new(members);
            let (mut left, mut right) = (vec![0; 70], vec![0; 21]);
            let work = |i, left: &mut [usize], right: &mut [usize], _: &mut ()| {
                left.iter_mut().chain(right).for_each(|x| *x += i + 1);
            };
            pool.for_chunks_of_two((&mut left, 10), (&mut right, 3), &mut vec![(); members], work);
            assert!(left.iter().enumerate().all(|(i, &x)| x == i / 10 + 1));
            assert!(right.iter().enumerate().all(|(i, &x)| x == i / 3 + 1));
        }
    }

    #[test]
    fn chunks_of_many_buffers_belong_together() {
        for members in [1, 3] {
            let mut pool = ThreadPool::new(members);
            let mut left = vec![0; 70];
            let mut right: Vec<Vec<usize>> = (1..5).map(|n| vec![0; 7 * n]).collect();
            let mut cuts: Vec<_> =
                (1..).zip(&mut right).map(|(n, right)| ChunkedSlice::new(right, n)).collect();
            pool.for_chunks_of_many(
                (&mut left, 10),
                &mut cuts,
                &mut vec![(); members],
                |i, left, all, _| {
                    left.iter_mut().chain(all.flatten()).for_each(|x| *x += i + 1);
                },
            );
            assert!(left.iter().enumerate().all(|(i, &x)| x == i / 10 + 1));
            for (n, right) in (1..).zip(right) {
                assert!(right.iter().enumerate().all(|(i, &x)| x == i / n + 1));
            }
        }
    }

    #[test]
    #[should_panic(expected = "as many chunks")]
    fn two_buffers_have_the_same_number_of_chunks() {
        let work = |_, _: &mut [u8], _: &mut [u8], _: &mut ()| {};
        ThreadPool::new(1).for_chunks_of_two((&mut [0; 3], 1), (&mut [0; 3], 2), &mut [()], work);
    }

    #[test]
    fn members_that_fell_asleep_wake_up() {
        let mut pool = ThreadPool::new(3);
        let mut data = [0u32; 64];
        for round in 1..6 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            pool.for_chunks(&mut data, 1, &mut [(); 3], |_, chunk, ()| {
                std::thread::sleep(std::time::Duration::from_micros(100));
                chunk[0] += 1;
            });
            assert!(data.iter().all(|&x| x == round));
        }
    }

    #[test]
    fn a_panic_comes_out_and_does_not_hang() {
        for at in 0..8 {
            let mut pool = ThreadPool::new(3);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.for_chunks(&mut [0; 8], 1, &mut [(); 3], |i, _, ()| assert_ne!(i, at));
            }));
            assert!(outcome.is_err());
            pool.for_chunks(&mut [0; 8], 1, &mut [(); 3], |_, _, ()| {});
        }
    }
    /// Runs a phase in which each of `members` takes one chunk, and panics with what `payload` makes of it once
    /// all have begun; returns what came out.
    fn all_panic<P: Any + Send>(
        pool: &mut ThreadPool,
        members: usize,
        payload: impl Fn(bool) -> P + Sync,
    ) -> Payload {
        let caller = std::thread::current().id();
        let begun = AtomicUsize::new(0);
        let work = |_, _: &mut [u8], _: &mut ()| {
            begun.fetch_add(1, SeqCst);
            while begun.load(SeqCst) < members {
                std::thread::yield_now();
            }
            resume_unwind(Box::new(payload(std::thread::current().id() == caller)));
        };
        let phase = AssertUnwindSafe(|| {
            pool.for_chunks(&mut vec![0; members], 1, &mut vec![(); members], work);
        });
        catch_unwind(phase).unwrap_err()
    }

    #[test]
    fn a_panic_does_not_come_out_of_a_later_phase() {
        for members in [2, 3] {
            let mut pool = ThreadPool::new(members);
            for _ in 0..50 {
                let panic = all_panic(&mut pool, members, |is_caller| is_caller);
                assert_eq!(panic.downcast_ref(), Some(&true), "the caller's own panic");
                pool.for_chunks(&mut [0; 8], 1, &mut vec![(); members], |_, _, ()| {});
            }
        }
    }

    /// Panics where it is dropped, each time anew.
    struct DropPanics;

    impl Drop for DropPanics {
        fn drop(&mut self) {
            resume_unwind(Box::new(DropPanics));
        }
    }

    #[test]
    fn a_panic_whose_payload_cannot_be_dropped_ends_no_member() {
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut pool = ThreadPool::new(3);
            for _ in 0..10 {
                std::mem::forget(all_panic(&mut pool, 3, |_| DropPanics));
            }
            drop(pool);
            done.send(()).unwrap();
        });
        let patience = std::time::Duration::from_secs(60);
        assert!(is_done.recv_timeout(patience).is_ok(), "a phase hangs");
    }

    #[test]
    fn a_panic_of_the_caller_waits_for_members_at_work() {
        let mut pool = ThreadPool::new(2);
        let caller = std::thread::current().id();
        let begun = AtomicBool::new(false);
        let mut data = [0; 2];
        let phase = AssertUnwindSafe(|| {
            pool.for_chunks(&mut data, 1, &mut [(); 2], |_, chunk, ()| {
                if std::thread::current().id() == caller {
                    while !begun.load(SeqCst) {
                        std::thread::yield_now();
                    }
                    resume_unwind(Box::new("the caller"));
                }
                begun.store(true, SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(30));
                chunk[0] = 1;
            });
        });
        assert!(catch_unwind(phase).is_err());
        assert_eq!(data.iter().sum::<i32>(), 1, "the member's chunk is done");
    }
}
