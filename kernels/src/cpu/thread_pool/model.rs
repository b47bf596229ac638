//! Model of the pool under loom, which tries every order of steps and every value that a load may see. Chunks and
//! scratch are loom's cells, so loom finds any two accesses that the protocol does not separate; a lost wake-up is a
//! deadlock.

use super::ThreadPool;
use loom::cell::UnsafeCell;
use loom::sync::Notify;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

type Cell = UnsafeCell<u32>;

fn cells(n: usize) -> Vec<Cell> {
    (0..n).map(|_| Cell::new(0)).collect()
}

fn read(cell: &Cell) -> u32 {
    // SAFETY: loom reports any concurrent access.
    cell.with(|value| unsafe { *value })
}

fn add(cell: &Cell, n: u32) {
    // SAFETY: as above.
    cell.with_mut(|value| unsafe { *value += n });
}

/// A phase over `data` in chunks of one.
fn phase(pool: &mut ThreadPool, data: &mut [Cell], scratch: &mut [Cell]) {
    pool.for_chunks(data, 1, scratch, |i, chunk, calls| {
        add(&chunk[0], 1 + i as u32);
        add(calls, 1);
    });
}

/// Runs `phases` phases of `chunks` chunks; the caller reads the data between them.
fn phases(members: usize, phases: u32, chunks: usize) {
    let mut pool = ThreadPool::new(members);
    let (mut data, mut scratch) = (cells(chunks), cells(members));
    for round in 1..=phases {
        data.iter().for_each(|cell| add(cell, 10));
        phase(&mut pool, &mut data, &mut scratch);
        let expected = (1..).map(|each| round * (10 + each));
        assert!(data.iter().zip(expected).all(|(cell, expected)| read(cell) == expected));
        assert_eq!(scratch.iter().map(read).sum::<u32>(), round * chunks as u32);
    }
}

/// Runs a model with at most `preemptions` preemptions, which keeps three threads feasible.
fn model(preemptions: Option<usize>, run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(run);
}

#[test]
fn a_pool_that_does_nothing_ends() {
    model(None, || drop(ThreadPool::new(2)));
    model(Some(3), || drop(ThreadPool::new(3)));
}

#[test]
fn one_phase_after_the_other() {
    model(Some(3), || phases(2, 2, 2));
    model(Some(2), || phases(2, 3, 2)); // phase numbers wrap around
}

#[test]
fn two_members_and_the_caller() {
    model(Some(2), || phases(3, 1, 2));
}

/// No chunk needs a second member, but every phase concerns all members, so a sleeping one is woken.
#[test]
fn a_member_hears_of_a_phase() {
    model(Some(3), || {
        let mut pool = ThreadPool::new(2);
        let begun = Notify::new();
        pool.for_chunks(&mut cells(2), 1, &mut cells(2), |i, _, _| match i {
            0 => begun.wait(),
            _ => begun.notify(),
        });
    });
}

/// The payload of panics in models.
struct Planned;

/// Whether a phase panics in which each chunk below `panics` panics.
fn panicking(pool: &mut ThreadPool, data: &mut [Cell], panics: usize) -> bool {
    let mut scratch = cells(pool.members());
    let phase = AssertUnwindSafe(|| {
        pool.for_chunks(data, 1, &mut scratch, |i, chunk, calls| {
            add(&chunk[0], 1);
            add(calls, 1);
            if i < panics {
                resume_unwind(Box::new(Planned));
            }
        });
    });
    match catch_unwind(phase) {
        Ok(()) => false,
        Err(panic) if panic.is::<Planned>() => true,
        Err(other) => resume_unwind(other),
    }
}

#[test]
fn a_panic_comes_out_of_its_phase_alone() {
    for panics in [1, 2] {
        model(Some(3), move || {
            let mut pool = ThreadPool::new(2);
            let mut data = cells(2);
            assert!(panicking(&mut pool, &mut data, panics));
            assert!(!panicking(&mut pool, &mut data, 0));
        });
    }
}
