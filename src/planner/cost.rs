//! Costs of passes in seconds, as measured, and their corrections at run time.
//!
//! The time of a pass is no simple function of its rows: kernels process rows in blocks, memory bandwidth saturates,
//! and a curve may even fall. So no formula is fitted: times stand in tables, with linear interpolation between
//! measured numbers of rows.
//!
//! # Source
//! CAST, arXiv 2510.26577: one table for the target and one for the drafter, by batch, context and tokens.

/// Largest number of sequences that are verified together.
pub const MAX_BATCH: usize = 16;

/// Seconds of a pass by its number of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    rows: Vec<usize>,  // measured, ascending
    seconds: Vec<f64>, // (rows)
    dense: Vec<f64>,   // of 0, 1, … rows up to the last measured; a few rows take as long as one
}

impl Curve {
    /// A curve of measured points (rows, seconds), in ascending order of rows.
    ///
    /// # Errors
    /// If the order is wrong, or a time is not a positive number.
    pub fn new(measured: &[(usize, f64)]) -> Result<Curve, String> {
        let ascending = measured.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if measured.first().is_none_or(|(rows, _)| *rows == 0) || !ascending {
            return Err("the rows of a curve ascend from 1 or more".into());
        }
        if let Some((rows, seconds)) = measured.iter().find(|(_, s)| !(s.is_finite() && *s > 0.0)) {
            return Err(format!("{rows} rows in {seconds} s"));
        }
        let (rows, seconds): (Vec<usize>, Vec<f64>) = measured.iter().copied().unzip();
        let mut dense = vec![seconds[0]; rows[0] + 1];
        for pair in measured.windows(2) {
            let [(n0, s0), (n1, s1)] = [pair[0], pair[1]];
            let slope = (s1 - s0) / (n1 - n0) as f64;
            dense.extend((n0 + 1..=n1).map(|n| s0 + slope * (n - n0) as f64));
        }
        Ok(Curve { rows, seconds, dense })
    }

    /// The measured points: (rows, seconds) each.
    pub fn measured(&self) -> impl Iterator<Item = (usize, f64)> {
        self.rows.iter().copied().zip(self.seconds.iter().copied())
    }

    /// Seconds of a pass over `n` rows. Beyond the last measured point each row costs the average of that point, which
    /// no pass exceeds in the long run.
    pub fn seconds(&self, n: usize) -> f64 {
        let last = self.dense.len() - 1;
        match self.dense.get(n) {
            Some(seconds) => *seconds,
            None => self.dense[last] / last as f64 * n as f64,
        }
    }
}

/// Seconds of the target's passes by batch, context and rows: T_V(n).
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyCost {
    tables: Vec<Table>, // by batch, then context
}

/// Costs measured with `batch` sequences in a pass, each with `context` tokens in the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Number of sequences.
    pub batch: usize,
    /// Tokens in the cache of each sequence.
    pub context: usize,
    /// Seconds by the rows of all sequences together.
    pub curve: Curve,
}

impl VerifyCost {
    /// Costs from these tables, of which there must be at least one.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(mut tables: Vec<Table>) -> Result<VerifyCost, String> {
        tables.sort_by_key(|table| (table.batch, table.context));
        if tables.is_empty() {
            Err("no pass was measured".into())
        } else {
            Ok(VerifyCost { tables })
        }
    }

    /// All tables, by batch and context.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The tables of the largest measured batch up to `batch`, by context; of the smallest batch if there is none.
    fn of_batch(&self, batch: usize) -> &[Table] {
        let up_to =
            self.tables.partition_point(|table| table.batch <= batch.max(self.tables[0].batch));
        let nearest = self.tables[up_to - 1].batch;
        &self.tables[self.tables.partition_point(|table| table.batch < nearest)..up_to]
    }

    /// Seconds of a pass over `n` rows of `batch` sequences, each behind `context` tokens on average. Uses the tables
    /// of the largest measured batch up to `batch`; between contexts, and beyond the last, times are linear in the
    /// context, as attention is.
    pub fn seconds(&self, batch: usize, context: usize, n: usize) -> f64 {
        let [low, high, more @ ..] = self.of_batch(batch) else {
            return self.of_batch(batch)[0].curve.seconds(n);
        };
        let [mut low, mut high] = [low, high];
        for next in more {
            if context > high.context {
                (low, high) = (high, next);
            }
        }
        let [a, b] = [low, high].map(|table| table.curve.seconds(n));
        let at = context.max(low.context) - low.context;
        let part = at as f64 / (high.context - low.context) as f64;
        // Noise may make a longer context look cheaper; extrapolation must not continue that.
        a + (b - a).max(0.0) * part
    }
}

