//! What the benches share: the machine's read bandwidth, and how a time is printed against it.
//!
//! A bench checks its answer first, times each contender of a group, then two of them by turns:
//!
//! ```ignore
//! let mut criterion = Criterion::default().configure_from_args();
//! let bench = Bench::new();
//! let mut group = criterion.benchmark_group("attention");
//! let load = Load { bytes, operations: 0 };
//! if bench.rate(&mut group, "dovetail", "4096 x 16", load, &mut || ours.run()) {
//!     bench.rate(&mut group, "ggml", "4096 x 16", load, &mut || rival.run());
//!     print_ratio("4096 x 16", "ggml", &mut ours, &mut rival);
//! }
//! ```

#![allow(dead_code, reason = "each bench uses a part of this")]

#[allow(unused_imports, reason = "its tests run with the program")]
#[path = "../../src/bin/dovetail-bench/ceilings.rs"]
mod ceilings;
#[path = "../../src/bin/dovetail-bench/median.rs"]
mod median;
#[path = "../../tests/common/random.rs"]
pub mod random;

use ceilings::{Ceilings, Rates};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Throughput};
use median::median;
use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, Instant};

/// Bytes that are read for the bandwidth: more than most caches hold.
const BYTES: usize = 512 << 20;

/// Samples of a time.
const SAMPLES: usize = 20;

/// Threads that benches use: `DOVETAIL_THREADS`, or the physical cores.
pub fn threads() -> usize {
    let threads = std::env::var("DOVETAIL_THREADS").ok().and_then(|n| n.parse().ok());
    threads.unwrap_or_else(dovetail::machine::physical_cores).max(1)
}

/// What an answer takes at least.
#[derive(Clone, Copy)]
pub struct Load {
    /// Bytes that are read from memory.
    pub bytes: usize,
    /// Operations on small integers, two for each product; 0 where it takes others.
    pub operations: usize,
}

/// The threads of this process, and what they could do at most.
pub struct Bench {
    /// Threads at work, see [`threads`].
    pub threads: usize,
    ceilings: RefCell<Ceilings>,
}

impl Bench {
    /// With [`threads`] threads.
    pub fn new() -> Bench {
        let threads = threads();
        let ceilings =
            Ceilings::new(threads, BYTES).expect("DOVETAIL_ISA names an instruction set");
        Bench { threads, ceilings: RefCell::new(ceilings) }
    }

    /// Times `work` as `contender/case` and prints its rates and their shares of the ceilings, which are
    /// measured right before and after, the better one counting. Whether the command line asked for it.
    pub fn rate(
        &self,
        group: &mut BenchmarkGroup<WallTime>,
        contender: &str,
        case: &str,
        load: Load,
        work: &mut dyn FnMut(),
    ) -> bool {
        group.throughput(Throughput::Bytes(load.bytes as u64));
        let measure = || self.ceilings.borrow_mut().measure();
        let mut before = None;
        let mut work = || {
            before.get_or_insert_with(measure);
            work();
        };
        let Some(median) = time(group, contender, case, &mut work) else { return false };
        let (before, after): (Rates, Rates) = (before.expect("what was timed was run"), measure());
        let read_peak = before.read.max(after.read);
        let dot_peak = before.operations().max(after.operations());
        let (read, dot) = (load.bytes as f64 / median, load.operations as f64 / median);
        print!("  {contender} {case}: {:.1} us, {:.2} GB/s", median * 1e6, read / 1e9);
        print!(" ({:.0} % of the read bandwidth)", 100.0 * read / read_peak);
        if load.operations > 0 {
            print!(", {:.0} GOP/s ({:.0} % of the peak)", dot / 1e9, 100.0 * dot / dot_peak);
        }
        println!();
        let dots = match load.operations {
            0 => ",".to_string(),
            _ => format!("{:.1},{:.3}", dot / 1e9, dot / dot_peak),
        };
        let (us, rate, share) = (median * 1e6, read / 1e9, read / read_peak);
        record(format_args!("{contender},{case},{us:.2},{rate:.3},{share:.3},{dots},"));
        true
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
    group.measurement_time(Duration::from_secs(1)).sample_size(SAMPLES);
    group.bench_function(BenchmarkId::new(contender, case), |b| {
        b.iter_custom(|times| {
            let start = Instant::now();
            (0..times).for_each(|_| work());
            let elapsed = start.elapsed();
            seconds.push(elapsed.as_secs_f64() / times as f64);
            elapsed
        });
    });
    // Before the samples come those of the warm-up.
    (!seconds.is_empty()).then(|| median(seconds.split_off(seconds.len() - SAMPLES)))
}

/// One of two sides that are timed by turns.
pub trait Side {
    /// What is timed.
    fn run(&mut self);
    /// Leaves the cores to the other side.
    fn rest(&mut self) {}
}

#[cfg(feature = "rival")]
impl Side for ggml_sys::matmul::MatMul {
    fn run(&mut self) {
        self.compute();
    }
    fn rest(&mut self) {
        self.rest();
    }
}

#[cfg(feature = "rival")]
impl Side for ggml_sys::attention::FlashAttention {
    fn run(&mut self) {
        self.compute();
    }
    fn rest(&mut self) {
        self.rest();
    }
}

/// Stands where ggml would without the feature.
pub struct NoRival;

impl Side for NoRival {
    fn run(&mut self) {}
}

/// Runs our side and a rival's by turns, in each turn once to wake the threads and three times on the
/// clock; prints the median of ours as a part of the rival's.
pub fn print_ratio(case: &str, rival: &str, ours: &mut dyn Side, theirs: &mut dyn Side) {
    let mut seconds = [Vec::new(), Vec::new()];
    let turn = |side: &mut dyn Side, seconds: &mut Vec<f64>| {
        side.run();
        for _ in 0..3 {
            let start = Instant::now();
            side.run();
            seconds.push(start.elapsed().as_secs_f64());
        }
        side.rest();
    };
    let start = Instant::now();
    while seconds[0].len() < 9 || start.elapsed() < Duration::from_secs(1) {
        turn(ours, &mut seconds[0]);
        turn(theirs, &mut seconds[1]);
    }
    let [ours, theirs] = seconds.map(median);
    println!("  {case}: {:.3} of the time of {rival}", ours / theirs);
    record(format_args!("dovetail / {rival},{case},,,,,,{:.3}", ours / theirs));
}

/// Appends a line to the file that `scripts/bench-record` names, which has the columns.
pub fn record(line: std::fmt::Arguments) {
    let Some(path) = std::env::var_os("DOVETAIL_BENCH_RECORD") else { return };
    let file = std::fs::File::options().append(true).open(path);
    writeln!(file.expect("the file was made by the script"), "{line}").expect("there is room");
}
