//! The protocol under loom, which tries every order of steps and every value that a load may see. It finds any two uses
//! of a slot that the words do not keep apart.
//!
//! The tests must fail if one of the six orderings of `mod.rs` and `heap.rs` becomes `Relaxed`.

use super::heap::{self, Memory};
use super::shared::pause;
use super::{Layout, Receiver, Sender};
use loom::thread;

const LAYOUT: Layout = Layout::new(1, 4);

/// The numbers wrap around on the way.
const FIRST: u32 = u32::MAX;

fn send(sender: &mut Sender, value: u32) {
    let number = sender.sequence();
    while sender.claim().map(|slot| slot.copy_from_slice(&value.to_le_bytes())).is_none() {
        pause(0);
    }
    sender.publish();
    assert_eq!(sender.sequence(), number.wrapping_add(1));
}

fn receive(receiver: &mut Receiver) -> u32 {
    let value = loop {
        if let Some(slot) = receiver.receive() {
            break u32::from_le_bytes(slot.try_into().unwrap());
        }
        pause(0);
    };
    receiver.release();
    value
}

/// A sender and a receiver: `messages` messages through `slots` slots.
fn one_way(slots: u32, messages: u32) {
    loom::model(move || {
        let (mut sender, mut receiver) = heap::ring_from(Layout::new(slots, 4), FIRST);
        let thread = thread::spawn(move || (0..messages).for_each(|n| send(&mut sender, 7 + n)));
        for n in 0..messages {
            assert_eq!(receive(&mut receiver), 7 + n);
        }
        assert!(receiver.receive().is_none());
        thread.join().unwrap();
    });
}

#[test]
fn one_slot() {
    one_way(1, 3);
}

#[test]
fn two_slots() {
    one_way(2, 3);
}

/// Both ends poll and may find nothing.
#[test]
fn ends_that_do_not_wait() {
    loom::model(|| {
        let (mut sender, mut receiver) = heap::ring_from(Layout::new(2, 4), FIRST);
        let thread = thread::spawn(move || {
            let mut sent = 0u32;
            for _ in 0..3 {
                if let Some(slot) = sender.claim() {
                    slot.copy_from_slice(&sent.to_le_bytes());
                    sender.publish();
                    sent += 1;
                }
            }
            sent
        });
        let mut received = 0u32;
        for _ in 0..3 {
            if let Some(slot) = receiver.receive() {
                assert_eq!(slot, received.to_le_bytes());
                receiver.release();
                received += 1;
            }
        }
        assert!(received <= thread.join().unwrap());
    });
}

/// One step of a device's stream: a question in, an answer out. It uses the doorbells and slots of [`Memory`].
fn answer(asked: &Memory, answers: &Memory, number: u32) {
    let next = number.wrapping_add(1);
    let at = LAYOUT.slot_at(number);
    asked.wait(LAYOUT.head_at(), next, || true);
    // SAFETY: published and not released.
    let question = u32::from_le_bytes(unsafe { asked.slot(at, 4) }.try_into().unwrap());
    asked.ring(LAYOUT.tail_at(), next);
    answers.wait(LAYOUT.tail_at(), next.wrapping_sub(LAYOUT.slots()), || true);
    // SAFETY: released and not published.
    unsafe { answers.slot_mut(at, 4) }.copy_from_slice(&(question + 1).to_le_bytes());
    answers.ring(LAYOUT.head_at(), next);
}

/// A host that asks `ahead` questions before it reads the first answer.
fn rounds(rounds: u32, ahead: u32) {
    loom::model(move || {
        let (questions, asked) = heap::share(LAYOUT.bytes());
        let (proposed, answers) = heap::share(LAYOUT.bytes());
        for memory in [&asked, &answers] {
            memory.ring(LAYOUT.head_at(), FIRST);
            memory.ring(LAYOUT.tail_at(), FIRST);
        }
        let device = thread::spawn(move || {
            (0..rounds).for_each(|n| answer(&asked, &answers, FIRST.wrapping_add(n)));
        });
        let (mut sender, mut receiver) =
            (Sender::new(questions, LAYOUT), Receiver::new(proposed, LAYOUT));
        (0..ahead).for_each(|n| send(&mut sender, 10 * n));
        for n in 0..rounds {
            assert_eq!(receive(&mut receiver), 10 * n + 1);
            if n + ahead < rounds {
                send(&mut sender, 10 * (n + ahead));
            }
        }
        device.join().unwrap();
    });
}

#[test]
fn one_round_after_the_other() {
    rounds(2, 1);
}

#[test]
fn rounds_ahead() {
    rounds(2, 2);
}
