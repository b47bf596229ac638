//! Attention over the cache and the tree in it.

use super::matmul::HalfRows;
use super::{Buffer, Launch, LaunchMemory, MAX_ROWS, Rows};
use crate::error::Result;
use crate::gpu::device::Device;
use bytemuck::{Pod, Zeroable};
use dovetail_kernels::cpu::attention::Shape;
use half::f16;

const THREADS: u32 = 128;
/// Queries in a tile.
const TILE: usize = 16;
/// Keys that a split processes at once.
const BLOCK_KEYS: usize = 64;
/// Most splits in a launch.
const MAX_SPLITS: usize = 32;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    queries: u64,
    keys: u64,
    values: u64,
    rows: u64,
    out: u64,
    parts: u64,
    arrived: u64,
    kv_heads: u32,
    group: u32,
    head_dim: u32,
    slots: u32,
    out_stride: u32,
    tiles: u32,
    splits: u32,
    unused: u32,
}

/// Attention of a pass. See `attention_tree.cu`.
pub struct AttentionTree<'a> {
    pub shape: Shape,
    /// Most rows of the pass.
    pub max_rows: usize,
    /// Most parts that the context is split into: see [`splits_for`].
    pub splits: usize,
    /// (max_rows, heads, head_dim), scaled.
    pub queries: &'a Buffer<f16>,
    /// (kv_heads, slots, head_dim); slots is a multiple of 16, and no row sees beyond it.
    pub keys: &'a Buffer<f16>,
    /// (kv_heads, slots, head_dim).
    pub values: &'a Buffer<f16>,
    /// Its rows; a buffer of one.
    pub rows: &'a Buffer<Rows>,
    /// (max_rows, heads · head_dim).
    pub out: &'a HalfRows,
    pub scratch: &'a AttentionScratch,
}

/// Memory for the results of splits; passes that run one after the other may share it.
pub struct AttentionScratch {
    parts: Buffer<f32>,
    arrived: Buffer<u32>,
}

impl AttentionScratch {
    /// For at most this many rows and splits.
    pub fn new(
        device: &mut dyn Device,
        shape: Shape,
        max_rows: usize,
        splits: usize,
    ) -> Result<AttentionScratch> {
        let tiles = shape.kv_heads * tiles(shape, max_rows);
        Ok(AttentionScratch {
            parts: Buffer::new(device, tiles * splits * part_len(shape))?,
            arrived: Buffer::new(device, tiles)?,
        })
    }
}

/// Number of splits that keeps a GPU busy with a long context. Adding up more than 16 would cost more than they save.
pub fn splits_for(shape: Shape, max_rows: usize, multiprocessors: usize) -> usize {
    (2 * multiprocessors / (shape.kv_heads * tiles(shape, max_rows))).clamp(1, 16)
}

fn tiles(shape: Shape, max_rows: usize) -> usize {
    (max_rows * shape.group).div_ceil(TILE)
}

fn part_len(shape: Shape) -> usize {
    TILE * (shape.head_dim + 2)
}

