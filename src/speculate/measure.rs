//! Measures what passes cost.
//!
//! All sizes are run in turn, over and over, and each counts with its median: a machine that is slow for a
//! moment is slow for one of the rounds, not for one size. Where passes are short, each is timed beside one over the
//! fewest rows, and its median is that of the ratio.

use crate::error::Result;
use crate::planner::LARGEST;
use crate::planner::cost::Curve;
use std::time::{Duration, Instant};

/// Rounds of measurement, if time suffices; and those there must be.
const MOST_ROUNDS: usize = 9;
const LEAST_ROUNDS: usize = 2;

/// Passes over the fewest rows of less than these seconds are timed beside each other one.
const SHORT: f64 = 0.02;

/// Times passes over these numbers of rows, in ascending order, for about so long. Numbers are left out whose pass
/// takes longer than as many of the first ones as a round can yield tokens: none of them can pay. `progress` is told
/// the part that is done; where it says `false`, there is no result.
///
/// # Errors
/// Those of `pass`.
pub(super) fn curve(
    rows: &[usize],
    budget: Duration,
    progress: &mut dyn FnMut(f64) -> bool,
    pass: impl FnMut(usize) -> Result<()>,
) -> Result<Option<Curve>> {
    let start = Instant::now();
    curve_by(|| start.elapsed(), rows, budget, progress, pass)
}

/// [`curve`], by this clock.
fn curve_by(
    clock: impl Fn() -> Duration,
    rows: &[usize],
    budget: Duration,
    progress: &mut dyn FnMut(f64) -> bool,
    mut pass: impl FnMut(usize) -> Result<()>,
) -> Result<Option<Curve>> {
    let mut timed = |n: usize| -> Result<f64> {
        let start = clock();
        pass(n)?;
        Ok((clock() - start).as_secs_f64())
    };
    let start = clock();
    let longest = (LARGEST.depth + 1) as f64;
    let mut fewest = Vec::new();
    let mut ratios: Vec<(usize, Vec<f64>)> = rows[1..].iter().map(|n| (*n, Vec::new())).collect();
    for round in 0..MOST_ROUNDS {
        let mut beside = timed(rows[0])?;
        fewest.push(beside);
        let (mut worth, sizes) = (0, ratios.len() as f64);
        for (n, ratios) in &mut ratios {
            let spent = (clock() - start).as_secs_f64() / budget.as_secs_f64();
            let done = (round as f64 + worth as f64 / sizes) / MOST_ROUNDS as f64;
            if !progress(spent.max(done).min(1.0)) {
                return Ok(None);
            }
            let seconds = timed(*n)?;
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
        if rounds as usize >= LEAST_ROUNDS && (clock() - start) * (rounds + 1) / rounds > budget {
            break;
        }
    }
    let one = median(&mut fewest);
    let others = ratios.iter_mut().map(|(n, ratios)| (*n, one * median(ratios)));
    let measured: Vec<_> = [(rows[0], one)].into_iter().chain(others).collect();
    Ok(Some(Curve::new(&measured).expect("times are positive")))
}

/// The middle one.
pub(super) fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2].max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::cell::Cell;

    #[test]
    fn slow_moments_do_not_count_and_what_cannot_pay_is_left_out() {
        let (calls, now) = (Cell::new(0), Cell::new(Duration::ZERO));
        let pass = |n: usize| {
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
        let measured = curve_by(|| now.get(), &rows, budget, &mut progress, pass).unwrap().unwrap();
        let rows: Vec<usize> = measured.measured().map(|(n, _)| n).collect();
        assert_eq!(rows, [1, 2, 3], "three rows take nine times as long as one");
        assert!(measured.seconds(1) < 0.004 && measured.seconds(2) < 0.004);
        assert!(parts.windows(2).all(|pair| pair[0] <= pair[1]) && parts.iter().all(|p| *p <= 1.0));
    }

    #[test]
    fn time_is_kept_the_end_is_heard_and_errors_come_out() {
        let mut passes = 0;
        let measured = curve(&[1, 2], Duration::ZERO, &mut |_| true, |_| {
            passes += 1;
            Ok(())
        });
        assert_eq!((measured.unwrap().unwrap().measured().count(), passes), (2, 3 * LEAST_ROUNDS));
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
