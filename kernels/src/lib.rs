//! All that multiplies in Dovetail; it knows no model.
//!
//! ```text
//! quant/     what the bytes of a tensor mean: one file a type, the scalar dot product as specification
//! cpu/       how they multiply: one algorithm each, over 16 lanes, instantiated for every ISA
//! shared.rs  bytes that somebody else keeps
//! ```
//!
//! Every function here gives the same bits on every instruction set, for every number of threads and
//! for every number of rows in a pass. [`cpu::order`] writes down the order of operations that makes
//! it so.

pub mod cpu;
pub mod quant;
mod shared;

pub use shared::SharedBytes;
