//! The GPU drafter on every device there is, compared with the drafter on the CPU.

#[path = "../../../../../tests/common/mod.rs"]
mod common;
mod drafter;
mod fallback;
mod saved;
mod together;

use crate::draft::trained::placement::TrainedDrafter;
use crate::draft::{DraftDevice, Drafter, DrafterContext, Placement};
use crate::gpu::Device;
use crate::gpu::tests::{Emulated, devices};
use std::sync::Mutex;

/// The drafter of one sequence on this device.
fn on_device(setup: &DrafterContext, device: Box<dyn Device>) -> Box<dyn Drafter> {
    let (device, placement) = (Mutex::new(Some(device)), setup.placement);
    let placement = Placement { device: DraftDevice::Gpu(None), ..placement };
    let find = move |_: &Placement| {
        let device = device.lock().unwrap().take().expect("one sequence");
        Ok((device, "a device".into()))
    };
    Box::new(TrainedDrafter::open(&DrafterContext { placement, ..*setup }, find).unwrap())
}
