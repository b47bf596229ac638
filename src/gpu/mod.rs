//! A GPU: its driver, weights in its memory, and one function for each kernel.
//!
//! ```text
//! device.rs   the interface of a GPU           cuda.rs     NVIDIA's driver; list.rs: which GPUs it knows
//! weights.rs  matrices as the kernels read them
//! launch/     one kernel a file: the only place that launches
//! ptx.rs      the kernels, embedded            measure.rs  what a GPU can do
//! ```
//!
//! The driver needs the feature `gpu`; without it there is no GPU (`absent.rs`), but everything else is compiled and
//! tested.

#![cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "nothing but a driver uses all of it"))]

#[cfg(not(feature = "gpu"))]
mod absent;
#[cfg(feature = "gpu")]
mod cuda;
pub(crate) mod device;
pub(crate) mod launch;
#[cfg(feature = "gpu")]
mod list;
#[cfg(feature = "gpu")]
pub mod measure;
#[cfg(feature = "gpu")]
mod ptx;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod weights;

#[cfg(not(feature = "gpu"))]
pub use absent::list;
#[cfg(not(feature = "gpu"))]
pub(crate) use absent::open;
#[cfg(feature = "gpu")]
pub use cuda::Cuda;
#[cfg(feature = "gpu")]
pub(crate) use cuda::open;
pub(crate) use device::Device;
#[cfg(feature = "gpu")]
pub use list::list;

/// A GPU that was found.
#[derive(Clone, Debug)]
pub struct GpuInfo {
    /// Its number in the driver.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// Compute capability.
    pub capability: (i32, i32),
    /// Size of its memory in bytes.
    pub memory_bytes: usize,
    /// Why it cannot be used; `None` if it can.
    pub unusable: Option<String>,
}
