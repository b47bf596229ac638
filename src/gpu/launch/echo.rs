//! Answers every message, for measurements.

use super::{Launch, LaunchMemory};
use crate::gpu::device::Doorbell;
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

/// Words of two rings: head and tail of the ring to the device, and the head of the ring back.
pub struct Words {
    pub call: Doorbell,
    pub taken: Doorbell,
    pub answer: Doorbell,
}

/// Answers the `times` messages after number `first`, polling at most `patience` times for each.
pub fn echo(words: &Words, first: u32, times: u32, patience: u32) -> Launch {
    let mut memory = LaunchMemory::default();
    let Words { call, taken, answer } = words;
    let [call, taken, answer] = [call, taken, answer].map(|word| memory.doorbell(word));
    let args = Args { call, taken, answer, first, times, patience, unused: 0 };
    // SAFETY: the kernel uses the three words as the other side of a ring does.
    unsafe { Launch::new("echo", [1, 1], 32, &args, memory) }
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
            let (there, to_it) = device.share(layout.bytes()).unwrap();
            let (back, from_it) = device.share(layout.bytes()).unwrap();
            let words = Words {
                call: to_it.doorbell(layout.head_at()),
                taken: to_it.doorbell(layout.tail_at()),
                answer: from_it.doorbell(layout.head_at()),
            };
            let (mut sender, mut receiver) =
                (Sender::new(there, layout), Receiver::new(back, layout));
            let work = device.record(&[echo(&words, 0, 100, 1 << 28)]).unwrap();
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
            device.finish().unwrap();
        }
    }
}