/// Seconds of drafting: T_D. It is measured with one sequence, since a drafter's caches are small and it matters little
/// which sequences the rows of a pass belong to.
#[derive(Clone, Debug, PartialEq)]
pub struct DraftCost {
    /// Seconds of the first level: running the newly accepted tokens and proposing what follows them.
    pub first: f64,
    /// Seconds of each further level, by the number of nodes that are run.
    pub level: Curve,
}

/// Assumed number of accepted tokens that a drafter runs at the start of a tree.
pub const TAKEN_IN: usize = 2;

impl DraftCost {
    /// Costs of a drafter that takes no time.
    pub fn nothing() -> DraftCost {
        let level = Curve::new(&[(1, 1e-9)]).expect("it is one");
        DraftCost { first: 0.0, level }
    }

    /// Seconds of the first level of the trees of several sequences together.
    pub fn first_of(&self, sequences: usize) -> f64 {
        let rows = |sequences: usize| self.level.seconds(TAKEN_IN * sequences);
        self.first + (rows(sequences) - rows(1)).max(0.0)
    }
}

/// Corrections of a table's times: one factor for the present load of the machine, and one for each number of rows.
///
/// Load from other programs slows down passes of all sizes, so the common factor follows quickly. The factor of one
/// number of rows learns only from two successive passes, one of which has that number: the common slowdown cancels.
/// Both steps are bounded, so that one spike moves little; but a factor that is off by more than the bound several times in
/// succession, to the same side, is wrong and follows the measured passes.
#[derive(Clone, Debug)]
pub struct Correction {
    now: f64,                    // logarithm of the common factor
    entries: Vec<RowCorrection>, // by rows
    last: Option<(usize, f64)>,
}

/// Correction of one number of rows.
#[derive(Clone, Copy, Debug, Default)]
struct RowCorrection {
    off: f32, // logarithm of the factor
    times: f32,
    /// Observations in succession that were off by more than the bound to one side; negative where they were less.
    far: i32,
}

impl RowCorrection {
    /// Moves by a fraction of `step`, larger for the first observations.
    fn learn(&mut self, step: f64) {
        self.times += 1.0;
        let side = if step.abs() > MAX_STEP { step.signum() as i32 } else { 0 };
        self.far = if side == self.far.signum() { self.far + side } else { side };
        let (step, part) = match self.far.abs() >= WRONG_AFTER {
            true => (step, 0.5),
            false => {
                (step.clamp(-MAX_STEP, MAX_STEP), SLOWLY.max(0.5 / f64::from(1.0 + self.times)))
            }
        };
        self.off += (step * part) as f32;
    }
}

/// Largest logarithm that one observation counts for.
const MAX_STEP: f64 = 0.3;
/// Weight of an observation in the common factor, and the smallest in the factor of one number of rows.
const QUICKLY: f64 = 0.1;
const SLOWLY: f64 = 0.02;
/// Observations in succession that are far off to one side by which an entry is known to be wrong.
/// A single spike brings two: the pass after it is fast beside it.
const WRONG_AFTER: i32 = 5;

impl Correction {
    /// No correction yet; for passes of up to `rows` rows.
    pub fn new(rows: usize) -> Correction {
        Correction { now: 0.0, entries: vec![RowCorrection::default(); rows + 1], last: None }
    }

    /// The factor for the tables' time of a pass over `n` rows.
    pub fn factor(&self, n: usize) -> f64 {
        (self.now + self.entry(n)).exp()
    }

    /// The common factor: how much slower the machine is now.
    pub fn now(&self) -> f64 {
        self.now.exp()
    }

    fn entry(&self, n: usize) -> f64 {
        f64::from(self.entries[n.min(self.entries.len() - 1)].off)
    }

    /// Records that a pass over `n` rows took `seconds`, where the tables say `expected`.
    pub fn observe(&mut self, n: usize, expected: f64, seconds: f64) {
        let off = (seconds / expected).ln();
        if !off.is_finite() {
            return;
        }
        let off_now = off - self.entry(n);
        self.now += QUICKLY * (off_now - self.now).clamp(-MAX_STEP, MAX_STEP);
        if let Some((before, off_before)) = self.last.replace((n, off))
            && before != n
        {
            let step = (off - self.entry(n)) - (off_before - self.entry(before));
            let end = self.entries.len() - 1;
            self.entries[n.min(end)].learn(step);
            self.entries[before.min(end)].learn(-step);
        }
    }
}

/// Measured costs of a target and a drafter.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// Costs of the target's passes.
    pub verify: VerifyCost,
    /// Costs of drafting.
    pub draft: DraftCost,
}

