//! Numbers between phases, as products leave the kernels.

use dovetail_kernels::cpu::LANES;

/// Rows of up to `width` numbers: (width / 16, rows, 16), sixteen numbers of one row side by side, so that
/// whoever takes consecutive groups of outputs writes consecutive memory.
pub(crate) struct Panel {
    numbers: Vec<f32>,
    n_rows: usize,
}

impl Panel {
    /// Room for `rows` rows of `width` numbers; there are no rows yet.
    pub fn new(width: usize, rows: usize) -> Panel {
        Panel { numbers: vec![0.0; width.next_multiple_of(LANES) * rows], n_rows: 0 }
    }

    /// Sets the number of rows. What they hold is undefined.
    pub fn set_rows(&mut self, n: usize) {
        self.n_rows = n;
    }

    /// How many rows there are.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The first groups of all rows, as many as `width` numbers take: (groups, rows, 16).
    pub fn groups_mut(&mut self, width: usize) -> &mut [f32] {
        &mut self.numbers[..width.next_multiple_of(LANES) * self.n_rows]
    }

    /// Makes `x` the first numbers of row `r`; whole groups.
    pub fn set_row(&mut self, r: usize, x: &[f32]) {
        for (g, lanes) in x.chunks_exact(LANES).enumerate() {
            self.numbers[(g * self.n_rows + r) * LANES..][..LANES].copy_from_slice(lanes);
        }
    }

    /// Copies the numbers of row `r` from `from` on.
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
