//! The ceilings of a pass: the bandwidth of memory and the rate of integer products.
//!
//! Both are measured on threads that already run, for at least 200 ms each, which is long enough for clocks to settle;
//! the best of all runs within that time counts. A command measures them again between the passes that it judges, and
//! takes the median of those measurements, as it takes the median of the passes.

use super::median::median;
use dovetail_kernels::cpu::{Kernels, Line, ThreadPool};
use std::time::{Duration, Instant};

/// Time of one measurement.
const TIME: Duration = Duration::from_millis(200);

/// Sizes of the buffer that is read, in bytes.
const BUFFER: std::ops::RangeInclusive<usize> = 16 << 20..=2 << 30;

/// Lines that a thread reads at a time: 256 KiB.
const LINES: usize = 4096;

/// Rounds of products that a thread does at a time: about a millisecond.
const ROUNDS: usize = 30_000;

/// Share of a ceiling from which the measurement is at fault: nothing is faster than the machine.
const FAULT: f64 = 1.02;

/// Measures the ceilings on a number of threads.
pub struct Ceilings {
    kernels: &'static Kernels,
    pool: ThreadPool,
    lines: Vec<Line>,
    operations: Vec<u64>,
    measured: Vec<Rates>,
}

/// Rates of all threads together, per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Bytes read.
    pub read: f64,
    /// Integer operations of the vector units, two for each product.
    pub dot: f64,
    /// Integer operations of the tile units, where the instruction set has them.
    pub tiles: Option<f64>,
}

impl Rates {
    /// Integer operations per second of the fastest unit.
    pub fn operations(&self) -> f64 {
        self.tiles.map_or(self.dot, |tiles| tiles.max(self.dot))
    }
}

impl Ceilings {
    /// For `threads` threads and the instruction set in use. As many bytes are read in turn as a pass reads, `bytes`,
    /// so that caches help both alike.
    pub fn new(threads: usize, bytes: usize) -> dovetail::Result<Ceilings> {
        let kernels = Kernels::choose().map_err(dovetail::Error::Invalid)?;
        let bytes = bytes.clamp(*BUFFER.start(), *BUFFER.end());
        let mut lines = vec![Line::default(); bytes / size_of::<Line>()];
        // Pages that were never written all map to one page of zeros, which stays in the caches.
        for (i, line) in lines.iter_mut().enumerate() {
            bytemuck::bytes_of_mut(line)[0] = i as u8;
        }
        let (pool, operations) = (ThreadPool::new(threads), vec![0; 8 * threads]);
        Ok(Ceilings { kernels, pool, lines, operations, measured: Vec::new() })
    }

    /// Measures all ceilings once, and keeps them for [`Ceilings::rates`].
    pub fn measure(&mut self) -> Rates {
        let Ceilings { kernels, pool, lines, operations, .. } = self;
        let mut nothing = vec![(); pool.members()];
        let bytes = size_of_val(&lines[..]) as f64;
        let read = best(|| {
            pool.for_chunks(lines, LINES, &mut nothing, |_, lines, _| (kernels.peak_read)(lines));
            bytes
        });
        let mut products = |peak: fn(usize) -> u64| {
            best(|| {
                pool.for_chunks(operations, 1, &mut nothing, |_, out, _| out[0] = peak(ROUNDS));
                operations.iter().sum::<u64>() as f64
            })
        };
        let dot = products(kernels.peak_dot);
        let rates = Rates { read, dot, tiles: kernels.peak_tiles.map(products) };
        self.measured.push(rates);
        rates
    }

    /// The median of each ceiling's measurements.
    pub fn rates(&self) -> Rates {
        let median = |rate: fn(&Rates) -> f64| median(self.measured.iter().map(rate).collect());
        let tiles = self.kernels.peak_tiles.map(|_| median(|rates| rates.tiles.unwrap_or(0.0)));
        Rates { read: median(|rates| rates.read), dot: median(|rates| rates.dot), tiles }
    }

    /// What was measured and how, in one line.
    pub fn describe(&self) -> String {
        let Rates { read, dot, tiles } = self.rates();
        let tiles =
            tiles.map_or(String::new(), |tiles| format!(", tiles {:.0} GOP/s", tiles / 1e9));
        let span = self.measured.iter().map(|rates| rates.read / 1e9);
        let (low, high) = span.fold((f64::INFINITY, 0f64), |(a, b), x| (a.min(x), b.max(x)));
        format!(
            "ceilings of {} threads with {}: read {:.1} GB/s ({low:.1} to {high:.1}), integer dot {:.0} GOP/s{tiles}; \
             each the best of {} ms on running threads, the median of {} measurements between the passes",
            self.pool.members(),
            self.kernels.name,
            read / 1e9,
            dot / 1e9,
            TIME.as_millis(),
            self.measured.len(),
        )
    }
}

/// The sentence that says that a share of a ceiling is impossible, if it is.
pub fn fault(largest_share: f64) -> Option<String> {
    (largest_share > FAULT).then(|| {
        format!(
            "FAULT of the measurement: a share of {largest_share:.2} of a ceiling; the machine was busy while its \
             ceilings were measured. Measure again."
        )
    })
}

/// The best rate of `work`, which says how much it did, within [`TIME`].
fn best(mut work: impl FnMut() -> f64) -> f64 {
    let (begin, mut best) = (Instant::now(), 0f64);
    while begin.elapsed() < TIME {
        let start = Instant::now();
        let amount = work();
        best = best.max(amount / start.elapsed().as_secs_f64());
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_are_measured_for_their_time_and_the_best_run_counts() {
        let mut runs = 0;
        let begin = Instant::now();
        let rate = best(|| {
            runs += 1;
            std::thread::sleep(Duration::from_millis(if runs == 2 { 10 } else { 40 }));
            1.0
        });
        assert!(begin.elapsed() >= TIME && runs > 2);
        assert!(rate > 1.0 / 0.04, "{rate} is not the rate of the short run");
    }

    #[test]
    fn medians_count_and_a_share_beyond_a_ceiling_is_a_fault() {
        let mut ceilings = Ceilings::new(1, 0).unwrap();
        let rates = |read| Rates { read, dot: 2.0 * read, tiles: None };
        ceilings.measured = [30.0, 10.0, 20.0].map(rates).to_vec();
        assert_eq!((ceilings.rates().read, ceilings.rates().dot), (20.0, 40.0));
        let measured = ceilings.measure();
        assert!(measured.read > 1e8 && measured.dot > 1e8 && measured.operations() >= measured.dot);
        assert_eq!(measured.tiles.is_some(), ceilings.kernels.peak_tiles.is_some());
        assert_eq!((fault(1.02), fault(f64::NAN)), (None, None));
        assert!(fault(1.03).is_some_and(|sentence| sentence.contains("1.03")));
    }
}