impl Costs {
    /// One second for each pass, whatever its rows, and none for drafting: for planners that ignore costs.
    pub fn unit() -> Costs {
        let curve = Curve::new(&[(1, 1.0)]).expect("it is one");
        let verify = VerifyCost { tables: vec![Table { batch: 1, context: 0, curve }] };
        Costs { verify, draft: DraftCost::nothing() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn curve(measured: &[(usize, f64)]) -> Curve {
        Curve::new(measured).unwrap()
    }

    proptest! {
        #[test]
        fn a_curve_is_what_was_measured_and_straight_between(
            steps in prop::collection::vec((1usize..6, 0.1f64..9.0), 0..8), first in 0.1f64..9.0, n in 1usize..60,
        ) {
            let mut measured = vec![(1, first)];
            for (step, seconds) in steps {
                measured.push((measured[measured.len() - 1].0 + step, seconds));
            }
            let curve = curve(&measured);
            prop_assert_eq!(curve.measured().collect::<Vec<_>>(), measured.clone());
            let (last, slowest) = measured[measured.len() - 1];
            let expected = match measured.iter().rposition(|(rows, _)| *rows <= n).map(|i| &measured[i..]) {
                Some([(a, low), (b, high), ..]) => {
                    low + (high - low) * (n - a) as f64 / (b - a) as f64
                }
                _ => slowest * n as f64 / last as f64,
            };
            prop_assert!((curve.seconds(n) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_curve_that_is_none_is_refused() {
        let bad: [&[(usize, f64)]; 5] =
            [&[], &[(0, 1.0)], &[(1, 1.0), (1, 2.0)], &[(1, 0.0)], &[(1, 1.0), (4, f64::NAN)]];
        for measured in bad {
            Curve::new(measured).unwrap_err();
        }
        VerifyCost::new(Vec::new()).unwrap_err();
    }

    #[test]
    fn contexts_lie_on_a_line_and_batches_on_steps() {
        let table = |batch, context, one| Table {
            batch,
            context,
            curve: curve(&[(1, one), (3, 2.0 * one)]),
        };
        let cost = VerifyCost::new(vec![
            table(4, 100, 9.0),
            table(1, 1100, 3.0),
            table(1, 100, 1.0),
            table(1, 2100, 4.0),
            table(1, 3100, 3.5),
        ]);
        let cost = cost.unwrap();
        for (batch, context, n, seconds) in [
            (1, 100, 1, 1.0),
            (1, 0, 1, 1.0),
            (1, 600, 1, 2.0),
            (1, 600, 2, 3.0),
            (3, 1600, 1, 3.5),
            (1, 2600, 1, 4.0),
            (1, 9000, 1, 4.0),
            (4, 7, 3, 18.0),
            (9, 5000, 1, 9.0),
        ] {
            assert_eq!(cost.seconds(batch, context, n), seconds, "{batch} {context} {n}");
        }
    }

    #[test]
    fn a_spike_moves_little_and_a_slow_machine_is_followed() {
        let mut correction = Correction::new(64);
        correction.observe(4, 1.0, 100.0);
        assert!(correction.factor(4) < 1.04 && correction.factor(9) < 1.04);
        correction.observe(4, 1.0, f64::NAN);
        correction.observe(4, 0.0, 1.0);
        let mut correction = Correction::new(64);
        for i in 0..80 {
            let n = [1, 4, 7][i % 3];
            correction.observe(n, n as f64, 2.0 * n as f64);
        }
        for n in [1, 4, 7, 30, 200] {
            assert!((correction.factor(n) - 2.0).abs() < 0.05, "{n}: {}", correction.factor(n));
        }
    }

    #[test]
    fn an_entry_that_is_far_off_is_replaced_within_a_dozen_passes() {
        for wrong in [3.18 / 1.11, 0.2] {
            let mut correction = Correction::new(64);
            let ratio =
                |correction: &Correction| correction.factor(2) * wrong / correction.factor(3);
            for i in 0..24 {
                let (n, expected) = [(2, wrong), (3, 1.0)][i % 2];
                correction.observe(n, expected, 1.0);
            }
            let ratio = ratio(&correction);
            assert!((ratio - 1.0).abs() < 0.1, "{wrong}: {ratio}");
        }
    }

    #[test]
    fn an_entry_that_is_wrong_is_found_while_the_machine_drifts() {
        let mut correction = Correction::new(64);
        for i in 0..3000 {
            let n = [1, 8, 4, 1, 4, 8, 8, 4][i % 8];
            let drift = 1.0 + 0.5 * libm::sin(i as f64 / 100.0);
            let really = if n == 8 { 1.6 } else { 1.0 };
            correction.observe(n, 1.0, really * drift);
        }
        let ratio = correction.factor(8) / correction.factor(4);
        assert!((ratio - 1.6).abs() < 0.05, "{ratio}");
        let ratio = correction.factor(1) / correction.factor(4);
        assert!((ratio - 1.0).abs() < 0.05, "{ratio}");
    }
}
