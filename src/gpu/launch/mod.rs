//! The only place that launches kernels: one function for each, which checks all lengths first.
//!
//! It cannot check indices that kernels read from memory: slots, positions, tokens and parents in [`Rows`], and the
//! contents of messages. Kernels derive the former from the latter, and the sender of messages keeps them inside the
//! cache (`GpuDrafter::send`).
//!
//! To add a kernel: `kernels/cuda/NAME.cu`, and a file here with the twin of its argument, the function, and tests that
//! compare it with a plain reference on every device. Blocks and threads of a launch are fixed when it is recorded.
//! Only the device knows how many rows a pass has; blocks without work return at once.

pub mod attention_tree;
pub mod echo;
pub mod fuse;
pub mod grow;
pub mod matmul;
pub mod receive;
pub mod rope_kv;
pub mod state;
#[cfg(test)]
mod testing;
pub mod topk;

pub use receive::Slots;

use super::device::{Buffer, Launch, LaunchMemory};
use bytemuck::{Pod, Zeroable};

/// Most rows in a pass.
pub const MAX_ROWS: usize = 64;
/// The number of no node and no row.
#[cfg(test)]
pub const NONE: u32 = u32::MAX;

/// The rows of a pass: see `common.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Rows {
    pub n: u32,
    pub unused: u32,
    pub slot: [u32; MAX_ROWS],
    pub base: [u32; MAX_ROWS],
    pub position: [u32; MAX_ROWS],
    pub token: [u32; MAX_ROWS],
    pub parent: [u32; MAX_ROWS],
    pub mask: [u64; MAX_ROWS],
}
