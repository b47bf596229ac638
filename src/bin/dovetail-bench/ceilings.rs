//! The two ceilings of a pass: how fast memory delivers the weights, and how fast integers multiply.

use dovetail_kernels::cpu::{Kernels, Line};
use std::time::Instant;

/// Larger than any cache of a desktop.
const BYTES: usize = 512 << 20;

/// Rounds of products: some milliseconds.
const ROUNDS: usize = 200_000;

/// Measures both on a number of threads.
pub struct Ceilings {
    kernels: &'static Kernels,
    lines: Vec<Line>,
    threads: usize,
}

impl Ceilings {
    /// A filled buffer for so many threads, and the instruction set in use.
    pub fn new(threads: usize) -> dovetail::Result<Ceilings> {
        let kernels = Kernels::choose().map_err(dovetail::Error::Invalid)?;
        let mut lines = vec![Line::default(); BYTES / size_of::<Line>()];
        // Pages that were never written are all one page of zeros, which the caches hold.
        for (i, line) in lines.iter_mut().enumerate() {
            bytemuck::bytes_of_mut(line)[0] = i as u8;
        }
        Ok(Ceilings { kernels, lines, threads })
    }

    /// Bytes per second that all threads together read.
    pub fn read(&self) -> f64 {
        let part = self.lines.len().div_ceil(self.threads);
        let read = self.kernels.peak_read;
        let start = Instant::now();
        std::thread::scope(|scope| {
            for lines in self.lines.chunks(part) {
                scope.spawn(move || read(lines));
            }
        });
        BYTES as f64 / start.elapsed().as_secs_f64()
    }

    /// Integer operations per second of all threads together: two for each product.
    pub fn dot(&self) -> f64 {
        let dot = self.kernels.peak_dot;
        let start = Instant::now();
        let operations: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.threads).map(|_| scope.spawn(move || dot(ROUNDS))).collect();
            threads.into_iter().map(|thread| thread.join().expect("products do not panic")).sum()
        });
        operations as f64 / start.elapsed().as_secs_f64()
    }
}
