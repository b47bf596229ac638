//! The two ceilings of a pass: the bandwidth of memory and the rate of integer products.

use dovetail_kernels::cpu::{Kernels, Line};
use std::time::Instant;

/// Larger than the caches of desktop CPUs, in bytes.
const BYTES: usize = 512 << 20;

/// Number of products, which take some milliseconds.
const ROUNDS: usize = 200_000;

/// Measures both ceilings on a number of threads.
pub struct Ceilings {
    kernels: &'static Kernels,
    lines: Vec<Line>,
    threads: usize,
}

impl Ceilings {
    /// A filled buffer for this many threads, and the instruction set in use.
    pub fn new(threads: usize) -> dovetail::Result<Ceilings> {
        let kernels = Kernels::choose().map_err(dovetail::Error::Invalid)?;
        let mut lines = vec![Line::default(); BYTES / size_of::<Line>()];
        // Pages that were never written all map to one page of zeros, which stays in the caches.
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
