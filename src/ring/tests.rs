//! The ends of a ring against a queue of numbers, and against each other on two threads.

use super::heap::{self, Memory};
use super::shared::pause;
use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

/// Fills a message with its number, mixed, in every word of 8 bytes.
fn fill(slot: &mut [u8], number: u32) {
    for (i, word) in slot.chunks_mut(8).enumerate() {
        word.copy_from_slice(&mixed(number, i).to_le_bytes()[..word.len()]);
    }
}

#[track_caller]
fn check(slot: &[u8], number: u32) {
    for (i, word) in slot.chunks(8).enumerate() {
        assert_eq!(word, &mixed(number, i).to_le_bytes()[..word.len()], "message {number}, {i}");
    }
}

fn mixed(number: u32, i: usize) -> u64 {
    (u64::from(number) << 32 | i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// First numbers: any, and ones that soon wrap around.
fn firsts() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), any::<u32>(), u32::MAX - 20..=u32::MAX]
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Claim,
    Send,
    Receive,
    Release,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Claim),
        3 => Just(Step::Send),
        1 => Just(Step::Receive),
        3 => Just(Step::Release),
    ];
    prop::collection::vec(step, 0..if cfg!(miri) { 40 } else { 200 })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The specification is a queue of at most `slots` numbers.
    #[test]
    fn a_ring_is_a_queue(
        slots in (0u32..4).prop_map(|log| 1 << log),
        slot_bytes in 1usize..300,
        first in firsts(),
        steps in steps(),
    ) {
        let layout = Layout::new(slots, slot_bytes);
        let (mut sender, mut receiver) = heap::ring_from(layout, first);
        let mut queue = VecDeque::new();
        for step in steps {
            let room = queue.len() < slots as usize;
            let next = sender.sequence();
            prop_assert_eq!(receiver.sequence().wrapping_add(queue.len() as u32), next);
            match step {
                Step::Claim => prop_assert_eq!(sender.claim().is_some(), room),
                Step::Send => {
                    let slot = sender.claim();
                    prop_assert_eq!(slot.is_some(), room);
                    if let Some(slot) = slot {
                        prop_assert_eq!(slot.len(), slot_bytes);
                        fill(slot, next);
                        sender.publish();
                        queue.push_back(next);
                    }
                }
                Step::Receive | Step::Release => {
                    let number = receiver.sequence();
                    let slot = receiver.receive();
                    prop_assert_eq!(slot.is_some(), !queue.is_empty());
                    if let Some(slot) = slot {
                        prop_assert_eq!(queue[0], number);
                        prop_assert_eq!(slot.len(), slot_bytes);
                        check(slot, number);
                        if matches!(step, Step::Release) {
                            receiver.release();
                            queue.pop_front();
                        }
                    }
                }
            }
        }
    }

    /// Slots are after the words, do not overlap, are aligned, and follow the order of the numbers.
    #[test]
    fn slots_follow_each_other(log in 0u32..8, slot_bytes in 1usize..5000, first in firsts()) {
        let layout = Layout::new(1 << log, slot_bytes);
        let end = layout.bytes();
        let stride = (end - 256) / layout.slots() as usize;
        prop_assert!(stride >= slot_bytes && stride < slot_bytes + 128 && stride.is_multiple_of(128));
        prop_assert_eq!((layout.head_at(), layout.tail_at()), (0, 128));
        let at = layout.slot_at(first);
        prop_assert!(at >= 256 && at + stride <= end && at.is_multiple_of(128));
        let next = layout.slot_at(first.wrapping_add(1));
        prop_assert_eq!(next, if at + stride == end { 256 } else { at + stride });
    }
}

#[test]
fn a_message_is_read_where_it_was_written() {
    let (mut sender, mut receiver) = heap::ring(Layout::new(2, 64));
    let written = sender.claim().unwrap().as_ptr();
    assert_eq!(sender.claim().unwrap().as_ptr(), written, "the same until it is published");
    sender.publish();
    assert_eq!(receiver.receive().unwrap().as_ptr(), written);
    assert_eq!(receiver.receive().unwrap().as_ptr(), written, "the same until it is released");
    assert_ne!(sender.claim().unwrap().as_ptr(), written);
}

#[test]
fn the_ends_stay_in_step() {
    let fails = |work: &mut dyn FnMut()| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err()
    };
    let layout = Layout::new(1, 8);
    let (mut sender, mut receiver) = heap::ring(layout);
    assert!(fails(&mut || sender.publish()), "nothing claimed");
    assert!(fails(&mut || receiver.release()), "nothing received");
    assert!(receiver.receive().is_none());
    assert!(fails(&mut || receiver.release()), "there was nothing");
    sender.claim().unwrap();
    sender.publish();
    assert!(sender.claim().is_none());
    assert!(fails(&mut || sender.publish()), "there was no room");

    for (slots, slot_bytes) in
        [(0, 8), (3, 8), (1 << 31, 8), (1, 0), (4, isize::MAX as usize / 4 - 64)]
    {
        let new = &mut || assert!(Layout::new(slots, slot_bytes).bytes() > 0);
        assert!(fails(new), "{slots} of {slot_bytes}");
    }
    let (region, memory) = heap::share(layout.bytes() - 128);
    assert_eq!(memory.len(), layout.bytes() - 128);
    let mut region = Some(region);
    assert!(fails(&mut || drop(Sender::new(region.take().unwrap(), layout))), "too short");
}

