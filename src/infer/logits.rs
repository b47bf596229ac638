//! Logits of the rows of a pass, and the best of a row without sorting it.
//!
//! The head writes a panel, `(⌈n_vocab / 16⌉, rows, 16)`, and the maximum ("peak") of each group of 16 tokens,
//! `(⌈n_vocab / 16⌉, rows)`. A search for the best tokens reads the peaks, one number in seventeen, and then only the
//! few groups that can contain one.

use dovetail_kernels::cpu::LANES;

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogit {
    /// The token.
    pub token: u32,
    /// Its logit.
    pub logit: f32,
}

/// Logits of the rows of a pass.
pub(crate) struct LogitRows {
    panel: Vec<f32>, // (groups, rows, 16)
    peaks: Vec<f32>, // (groups, rows)
    n_rows: usize,
    n_vocab: usize,
}

impl LogitRows {
    /// Room for one row.
    pub(super) fn new(n_vocab: usize) -> LogitRows {
        let mut rows = LogitRows { panel: Vec::new(), peaks: Vec::new(), n_rows: 0, n_vocab };
        rows.resize(1, n_vocab);
        rows.n_rows = 0;
        rows
    }

    /// Sets the numbers of rows and tokens. Returns the panel and the peaks, which [`find_peaks`] completes.
    pub(super) fn resize(&mut self, n_rows: usize, n_vocab: usize) -> (&mut [f32], &mut [f32]) {
        (self.n_rows, self.n_vocab) = (n_rows, n_vocab);
        self.reserve(n_rows, n_vocab);
        let len = n_vocab.div_ceil(LANES) * n_rows;
        (&mut self.panel[..len * LANES], &mut self.peaks[..len])
    }

    /// Adds groups of tokens behind the present ones, filled with −∞. Returns the number of rows, and the panel and the
    /// peaks of the new groups.
    pub(super) fn append(&mut self, groups: usize) -> (usize, &mut [f32], &mut [f32]) {
        let (m, before) = (self.n_rows, self.n_vocab.div_ceil(LANES));
        if groups > 0 {
            self.n_vocab = (before + groups) * LANES;
            self.reserve(m, self.n_vocab);
        }
        let (first, len) = (before * m, groups * m);
        let panel = &mut self.panel[first * LANES..][..len * LANES];
        let peaks = &mut self.peaks[first..][..len];
        panel.fill(f32::NEG_INFINITY);
        peaks.fill(f32::NEG_INFINITY);
        (m, panel, peaks)
    }

    /// Reserves memory for `n_rows` rows of `n_vocab` tokens.
    pub(super) fn reserve(&mut self, n_rows: usize, n_vocab: usize) {
        let len = n_vocab.div_ceil(LANES) * n_rows;
        if self.peaks.len() < len {
            self.peaks.resize(len, 0.0);
            self.panel.resize(len * LANES, 0.0);
        }
    }

    /// Row `i` of the last pass.
    pub(crate) fn row(&self, i: usize) -> Logits<'_> {
        assert!(i < self.n_rows, "the last pass computed {} rows", self.n_rows);
        Logits { rows: self, i }
    }
}

/// A row of logits that outlives the pass which computed it.
#[derive(Default)]
pub(crate) struct SavedLogits {
    rows: Option<LogitRows>,
    is_set: bool,
}

impl SavedLogits {
    /// Stores a copy of this row.
    pub(crate) fn set(&mut self, logits: Logits) {
        let n_vocab = logits.n_vocab();
        let rows = self.rows.get_or_insert_with(|| LogitRows::new(n_vocab));
        let (panel, peaks) = rows.resize(1, n_vocab);
        for (g, (lanes, peak)) in panel.as_chunks_mut::<LANES>().0.iter_mut().zip(peaks).enumerate()
        {
            (*lanes, *peak) = (*logits.group(g), logits.peak(g));
        }
        self.is_set = true;
    }

    /// The stored row, if there is one.
    pub(crate) fn get(&self) -> Option<Logits<'_>> {
        self.rows.as_ref().filter(|_| self.is_set).map(|rows| rows.row(0))
    }

    /// Drops the stored row.
    pub(crate) fn clear(&mut self) {
        self.is_set = false;
    }
}

