//! The likeliest tokens of each row.

use super::state::{RoundParameters, TreeShapeState};
use super::{Buffer, Launch, LaunchMemory, MAX_ROWS, Rows};
use crate::error::Result;
use crate::gpu::device::Device;
use bytemuck::{Pod, Zeroable};
use std::mem::offset_of;

const THREADS: u32 = 256;
/// Logits for each block.
const SPLIT: usize = 8192;
/// Most blocks for a row.
const MAX_SPLITS: usize = 64;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    logits: u64,
    rows: u64,
    n_draft: u64,
    width: u64,
    counts: u64,
    tokens: u64,
    log_probs: u64,
    keys: u64,
    sums: u64,
    arrived: u64,
    stride: u32,
    splits: u32,
    first_row_only: u32,
    unused: u32,
}

/// Proposals of rows, the likeliest first.
pub struct Candidates {
    /// Number of proposals of each row, or [`NONE`](super::NONE) if its probabilities are not numbers: (MAX_ROWS).
    pub counts: Buffer<u32>,
    /// Tokens of the draft vocabulary: (MAX_ROWS, MAX_ROWS).
    pub tokens: Buffer<u32>,
    /// Log probabilities: (MAX_ROWS, MAX_ROWS).
    pub log_probs: Buffer<f32>,
}

impl Candidates {
    /// Without proposals.
    pub fn new(device: &mut dyn Device) -> Result<Candidates> {
        Ok(Candidates {
            counts: Buffer::new(device, MAX_ROWS)?,
            tokens: Buffer::new(device, MAX_ROWS * MAX_ROWS)?,
            log_probs: Buffer::new(device, MAX_ROWS * MAX_ROWS)?,
        })
    }

    pub(super) fn check(&self) {
        assert!(self.counts.len() == MAX_ROWS);
        assert!(self.tokens.len() == MAX_ROWS * MAX_ROWS);
        assert!(self.log_probs.len() == MAX_ROWS * MAX_ROWS);
    }
}

/// A search for the likeliest tokens. See `topk.cu`.
pub struct TopK<'a> {
    /// Most rows to search.
    pub max_rows: usize,
    /// Whether to search only the first row.
    pub first_row_only: bool,
    /// (max_rows, stride).
    pub logits: &'a Buffer<f32>,
    /// Logits from one row to the next; at least the size of the draft vocabulary.
    pub stride: usize,
    /// A buffer of one.
    pub rows: &'a Buffer<Rows>,
    /// A buffer of one, whose `width` and `n_draft` are used.
    pub growth: &'a Buffer<TreeShapeState>,
    /// The result.
    pub candidates: &'a Candidates,
    pub scratch: &'a TopKScratch,
}

/// Memory for the results of parts of rows; passes that run one after the other may share it.
pub struct TopKScratch {
    keys: Buffer<u64>,
    sums: Buffer<[f32; 2]>,
    arrived: Buffer<u32>,
}

impl TopKScratch {
    /// For at most `max_rows` rows of `stride` logits.
    pub fn new(device: &mut dyn Device, max_rows: usize, stride: usize) -> Result<TopKScratch> {
        let splits = max_rows * stride.div_ceil(SPLIT);
        Ok(TopKScratch {
            keys: Buffer::new(device, splits * MAX_ROWS)?,
            sums: Buffer::new(device, splits)?,
            arrived: Buffer::new(device, max_rows)?,
        })
    }
}

