//! x86-64: one file for each instruction set.

pub mod amx;
pub mod avx2;
pub mod avx512;
