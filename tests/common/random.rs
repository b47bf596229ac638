//! Random numbers of tests and benches.

#![allow(dead_code, reason = "each user needs a part of this")]

/// Random numbers that are the same on every machine: SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Roughly normal with deviation 1: the sum of twelve uniform numbers, without libm.
    pub fn normal(&mut self) -> f64 {
        let uniform = |x: u64| (x >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        (0..12).map(|_| uniform(self.bits())).sum()
    }

    /// `n` numbers evenly spread over −1…1.
    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0).collect()
    }
}
