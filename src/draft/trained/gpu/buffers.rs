//! What the passes of a drafter work on.

use super::network::{self, Fused, Network};
use crate::draft::trained::file::File;
use crate::error::Result;
use crate::gpu::device::{Buffer, Device};
use crate::gpu::launch::attention_tree::{AttentionScratch, splits_for};
use crate::gpu::launch::matmul::{HalfRows, Hidden};
use crate::gpu::launch::state::TreeShapeState;
use crate::gpu::launch::topk::{Candidates, TopKScratch};
use crate::gpu::launch::{MAX_ROWS, Rows};
use crate::gpu::weights::padded;
use crate::model::{Config, Heads, Rope};
use dovetail_kernels::cpu::attention::Shape;
use half::f16;

/// What lives in the device's memory between kernels; rows are those of a pass, [`MAX_ROWS`] at most.
pub struct Buffers {
    pub rows: Buffer<Rows>,
    pub growth: Buffer<TreeShapeState>,
    /// Messages taken, and blocks that have arrived.
    pub taken: Buffer<u32>,
    /// Trees written.
    pub written: Buffer<u32>,
    pub one: Buffer<u32>,
    pub states: Option<HalfRows>, // (rows, taps · width), before the matrix that makes them features
    pub feature: Buffer<f32>,     // (rows, H)
    pub sent: Buffer<f16>,        // (rows, H)
    pub fused: HalfRows,          // (rows, 2 H), embedding and feature
    pub feature_at: usize,
    pub pair: HalfRows, // (rows, 2 H)
    pub hidden: Hidden, // (rows, H)
    pub qkv: Buffer<f32>,
    pub rotations: Buffer<[f32; 2]>, // (slots, pairs)
    pub queries: Buffer<f16>,
    pub heads: HalfRows, // (rows, heads · head_dim)
    pub attention: AttentionScratch,
    pub inner: HalfRows, // (rows, n_ff)
    pub logits: Buffer<f32>,
    pub topk: TopKScratch,
    pub candidates: Candidates,
    pub caches: Vec<[Buffer<f16>; 2]>, // (kv heads, slots, head_dim): keys and values of each block
}

impl Buffers {
    /// All zero, for caches of so many slots.
    ///
    /// # Errors
    /// When the device has no room, or the drafter is configured in a way that no kernel is for.
    pub fn new(
        device: &mut dyn Device,
        file: &File,
        network: &Network,
        slots: usize,
    ) -> Result<Buffers> {
        let (c, multiprocessors) = (&file.config, device.multiprocessors());
        let (h, shape) = (c.n_embd, shape(c));
        let (q_width, kv_width) = (c.heads(0).q_width(), c.heads(0).kv_width());
        let floats = |device: &mut dyn Device, width: usize| Buffer::new(device, MAX_ROWS * width);
        let halves = |device: &mut dyn Device, stride: usize| -> Result<HalfRows> {
            Ok(HalfRows { buffer: Buffer::new(device, MAX_ROWS * stride)?, stride })
        };
        // Each of two inputs is padded, or both side by side are.
        let (feature_at, fused) = match &network.fusion {
            Fused::CpuDrafter { .. } => (padded(h), 2 * padded(h)),
            Fused::Fc { .. } => (h, padded(2 * h)),
        };
        let states = match &network.features {
            Some((matrix, _)) => Some(halves(device, padded(matrix.columns))?),
            None => None,
        };
        let Rope { frequencies, factor, .. } = network::rope(c)?;
        let rotations: Vec<[f32; 2]> = (0..slots)
            .flat_map(|position| {
                frequencies.iter().map(move |frequency| {
                    let (sin, cos) = libm::sincos(position as f64 * frequency);
                    [(cos * factor) as f32, (sin * factor) as f32]
                })
            })
            .collect();
        let most_splits = |rows: usize| splits_for(shape, rows, multiprocessors);
        let splits = [1, 8, 16, 32, MAX_ROWS].map(most_splits).into_iter().max().unwrap_or(1);
        let stride = network.vocabulary.head.rows;
        let cache = |device: &mut dyn Device| -> Result<[Buffer<f16>; 2]> {
            let len = slots * kv_width;
            Ok([Buffer::new(device, len)?, Buffer::new(device, len)?])
        };
        Ok(Buffers {
            rows: Buffer::new(device, 1)?,
            growth: Buffer::new(device, 1)?,
            taken: Buffer::new(device, 2)?,
            written: Buffer::new(device, 1)?,
            one: Buffer::from_slice(device, &[1])?,
            states,
            feature: floats(device, h)?,
            sent: Buffer::new(device, MAX_ROWS * h)?,
            fused: halves(device, fused)?,
            feature_at,
            pair: halves(device, padded(2 * h))?,
            hidden: Hidden {
                states: floats(device, h)?,
                normed: halves(device, padded(h))?,
                squares: floats(device, h.div_ceil(16))?,
            },
            qkv: floats(device, q_width + 2 * kv_width)?,
            rotations: Buffer::from_slice(device, &rotations)?,
            queries: Buffer::new(device, MAX_ROWS * q_width)?,
            heads: halves(device, padded(q_width))?,
            attention: AttentionScratch::new(device, shape, MAX_ROWS, splits)?,
            inner: halves(device, padded(c.n_ff.iter().copied().max().unwrap_or(0)))?,
            logits: floats(device, stride)?,
            topk: TopKScratch::new(device, MAX_ROWS, stride)?,
            candidates: Candidates::new(device)?,
            caches: (0..c.n_layers).map(|_| cache(device)).collect::<Result<_>>()?,
        })
    }
}

/// The heads of attention.
pub fn shape(c: &Config) -> Shape {
    let Heads { n, n_kv, dim } = c.heads(0);
    Shape { kv_heads: n_kv, group: n / n_kv, head_dim: dim }
}
