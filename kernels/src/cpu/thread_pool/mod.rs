//! A thread pool of threads that share out one phase of a forward pass after another.
//!
//! [`ThreadPool::for_chunks`] cuts a buffer into chunks and lets the members, the caller among them, take one
//! chunk after the other until none is left: a member that another program has slowed down simply
//! takes fewer. A phase costs one hand-over and one collection, fractions of a microsecond each while
//! the members spin. A member that waits longer yields, then sleeps.
//!
//! Nothing here allocates or locks once the thread pool stands.
//!
//! ```text
//! mod.rs     how buffers are shared out
//! phase.rs   how a phase is handed over and collected: the protocol
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

/// Threads that work on one buffer at a time; ends them when dropped.
pub struct ThreadPool {
    phases: Arc<Phases>,
    threads: Vec<JoinHandle<()>>,
}

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
        let phases = Arc::new(Phases::new());
        let threads = (1..members.min(MAX_MEMBERS + 1))
            .map_while(|member| {
                let phases = phases.clone();
                let work = move || phases.member(member);
                // Where the system allows no more threads, fewer do the work.
                Builder::new().name(format!("dovetail-{member}")).spawn(work).ok()
            })
            .collect();
        ThreadPool { phases, threads }
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
        // SAFETY: this borrow of the pool is the only one, and the pool has not been dropped.
        unsafe { self.phases.run(&job) };
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.phases.end();
        for thread in self.threads.drain(..) {
            // A member's panic has already come out of `run`.
            let _ = thread.join();
        }
    }
}
