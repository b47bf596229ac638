//! Measures the costs of passes.
//!
//! All sizes are run in turn, several times, and the median of each counts, so a slow moment of the machine affects one
//! round and not one size. Short passes are each timed next to a pass over the fewest rows, and the median of the ratio
//! counts. Implausible times are measured again.

use crate::error::Result;
use crate::planner::LARGEST;
use crate::planner::cost::{Curve, DraftCost};
use crate::planner::plausible::{ZERO, implausible, is_step_down};
use std::time::{Duration, Instant};

/// Most and least rounds of a measurement.
const MAX_ROUNDS: usize = 9;
const MIN_ROUNDS: usize = 2;
/// Most times that implausible results are measured again.
const MAX_REMEASUREMENTS: usize = 3;

/// If a pass over the fewest rows takes fewer seconds than this, one is timed next to each other pass.
const SHORT: f64 = 0.02;
/// Seconds. Shorter work is repeated, at most `MAX_IN_SUCCESSION` times, and timed as a whole: clocks resolve a
/// hundredth of this.
const LONG_ENOUGH: f64 = 5e-5;
const MAX_IN_SUCCESSION: f64 = 1000.0;
/// Most rounds of a drafter's measurement.
const MAX_DRAFT_ROUNDS: usize = 21;
/// Least cost of a level as a fraction of the first one's: the difference of two times cannot show less.
const MIN_LEVEL: f64 = 0.01;

/// Numbers of rows, and the seconds that a pass over each takes.
type Times = Vec<(usize, f64)>;

/// Measures implausible times again. Of two medians of a time the smaller counts, since other load on the machine can
/// only prolong it. All others are timed relative to the first one; if that is in doubt, all are replaced.
fn remeasure(
    mut measured: Times,
    mut measure: impl FnMut(&Times, &[usize]) -> Result<Option<Times>>,
) -> Result<Option<Times>> {
    for _ in 0..MAX_REMEASUREMENTS {
        let wrong = implausible(&measured);
        if wrong.is_empty() {
            break;
        }
        let is_first = wrong[0] == measured[0].0;
        let rows = if is_first { measured.iter().map(|(n, _)| *n).collect() } else { wrong };
        let Some(new) = measure(&measured, &rows)? else { return Ok(None) };
        if is_first {
            measured = new;
            continue;
        }
        for (n, seconds) in &mut measured {
            let new = new.iter().find(|(rows, _)| rows == n).map(|(_, seconds)| *seconds);
            if let Some(new) = new.filter(|new| *new > ZERO && (*seconds <= ZERO || new < seconds))
            {
                *seconds = new;
            }
        }
    }
    Ok(Some(measured))
}

/// The curve through measured times, each at least `ZERO`.
fn curve_of(mut measured: Times) -> Curve {
    measured.iter_mut().for_each(|(_, seconds)| *seconds = seconds.max(ZERO));
    Curve::new(&measured).expect("times are positive")
}

/// Times passes over these numbers of rows, in ascending order, for about the time of `budget`. Sizes are left out once
/// a pass takes longer than as many of the smallest ones as a round can yield tokens: none of them can pay. `progress`
/// receives the fraction that is done; if it returns false, the result is `None`.
///
/// # Errors
/// Those of `pass`.
pub(super) fn curve(
    rows: &[usize],
    budget: Duration,
    progress: &mut dyn FnMut(f64) -> bool,
    mut pass: impl FnMut(usize) -> Result<()>,
) -> Result<Option<Curve>> {
    let start = Instant::now();
    curve_by(&|| start.elapsed(), rows, budget, progress, &mut pass)
}

