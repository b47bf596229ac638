//! The drafter on a GPU.

pub mod device;
mod launch;
