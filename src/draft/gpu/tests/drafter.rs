//! The whole drafter on every device there is.

use super::common::drafter::{SHAPES, assert_guesses};
use super::devices;
use crate::draft::gpu::GpuDrafter;
use crate::draft::{Drafter, Placement, Setup};

#[test]
fn guesses_are_those_of_the_textbook() {
    for shape in SHAPES.into_iter().filter(|shape| !shape.is_eagle3()) {
        for device in devices() {
            // Rows are half floats between products; their rounding is what differs.
            assert_guesses(shape, 0.02, |parts, target| -> Box<dyn Drafter> {
                let file = parts.write();
                let (path, placement) = (Some(file.path()), Placement::CPU);
                let setup = Setup { target, n_ctx: 512, threads: 1, path, placement };
                Box::new(GpuDrafter::open(&setup, device).unwrap())
            });
        }
    }
}
