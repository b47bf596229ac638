//! What the tests of the GPU drafter run on.

mod emulated;

pub use emulated::Emulated;

use super::device::Device;

/// Every device there is: the emulator, which runs threads in ascending order and in another.
pub fn devices() -> Vec<Box<dyn Device>> {
    vec![Box::new(Emulated::new(0)), Box::new(Emulated::new(1))]
}
