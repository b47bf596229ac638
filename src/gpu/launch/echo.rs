//! An answer to every message, for measuring.

use super::{Launch, launch};
use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    call: u64,
    taken: u64,
    answer: u64,
    first: u32,
    times: u32,
    patience: u32,
    unused: u32,
}

/// Words of two rings in the device's addresses: the head of the one to it and its tail, and the head of the
/// one back.
#[derive(Clone, Copy)]
pub struct Words {
    pub call: u64,
    pub taken: u64,
    pub answer: u64,
}

/// Answers the `times` messages after number `first`, looking at most `patience` times for each.
pub fn echo(words: Words, first: u32, times: u32, patience: u32) -> Launch {
    let Words { call, taken, answer } = words;
    launch("echo", [1, 1], 32, Args { call, taken, answer, first, times, patience, unused: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::tests::devices;
    use crate::ring::{Layout, Receiver, Sender};
    use std::time::{Duration, Instant};

    #[test]
    fn every_message_is_answered() {
        for mut device in devices() {
            let layout = Layout::new(4, 128);
            let (there, at) = device.share(layout.bytes()).unwrap();
            let (back, back_at) = device.share(layout.bytes()).unwrap();
            let words = Words {
                call: at + layout.head_at() as u64,
                taken: at + layout.tail_at() as u64,
                answer: back_at + layout.head_at() as u64,
            };
            let (mut sender, mut receiver) =
                (Sender::new(there, layout), Receiver::new(back, layout));
            let work = device.record(&[echo(words, 0, 100, 1 << 28)]).unwrap();
            device.run(work).unwrap();
            let start = Instant::now();
            let wait = || {
                assert!(start.elapsed() < Duration::from_secs(60), "no answer");
                std::thread::yield_now();
            };
            for _ in 0..100 {
                while sender.claim().is_none() {
                    wait();
                }
                sender.publish();
                while receiver.receive().is_none() {
                    wait();
                }
                receiver.release();
            }
            device.read(0, &mut []).unwrap();
        }
    }
}
