//! The receiving end of the ring.

use super::grow::GrowthState;
use super::{Buffer, Launch, MAX_ROWS, Rows, launch};
use crate::draft::gpu::launch::matmul::HalfRows;
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

/// Slots of a ring as the device sees them.
#[derive(Clone, Copy)]
pub struct Slots {
    pub address: u64,
    /// A power of two.
    pub slots: usize,
    pub slot_bytes: usize,
}

/// What becomes of the features.
#[derive(Clone, Copy)]
pub enum Features {
    /// They enter a matrix, each tap normed before if there are norms: (taps · width).
    Rows(HalfRows, Option<Buffer<f32>>),
    /// They are the features: (MAX_ROWS, width).
    Plain(Buffer<f32>),
}

/// Takes a message of at most `max_rows` rows: `width` features of `taps` hidden states, and an embedding of
/// `embedding` half floats, each. `sequence` counts messages, and what must be 0 beside them.
///
/// # Panics
/// Where lengths do not fit each other.
#[allow(clippy::too_many_arguments, reason = "of two kinds: where from and where to")]
pub fn receive(
    max_rows: usize,
    slots: Slots,
    sequence: Buffer<u32>,
    [width, taps, embedding]: [usize; 3],
    eps: f32,
    rows: Buffer<Rows>,
    growth: Buffer<GrowthState>,
    sent: Buffer<f16>,
    features: Features,
) -> Launch {
    assert!(max_rows <= MAX_ROWS && rows.len() == 1 && growth.len() == 1, "rows");
    assert!(slots.slots.is_power_of_two() && sequence.len() == 2, "a ring");
    assert!(width.is_multiple_of(8 * taps) && embedding.is_multiple_of(8), "whole words");
    assert!(sent.len() >= max_rows * embedding, "embeddings");
    let mut args = Args {
        slots: slots.address,
        sequence: sequence.address(),
        rows: rows.address(),
        growth: growth.address(),
        sent: sent.address(),
        x: 0,
        feature: 0,
        norms: 0,
        slot_bytes: slots.slot_bytes as u32,
        slots_mask: slots.slots as u32 - 1,
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
            (args.x, args.stride) = (x.buffer.address(), x.stride as u32);
            args.norms = norms.map_or(0, |norms| norms.address());
        }
        Features::Plain(feature) => {
            assert!(feature.len() >= max_rows * width, "features");
            args.feature = feature.address();
        }
    }
    launch("receive", [max_rows as u32, 1], 256, args)
}
