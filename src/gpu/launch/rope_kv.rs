//! Rotates queries and keys, and writes the cache.

use super::{Buffer, Launch, LaunchMemory, MAX_ROWS, Rows};
use bytemuck::{Pod, Zeroable};
use dovetail_kernels::cpu::attention::Shape;
use half::f16;

const THREADS: u32 = 256;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    qkv: u64,
    rotations: u64,
    rows: u64,
    queries: u64,
    keys: u64,
    values: u64,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    pairs: u32,
    slots: u32,
    scale: f32,
}

/// Queries, keys and values of a pass before attention. See `rope_kv.cu`.
pub struct RopeKv<'a> {
    pub shape: Shape,
    /// Most rows of the pass.
    pub max_rows: usize,
    /// (max_rows, (heads + 2 · kv_heads) · head_dim).
    pub qkv: &'a Buffer<f32>,
    /// cos and sin of each rotated pair: (positions, pairs).
    pub rotations: &'a Buffer<[f32; 2]>,
    /// Rotated pairs of a head.
    pub pairs: usize,
    /// A buffer of one.
    pub rows: &'a Buffer<Rows>,
    /// (max_rows, heads, head_dim).
    pub queries: &'a Buffer<f16>,
    /// (kv_heads, slots, head_dim).
    pub keys: &'a Buffer<f16>,
    /// (kv_heads, slots, head_dim).
    pub values: &'a Buffer<f16>,
}

