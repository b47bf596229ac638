//! Devices and helpers for the tests of kernels and of drafters on a GPU.

mod emulated;
mod memory;

pub use emulated::Emulated;

use super::device::{Buffer, Device, Launch};
use super::launch::MAX_ROWS;
use super::launch::matmul::{HalfRows, panel};
use super::weights::padded;
use half::f16;

/// All devices: the emulator, with threads in ascending and in another order, and a GPU if there is one.
/// `DOVETAIL_TEST_DEVICE=gpu` requires a GPU and uses nothing else.
pub fn devices() -> Vec<Box<dyn Device>> {
    let only_gpu = std::env::var("DOVETAIL_TEST_DEVICE").is_ok_and(|device| device == "gpu");
    let gpu = match super::list() {
        Ok(found) => match found.iter().find(|gpu| gpu.unusable.is_none()) {
            Some(gpu) => Ok(super::open(gpu.ordinal, usize::MAX).unwrap()),
            None => Err("no GPU can be used".to_owned()),
        },
        Err(why) => Err(why),
    };
    let mut devices: Vec<Box<dyn Device>> = Vec::new();
    if !only_gpu {
        devices.push(Box::new(Emulated::new(0)));
        devices.push(Box::new(Emulated::new(1)));
    }
    match gpu {
        Ok(gpu) => devices.push(gpu),
        Err(why) if only_gpu => panic!("{why}"),
        Err(why) => eprintln!("SKIPPED on a GPU: {why}"),
    }
    devices
}

/// Pseudorandom numbers between −1 and 1.
pub fn noise(seed: u32) -> impl FnMut() -> f32 {
    let mut state = u64::from(seed) * 2 + 1;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// `n` rows of noise on the device, and their values: (n, columns).
pub fn half_rows(
    device: &mut dyn Device,
    n: usize,
    columns: usize,
    seed: u32,
) -> (HalfRows, Vec<f32>) {
    let (stride, mut draw) = (padded(columns), noise(seed));
    let mut rows = vec![f16::ZERO; MAX_ROWS * stride];
    let mut values = Vec::new();
    for r in 0..n {
        for c in 0..columns {
            let value = f16::from_f32(draw());
            rows[panel(r, c, stride)] = value;
            values.push(value.to_f32());
        }
    }
    (HalfRows { buffer: Buffer::from_slice(device, &rows).unwrap(), stride }, values)
}

/// Runs these launches and waits for them.
pub fn run(device: &mut dyn Device, launches: &[Launch]) {
    let work = device.record(launches).unwrap();
    device.run(work).unwrap();
    device.finish().unwrap();
}
