//! What a message through the ring costs, both ends in this process.
//!
//! - `one thread`: publish and receive alone, the memory being in the core's cache: what the protocol itself
//!   costs.
//! - `round trip`: a question to another thread and its answer back, each through a ring of its own, both
//!   threads spinning: what the way between two cores costs. On a machine where cores are busy they yield,
//!   and the time is the scheduler's.
//! - `verdict of N rows`: floats of an accepted path rounded into a slot, and published.
//!
//! ```sh
//! cargo bench --bench ring
//! ```

mod common;

use bytemuck::Zeroable;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use dovetail::ring::message::{Verdict, VerdictShape, write_halves};
use dovetail::ring::{Layout, Receiver, Sender, heap};
use std::hint::{black_box, spin_loop};

/// Bytes of the messages that are only passed on.
const SIZES: [usize; 2] = [64, 1544];

/// Ends the thread that answers.
const STOP: u64 = u64::MAX;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("ring");
    for size in SIZES {
        one_thread(&mut group, size);
    }
    for size in SIZES {
        round_trip(&mut group, size);
    }
    for rows in [1, 4, 64] {
        verdict(&mut group, rows);
    }
    group.finish();
    criterion.final_summary();
}

fn time(group: &mut BenchmarkGroup<WallTime>, what: &str, case: &str, work: &mut dyn FnMut()) {
    if let Some(seconds) = common::time(group, what, case, work) {
        println!("  {what}, {case}: {:.1} ns", 1e9 * seconds);
        common::record(format_args!("dovetail,ring: {what}; {case},{:.4},,,,,", 1e6 * seconds));
    }
}

fn one_thread(group: &mut BenchmarkGroup<WallTime>, size: usize) {
    let (mut sender, mut receiver) = heap::ring(Layout::new(2, size));
    let mut number = 0;
    time(group, "one thread", &format!("{size} bytes"), &mut || {
        number += 1;
        send(&mut sender, number);
        assert_eq!(receive(&mut receiver), number, "what was sent arrives");
    });
}

fn round_trip(group: &mut BenchmarkGroup<WallTime>, size: usize) {
    let layout = Layout::new(2, size);
    let (mut questions, mut asked) = heap::ring(layout);
    let (mut answers, mut answered) = heap::ring(layout);
    let other = std::thread::spawn(move || {
        loop {
            let number = receive(&mut asked);
            if number == STOP {
                break;
            }
            send(&mut answers, !number);
        }
    });
    let mut number = 0;
    time(group, "round trip", &format!("{size} bytes"), &mut || {
        number += 1;
        send(&mut questions, number);
        assert_eq!(receive(&mut answered), !number, "the answer is this question's");
    });
    send(&mut questions, STOP);
    other.join().expect("it answers until it is told to stop");
}

/// A message of `number` in all its words.
fn send(sender: &mut Sender, number: u64) {
    let write = |slot: &mut [u8]| {
        slot.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&number.to_le_bytes()));
    };
    wait(|| sender.claim().map(write));
    sender.publish();
}

/// What the next message says.
fn receive(receiver: &mut Receiver) -> u64 {
    let read = |slot: &[u8]| {
        let same = slot.chunks_exact(8).all(|word| *word == slot[..8]);
        assert!(same, "a message is whole");
        u64::from_le_bytes(slot[..8].try_into().expect("8 bytes"))
    };
    let number = wait(|| receiver.receive().map(read));
    receiver.release();
    number
}

/// Calls `poll` until it says something.
fn wait<T>(mut poll: impl FnMut() -> Option<T>) -> T {
    let mut turn = 0u64;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        if turn < 10_000 {
            spin_loop()
        } else {
            std::thread::yield_now()
        }
        turn += 1;
    }
}

/// Rows of a 7B model's drafter: three hidden states of 4096, and an embedding.
fn verdict(group: &mut BenchmarkGroup<WallTime>, rows: usize) {
    const HIDDEN: usize = 4096;
    let shape = VerdictShape::new(3 * HIDDEN, HIDDEN).expect("multiples of 8");
    let layout = Layout::new(2, shape.slot_bytes());
    let (mut sender, mut receiver) = heap::ring(layout);
    let floats = common::random::Random(1).floats(3 * HIDDEN);
    let mut write = |check: bool| {
        let slot = sender.claim().expect("there is room");
        *shape.header_mut(slot) = Verdict { rows: rows as u32, ..Verdict::zeroed() };
        for row in 0..rows {
            let (feature, embedding) = shape.row_mut(slot, row);
            write_halves(&floats, feature);
            write_halves(&floats[..HIDDEN], embedding);
        }
        sender.publish();
        let slot = black_box(receiver.receive().expect("there is a message"));
        if check {
            let halves = floats.iter().map(|x| half::f16::from_f32(*x));
            let (feature, embedding) = shape.row(slot, rows - 1);
            assert!(halves.clone().eq(feature.iter().copied()));
            assert!(halves.take(HIDDEN).eq(embedding.iter().copied()));
        }
        receiver.release();
    };
    write(true);
    let bytes = rows * 4 * HIDDEN * size_of::<f32>();
    group.throughput(criterion::Throughput::Bytes(bytes as u64));
    time(group, "verdict", &format!("{rows} rows of 3 x 4096 + 4096"), &mut || write(false));
}
