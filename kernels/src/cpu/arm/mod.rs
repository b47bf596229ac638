//! 64-bit ARM: one file for each instruction set.

pub mod i8mm;
pub mod neon;
