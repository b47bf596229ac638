//! x86-64: one file an instruction set.

pub mod avx2;
pub mod avx512;