/// Writes the peaks of some groups of `n_rows` rows. `n_tokens` is the number of tokens from the first of these groups
/// on; the padding behind them becomes −∞.
pub(super) fn find_peaks(panel: &mut [f32], n_rows: usize, n_tokens: usize, peaks: &mut [f32]) {
    let groups = panel.chunks_exact_mut(LANES * n_rows).zip(peaks.chunks_exact_mut(n_rows));
    for (g, (tile, peaks)) in groups.enumerate() {
        let filled = (n_tokens - g * LANES).min(LANES);
        for (lanes, peak) in tile.as_chunks_mut::<LANES>().0.iter_mut().zip(peaks) {
            lanes[filled..].fill(f32::NEG_INFINITY);
            *peak = largest(*lanes);
        }
    }
}

/// The largest of a group; NaN if any of them is NaN.
fn largest(mut lanes: [f32; LANES]) -> f32 {
    // The compiler makes vectors of this loop; with a condition for NaN in the comparison below it would not.
    let any_nan = lanes.iter().fold(false, |any, lane| any | lane.is_nan());
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            let (a, b) = (lanes[i], lanes[i + half]);
            lanes[i] = if b > a { b } else { a };
        }
    }
    if any_nan { f32::NAN } else { lanes[0] }
}

/// Logits of one row.
#[derive(Clone, Copy)]
pub struct Logits<'a> {
    rows: &'a LogitRows,
    i: usize,
}

impl Logits<'_> {
    /// Size of the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.rows.n_vocab
    }

    /// The logit of `token`, which must be less than `n_vocab`.
    pub fn of(&self, token: u32) -> f32 {
        self.group(token as usize / LANES)[token as usize % LANES]
    }

    /// Whether no logit is NaN or +∞. A damaged model has such logits.
    pub fn are_numbers(&self) -> bool {
        let n_rows = self.rows.n_rows;
        let peaks = &self.rows.peaks[..self.n_vocab().div_ceil(LANES) * n_rows];
        peaks[self.i..].iter().step_by(n_rows).all(|peak| *peak < f32::INFINITY)
    }

    /// Writes all logits to `out`, in order of their tokens: (n_vocab).
    pub fn copy_to(&self, out: &mut Vec<f32>) {
        out.clear();
        let groups = self.n_vocab().div_ceil(LANES);
        (0..groups).for_each(|g| out.extend_from_slice(self.group(g)));
        out.truncate(self.n_vocab());
    }

    /// The token with the largest logit; the first of equal ones.
    pub fn best(&self) -> u32 {
        let mut best = 0;
        for g in 1..self.n_vocab().div_ceil(LANES) {
            if self.peak(g) > self.peak(best) {
                best = g;
            }
        }
        let peak = self.peak(best);
        let lane = self.group(best).iter().position(|&logit| logit == peak);
        (best * LANES + lane.unwrap_or(0)) as u32
    }

    /// The capacity that [`Logits::top`] needs for the best `k`, so that it does not allocate.
    pub fn room_for_top(k: usize) -> usize {
        2 * k + LANES
    }

    /// Writes the `k` tokens with the largest logits to `out`, the largest first, and the smaller token first of equal
    /// ones.
    pub fn top(&self, k: usize, out: &mut Vec<TokenLogit>) {
        self.top_of(k, |_| true, out);
    }

    /// [`Logits::top`] of the tokens that are `allowed`.
    pub fn top_of(&self, k: usize, allowed: impl Fn(u32) -> bool, out: &mut Vec<TokenLogit>) {
        out.clear();
        if k == 0 {
            return;
        }
        let n_vocab = self.n_vocab() as u32;
        // A candidate must exceed this: of equal logits the earlier token wins.
        let mut lowest = None;
        for g in 0..self.n_vocab().div_ceil(LANES) {
            if lowest.is_some_and(|lowest| self.peak(g) <= lowest) {
                continue;
            }
            for (token, &logit) in (g as u32 * LANES as u32..n_vocab).zip(self.group(g)) {
                if lowest.is_none_or(|lowest| logit > lowest) && allowed(token) {
                    out.push(TokenLogit { token, logit });
                }
            }
            if out.len() / 2 >= k {
                keep(k, out);
                lowest = Some(out[k - 1].logit);
            }
        }
        keep(k, out);
        out.sort_unstable_by(by_logit);
    }

    /// [`Logits::top`] of these tokens alone.
    pub fn top_among(
        &self,
        k: usize,
        tokens: impl Iterator<Item = u32>,
        out: &mut Vec<TokenLogit>,
    ) {
        out.clear();
        let known = tokens.filter(|token| (*token as usize) < self.n_vocab());
        out.extend(known.map(|token| TokenLogit { token, logit: self.of(token) }));
        keep(k, out);
        out.sort_unstable_by(by_logit);
    }

    fn group(&self, g: usize) -> &[f32; LANES] {
        &self.rows.panel.as_chunks::<LANES>().0[g * self.rows.n_rows + self.i]
    }

    fn peak(&self, g: usize) -> f32 {
        self.rows.peaks[g * self.rows.n_rows + self.i]
    }
}

