//! Measures what a GPU can do for a drafter; `dovetail-bench gpu` prints it.

use super::cuda::Cuda;
use super::device::{Buffer, Device, Launch};
use super::launch::MAX_ROWS;
use super::launch::echo::{Words, echo};
use super::launch::matmul::{Epilogue, HalfRows, matmul};
use super::weights::{Matrix, WeightFormat, padded};
use crate::error::Result;
use crate::ring::{Layout, Receiver, Sender};
use std::time::{Duration, Instant};

/// The measured time of a product whose weights are in no cache.
#[derive(Clone, Copy, Debug)]
pub struct ProductRate {
    /// Format of the weights.
    pub format: &'static str,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub columns: usize,
    /// Rows of activations.
    pub n: usize,
    /// Time of one product.
    pub time: Duration,
    /// Bytes of weights and scales that one product reads.
    pub bytes: usize,
}

/// Median times of a message to the GPU and its answer.
#[derive(Clone, Copy, Debug)]
pub struct RingLatency {
    /// A spinning kernel answers.
    pub polling: Duration,
    /// The queue waits for one doorbell and rings the other.
    pub doorbells: Duration,
    /// The same with an empty kernel in between.
    pub kernel: Duration,
    /// Without a ring: a kernel is launched and waited for.
    pub launch: Duration,
}

/// Median time of one of the `repeats` products in a piece of work.
fn time(device: &mut dyn Device, work: usize, repeats: usize) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..7 {
        device.finish()?;
        let start = Instant::now();
        device.run(work)?;
        device.finish()?;
        times.push(start.elapsed() / repeats as u32);
    }
    Ok(median(times))
}

/// Measures products of a drafter's shapes, with hidden states of `width` and a feed-forward width of `n_ff`, for 1 to
/// 32 rows.
///
/// # Errors
/// If the GPU fails.
pub fn products(cuda: &mut Cuda, width: usize, n_ff: usize) -> Result<Vec<ProductRate>> {
    /// More than any L2 cache holds.
    const BYTES: usize = 512 << 20;
    let mut rates = Vec::new();
    for format in [WeightFormat::F16, WeightFormat::Q8, WeightFormat::Q4] {
        for (rows, columns) in
            [(3 * width, width), (width, width), (2 * n_ff, width), (width, n_ff)]
        {
            let one = Matrix::zeros(cuda, format, rows, columns)?;
            let copies = (BYTES / one.bytes()).clamp(1, 256);
            let mut matrices = vec![one];
            for _ in 1..copies {
                matrices.push(Matrix::zeros(cuda, format, rows, columns)?);
            }
            let stride = padded(columns);
            let input = HalfRows { buffer: Buffer::new(cuda, MAX_ROWS * stride)?, stride };
            let out = Buffer::new(cuda, MAX_ROWS * rows)?;
            for n in [1, 8, 16, 32] {
                let count = Buffer::from_slice(cuda, &[n as u32])?;
                let launch = |matrix| {
                    matmul(n, &count, &[(matrix, &input)], None, None, Epilogue::Store(&out))
                };
                let launches: Vec<Launch> = matrices.iter().map(launch).collect();
                let work = cuda.record(&launches)?;
                let time = time(cuda, work, copies)?;
                let bytes = matrices[0].bytes();
                rates.push(ProductRate { format: format.name(), rows, columns, n, time, bytes });
            }
            cuda.forget_work();
        }
    }
    Ok(rates)
}

/// Measures how long a word takes to the GPU and back.
///
/// # Errors
/// If the GPU fails.
pub fn ring_latency(cuda: &mut Cuda) -> Result<RingLatency> {
    const TIMES: u32 = 2000;
    let layout = Layout::new(4, 128);
    let (there, to_it) = cuda.share(layout.bytes())?;
    let (back, from_it) = cuda.share(layout.bytes())?;
    let words = Words {
        call: to_it.doorbell(layout.head_at()),
        taken: to_it.doorbell(layout.tail_at()),
        answer: from_it.doorbell(layout.head_at()),
    };
    let (mut sender, mut receiver) = (Sender::new(there, layout), Receiver::new(back, layout));
    let mut trip = |cuda: &mut Cuda| -> Result<Duration> {
        while sender.claim().is_none() {
            cuda.check()?;
        }
        let start = Instant::now();
        sender.publish();
        while receiver.receive().is_none() {
            if start.elapsed() > Duration::from_secs(2) {
                cuda.check()?;
            }
        }
        receiver.release();
        Ok(start.elapsed())
    };
    let empty = cuda.record(&[echo(&words, 0, 0, 1)])?;
    let mut sequence = 0;
    let mut doorbells = [Vec::new(), Vec::new()];
    for (times, work) in doorbells.iter_mut().zip([None, Some(empty)]) {
        for _ in 0..TIMES {
            sequence += 1;
            cuda.wait(&words.call, sequence)?;
            if let Some(work) = work {
                cuda.run(work)?;
            }
            cuda.ring(&words.taken, sequence)?;
            cuda.ring(&words.answer, sequence)?;
            // Until the queue has reached the wait.
            std::thread::sleep(Duration::from_micros(20));
            times.push(trip(cuda)?);
        }
    }
    let mut launched = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        cuda.run(empty)?;
        cuda.finish()?;
        launched.push(start.elapsed());
    }
    let spins = cuda.record(&[echo(&words, sequence, TIMES, u32::MAX)])?;
    cuda.run(spins)?;
    let polled = (0..TIMES).map(|_| trip(cuda)).collect::<Result<Vec<_>>>()?;
    cuda.finish()?;
    let [doorbells, kernel] = doorbells.map(median);
    Ok(RingLatency { polling: median(polled), doorbells, kernel, launch: median(launched) })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
