//! x86-64: one file an instruction set.

pub mod amx;
pub mod avx2;
pub mod avx512;