/// [`curve`] with a given clock.
fn curve_by(
    clock: &dyn Fn() -> Duration,
    rows: &[usize],
    budget: Duration,
    progress: &mut dyn FnMut(f64) -> bool,
    pass: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Option<Curve>> {
    let measured = rounds(clock, rows, budget, progress, pass)?;
    let Some(measured) = measured else { return Ok(None) };
    let measured = remeasure(measured, |before, wrong| {
        let (first, one) = before[0];
        let others = wrong.iter().copied().filter(|n| *n != first);
        let rows: Vec<usize> = [first].into_iter().chain(others).collect();
        let new = rounds(clock, &rows, budget / 4, &mut |_| progress(1.0), pass)?;
        Ok(new.map(|mut new| {
            if wrong[0] != first {
                // The machine may be slower or faster than before.
                let same = one / new[0].1;
                new.iter_mut().for_each(|(_, seconds)| *seconds *= same);
            }
            new
        }))
    })?;
    Ok(measured.map(curve_of))
}

/// Times passes over these numbers of rows in turn, for about the time of `budget`.
fn rounds(
    clock: &dyn Fn() -> Duration,
    rows: &[usize],
    budget: Duration,
    progress: &mut dyn FnMut(f64) -> bool,
    pass: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Option<Times>> {
    let mut timed = |n: usize| -> Result<f64> {
        let start = clock();
        pass(n)?;
        Ok((clock() - start).as_secs_f64())
    };
    let start = clock();
    let longest = (LARGEST.depth + 1) as f64;
    let mut fewest = Vec::new();
    let mut ratios: Vec<(usize, Vec<f64>)> = rows[1..].iter().map(|n| (*n, Vec::new())).collect();
    for round in 0..MAX_ROUNDS {
        let mut beside = timed(rows[0])?;
        fewest.push(beside);
        let (mut worth, sizes) = (0, ratios.len() as f64);
        for (n, ratios) in &mut ratios {
            let spent = (clock() - start).as_secs_f64() / budget.as_secs_f64();
            let done = (round as f64 + worth as f64 / sizes) / MAX_ROUNDS as f64;
            if !progress(spent.max(done).min(1.0)) {
                return Ok(None);
            }
            let mut seconds = timed(*n)?;
            if round == 0 && seconds > longest * beside {
                // One slow moment must not exclude all larger sizes.
                seconds = seconds.min(timed(*n)?);
            }
            let before = beside;
            if before < SHORT {
                beside = timed(rows[0])?;
                fewest.push(beside);
            }
            ratios.push(2.0 * seconds / (before + beside));
            worth += 1;
            if round == 0 && ratios[0] > longest {
                break;
            }
        }
        ratios.truncate(worth);
        let rounds = (round + 1) as u32;
        if rounds as usize >= MIN_ROUNDS && (clock() - start) * (rounds + 1) / rounds > budget {
            break;
        }
    }
    let one = median(&mut fewest);
    let others = ratios.iter_mut().map(|(n, ratios)| (*n, one * median(ratios)));
    Ok(Some([(rows[0], one)].into_iter().chain(others).collect()))
}

/// A piece of a drafter's work in a measurement.
#[derive(Clone, Copy)]
pub(super) enum DraftPass {
    /// The target's pass between two trees, which evicts the drafter from the CPU's caches; it is not timed.
    Between,
    /// Growing a tree of this shape.
    Tree {
        /// Number of levels.
        depth: usize,
        /// Draft tokens on each level.
        width: usize,
    },
}

/// Times a drafter's first level, and further levels of these widths, for about the time of `budget`: trees of three
/// levels minus trees of one. `progress` receives the fraction that is done; if it returns false, the result is `None`.
///
/// # Errors
/// Those of `pass`.
pub(super) fn levels(
    widths: &[usize],
    budget: Duration,
    progress: &mut dyn FnMut(f64) -> bool,
    pass: &mut dyn FnMut(DraftPass) -> Result<()>,
) -> Result<Option<DraftCost>> {
    let start = Instant::now();
    levels_by(&|| start.elapsed(), widths, budget, progress, pass)
}

/// [`levels`] with a given clock.
fn levels_by(
    clock: &dyn Fn() -> Duration,
    widths: &[usize],
    budget: Duration,
    progress: &mut dyn FnMut(f64) -> bool,
    pass: &mut dyn FnMut(DraftPass) -> Result<()>,
) -> Result<Option<DraftCost>> {
    // The first run allocates memory.
    pass(DraftPass::Tree { depth: 3, width: widths[widths.len() - 1] })?;
    let mut firsts = Vec::new();
    let measured = draft_rounds(clock, widths, budget, progress, (&mut firsts, pass))?;
    let Some(measured) = measured else { return Ok(None) };
    let level = remeasure(measured, |_, wrong| {
        draft_rounds(clock, wrong, budget / 4, &mut |_| progress(1.0), (&mut firsts, pass))
    })?;
    let first = median(&mut firsts).max(ZERO);
    Ok(level.map(|level| DraftCost { first, level: curve_of(level) }))
}

/// Times trees of one and of three levels of these widths in turn, for about the time of `budget`. Times of one level
/// are appended to `firsts`.
fn draft_rounds(
    clock: &dyn Fn() -> Duration,
    widths: &[usize],
    budget: Duration,
    progress: &mut dyn FnMut(f64) -> bool,
    (firsts, pass): (&mut Vec<f64>, &mut dyn FnMut(DraftPass) -> Result<()>),
) -> Result<Option<Times>> {
    let mut timed = |depth: usize, width: usize| -> Result<f64> {
        pass(DraftPass::Between)?;
        let (start, mut times) = (clock(), 0.0);
        loop {
            pass(DraftPass::Tree { depth, width })?;
            times += 1.0;
            let seconds = (clock() - start).as_secs_f64();
            if seconds >= LONG_ENOUGH || times >= MAX_IN_SUCCESSION {
                return Ok(seconds / times);
            }
        }
    };
    let start = clock();
    let mut levels: Vec<(usize, Vec<f64>)> = widths.iter().map(|n| (*n, Vec::new())).collect();
    for round in 0..MAX_DRAFT_ROUNDS {
        let spent = (clock() - start).as_secs_f64() / budget.as_secs_f64();
        if round >= MIN_ROUNDS && spent > 1.0 {
            break;
        }
        for (width, times) in &mut levels {
            let spent = (clock() - start).as_secs_f64() / budget.as_secs_f64();
            if !progress(spent.min(1.0)) {
                return Ok(None);
            }
            let [one, three] = [timed(1, *width)?, timed(3, *width)?];
            firsts.push(one);
            times.push((three - one) / 2.0);
        }
    }
    let first = median(&mut firsts.clone());
    let least = (MIN_LEVEL * first).max(2.0 * ZERO);
    let seconds = |times: &mut [f64]| match median(times) {
        // If two more levels seem to take less than no time: beyond noise the result is implausible and kept as such,
        // within noise it is a short level.
        level if is_step_down(first, first + 2.0 * level) => level,
        level => level.max(least),
    };
    Ok(Some(levels.iter_mut().map(|(width, times)| (*width, seconds(times))).collect()))
}

/// The median.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::cell::Cell;

    #[test]
    fn slow_moments_do_not_count_and_what_cannot_pay_is_left_out() {
        let (calls, now) = (Cell::new(0), Cell::new(Duration::ZERO));
        let mut pass = |n: usize| {
            calls.set(calls.get() + 1);
            // Slow at first, and a step at 3 rows.
            let slow = if calls.get() < 6 { 4 } else { 1 };
            let ms = if n >= 3 { 3 * n as u64 } else { 1 };
            now.set(now.get() + Duration::from_millis(slow * ms));
            Ok(())
        };
        let mut parts = Vec::new();
        let mut progress = |part| {
            parts.push(part);
            true
        };
        let budget = Duration::from_millis(400);
        let rows = [1, 2, 3, 4, 8, 16];
        let measured =
            curve_by(&|| now.get(), &rows, budget, &mut progress, &mut pass).unwrap().unwrap();
        let rows: Vec<usize> = measured.measured().map(|(n, _)| n).collect();
        assert_eq!(rows, [1, 2, 3], "three rows take nine times as long as one");
        assert!(measured.seconds(1) < 0.004 && measured.seconds(2) < 0.004);
        assert!(parts.windows(2).all(|pair| pair[0] <= pair[1]) && parts.iter().all(|p| *p <= 1.0));
    }

    /// Measures a simulated machine on which the `i`-th pass over `n` rows takes `takes(n, i)` seconds.
    fn measured(rows: &[usize], takes: impl Fn(usize, usize) -> f64) -> (Vec<(usize, f64)>, usize) {
        let now = Cell::new(0.0);
        let (mut times, mut calls) = ([0; 99], 0);
        let mut pass = |n: usize| {
            now.set(now.get() + takes(n, times[n]));
            times[n] += 1;
            calls += 1;
            Ok(())
        };
        let clock = || Duration::from_secs_f64(now.get());
        let budget = Duration::from_secs(3600);
        let curve = curve_by(&clock, rows, budget, &mut |_| true, &mut pass).unwrap().unwrap();
        (curve.measured().collect(), calls)
    }

    #[test]
    fn what_cannot_be_true_is_measured_again_and_no_more_than_some_times() {
        let rows = [1, 2, 3, 4];
        let right = |n: usize| 1.0 + 0.1 * n as f64;
        let is = |measured: &[(usize, f64)], n: usize, seconds: f64| {
            assert!((measured[n - 1].1 - seconds).abs() < 1e-6, "{n}: {measured:?}");
        };
        let (all, usual) = measured(&rows, |n, _| right(n));
        assert_eq!((all.len(), usual), (4, MAX_ROUNDS * 4));
        // Two rows are slow during the first measurement.
        let busy = |n: usize, i: usize| if n == 2 && i < MAX_ROUNDS { 3.18 } else { right(n) };
        let (all, calls) = measured(&rows, busy);
        (1..=4).for_each(|n| is(&all, n, right(n)));
        assert!(calls > usual && calls <= 2 * usual);
        // One row is slow, relative to which all others are timed; later the whole machine is faster.
        let busy = |n: usize, i: usize| match n {
            1 if i < MAX_ROUNDS => 4.0,
            _ if i < MAX_ROUNDS => 2.0 * right(n),
            _ => right(n),
        };
        let (all, _) = measured(&rows, busy);
        (1..=4).for_each(|n| is(&all, n, right(n)));
        // The machine is twice as slow while two rows are measured again.
        let busy = |n: usize, i: usize| {
            let slow = if i < MAX_ROUNDS { 1.0 } else { 2.0 };
            if n == 2 && i < MAX_ROUNDS { 3.18 } else { slow * right(n) }
        };
        is(&measured(&rows, busy).0, 2, right(2));
        // A time that is always implausible is accepted.
        let (all, calls) = measured(&rows, |n, _| if n == 2 { 3.18 } else { right(n) });
        is(&all, 2, 3.18);
        assert!(calls <= (1 + MAX_REMEASUREMENTS) * usual);
        assert_eq!(implausible(&all), [2, 3, 4]);
        // No time at all.
        let (all, _) =
            measured(&rows, |n, i| if n == 3 && i < MAX_ROUNDS { 0.0 } else { right(n) });
        is(&all, 3, right(3));
        // One slow moment excludes no size.
        let (all, _) = measured(&rows, |n, i| if n == 2 && i == 0 { 99.0 } else { right(n) });
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn a_level_takes_time_on_a_coarse_clock_and_where_it_takes_none() {
        for (first, level) in [(3e-7, 2e-7), (4e-4, 3e-4), (5e-7, 0.0), (1.0, 0.25)] {
            let now = Cell::new(0.0);
            let mut pass = |work: DraftPass| {
                now.set(
                    now.get()
                        + match work {
                            DraftPass::Between => 1e-3,
                            DraftPass::Tree { depth, .. } => first + (depth - 1) as f64 * level,
                        },
                );
                Ok(())
            };
            let clock = || Duration::from_micros((now.get() * 1e6) as u64);
            let budget = Duration::from_secs(1);
            let cost = levels_by(&clock, &[1, 2, 4], budget, &mut |_| true, &mut pass);
            let cost = cost.unwrap().unwrap();
            assert!(cost.is_plausible());
            assert!((cost.first / first - 1.0).abs() < 0.1, "{first}: {cost:?}");
            let least = f64::max(level, 0.01 * first);
            for (n, seconds) in cost.level.measured() {
                assert!((seconds / least - 1.0).abs() < 0.2, "{n} of {level}: {cost:?}");
            }
        }
    }

    #[test]
    fn a_level_that_was_slow_once_is_measured_again() {
        let now = Cell::new(0.0);
        let mut times = 0;
        let mut pass = |work: DraftPass| {
            let DraftPass::Tree { depth, width } = work else { return Ok(()) };
            let slow = width == 2 && depth == 3 && times < MAX_DRAFT_ROUNDS;
            times += usize::from(width == 2 && depth == 3);
            now.set(now.get() + if slow { 9.0 } else { 0.5 + 0.1 * (depth * width) as f64 });
            Ok(())
        };
        let clock = || Duration::from_secs_f64(now.get());
        let budget = Duration::from_secs(3600);
        let mut measure =
            |end: bool| levels_by(&clock, &[1, 2, 4], budget, &mut |_| !end, &mut pass).unwrap();
        let cost = measure(false).unwrap();
        assert!(cost.is_plausible() && (cost.level.seconds(2) - 0.2).abs() < 1e-6, "{cost:?}");
        assert_eq!(measure(true), None, "it ends when it is told to");
    }

    #[test]
    fn time_is_kept_the_end_is_heard_and_errors_come_out() {
        let passes = Cell::new(0);
        let clock = || Duration::from_millis(passes.get() as u64);
        let mut pass = |_| {
            passes.set(passes.get() + 1);
            Ok(())
        };
        let measured = curve_by(&clock, &[1, 2], Duration::ZERO, &mut |_| true, &mut pass);
        let rows = measured.unwrap().unwrap().measured().count();
        assert_eq!((rows, passes.get()), (2, 3 * MIN_ROUNDS));
        let mut calls = 0;
        let mut stop = |_| {
            calls += 1;
            calls < 3
        };
        assert_eq!(curve(&[1, 2, 3], Duration::MAX, &mut stop, |_| Ok(())).unwrap(), None);
        let fail = |_| Err(Error::Invalid("no".into()));
        curve(&[1, 2], Duration::ZERO, &mut |_| true, fail).unwrap_err();
    }
}
