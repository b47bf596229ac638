//! The receiving end of the ring.

use super::state::TreeShapeState;
use super::{Buffer, Launch, LaunchMemory, MAX_ROWS, Rows};
use crate::gpu::device::Shared;
use crate::gpu::launch::matmul::HalfRows;
use crate::ring::Layout;
use crate::ring::message::VerdictShape;
use bytemuck::{Pod, Zeroable};
use half::f16;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    slots: u64,
    sequence: u64,
    rows: u64,
    growth: u64,
    sent: u64,
    x: u64,
    feature: u64,
    norms: u64,
    slot_bytes: u32,
    slots_mask: u32,
    width: u32,
    tap_width: u32,
    embedding: u32,
    stride: u32,
    eps: f32,
    unused: u32,
}

/// The slots of a ring as the device sees them.
pub struct Slots {
    shared: Shared,
    layout: Layout,
}

impl Slots {
    /// The slots of a ring in this memory.
    ///
    /// # Panics
    /// If the memory is shorter than the layout.
    pub fn new(shared: &Shared, layout: Layout) -> Slots {
        assert!(shared.bytes() >= layout.bytes(), "a ring's memory");
        Slots { shared: shared.clone(), layout }
    }

    /// Number of slots, a power of two.
    pub fn n_slots(&self) -> usize {
        self.layout.slots() as usize
    }

    /// Bytes from one slot to the next, a multiple of 128.
    pub fn slot_bytes(&self) -> usize {
        self.layout.stride()
    }

    /// Address of the first slot, for a launch that uses them.
    pub fn address(&self, memory: &mut LaunchMemory) -> u64 {
        memory.shared(&self.shared) + self.layout.slot_at(0) as u64
    }
}

/// Where features go.
#[derive(Clone, Copy)]
pub enum Features<'a> {
    /// Into rows of a matrix product, (taps · width); each tap is normed first if there are norms.
    Rows(&'a HalfRows, Option<&'a Buffer<f32>>),
    /// Stored as they are: (MAX_ROWS, width).
    Plain(&'a Buffer<f32>),
}

