//! Shared by the tests of kernels.

/// Reproducible pseudorandom numbers.
pub struct Random(pub u64);

impl Random {
    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ x >> 31) >> 16) as usize % n
    }

    /// A number from −`most` to `most`.
    pub fn float(&mut self, most: f32) -> f32 {
        most * (self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0)
    }
}