/// Drops all but the best `k`; the last of them is then at `k − 1`.
fn keep(k: usize, candidates: &mut Vec<TokenLogit>) {
    if k == 0 {
        candidates.clear();
    } else if k < candidates.len() {
        candidates.select_nth_unstable_by(k - 1, by_logit);
        candidates.truncate(k);
    }
}

/// Largest first. The order is total, so that NaN from a damaged model cannot upset a sort.
pub(crate) fn by_logit(a: &TokenLogit, b: &TokenLogit) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rows in the layout of the head.
    pub(crate) fn rows_of(rows: &[Vec<f32>]) -> LogitRows {
        let (n_rows, n_vocab) = (rows.len(), rows[0].len());
        let mut logits = LogitRows::new(n_vocab);
        let (panel, peaks) = logits.resize(n_rows, n_vocab);
        for (r, row) in rows.iter().enumerate() {
            for (token, logit) in row.iter().enumerate() {
                panel[(token / LANES * n_rows + r) * LANES + token % LANES] = *logit;
            }
        }
        find_peaks(panel, n_rows, n_vocab, peaks);
        logits
    }

    #[test]
    fn one_logit_that_is_no_number_is_found_wherever_it_is() {
        for n_vocab in [1, 16, 17, 100] {
            let row = vec![f32::MAX; n_vocab];
            let forbidden = vec![f32::NEG_INFINITY; n_vocab];
            assert!(rows_of(&[row.clone(), forbidden]).row(1).are_numbers());
            for (token, wrong) in
                (0..n_vocab).zip([f32::NAN, -f32::NAN, f32::INFINITY].iter().cycle())
            {
                let mut damaged = row.clone();
                damaged[token] = *wrong;
                let rows = rows_of(&[row.clone(), damaged]);
                assert!(rows.row(0).are_numbers() && !rows.row(1).are_numbers(), "{token}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_a_sorted_row(
            row in prop::collection::vec(-4i32..4, 1..200), k in 0usize..60, other in -9.0f32..9.0,
        ) {
            // There are few distinct values, so that many are equal; a second row must not be mistaken for the first.
            let row: Vec<f32> = row.into_iter().map(|x| x as f32 / 2.0 - 9.0).collect();
            let rows = rows_of(&[vec![other; row.len()], row.clone()]);
            let logits = rows.row(1);
            let mut sorted: Vec<TokenLogit> =
                row.iter().zip(0..).map(|(&logit, token)| TokenLogit { token, logit }).collect();
            sorted.sort_by(by_logit);
            let mut top = Vec::new();
            logits.top(k, &mut top);
            prop_assert_eq!(&top, &sorted[..k.min(sorted.len())]);
            logits.top_among(k, 0..row.len() as u32 + 9, &mut top);
            prop_assert_eq!(&top, &sorted[..k.min(sorted.len())]);
            prop_assert_eq!(logits.best(), sorted[0].token);
            prop_assert_eq!(logits.of(sorted[0].token), sorted[0].logit);
            let mut all = Vec::new();
            logits.copy_to(&mut all);
            prop_assert_eq!(all, row);
        }
    }
}
