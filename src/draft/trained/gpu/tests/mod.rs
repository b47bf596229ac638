//! The GPU drafter on every device there is, compared with the drafter on the CPU.

#[path = "../../../../../tests/common/mod.rs"]
mod common;
mod drafter;
mod fallback;
mod saved;
mod together;

use crate::gpu::tests::{Emulated, devices};
