//! What the tests of the GPU drafter run on.

#[path = "../../../../tests/common/mod.rs"]
mod common;
mod drafter;
mod emulated;

pub use emulated::Emulated;

use super::device::{Buffer, Device, Launch};
use super::launch::MAX_ROWS;
use super::launch::matmul::HalfRows;
use super::weights::padded;
use half::f16;

/// Every device there is: the emulator, which runs threads in ascending order and in another.
pub fn devices() -> Vec<Box<dyn Device>> {
    vec![Box::new(Emulated::new(0)), Box::new(Emulated::new(1))]
}

/// Numbers between −1 and 1 that look random.
pub fn noise(seed: u32) -> impl FnMut() -> f32 {
    let mut state = u64::from(seed) * 2 + 1;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// `n` rows of noise on the device, and what they are: (n, columns).
pub fn half_rows(
    device: &mut dyn Device,
    n: usize,
    columns: usize,
    seed: u32,
) -> (HalfRows, Vec<f32>) {
    let (stride, mut draw) = (padded(columns), noise(seed));
    let mut rows = vec![f16::ZERO; MAX_ROWS * stride];
    let mut values = Vec::new();
    for row in rows.chunks_exact_mut(stride).take(n) {
        for x in &mut row[..columns] {
            let value = f16::from_f32(draw());
            *x = value;
            values.push(value.to_f32());
        }
    }
    (HalfRows { buffer: Buffer::of(device, &rows).unwrap(), stride }, values)
}

/// Runs these launches to their end.
pub fn run(device: &mut dyn Device, launches: &[Launch]) {
    let work = device.record(launches).unwrap();
    device.run(work).unwrap();
    device.read(0, &mut []).unwrap();
}