/// Finds the likeliest tokens of each row.
///
/// # Panics
/// If lengths do not fit.
pub fn topk(a: &TopK) -> Launch {
    let max_rows = if a.first_row_only { 1 } else { a.max_rows };
    let splits = a.stride.div_ceil(SPLIT);
    assert!(max_rows <= MAX_ROWS && a.rows.len() == 1 && a.growth.len() == 1);
    assert!((1..=MAX_SPLITS).contains(&splits), "a draft vocabulary of up to half a million");
    assert!(a.stride.is_multiple_of(4), "logits are read in fours");
    assert!(a.logits.len() >= max_rows * a.stride, "logits of all rows");
    assert!(a.scratch.arrived.len() >= max_rows && a.scratch.sums.len() >= max_rows * splits);
    assert!(a.scratch.keys.len() >= max_rows * splits * MAX_ROWS, "room for each split's best");
    a.candidates.check();
    let mut memory = LaunchMemory::default();
    let growth = memory.buffer(a.growth);
    let args = Args {
        logits: memory.buffer(a.logits),
        rows: memory.buffer(a.rows),
        n_draft: growth + offset_of!(RoundParameters, n_draft) as u64,
        width: growth + offset_of!(RoundParameters, width) as u64,
        counts: memory.buffer(&a.candidates.counts),
        tokens: memory.buffer(&a.candidates.tokens),
        log_probs: memory.buffer(&a.candidates.log_probs),
        keys: memory.buffer(&a.scratch.keys),
        sums: memory.buffer(&a.scratch.sums),
        arrived: memory.buffer(&a.scratch.arrived),
        stride: a.stride as u32,
        splits: splits as u32,
        first_row_only: a.first_row_only.into(),
        unused: 0,
    };
    // SAFETY: lengths were checked above; the state begins with the parameters.
    unsafe { Launch::new("topk", [max_rows as u32, splits as u32], THREADS, &args, memory) }
}

#[cfg(test)]
mod tests {
    use super::super::NONE;
    use super::super::testing::Random;
    use super::*;
    use crate::gpu::tests::{Emulated, devices, run};

    /// The counts, tokens and log probabilities found in `logits`, (rows, stride).
    fn find(
        device: &mut dyn Device,
        logits: &[Vec<f32>],
        stride: usize,
        width: usize,
        first_row_only: bool,
    ) -> (Vec<u32>, Vec<u32>, Vec<f32>) {
        let n_draft = logits[0].len();
        let mut padded = Vec::new();
        for row in logits {
            padded.extend_from_slice(row);
            // Logits outside the vocabulary would win.
            padded.resize(padded.len().next_multiple_of(stride), f32::INFINITY);
        }
        let mut growth = TreeShapeState::zeroed();
        (growth.round.width, growth.round.n_draft) = (width as u32, n_draft as u32);
        let max_rows = logits.len().next_power_of_two();
        padded.resize(max_rows * stride, f32::NAN);
        let candidates = Candidates::new(device).unwrap();
        let a = TopK {
            max_rows,
            first_row_only,
            logits: &Buffer::from_slice(device, &padded).unwrap(),
            stride,
            rows: &Buffer::from_slice(device, &[Rows { n: logits.len() as u32, ..Rows::zeroed() }])
                .unwrap(),
            growth: &Buffer::from_slice(device, &[growth]).unwrap(),
            candidates: &candidates,
            scratch: &TopKScratch::new(device, max_rows, stride).unwrap(),
        };
        // A second time, with the counters that the first run left.
        for _ in 0..2 {
            candidates.counts.write(device, 0, &[777; MAX_ROWS]).unwrap();
            run(device, &[topk(&a)]);
        }
        let Candidates { counts, tokens, log_probs } = candidates;
        let log_probs = log_probs.read(device).unwrap();
        (counts.read(device).unwrap(), tokens.read(device).unwrap(), log_probs)
    }

    /// The specification: indices of the largest logits, in the order of `Logits::top`.
    fn top(logits: &[f32], width: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        order.truncate(width);
        order
    }

    #[track_caller]
    fn check(logits: &[Vec<f32>], width: usize) {
        let stride = (logits[0].len() + 3).next_multiple_of(8);
        for mut device in devices() {
            let (counts, tokens, log_probs) = find(&mut *device, logits, stride, width, false);
            for (r, row) in logits.iter().enumerate() {
                let expected = top(row, width);
                assert_eq!(counts[r] as usize, expected.len(), "row {r}");
                let tokens = &tokens[r * MAX_ROWS..][..expected.len()];
                let tokens: Vec<usize> = tokens.iter().map(|token| *token as usize).collect();
                assert_eq!(tokens, expected, "row {r}, width {width}");
                let log_probs = &log_probs[r * MAX_ROWS..];
                let largest = row[expected[0]];
                let sum: f64 = row.iter().map(|x| f64::from(x - largest).exp()).sum();
                // An f32 sum of positive numbers in a few dozen steps, and `expf` and `logf` to 2 ulp.
                let error = (f64::from(log_probs[0]) + sum.ln()).abs();
                assert!(error <= 2e-6 * (1.0 + sum.ln()), "{} is not {}", log_probs[0], -sum.ln());
                for (token, log_prob) in expected.iter().zip(log_probs) {
                    assert_eq!(*log_prob, row[*token] - largest + log_probs[0]);
                }
            }
            assert!(counts[logits.len()..].iter().all(|count| *count == 777));
        }
    }

