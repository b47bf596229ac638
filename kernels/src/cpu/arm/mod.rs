//! ARM, 64 bits: one file an instruction set.

pub mod i8mm;
pub mod neon;