/// Takes a message of at most `max_rows` rows, each with `width` features of `taps` hidden states and an embedding of
/// `embedding` half floats. `sequence` has the number of messages, and a counter that is 0 between launches.
///
/// # Panics
/// If lengths do not fit each other.
#[allow(clippy::too_many_arguments, reason = "of two kinds: where from and where to")]
pub fn receive(
    max_rows: usize,
    slots: &Slots,
    sequence: &Buffer<u32>,
    [width, taps, embedding]: [usize; 3],
    eps: f32,
    rows: &Buffer<Rows>,
    growth: &Buffer<TreeShapeState>,
    sent: &Buffer<f16>,
    features: Features,
) -> Launch {
    assert!(max_rows <= MAX_ROWS && rows.len() == 1 && growth.len() == 1, "rows");
    let message = VerdictShape::new(width, embedding).map(|shape| shape.slot_bytes());
    assert!(message.is_some_and(|bytes| slots.slot_bytes() >= bytes), "a slot holds a message");
    assert!(sequence.len() == 2, "two counters");
    assert!(width.is_multiple_of(8 * taps) && embedding.is_multiple_of(8), "whole words");
    assert!(sent.len() >= max_rows * embedding, "embeddings");
    let mut memory = LaunchMemory::default();
    let mut args = Args {
        slots: slots.address(&mut memory),
        sequence: memory.buffer(sequence),
        rows: memory.buffer(rows),
        growth: memory.buffer(growth),
        sent: memory.buffer(sent),
        x: 0,
        feature: 0,
        norms: 0,
        slot_bytes: slots.slot_bytes() as u32,
        slots_mask: slots.n_slots() as u32 - 1,
        width: width as u32,
        tap_width: (width / taps) as u32,
        embedding: embedding as u32,
        stride: 0,
        eps,
        unused: 0,
    };
    match features {
        Features::Rows(x, norms) => {
            assert!(x.stride >= width && x.buffer.len() >= max_rows * x.stride, "features");
            assert!(norms.is_none_or(|norms| norms.len() == width), "norms");
            (args.x, args.stride) = (memory.buffer(&x.buffer), x.stride as u32);
            args.norms = memory.optional(norms);
        }
        Features::Plain(feature) => {
            assert!(feature.len() >= max_rows * width, "features");
            args.feature = memory.buffer(feature);
        }
    }
    // SAFETY: lengths were checked above; the kernel takes no more rows than a message can have.
    unsafe { Launch::new("receive", [max_rows as u32, 1], 256, &args, memory) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Device;
    use crate::gpu::launch::NONE;
    use crate::gpu::tests::{devices, noise, run};
    use crate::ring::Sender;
    use crate::ring::message::{Verdict, write_halves};

    const EPS: f32 = 1e-5;

    #[test]
    fn messages_are_taken_one_after_the_other() {
        for mut device in devices() {
            for (tap_width, taps, embedding) in [(64, 1, 64), (96, 3, 96), (576, 3, 576)] {
                for how in ["plain", "rows", "normed"] {
                    if how != "plain" || taps == 1 {
                        check(&mut *device, tap_width, taps, embedding, how);
                    }
                }
            }
        }
    }

    /// More messages than there are slots, with various numbers of rows.
    fn check(device: &mut dyn Device, tap_width: usize, taps: usize, embedding: usize, how: &str) {
        const LAUNCH_ROWS: usize = 33;
        let (width, mut draw) = (taps * tap_width, noise(4));
        let shape = VerdictShape::new(width, embedding).unwrap();
        let layout = Layout::new(2, shape.slot_bytes());
        let (region, shared) = device.share(layout.bytes()).unwrap();
        let mut sender = Sender::new(region, layout);
        let (slots, taken) = (Slots::new(&shared, layout), shared.doorbell(layout.tail_at()));
        let norms: Vec<f32> = (0..width).map(|_| draw()).collect();
        let norms_on = Buffer::from_slice(device, &norms).unwrap();
        let stride = width.next_multiple_of(128);
        let x = HalfRows { buffer: Buffer::new(device, MAX_ROWS * stride).unwrap(), stride };
        let plain = Buffer::new(device, MAX_ROWS * width).unwrap();
        let sequence = Buffer::new(device, 2).unwrap();
        let rows = Buffer::new(device, 1).unwrap();
        let growth = Buffer::new(device, 1).unwrap();
        let sent = Buffer::new(device, MAX_ROWS * embedding).unwrap();
        let features = match how {
            "plain" => Features::Plain(&plain),
            "rows" => Features::Rows(&x, None),
            _ => Features::Rows(&x, Some(&norms_on)),
        };
        let sizes = [width, taps, embedding];
        let launch =
            || receive(LAUNCH_ROWS, &slots, &sequence, sizes, EPS, &rows, &growth, &sent, features);
        for (i, n) in [1, 8, 0, LAUNCH_ROWS, 2].into_iter().enumerate() {
            let slot = sender.claim().unwrap();
            let mut header: Verdict = Zeroable::zeroed();
            (header.rows, header.first) = (n as u32, 100 + i as u32);
            (header.depth, header.width, header.nodes) = (5, 6, 7 + i as u32);
            (header.floor, header.n_draft) = (-1.5, 99);
            header.tokens = std::array::from_fn(|t| (1000 * i + t) as u32);
            *shape.header_mut(slot) = header;
            let mut told = Vec::new();
            for r in 0..n {
                let (feature, token) = shape.row_mut(slot, r);
                let values: Vec<f32> = (0..width + embedding).map(|_| draw()).collect();
                write_halves(&values[..width], feature);
                write_halves(&values[width..], token);
                let floats = |x: &[f16]| x.iter().map(|x| x.to_f32()).collect::<Vec<f32>>();
                told.push((floats(feature), token.to_vec()));
            }
            sender.publish();
            run(device, &[launch()]);
            device.ring(&taken, i as u32 + 1).unwrap();
            assert_eq!(sequence.read(device).unwrap(), [i as u32 + 1, 0]);
            let round = growth.read(device).unwrap()[0].round;
            assert_eq!((round.depth, round.width, round.nodes), (5, 6, 7 + i as u32));
            assert_eq!((round.floor, round.n_draft), (-1.5, 99));
            let found: Rows = rows.read(device).unwrap()[0];
            assert_eq!(found.n, n as u32);
            if n > 0 {
                assert_eq!(round.root_token, (1000 * i + n - 1) as u32);
                assert_eq!(round.root_slot, header.first + n as u32 - 1);
            }
            let (plain, sent) = (plain.read(device).unwrap(), sent.read(device).unwrap());
            let all = x.buffer.read(device).unwrap();
            // The newest row comes first.
            for (r, (feature, token)) in told.iter().rev().enumerate() {
                let slot = header.first + (n - 1 - r) as u32;
                assert_eq!((found.slot[r], found.base[r], found.position[r]), (slot, slot, slot));
                assert_eq!((found.token[r], found.parent[r], found.mask[r]), (NONE, NONE, 1));
                assert_eq!(sent[r * embedding..][..embedding], token[..]);
                let out: Vec<f32> = match how {
                    "plain" => plain[r * width..][..width].to_vec(),
                    _ => x.row(&all, r, width).iter().map(|x| x.to_f32()).collect(),
                };
                for (j, (x, f)) in out.iter().zip(feature).enumerate() {
                    let tap = &feature[j / tap_width * tap_width..][..tap_width];
                    let mean = tap.iter().map(|x| x * x).sum::<f32>() / tap_width as f32;
                    let normed = norms[j] * f / (mean + EPS).sqrt();
                    let expected = if how == "normed" { normed } else { *f };
                    let most = if how == "normed" { expected.abs() / 1024.0 + 1e-7 } else { 0.0 };
                    assert!((x - expected).abs() <= most, "row {r}, {j}: {x}, not {expected}");
                }
            }
        }
    }
}
