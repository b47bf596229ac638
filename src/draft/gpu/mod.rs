//! The drafter on a GPU.

#![allow(dead_code)] // until the drafter uses all of it

pub mod device;
mod launch;
mod ptx;
#[cfg(test)]
mod tests;
