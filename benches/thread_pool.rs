//! What sharing out a phase costs, on a machine left alone and beside busy processes.
//!
//! - `empty`: a phase of one empty chunk a member. Members are not waited for that have not begun.
//! - `handed over`: the same, but each chunk waits until all are under way: the time in which every
//!   member hears of a phase and the caller hears that all are done.
//! - `100 us`: ten chunks a member of about 10 µs each, against one thread's time for them.
//!
//! ```sh
//! cargo bench --bench thread_pool
//! ```

mod common;

use criterion::Criterion;
use dovetail_kernels::cpu::ThreadPool;
use std::hint::black_box;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Set in the processes that only keep a core busy.
const BUSY: &str = "DOVETAIL_BENCH_BUSY";

/// Steps of one chunk of work: about 10 µs.
const STEPS: u64 = 15_000;

fn main() {
    if std::env::var_os(BUSY).is_some() {
        return be_busy();
    }
    let mut criterion = Criterion::default().configure_from_args();
    let threads = common::threads();
    for beside in [0, 1, threads] {
        let busy: Vec<Busy> = (0..beside).map(|_| Busy::start()).collect();
        phases(&mut criterion, threads, &format!("{beside} busy processes beside"));
        drop(busy);
    }
    criterion.final_summary();
}

fn phases(criterion: &mut Criterion, threads: usize, beside: &str) {
    let mut group = criterion.benchmark_group(format!("pool of {threads}, {beside}"));
    let mut pool = ThreadPool::new(threads);
    let mut members = vec![(); threads];
    let mut time = |name: &str, phase: &mut dyn FnMut()| {
        if let Some(seconds) = common::time(&mut group, "phase", name, phase) {
            println!("  {name}, {beside}: {:.2} us", 1e6 * seconds);
            common::record(format_args!(
                "dovetail,phase: {name}; {beside},{:.3},,,,,",
                1e6 * seconds
            ));
        }
    };

    let mut chunks = vec![0u64; threads];
    time("empty", &mut || {
        pool.for_chunks(&mut chunks, 1, &mut members, |_, chunk, ()| chunk[0] += 1);
    });
    assert!(chunks.iter().all(|times| *times == chunks[0]), "each chunk is worked as often");

    time("handed over", &mut || {
        let begun = AtomicUsize::new(0);
        pool.for_chunks(&mut chunks, 1, &mut members, |_, _, ()| {
            begun.fetch_add(1, SeqCst);
            while begun.load(SeqCst) < threads {
                std::hint::spin_loop();
            }
        });
    });

    let mut sums = vec![0; 10 * threads];
    let expected = vec![work(); 10 * threads];
    time("100 us", &mut || {
        pool.for_chunks(&mut sums, 1, &mut members, |_, sum, ()| sum[0] = work());
    });
    assert_eq!(sums, expected);
    time("100 us of one thread", &mut || sums[..10].iter_mut().for_each(|sum| *sum = work()));
    group.finish();
}

/// A chain of dependent steps.
fn work() -> u64 {
    (0..STEPS).fold(1, |x, i| black_box(x ^ i).rotate_left(7))
}

/// Works until it is killed, or its parent is gone.
fn be_busy() {
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        work();
    }
}

/// A process that does nothing useful.
struct Busy(Child);

impl Busy {
    fn start() -> Busy {
        let program = std::env::current_exe().expect("a running program has a path");
        Busy(Command::new(program).env(BUSY, "1").spawn().expect("it can be started again"))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
