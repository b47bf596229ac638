//! A GPU: its driver, weights in its memory, and one function for each kernel.
//!
//! ```text
//! device.rs   what is needed of a GPU          cuda.rs     NVIDIA's driver
//! weights.rs  matrices as the kernels read them
//! launch/     one kernel a file: the only place that launches
//! ptx.rs      the kernels, embedded            measure.rs  what a GPU can do
//! ```

mod cuda;
pub(crate) mod device;
pub(crate) mod launch;
pub mod measure;
mod ptx;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod weights;

pub use cuda::{Cuda, Found, list};
pub(crate) use device::Device;
