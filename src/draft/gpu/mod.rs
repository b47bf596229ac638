//! The drafter on a GPU.

#![allow(dead_code)] // until the drafter uses all of it

pub mod device;
mod cuda;
mod launch;
mod network;
mod ptx;
#[cfg(test)]
mod tests;
mod weights;
