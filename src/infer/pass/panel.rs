//! Matrices of activations between phases, in the layout that products write.

use dovetail_kernels::cpu::LANES;

/// Rows of up to `width` numbers: (width / 16, rows, 16). Sixteen numbers of a row are adjacent, so a chunk of
/// consecutive groups of outputs is consecutive memory.
pub(crate) struct Panel {
    numbers: Vec<f32>,
    n_rows: usize,
}

impl Panel {
    /// Memory for `rows` rows of `width` numbers; the number of rows is 0.
    pub fn new(width: usize, rows: usize) -> Panel {
        Panel { numbers: vec![0.0; width.next_multiple_of(LANES) * rows], n_rows: 0 }
    }

    /// Sets the number of rows. Their content is unspecified.
    pub fn set_rows(&mut self, n: usize) {
        self.n_rows = n;
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The first `width` numbers of all rows, rounded up to whole groups: (groups, rows, 16).
    pub fn groups_mut(&mut self, width: usize) -> &mut [f32] {
        &mut self.numbers[..width.next_multiple_of(LANES) * self.n_rows]
    }

    /// Becomes a copy of the first `width` numbers of another panel's rows.
    pub fn copy_from(&mut self, other: &Panel, width: usize) {
        self.set_rows(other.n_rows);
        let numbers = self.groups_mut(width);
        numbers.copy_from_slice(&other.numbers[..numbers.len()]);
    }

    /// Sets the first numbers of row `r` to `x`.
    pub fn set_row(&mut self, r: usize, x: &[f32]) {
        for (g, lanes) in x.chunks(LANES).enumerate() {
            let at = (g * self.n_rows + r) * LANES;
            self.numbers[at..at + lanes.len()].copy_from_slice(lanes);
        }
    }

    /// Copies numbers of row `r` from `from` on to `out`.
    pub fn row(&self, r: usize, from: usize, out: &mut [f32]) {
        if self.n_rows == 1 {
            return out.copy_from_slice(&self.numbers[from..][..out.len()]);
        }
        let mut done = 0;
        while done < out.len() {
            let (group, lane) = ((from + done) / LANES, (from + done) % LANES);
            let len = (LANES - lane).min(out.len() - done);
            let lanes = &self.numbers[(group * self.n_rows + r) * LANES + lane..][..len];
            out[done..done + len].copy_from_slice(lanes);
            done += len;
        }
    }
}