    #[test]
    fn the_largest_logits_come_in_order() {
        let mut random = Random(6);
        for (n, n_draft) in [(64, 31), (33, 100), (16, 1), (9, 63), (8, 2000), (7, 5), (2, 8193)] {
            for width in [1, 2, 10, 33, 63] {
                let mut row = || (0..n_draft).map(|_| random.float(10.0)).collect();
                check(&(0..n).map(|_| row()).collect::<Vec<_>>(), width);
            }
        }
        for n_draft in [8191, 8192, 32000, 150_001] {
            check(&[(0..n_draft).map(|_| random.float(10.0)).collect()], 1 + random.below(63));
        }
    }

    #[test]
    fn equal_logits_come_by_index() {
        let mut random = Random(7);
        for n_draft in [40, 300, 9000] {
            for width in [1, 5, 40, 63] {
                let all_equal = vec![1.5; n_draft];
                let few_values = (0..n_draft).map(|_| random.below(3) as f32).collect();
                let zeros = (0..n_draft).map(|_| [0.0, -0.0][random.below(2)]).collect();
                check(&[all_equal, few_values, zeros], width);
            }
        }
    }

    #[test]
    fn odd_orders_are_no_matter() {
        let n_draft = 9001;
        let ascending = (0..n_draft).map(|i| i as f32 / 500.0).collect();
        let descending = (0..n_draft).map(|i| i as f32 / -500.0).collect();
        // The largest belong to one thread, and to one warp.
        let of_a_thread = (0..n_draft)
            .map(|i| if i % 1024 / 4 == 77 { i as f32 / 999.0 } else { i as f32 / -999.0 })
            .collect();
        let of_a_warp = (0..n_draft)
            .map(|i| if i % 1024 / 128 == 3 { i as f32 / 999.0 } else { i as f32 / -999.0 })
            .collect();
        let mut impossible = vec![f32::NEG_INFINITY; n_draft];
        (impossible[17], impossible[8500]) = (-3.0, 2.0);
        let mut late = vec![f32::NEG_INFINITY; n_draft];
        late[9000] = -1e30;
        for width in [1, 10, 63] {
            let rows: [&Vec<f32>; 6] =
                [&ascending, &descending, &of_a_thread, &of_a_warp, &impossible, &late];
            check(&rows.map(Vec::clone), width);
        }
    }

    #[test]
    fn what_is_no_number_is_told() {
        let mut random = Random(8);
        for n_draft in [100, 20_000] {
            let good: Vec<f32> = (0..n_draft).map(|_| random.float(5.0)).collect();
            let with = |x: f32| {
                let mut row = good.clone();
                row[n_draft - 3] = x;
                row
            };
            let rows = [
                good.clone(),
                with(f32::NAN),
                with(-f32::NAN),
                with(f32::INFINITY),
                with(f32::from_bits(u32::MAX)),
                vec![f32::NEG_INFINITY; n_draft],
                with(f32::NEG_INFINITY),
            ];
            for mut device in devices() {
                let counts = find(&mut *device, &rows, n_draft + 4, 7, false).0;
                assert_eq!(counts[..7], [7, NONE, NONE, NONE, NONE, NONE, 7]);
            }
        }
    }

    #[test]
    fn entries_are_looked_at_in_their_first_row() {
        let rows = vec![vec![1.0, 2.0]; 3];
        for mut device in devices() {
            let (counts, tokens, _) = find(&mut *device, &rows, 4, 2, true);
            assert_eq!((&counts[..2], &tokens[..2]), (&[2, 777][..], &[1, 0][..]));
        }
    }

    #[test]
    fn the_order_of_blocks_does_not_show() {
        let mut random = Random(9);
        let rows: Vec<Vec<f32>> =
            (0..2).map(|_| (0..30_000).map(|_| random.float(4.0)).collect()).collect();
        let expected = find(&mut Emulated::new(0), &rows, 30_000, 20, false);
        for order in 1..4 {
            assert_eq!(find(&mut Emulated::new(order), &rows, 30_000, 20, false), expected);
        }
    }
}