/// Rotates queries and keys, scales queries, and stores keys and values.
///
/// # Panics
/// If lengths do not fit.
pub fn rope_kv(a: &RopeKv) -> Launch {
    let Shape { kv_heads, group, head_dim } = a.shape;
    let heads = kv_heads * group;
    let width = (heads + 2 * kv_heads) * head_dim;
    let slots = a.keys.len() / (kv_heads * head_dim);
    assert!(a.max_rows <= MAX_ROWS && a.rows.len() == 1);
    assert!(head_dim % 4 == 0 && 2 * a.pairs <= head_dim);
    assert!(a.qkv.len() >= a.max_rows * width, "queries, keys and values of all rows");
    assert!(a.queries.len() >= a.max_rows * heads * head_dim, "queries of all rows");
    assert_eq!(a.keys.len(), kv_heads * slots * head_dim, "whole slots");
    assert_eq!(a.values.len(), a.keys.len(), "a value for each key");
    assert!(a.pairs == 0 || a.rotations.len().is_multiple_of(a.pairs), "whole positions");
    let mut memory = LaunchMemory::default();
    let args = Args {
        qkv: memory.buffer(a.qkv),
        rotations: memory.buffer(a.rotations),
        rows: memory.buffer(a.rows),
        queries: memory.buffer(a.queries),
        keys: memory.buffer(a.keys),
        values: memory.buffer(a.values),
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        head_dim: head_dim as u32,
        pairs: a.pairs as u32,
        slots: slots as u32,
        scale: 1.0 / (head_dim as f32).sqrt(),
    };
    let grid = [a.max_rows as u32, (width as u32).div_ceil(4 * THREADS)];
    // SAFETY: lengths were checked above.
    unsafe { Launch::new("rope_kv", grid, THREADS, &args, memory) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;
    use crate::gpu::tests::{devices, run};

    /// The specification: a rotated head.
    fn rotate(head: &[f32], rotations: &[[f32; 2]], scale: f64) -> Vec<f64> {
        let mut out: Vec<f64> = head.iter().map(|x| *x as f64).collect();
        for (pair, [cos, sin]) in out.chunks_exact_mut(2).zip(rotations) {
            let (a, b, cos, sin) = (pair[0], pair[1], *cos as f64, *sin as f64);
            (pair[0], pair[1]) = (a * cos - b * sin, a * sin + b * cos);
        }
        out.iter().map(|x| x * scale).collect()
    }

    /// The tolerance for one rounding to a half float after few f32 steps on numbers up to 8.
    #[track_caller]
    fn assert_close(found: &[f16], wanted: &[f64]) {
        for (found, wanted) in found.iter().zip(wanted) {
            let error = (found.to_f64() - wanted).abs();
            assert!(error <= wanted.abs() * 0.000_49 + 4e-6, "{found} is not {wanted}");
        }
    }

    #[test]
    fn rows_are_rotated_and_go_to_their_slots() {
        let mut random = Random(1);
        let sizes = [(1, 1, 1), (2, 3, 3), (7, 8, 1), (8, 1, 2), (9, 3, 2), (16, 7, 2), (33, 4, 1)];
        for (i, (n, group, kv_heads)) in sizes.into_iter().chain([(64, 1, 3)]).enumerate() {
            let head_dim = [32, 64, 80, 128][i % 4];
            let pairs = [head_dim / 2, head_dim / 4 - 1, 0][i % 3];
            check(&mut random, n, Shape { kv_heads, group, head_dim }, pairs);
        }
    }

    fn check(random: &mut Random, n: usize, shape: Shape, pairs: usize) {
        let Shape { kv_heads, group, head_dim } = shape;
        let (heads, slots, positions) = (kv_heads * group, 100, 50);
        let width = (heads + 2 * kv_heads) * head_dim;
        let max_rows = n.next_power_of_two();
        let qkv: Vec<f32> = (0..max_rows * width).map(|_| random.float(4.0)).collect();
        let rotations: Vec<[f32; 2]> = (0..positions * pairs)
            .map(|_| random.float(3.0).sin_cos())
            .map(|(sin, cos)| [cos, sin])
            .collect();
        let mut rows = Rows { n: n as u32, ..Rows::zeroed() };
        let first = random.below(slots - 64);
        for r in 0..n {
            rows.slot[r] = (first + (r * 37) % 64) as u32;
            rows.position[r] = random.below(positions) as u32;
        }
        for mut device in devices() {
            let device = &mut *device;
            let untouched = f16::from_f32(77.0);
            let cells = vec![untouched; kv_heads * slots * head_dim];
            let a = RopeKv {
                shape,
                max_rows,
                qkv: &Buffer::from_slice(device, &qkv).unwrap(),
                rotations: &Buffer::from_slice(device, &rotations).unwrap(),
                pairs,
                rows: &Buffer::from_slice(device, &[rows]).unwrap(),
                queries: &Buffer::from_slice(device, &vec![untouched; max_rows * heads * head_dim])
                    .unwrap(),
                keys: &Buffer::from_slice(device, &cells).unwrap(),
                values: &Buffer::from_slice(device, &cells).unwrap(),
            };
            run(device, &[rope_kv(&a)]);
            let queries = a.queries.read(device).unwrap();
            let cells = [a.keys.read(device).unwrap(), a.values.read(device).unwrap()];
            let rotations_of = |r: usize| &rotations[rows.position[r] as usize * pairs..][..pairs];
            let head_of = |r: usize, head: usize| &qkv[r * width + head * head_dim..][..head_dim];
            for (i, query) in queries.chunks_exact(head_dim).enumerate() {
                let (r, head) = (i / heads, i % heads);
                if r >= n {
                    assert!(query.iter().all(|x| *x == untouched), "row {r} is none");
                    continue;
                }
                let scale = (head_dim as f64).powf(-0.5);
                assert_close(query, &rotate(head_of(r, head), rotations_of(r), scale));
            }
            for (what, cells) in cells.iter().enumerate() {
                for (i, cell) in cells.chunks_exact(head_dim).enumerate() {
                    let (head, slot) = (heads + what * kv_heads + i / slots, (i % slots) as u32);
                    let Some(r) = (0..n).find(|r| rows.slot[*r] == slot) else {
                        assert!(cell.iter().all(|x| *x == untouched), "nobody's slot {slot}");
                        continue;
                    };
                    let rotations = if what == 0 { rotations_of(r) } else { &[] };
                    assert_close(cell, &rotate(head_of(r, head), rotations, 1.0));
                }
            }
        }
    }

    #[test]
    fn cells_are_never_infinite_or_nan() {
        for mut device in devices() {
            let device = &mut *device;
            let qkv = [f32::INFINITY, f32::NAN, 1e9, -f32::INFINITY].repeat(3);
            let a = RopeKv {
                shape: Shape { kv_heads: 1, group: 1, head_dim: 4 },
                max_rows: 1,
                qkv: &Buffer::from_slice(device, &qkv).unwrap(),
                rotations: &Buffer::from_slice(device, &[[1.0, 0.0]]).unwrap(),
                pairs: 1,
                rows: &Buffer::from_slice(device, &[Rows { n: 1, ..Rows::zeroed() }]).unwrap(),
                queries: &Buffer::new(device, 4).unwrap(),
                keys: &Buffer::new(device, 4).unwrap(),
                values: &Buffer::new(device, 4).unwrap(),
            };
            run(device, &[rope_kv(&a)]);
            for cells in [a.queries, a.keys, a.values] {
                assert!(cells.read(device).unwrap().iter().all(|x| x.is_finite()));
            }
        }
    }
}
