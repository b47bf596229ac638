//! A thread pool that divides one phase of a forward pass after another.
//!
//! [`ThreadPool::for_chunks`] divides a buffer into chunks. The members, including the caller, take one chunk after
//! another until none is left, so a member that is slowed down by another program takes fewer. Starting and ending a
//! phase costs fractions of a microsecond each while the members spin. A member that waits longer yields, then sleeps.
//!
//! After the pool is built, nothing here allocates or locks.
//!
//! ```text
//! mod.rs     how buffers are divided
//! phase.rs   how a phase starts and ends: the protocol
//! sync.rs    words, cells, threads and sleep: the system's, or loom's for model.rs
//! ```

#[cfg(all(test, loom))]
mod model;
mod phase;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

use phase::{MAX_MEMBERS, Phases};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use sync::AtomicUsize;
use sync::thread::{Builder, JoinHandle};

/// Threads that work on one buffer at a time; dropping the pool ends them.
pub struct ThreadPool {
    phases: Arc<Phases>,
    threads: Vec<JoinHandle<()>>,
}

/// A buffer that is divided into chunks.
pub struct ChunkedSlice<'a, T> {
    start: *mut T,
    len: usize,
    chunk_len: usize,
    buffer: PhantomData<&'a mut [T]>,
}
// SAFETY: members form references to disjoint chunks only, see `ThreadPool::for_chunks_of_many`.
unsafe impl<T: Send> Sync for ChunkedSlice<'_, T> {}

impl<'a, T> ChunkedSlice<'a, T> {
    /// Divides `buffer` into chunks of `chunk_len`; the last one may be shorter.
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

/// The chunks of one piece of work, one of each buffer in order.
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
    /// A thread pool of `members` threads, at least one; the caller is one of them.
    pub fn new(members: usize) -> ThreadPool {
        let phases = Arc::new(Phases::new());
        let threads = (1..members.min(MAX_MEMBERS + 1))
            .map_while(|member| {
                let phases = phases.clone();
                let work = move || phases.member(member);
                // If the system refuses more threads, fewer do the work.
                Builder::new().name(format!("dovetail-{member}")).spawn(work).ok()
            })
            .collect();
        ThreadPool { phases, threads }
    }

    /// Number of members.
    pub fn members(&self) -> usize {
        self.threads.len() + 1
    }

    /// Divides `data` into chunks of `chunk_len`, the last of which may be shorter, and calls `work(i, chunk, scratch)`
    /// for each on some member with that member's own `scratch`. Returns when all are done.
    ///
    /// `scratch` needs an element for each member. A panic in `work` is resumed after the phase: the caller's, or
    /// otherwise the first one of a member.
    pub fn for_chunks<T: Send, S: Send>(
        &mut self,
        data: &mut [T],
        chunk_len: usize,
        scratch: &mut [S],
        work: impl Fn(usize, &mut [T], &mut S) + Sync,
    ) {
        // A vector of `()` allocates nothing.
        let mut nothing = vec![(); data.len().div_ceil(chunk_len)];
        let data = (data, chunk_len);
        self.for_chunks_of_two(data, (&mut nothing, 1), scratch, |i, chunk, _, s| {
            work(i, chunk, s)
        });
    }

    /// [`ThreadPool::for_chunks`] of two buffers, each with its chunk length: chunk `i` of both is one piece of work.
    ///
    /// # Panics
    /// If the numbers of chunks differ.
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

    /// [`ThreadPool::for_chunks_of_two`] with any number of buffers on the right; `work` iterates over their chunks
    /// `i`.
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
            // `scratch` was made for a smaller pool: the other members do nothing.
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
        // SAFETY: this borrow of the pool is the only one, and the pool has not been dropped.
        unsafe { self.phases.run(&job) };
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.phases.end();
        for thread in self.threads.drain(..) {
            // `run` has already raised a member's panic.
            let _ = thread.join();
        }
    }
}
