//! Replaces the driver if the feature `gpu` is off.

use super::{Device, GpuInfo};
use crate::error::{Error, Result};

const WHY: &str = "this was built for the CPU alone; build it with the feature gpu";

/// Returns why there are no GPUs.
///
/// # Errors
/// Always.
pub fn list() -> std::result::Result<Vec<GpuInfo>, String> {
    Err(WHY.into())
}

pub(crate) fn open(_: usize, _: usize) -> Result<Box<dyn Device>> {
    Err(Error::Unsupported(WHY.into()))
}