/// A word that the protocol cannot produce is neither a message nor room for one.
#[test]
fn impossible_words_are_not_believed() {
    let layout = Layout::new(4, 8);
    let (region, memory) = heap::share(layout.bytes());
    let mut receiver = Receiver::new(region, layout);
    for head in [5, 1 << 31, u32::MAX] {
        memory.ring(layout.head_at(), head);
        assert!(receiver.receive().is_none(), "{head}");
    }
    memory.ring(layout.head_at(), 4);
    assert!(receiver.receive().is_some());

    let (region, memory) = heap::share(layout.bytes());
    memory.ring(layout.tail_at(), 1);
    assert!(Sender::new(region, layout).claim().is_none());
}

#[test]
fn doorbells_compare_by_sign() {
    let (_region, memory) = heap::share(256);
    for (word, value, rung) in [
        (0, 0, true),
        (0, 1, false),
        (1, 1, true),
        (2, 1, true),
        (u32::MAX, 0, false),
        (0, u32::MAX, true),
        (5, u32::MAX - 5, true),
        (u32::MAX - 5, 5, false),
    ] {
        memory.ring(128, word);
        assert_eq!(memory.has_rung(128, value), rung, "{word}, {value}");
    }
    let mut patience = 3;
    let waited = memory.wait(128, 5, || {
        patience -= 1;
        patience > 0
    });
    assert!(!waited && patience == 0);
}

/// Delays of one thread: mostly none, sometimes short, rarely long.
struct Delays(u64);

impl Delays {
    fn delay(&mut self) {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = self.0 >> 40;
        match dice % 4096 {
            0 => std::thread::yield_now(),
            1..64 => (0..dice >> 12 & 255).for_each(|_| std::hint::spin_loop()),
            64..512 => (0..dice >> 12 & 7).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }
}

/// Calls `poll` until it returns a value.
fn until<T>(mut poll: impl FnMut() -> Option<T>) -> T {
    let mut turn = 0;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        pause(turn);
        turn = turn.saturating_add(1);
    }
}

/// Number of rounds of the stress tests: `DOVETAIL_STRESS`, or few.
fn rounds() -> u32 {
    let few = if cfg!(miri) { 200 } else { 100_000 };
    std::env::var("DOVETAIL_STRESS").ok().map_or(few, |n| n.parse().expect("a number"))
}

/// Handles message `number` of `asked` as a device's stream does: waits for it, takes it, releases the slot, waits for
/// room, and answers.
fn answer(asked: &Memory, answers: &Memory, layout: Layout, number: u32, delays: &mut Delays) {
    let next = number.wrapping_add(1);
    let (at, len) = (layout.slot_at(number), layout.slot_bytes());
    asked.wait(layout.head_at(), next, || true);
    delays.delay();
    // SAFETY: published and not released.
    check(unsafe { asked.slot(at, len) }, number);
    asked.ring(layout.tail_at(), next);
    delays.delay();
    answers.wait(layout.tail_at(), next.wrapping_sub(layout.slots()), || true);
    // SAFETY: released and not published.
    fill(unsafe { answers.slot_mut(at, len) }, !number);
    delays.delay();
    answers.ring(layout.head_at(), next);
}

/// Questions and answers between a host and a device; the questions run up to `ahead` ahead of the answers.
fn ask(rounds: u32, slots: u32, ahead: u32) {
    let layout = Layout::new(slots, 72);
    let first = 0u32.wrapping_sub(rounds / 2); // wraps around on the way
    let (questions, asked) = heap::share(layout.bytes());
    let (proposed, answers) = heap::share(layout.bytes());
    for memory in [&asked, &answers] {
        memory.ring(layout.head_at(), first);
        memory.ring(layout.tail_at(), first);
    }
    let device = std::thread::spawn(move || {
        let mut delays = Delays(1);
        for n in 0..rounds {
            answer(&asked, &answers, layout, first.wrapping_add(n), &mut delays);
        }
    });
    let (mut sender, mut receiver) =
        (Sender::new(questions, layout), Receiver::new(proposed, layout));
    let mut delays = Delays(2);
    let (mut asked, mut answered) = (0, 0);
    while answered < rounds {
        while asked < rounds && asked - answered < ahead {
            let number = sender.sequence();
            until(|| sender.claim().map(|slot| fill(slot, number)));
            delays.delay();
            sender.publish();
            asked += 1;
        }
        delays.delay();
        let number = receiver.sequence();
        until(|| receiver.receive().map(|slot| check(slot, !number)));
        delays.delay();
        receiver.release();
        answered += 1;
    }
    device.join().unwrap();
    assert_eq!(sender.sequence(), first.wrapping_add(rounds));
}

#[test]
fn stress_one_round_after_the_other() {
    ask(rounds(), 1, 1);
}

#[test]
fn stress_rounds_ahead() {
    ask(rounds(), 4, 6);
}

#[test]
fn stress_one_way() {
    let rounds = rounds();
    let layout = Layout::new(8, 136);
    let (mut sender, mut receiver) = heap::ring_from(layout, 0u32.wrapping_sub(rounds / 2));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut delays = Delays(3);
            for _ in 0..rounds {
                let number = sender.sequence();
                until(|| sender.claim().map(|slot| fill(slot, number)));
                delays.delay();
                sender.publish();
            }
        });
        let mut delays = Delays(4);
        for _ in 0..rounds {
            let number = receiver.sequence();
            until(|| receiver.receive().map(|slot| check(slot, number)));
            delays.delay();
            receiver.release();
        }
    });
    assert!(receiver.receive().is_none());
}
