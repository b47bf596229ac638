//! Tests of the pool on real threads.

use super::{ChunkedSlice, ThreadPool};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

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
/// Runs a phase in which each of `members` takes one chunk, waits until all have started, and panics with the result of
/// `payload`. Returns the panic that the caller sees.
fn all_panic<P: Any + Send>(
    pool: &mut ThreadPool,
    members: usize,
    payload: impl Fn(bool) -> P + Sync,
) -> Box<dyn Any + Send> {
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

/// Panics each time it is dropped.
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
