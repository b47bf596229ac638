//! What the benches share: the machine's read bandwidth, and how a time is printed against it.
//!
//! A bench checks its answer first, then times each contender of a group:
//!
//! ```ignore
//! let mut criterion = Criterion::default().configure_from_args();
//! let bench = Bench::new();
//! let mut group = criterion.benchmark_group("attention");
//! let ours = bench.rate(&mut group, "dovetail", "4096 x 16", bytes, &mut || attend());
//! let rival = bench.rate(&mut group, "ggml", "4096 x 16", bytes, &mut || rival.compute());
//! print_ratio("4096 x 16", ours, rival);
//! ```

#![allow(dead_code, reason = "each bench uses a part of this")]

#[path = "../../src/bin/dovetail-bench/ceilings.rs"]
mod ceilings;

use ceilings::Ceilings;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Throughput};
use std::time::{Duration, Instant};

/// Threads that benches use: `DOVETAIL_THREADS`, or the physical cores.
pub fn threads() -> usize {
    let threads = std::env::var("DOVETAIL_THREADS").ok().and_then(|n| n.parse().ok());
    threads.unwrap_or_else(dovetail::machine::physical_cores).max(1)
}

/// The threads of this process and the read bandwidth they have, measured once.
pub struct Bench {
    /// Threads at work, see [`threads`].
    pub threads: usize,
    /// Bytes a second that so many threads read from memory.
    read: f64,
}

impl Bench {
    /// Measures the read bandwidth: the best of five.
    pub fn new() -> Bench {
        let threads = threads();
        let ceilings = Ceilings::new(threads).expect("DOVETAIL_ISA names an instruction set");
        let read = (0..5).map(|_| ceilings.read()).fold(0.0, f64::max);
        println!("read bandwidth of {threads} threads: {:.1} GB/s", read / 1e9);
        Bench { threads, read }
    }

    /// Times `work`, which has to read `bytes`, as `contender/case`; prints its rate and that rate's
    /// share of the read bandwidth. Returns the median in seconds, or `None` where the command line left
    /// it out.
    pub fn rate(
        &self,
        group: &mut BenchmarkGroup<WallTime>,
        contender: &str,
        case: &str,
        bytes: usize,
        work: &mut dyn FnMut(),
    ) -> Option<f64> {
        group.throughput(Throughput::Bytes(bytes as u64));
        let median = time(group, contender, case, work)?;
        let rate = bytes as f64 / median;
        println!(
            "  {contender} {case}: {:.1} us, {:.2} GB/s, {:.0} % of the read bandwidth",
            median * 1e6,
            rate / 1e9,
            100.0 * rate / self.read
        );
        Some(median)
    }
}

/// Times `work` as `contender/case`; returns the median in seconds, or `None` where the command line
/// left it out.
pub fn time(
    group: &mut BenchmarkGroup<WallTime>,
    contender: &str,
    case: &str,
    work: &mut dyn FnMut(),
) -> Option<f64> {
    let mut seconds: Vec<f64> = Vec::new();
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(1)).sample_size(20);
    group.bench_function(BenchmarkId::new(contender, case), |b| {
        b.iter_custom(|times| {
            let start = Instant::now();
            (0..times).for_each(|_| work());
            let elapsed = start.elapsed();
            seconds.push(elapsed.as_secs_f64() / times as f64);
            elapsed
        });
    });
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied()
}

/// Prints our time as a part of the rival's, where both were measured.
pub fn print_ratio(case: &str, ours: Option<f64>, rival: Option<f64>) {
    if let (Some(ours), Some(rival)) = (ours, rival) {
        println!("  {case}: {:.3} of the rival's time", ours / rival);
    }
}

/// Numbers that are the same in every run: SplitMix64.
pub struct Numbers(pub u64);

impl Numbers {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Evenly spread over −1…1.
    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0).collect()
    }
}
