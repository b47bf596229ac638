//! What memory delivers to a number of threads that only read: the ceiling of plain decoding.

use std::hint::black_box;
use std::time::Instant;

/// Larger than any cache of a desktop.
const BYTES: usize = 512 << 20;

/// A buffer to be read over and over.
pub struct Bandwidth {
    words: Vec<u64>,
    threads: usize,
}

impl Bandwidth {
    /// A filled buffer for so many reading threads.
    pub fn new(threads: usize) -> Bandwidth {
        Bandwidth { words: (0..(BYTES / 8) as u64).collect(), threads }
    }

    /// Reads the buffer once; bytes per second.
    pub fn measure(&self) -> f64 {
        let part = self.words.len().div_ceil(self.threads);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for words in self.words.chunks(part) {
                scope.spawn(move || black_box(sum(words)));
            }
        });
        BYTES as f64 / start.elapsed().as_secs_f64()
    }
}

/// Sixteen independent chains, so that loads are all that limits.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 16];
    for words in words.as_chunks::<16>().0 {
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}
