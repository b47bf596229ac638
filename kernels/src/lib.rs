//! Kernels of Dovetail: everything that multiplies. They know no model.
//!
//! ```text
//! quant/     formats of tensors: one file for each type, with the scalar dot product as specification
//! cpu/       products on the CPU: one algorithm each, over 16 lanes, instantiated for every ISA
//! shared.rs  bytes with a shared owner
//! ```
//!
//! Every function here gives the same bits on every instruction set, for every number of threads and every number of
//! rows in a pass. [`cpu::order`] specifies the order of operations that guarantees this.

pub mod cpu;
pub mod quant;
mod shared;

pub use shared::SharedBytes;