/// Attention of each row over the positions that it sees.
///
/// # Panics
/// If lengths do not fit.
pub fn attention_tree(a: &AttentionTree) -> Launch {
    let Shape { kv_heads, group, head_dim } = a.shape;
    let width = kv_heads * group * head_dim;
    let tiles = tiles(a.shape, a.max_rows);
    let slots = a.keys.len() / (kv_heads * head_dim);
    assert!(a.max_rows <= MAX_ROWS && a.rows.len() == 1);
    assert!((1..=MAX_SPLITS).contains(&a.splits));
    assert!(head_dim % 16 == 0 && (16..=256).contains(&head_dim));
    assert!(a.queries.len() >= a.max_rows * width, "queries of all rows");
    assert_eq!(a.keys.len(), kv_heads * slots * head_dim, "whole slots");
    assert_eq!(a.values.len(), a.keys.len(), "a value for each key");
    assert!(slots.is_multiple_of(16), "keys are read in sixteens");
    assert!(a.out.stride >= width && a.out.stride.is_multiple_of(32));
    let rows = a.max_rows.next_multiple_of(8);
    assert!(a.out.buffer.len() >= rows * a.out.stride, "outputs of all rows");
    let parts = kv_heads * tiles * a.splits * part_len(a.shape);
    assert!(a.scratch.parts.len() >= parts, "room for all splits");
    assert!(a.scratch.arrived.len() >= kv_heads * tiles, "a counter for each tile");
    let mut memory = LaunchMemory::default();
    let args = Args {
        queries: memory.buffer(a.queries),
        keys: memory.buffer(a.keys),
        values: memory.buffer(a.values),
        rows: memory.buffer(a.rows),
        out: memory.buffer(&a.out.buffer),
        parts: memory.buffer(&a.scratch.parts),
        arrived: memory.buffer(&a.scratch.arrived),
        kv_heads: kv_heads as u32,
        group: group as u32,
        head_dim: head_dim as u32,
        slots: slots as u32,
        out_stride: a.out.stride as u32,
        tiles: tiles as u32,
        splits: a.splits as u32,
        unused: 0,
    };
    let kernel = match head_dim {
        ..=64 => "attention_tree_64",
        65..=128 => "attention_tree_128",
        _ => "attention_tree_256",
    };
    // No more blocks than there are keys for.
    let splits = a.splits.min(slots.div_ceil(BLOCK_KEYS));
    let grid = [(kv_heads * tiles) as u32, splits as u32];
    // SAFETY: lengths were checked above.
    unsafe { Launch::new(kernel, grid, THREADS, &args, memory) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;
    use crate::gpu::tests::{Emulated, devices, run};

    /// The inputs of a pass.
    struct Case {
        shape: Shape,
        n: usize,
        splits: usize,
        rows: Rows,
        queries: Vec<f16>,
        keys: Vec<f16>,
        values: Vec<f16>,
    }

    const SLOTS: usize = 640;

    impl Case {
        fn sees(&self, r: usize, slot: usize) -> bool {
            let base = self.rows.base[r] as usize;
            let node = slot.wrapping_sub(base);
            slot < base || node < 64 && self.rows.mask[r] >> node & 1 == 1
        }

        /// A level of a random tree, or entries, after `context` slots.
        fn new(random: &mut Random, n: usize, context: usize, shape: Shape) -> Case {
            let mut rows = Rows { n: n as u32, ..Rows::zeroed() };
            let entries = random.below(3) == 0;
            let first = 1 + random.below(64 - n.min(63));
            let mut masks = vec![1u64];
            for node in 1..64 {
                masks.push(masks[random.below(node)] | 1 << node);
            }
            for r in 0..n {
                rows.base[r] =
                    if entries { context.saturating_sub(r).max(1) } else { context } as u32;
                rows.mask[r] = if entries { 0 } else { masks[(first + r).min(63)] };
            }
            let Shape { kv_heads, group, head_dim } = shape;
            let mut cells = |most: f32| -> Vec<f16> {
                (0..kv_heads * SLOTS * head_dim)
                    .map(|_| f16::from_f32(random.float(most)))
                    .collect()
            };
            let (keys, values) = (cells(3.0), cells(1.0));
            let queries = (0..n * kv_heads * group * head_dim)
                .map(|_| f16::from_f32(random.float(3.0 / (head_dim as f32).sqrt())))
                .collect();
            let splits = 1 + random.below(8);
            let mut case = Case { shape, n, splits, rows, queries, keys, values };
            // Values that no row may see would show in the results.
            let hidden = |slot: &usize| (0..n).all(|r| !case.sees(r, *slot));
            for slot in (0..SLOTS).filter(hidden).collect::<Vec<_>>() {
                for head in 0..kv_heads {
                    let at = (head * SLOTS + slot) * head_dim;
                    case.keys[at..at + head_dim].fill(f16::MAX);
                    case.values[at..at + head_dim].fill(f16::MIN);
                }
            }
            case
        }

        /// The specification, for one head of a row.
        fn expected(&self, r: usize, head: usize) -> Vec<f64> {
            let Shape { kv_heads, group, head_dim } = self.shape;
            let query = &self.queries[(r * kv_heads * group + head) * head_dim..][..head_dim];
            let cell = |cells: &[f16], slot: usize| -> Vec<f64> {
                let at = (head / group * SLOTS + slot) * head_dim;
                cells[at..at + head_dim].iter().map(|x| x.to_f64()).collect()
            };
            let seen: Vec<usize> = (0..SLOTS).filter(|slot| self.sees(r, *slot)).collect();
            let score = |slot: &usize| -> f64 {
                cell(&self.keys, *slot).iter().zip(query).map(|(k, q)| k * q.to_f64()).sum()
            };
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mut out = vec![0.0; head_dim];
            for (slot, weight) in seen.iter().zip(weights) {
                let value = cell(&self.values, *slot);
                out.iter_mut().zip(value).for_each(|(x, v)| *x += weight / sum * v);
            }
            out
        }

        /// The output row by row, (rows, stride), and the stride.
        fn run(&self, device: &mut dyn Device) -> (Vec<f16>, usize) {
            let Shape { kv_heads, group, head_dim } = self.shape;
            let max_rows = self.n.next_power_of_two();
            let out_stride = (kv_heads * group * head_dim).next_multiple_of(32) + 32;
            let all_rows = max_rows.next_multiple_of(8);
            let mut queries = self.queries.clone();
            queries.resize(max_rows * kv_heads * group * head_dim, f16::NAN);
            let scratch = AttentionScratch::new(device, self.shape, max_rows, self.splits).unwrap();
            let untouched = vec![f16::from_f32(77.0); all_rows * out_stride];
            let [queries, keys, values] = [&queries, &self.keys, &self.values]
                .map(|halves| Buffer::from_slice(device, halves).unwrap());
            let rows = Buffer::from_slice(device, &[self.rows]).unwrap();
            let buffer = Buffer::from_slice(device, &untouched).unwrap();
            let out = HalfRows { buffer, stride: out_stride };
            let a = AttentionTree {
                shape: self.shape,
                max_rows,
                splits: self.splits,
                queries: &queries,
                keys: &keys,
                values: &values,
                rows: &rows,
                out: &out,
                scratch: &scratch,
            };
            // A second time, with the counters that the first run left.
            run(device, &[attention_tree(&a)]);
            out.buffer.write(device, 0, &untouched).unwrap();
            run(device, &[attention_tree(&a)]);
            let found = out.buffer.read(device).unwrap();
            let rows = (0..all_rows).flat_map(|r| out.row(&found, r, out_stride));
            (rows.collect(), out_stride)
        }

        #[track_caller]
        fn check(&self) {
            let Shape { kv_heads, group, head_dim } = self.shape;
            let width = kv_heads * group * head_dim;
            // A weight is off by 2⁻¹¹ of itself, a value is at most 1: the mean is off by 2⁻¹¹ of the distance of the
            // values from it. It is rounded once more, by 2⁻¹¹ of itself or 2⁻¹². Errors of f32 sums and `expf` are
            // negligible.
            let tolerance = 2.0 / 2048.0 + 1.0 / 2048.0;
            let expected: Vec<Vec<f64>> = (0..self.n * kv_heads * group)
                .map(|i| self.expected(i / (kv_heads * group), i % (kv_heads * group)))
                .collect();
            for mut device in devices() {
                let (out, stride) = self.run(&mut *device);
                for (r, row) in out.chunks_exact(stride).enumerate() {
                    let written = if r < self.n { width } else { 0 };
                    assert!(row[written..].iter().all(|x| x.to_f32() == 77.0), "row {r}");
                    for (i, found) in row[..written].iter().enumerate() {
                        let wanted = expected[r * kv_heads * group + i / head_dim][i % head_dim];
                        let error = (found.to_f64() - wanted).abs();
                        assert!(
                            error <= tolerance,
                            "row {r}, element {i}: {found} is not {wanted}, {:?}, {} splits",
                            self.shape,
                            self.splits
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn rows_see_what_they_may() {
        let mut random = Random(2);
        for n in [1, 2, 7, 8, 9, 16, 33, 64] {
            for context in [1, 5, 63, 64, 65, 500] {
                let head_dim = [32, 64, 80, 128][random.below(4)];
                let group = [1, 3, 8][random.below(if n > 16 { 2 } else { 3 })];
                let kv_heads = 1 + random.below(2);
                Case::new(&mut random, n, context, Shape { kv_heads, group, head_dim }).check();
            }
        }
    }

    #[test]
    fn heads_of_all_widths_and_groups() {
        let mut random = Random(3);
        for head_dim in [16, 32, 48, 64, 80, 96, 128, 144, 256] {
            for group in [1, 3, 8] {
                let n = 1 + random.below(6);
                let context = 1 + random.below(200);
                Case::new(&mut random, n, context, Shape { kv_heads: 2, group, head_dim }).check();
            }
        }
    }

    #[test]
    fn the_order_of_blocks_does_not_show() {
        let mut random = Random(4);
        let mut case =
            Case::new(&mut random, 5, 550, Shape { kv_heads: 2, group: 3, head_dim: 64 });
        case.splits = 7;
        let expected = case.run(&mut Emulated::new(0)).0;
        for order in 1..4 {
            assert_eq!(case.run(&mut Emulated::new(order)).0, expected);
        }
    }

    #[test]
    fn certain_weights_give_the_value() {
        // All keys are equal, so weights are equal, and values that are all one give exactly one.
        let mut random = Random(5);
        let mut case =
            Case::new(&mut random, 3, 300, Shape { kv_heads: 1, group: 2, head_dim: 64 });
        case.keys.fill(f16::ONE);
        case.values.fill(f16::ONE);
        for mut device in devices() {
            let (out, stride) = case.run(&mut *device);
            let rows = out.chunks_exact(stride).take(3);
            assert!(rows.flat_map(|row| &row[..128]).all(|x| *x == f16::ONE));
        }
    }
}
