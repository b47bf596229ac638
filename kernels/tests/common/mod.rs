//! What the tests of kernels share.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use dovetail_kernels::cpu::Kernels;
use proptest::prelude::*;
use proptest::test_runner::TestRng;
use std::sync::Once;

#[cfg(target_arch = "x86_64")]
const ISAS: &[&str] = &["amx", "avx512", "avxvnni", "avx2", "scalar"];
#[cfg(target_arch = "aarch64")]
const ISAS: &[&str] = &["i8mm", "dotprod", "neon", "scalar"];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ISAS: &[&str] = &["scalar"];

/// Types with a codebook, for which ggml makes tables before it quantises: that takes minutes under emulation.
pub const CODEBOOKS: [u32; 7] = [16, 17, 18, 19, 21, 22, 29];

/// The instruction sets of this CPU; which these are and which it lacks is printed once.
pub fn isas() -> Vec<&'static Kernels> {
    static SAID: Once = Once::new();
    let here: Vec<_> = Kernels::available().collect();
    let unknown = here.iter().find(|k| !ISAS.contains(&k.name));
    assert!(unknown.is_none(), "{} has no place in ISAS", unknown.map_or("", |k| k.name));
    SAID.call_once(|| {
        for name in ISAS {
            let found = here.iter().any(|k| k.name == *name);
            eprintln!("{}: {name}", if found { "COMPARED" } else { "SKIPPED, not in this CPU" });
        }
    });
    here
}

/// Random numbers, the same in every run.
pub fn rng() -> TestRng {
    TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha)
}

/// Roughly normal numbers.
pub fn gaussian(rng: &mut TestRng, n: usize, scale: f32) -> Vec<f32> {
    let uniform = |rng: &mut TestRng| rng.next_u32() as f32 / u32::MAX as f32 - 0.5;
    (0..n).map(|_| (0..6).map(|_| uniform(rng)).sum::<f32>() * scale).collect()
}

/// Numbers as what they are compared by.
pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
