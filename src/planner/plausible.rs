//! Which measured times cannot be true: those of no time at all, and steps down with more rows.
//!
//! A pass over more rows does all that one over fewer does. So a time that a later one falls short of by more than
//! the noise of measuring is one that something else on the machine has made longer.

use super::cost::{Costs, Curve, DraftCost, VerifyCost};

/// Seconds that are none: no pass and no level takes as little.
pub const ZERO: f64 = 1e-9;
/// The noise of a measured median: this part of it, and the seconds that an interrupt takes.
const NOISE: f64 = 0.25;
const INTERRUPT: f64 = 50e-6;

/// Whether a time is less than another one by more than noise.
pub fn is_step_down(from: f64, to: f64) -> bool {
    to < (1.0 - NOISE) * from - INTERRUPT
}

/// The rows, in ascending order, whose times cannot be true: those of no time, and the two ends of each step down. Of
/// (rows, seconds) each, in ascending order.
pub fn implausible(measured: &[(usize, f64)]) -> Vec<usize> {
    let is_time = |seconds: f64| seconds.is_finite() && seconds > ZERO;
    let (times, mut wrong): (Vec<_>, Vec<_>) =
        measured.iter().copied().partition(|(_, seconds)| is_time(*seconds));
    let mut longest = (0, 0.0);
    for time in times {
        if is_step_down(longest.1, time.1) {
            wrong.extend([longest, time]);
        }
        if time.1 > longest.1 {
            longest = time;
        }
    }
    let mut rows: Vec<usize> = wrong.into_iter().map(|(rows, _)| rows).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

impl Curve {
    /// Whether all its times can be true.
    pub fn is_plausible(&self) -> bool {
        implausible(&self.measured().collect::<Vec<_>>()).is_empty()
    }

    /// With the time of the number of rows before in place of each that a later one falls short of. Planners believe
    /// this one: what is thought to be cheap is tried, and corrected by what it takes; what is thought to be dear would
    /// never be tried.
    pub fn without_steps_down(&self) -> Curve {
        let measured: Vec<_> = self.measured().collect();
        let mut believed: Vec<(usize, f64)> = Vec::new();
        for (i, &(rows, seconds)) in measured.iter().enumerate() {
            let is_wrong = measured[i + 1..].iter().any(|later| is_step_down(seconds, later.1));
            match believed.last() {
                _ if !is_wrong => believed.push((rows, seconds)),
                Some(&(_, before)) => believed.push((rows, before)),
                None => {}
            }
        }
        Curve::new(&believed).expect("nothing comes after the last one")
    }
}

impl VerifyCost {
    /// Whether all its times can be true.
    pub fn is_plausible(&self) -> bool {
        self.tables().iter().all(|table| table.curve.is_plausible())
    }
}

impl DraftCost {
    /// Whether all its times can be true.
    pub fn is_plausible(&self) -> bool {
        self.first.is_finite() && self.first > ZERO && self.level.is_plausible()
    }
}

impl Costs {
    /// Without times that cannot be true: see [`Curve::without_steps_down`].
    pub fn without_steps_down(self) -> Costs {
        let tables = self.verify.tables().iter().cloned().map(|mut table| {
            table.curve = table.curve.without_steps_down();
            table
        });
        let verify = VerifyCost::new(tables.collect()).expect("there are as many as before");
        let DraftCost { first, level } = self.draft;
        Costs { verify, draft: DraftCost { first, level: level.without_steps_down() } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_and_steps_down_are_found_and_noise_is_not() {
        let found = |times: &[f64]| {
            let measured: Vec<_> = times.iter().enumerate().map(|(i, s)| (i + 1, *s)).collect();
            implausible(&measured)
        };
        for (times, rows) in [
            (&[1.0, 1.2, 1.5, 1.5][..], &[][..]),
            (&[1.0, 3.18, 1.22, 1.4], &[2, 3, 4]),
            (&[1.0, 1.3, 1.0, 1.2], &[]),
            (&[2.0, 1.1, 2.2], &[1, 2]),
            // Down in small steps.
            (&[1.0, 2.0, 1.8, 1.6, 1.4], &[2, 5]),
            (&[1.0, 0.0, 2.0], &[2]),
            (&[1.0, 1e-9, f64::NAN, -1.0, f64::INFINITY, 2.0], &[2, 3, 4, 5]),
            // What an interrupt takes.
            (&[40e-6, 30e-6, 2e-6], &[]),
        ] {
            assert_eq!(found(times), rows, "{times:?}");
        }
    }

    #[test]
    fn times_that_later_ones_fall_short_of_are_not_believed() {
        let curve = |measured: &[(usize, f64)]| Curve::new(measured).unwrap();
        let wrong = curve(&[(1, 1.0), (2, 3.18), (3, 1.2), (4, 1.4)]);
        let right = curve(&[(1, 1.0), (2, 1.0), (3, 1.2), (4, 1.4)]);
        assert!(!wrong.is_plausible() && right.is_plausible());
        assert_eq!(wrong.without_steps_down(), right);
        assert_eq!(right.without_steps_down(), right);
        assert_eq!(curve(&[(1, 9.0), (2, 1.0)]).without_steps_down(), curve(&[(2, 1.0)]));
    }
}
