//! Measures what passes cost.
//!
//! All sizes are run in turn, over and over, and each counts with its median: a machine that is slow for a
//! moment is slow for one of the rounds, not for one size.

use crate::error::Result;
use crate::tree::cost::Curve;
use crate::tree::plan::LARGEST;
use std::time::{Duration, Instant};

/// Rounds of measurement, if time suffices; and those there must be.
const MOST_ROUNDS: usize = 9;
const LEAST_ROUNDS: usize = 2;

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
    mut pass: impl FnMut(usize) -> Result<()>,
) -> Result<Option<Curve>> {
    let start = Instant::now();
    let mut times: Vec<(usize, Vec<f64>)> = rows.iter().map(|n| (*n, Vec::new())).collect();
    for round in 0..MOST_ROUNDS {
        let mut worth = 0;
        let longest = (LARGEST.depth + 1) as f64;
        for i in 0..times.len() {
            let spent = start.elapsed().as_secs_f64() / budget.as_secs_f64();
            let done = (round as f64 + i as f64 / times.len() as f64) / MOST_ROUNDS as f64;
            if !progress(spent.max(done).min(1.0)) {
                return Ok(None);
            }
            let before = Instant::now();
            pass(times[i].0)?;
            times[i].1.push(before.elapsed().as_secs_f64());
            worth += 1;
            if round == 0 && times[i].1[0] > longest * times[0].1[0] {
                break;
            }
        }
        times.truncate(worth);
        let rounds = (round + 1) as u32;
        if rounds as usize >= LEAST_ROUNDS && start.elapsed() * (rounds + 1) / rounds > budget {
            break;
        }
    }
    let medians = times.iter_mut().map(|(n, times)| (*n, median(times)));
    Ok(Some(Curve::new(&medians.collect::<Vec<_>>()).expect("times are positive")))
}

/// The middle one.
pub(super) fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2].max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_and_what_cannot_pay_is_left_out() {
        let mut calls = 0;
        let pass = |n: usize| {
            calls += 1;
            // One slow pass in each but the last round, and a step at 3 rows.
            let ms = if calls == 6 {
                20
            } else if n >= 3 {
                3 * n as u64
            } else {
                1
            };
            std::thread::sleep(Duration::from_millis(ms));
            Ok(())
        };
        let mut parts = Vec::new();
        let mut progress = |part| {
            parts.push(part);
            true
        };
        let measured = curve(&[1, 2, 3, 4, 8, 16], Duration::from_millis(400), &mut progress, pass)
            .unwrap()
            .unwrap();
        let rows: Vec<usize> = measured.measured().map(|(n, _)| n).collect();
        assert_eq!(rows, [1, 2, 3], "three rows take nine times as long as one");
        assert!(measured.seconds(2) < 0.010, "the spike is no median");
        assert!(parts.windows(2).all(|pair| pair[0] <= pair[1]) && parts.iter().all(|p| *p <= 1.0));
    }

    #[test]
    fn time_is_kept_the_end_is_heard_and_errors_come_out() {
        let mut passes = 0;
        let measured = curve(&[1, 2], Duration::ZERO, &mut |_| true, |_| {
            passes += 1;
            Ok(())
        });
        assert_eq!((measured.unwrap().unwrap().measured().count(), passes), (2, 2 * LEAST_ROUNDS));
        let mut calls = 0;
        let mut stop = |_| {
            calls += 1;
            calls < 3
        };
        assert_eq!(curve(&[1, 2], Duration::MAX, &mut stop, |_| Ok(())).unwrap(), None);
        let fail = |_| Err(crate::Error::Invalid("no".into()));
        curve(&[1, 2], Duration::ZERO, &mut |_| true, fail).unwrap_err();
    }
}
