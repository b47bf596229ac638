//! Ownership of memory, on every device.

use super::{Emulated, devices};
use crate::gpu::device::{Buffer, Device};
use crate::gpu::launch::echo::{Words, echo};
use crate::gpu::launch::matmul::{Epilogue, HalfRows, matmul};
use crate::gpu::weights::{Matrix, WeightFormat};
use crate::ring::{DOORBELLS_AT, Layout, Sender};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The message that the function panics with.
#[track_caller]
fn refusal<R>(run: impl FnOnce() -> R) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).err().expect("it is refused");
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).expect("a text")
}

#[test]
fn memory_is_freed_with_the_last_part_of_it() {
    for mut device in devices() {
        let device = &mut *device;
        let before = device.used_bytes();
        let all = Buffer::from_slice(device, &[1.0f32; 1000]).unwrap();
        let (used, part) = (device.used_bytes(), all.part(200..300));
        assert!(used >= before + 4000);
        drop(all);
        assert_eq!(device.used_bytes(), used, "a part is in use");
        assert_eq!(part.read(device).unwrap(), [1.0; 100]);
        drop(part);
        assert_eq!(device.used_bytes(), before);
    }
}

/// A product of ones, so each output is the number of columns. Returns the output, and work that computes it.
fn product(device: &mut dyn Device) -> (Buffer<f32>, usize) {
    let matrix = Matrix::zeros(device, WeightFormat::F16, 16, 32).unwrap();
    let one = 0x3c00u16.to_le_bytes();
    matrix.weights.write(device, 0, &one.repeat(matrix.weights.len() / 2)).unwrap();
    let halves = vec![half::f16::ONE; 8 * 128];
    let input = HalfRows { buffer: Buffer::from_slice(device, &halves).unwrap(), stride: 128 };
    let (n, out) =
        (Buffer::from_slice(device, &[1]).unwrap(), Buffer::new(device, 8 * 16).unwrap());
    let launch = matmul(1, &n, &[(&matrix, &input)], None, None, Epilogue::Store(&out));
    let work = device.record(&[launch]).unwrap();
    (out, work)
}

#[test]
fn recorded_work_keeps_its_memory() {
    for mut device in devices() {
        let device = &mut *device;
        let (out, work) = product(device);
        device.run(work).unwrap();
        assert_eq!(out.read(device).unwrap()[..16], [32.0; 16]);
    }
}

#[test]
fn memory_outlives_its_device() {
    for mut device in devices() {
        let (out, work) = product(&mut *device);
        device.run(work).unwrap();
        let part = out.part(0..1);
        drop((device, out));
        drop(part);
    }
}

#[test]
fn shared_memory_lives_as_long_as_either_side_has_it() {
    for mut device in devices() {
        let layout = Layout::new(2, 64);
        let (region, shared) = device.share(layout.bytes()).unwrap();
        let [head, tail] = DOORBELLS_AT.map(|at| shared.doorbell(at));
        // The device waits although only it has the memory.
        device.ring(&head, 1).unwrap();
        device.wait(&head, 1).unwrap();
        device.ring(&tail, 1).unwrap();
        drop((region, shared, head, tail));
        device.finish().unwrap();
        // The host goes on after the device is dropped.
        let (region, _) = device.share(layout.bytes()).unwrap();
        drop(device);
        let mut sender = Sender::new(region, layout);
        sender.claim().unwrap().fill(1);
        sender.publish();
    }
}

#[test]
fn a_device_refuses_memory_of_another() {
    for (mut device, mut other) in devices().into_iter().zip(devices()) {
        let device = &mut *device;
        let foreign = Buffer::from_slice(&mut *other, &[7u32; 64]).unwrap();
        let doorbell = other.share(256).unwrap().1.doorbell(0);
        let words = Words { call: doorbell.clone(), taken: doorbell.clone(), answer: doorbell };
        let of_another = "memory of another device";
        assert_eq!(refusal(|| foreign.write(device, 0, &[1])), of_another);
        assert_eq!(refusal(|| foreign.read(device)), of_another);
        assert_eq!(refusal(|| device.wait(&words.call, 0)), of_another);
        assert_eq!(refusal(|| device.ring(&words.call, 0)), of_another);
        assert_eq!(refusal(|| device.record(&[echo(&words, 0, 0, 1)])), of_another);
        assert_eq!(foreign.read(&mut *other).unwrap(), [7; 64]);
    }
}

#[test]
fn what_is_copied_is_inside() {
    let device = &mut Emulated::new(0);
    let buffer = Buffer::from_slice(device, &[1u32; 8]).unwrap();
    assert_eq!(refusal(|| buffer.write(device, 7, &[1, 2])), "a part is inside");
    assert_eq!(refusal(|| buffer.part(3..9)), "a part is inside");
    let long = [0; 33];
    assert!(refusal(|| device.write(buffer.memory(), &long)).contains("as long"));
    let (_, shared) = device.share(256).unwrap();
    assert_eq!(refusal(|| shared.doorbell(64)), "there is a doorbell");
    let (_, shared) = device.share(130).unwrap();
    assert_eq!(refusal(|| shared.doorbell(128)), "a part is inside");
}
