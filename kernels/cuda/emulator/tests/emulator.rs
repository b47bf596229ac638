//! The emulator itself: kernels small enough to know what comes out.

use cuda_emulator::{Memory, launch_in_order};
use std::ptr::NonNull;

/// The bytes of a structure of pointers and numbers, and the memory that they point to.
#[derive(Default)]
struct Args {
    bytes: Vec<u8>,
    memory: Vec<Memory>,
}

impl Args {
    /// A pointer to a copy of these.
    fn data<T: Copy>(mut self, data: &[T]) -> Args {
        let memory = Memory::new(size_of_val(data));
        // SAFETY: it has room for all of them, and nobody else knows it.
        unsafe {
            memory
                .start()
                .cast::<T>()
                .copy_from_nonoverlapping(NonNull::from(data).cast(), data.len())
        };
        self.bytes.extend(memory.address().to_ne_bytes());
        self.memory.push(memory);
        self
    }

    fn numbers(mut self, numbers: [u32; 2]) -> Args {
        self.bytes.extend(numbers.iter().flat_map(|n| n.to_ne_bytes()));
        self
    }

    /// What is now in the memory of the pointer with this number.
    fn read<T: Copy>(&self, pointer: usize) -> Vec<T> {
        let memory = &self.memory[pointer];
        // SAFETY: these are initialised, of a type of which all bytes are good, and no kernel runs.
        unsafe {
            std::slice::from_raw_parts(
                memory.start().cast().as_ptr(),
                memory.bytes() / size_of::<T>(),
            )
        }
        .to_vec()
    }
}

/// Runs it in this order.
fn run(kernel: &str, grid: [u32; 2], threads: u32, args: &Args, order: u32) -> Result<(), String> {
    // SAFETY: the memory that the arguments point to lives.
    unsafe { launch_in_order(kernel, grid, threads, &args.bytes, order) }
}

const ORDERS: std::ops::Range<u32> = 0..4;

#[test]
fn adds_vectors() {
    for order in ORDERS {
        let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let y: Vec<f32> = (0..1000).map(|i| 0.5 * i as f32).collect();
        let args = Args::default().data(&x).data(&y).data(&[-1.0f32; 1001]).numbers([1000, 0]);
        run("test_add", [8, 1], 128, &args, order).unwrap();
        let expected: Vec<f32> = (0..1000).map(|i| 1.5 * i as f32).chain([-1.0]).collect();
        assert_eq!(args.read::<f32>(2), expected);
    }
}

#[test]
fn sums_a_block_with_barriers() {
    for (kernel, threads) in [("test_reduce_64", 64), ("test_reduce_256", 256)] {
        for order in ORDERS {
            let x: Vec<f32> = (0..6 * threads).map(|i| i as f32).collect();
            let args = Args::default().data(&x).data(&[0.0f32; 6]);
            run(kernel, [3, 2], threads, &args, order).unwrap();
            let expected: Vec<f32> =
                x.chunks(threads as usize).map(|block| block.iter().sum()).collect();
            assert_eq!(args.read::<f32>(1), expected);
        }
    }
}

#[test]
fn lanes_of_a_warp_exchange() {
    for order in ORDERS {
        let x: Vec<u32> = (0..32).map(|i| (i * 37 + 11) % 100).collect();
        let args = Args::default().data(&x).data(&[0u32; 256]);
        run("test_warp", [1, 1], 32, &args, order).unwrap();
        let out = args.read::<u32>(1);
        let odd = (0..32).fold(0, |mask, i| mask | (x[i] & 1) << i);
        for i in 0..32 {
            assert_eq!(out[i], x.iter().sum::<u32>());
            assert_eq!(out[32 + i], x[5]);
            assert_eq!(out[64 + i], x[if i < 29 { i + 3 } else { i }]);
            assert_eq!(out[96 + i], x[if i >= 3 { i - 3 } else { i }]);
            assert_eq!(out[128 + i], odd);
            assert_eq!(out[160 + i], (x[i ^ 1] << 20) + 1);
            assert_eq!(out[192 + i], x[i ^ if i < 16 { 8 } else { 4 }]);
            assert_eq!(out[224 + i], 0);
        }
    }
}

/// Small integers as half floats, exactly.
fn half(x: i32) -> u16 {
    let (sign, x) = if x < 0 { (0x8000, -x) } else { (0, x) };
    if x == 0 {
        return sign;
    }
    let exponent = x.ilog2();
    sign | ((exponent + 15) << 10) as u16 | ((x << (10 - exponent)) & 0x3ff) as u16
}

#[test]
fn multiplies_matrices() {
    for order in ORDERS {
        let x: Vec<i32> = (0..256).map(|i| (i * 29 + 3) % 41 - 20).collect();
        let y: Vec<i32> = (0..128).map(|i| (i * 31 + 7) % 37 - 18).collect();
        let z: Vec<f32> = (0..128).map(|i| i as f32).collect();
        let halves = |x: &[i32]| x.iter().map(|x| half(*x)).collect::<Vec<u16>>();
        let args = Args::default().data(&halves(&x)).data(&halves(&y)).data(&z);
        run("test_mma", [1, 1], 32, &args, order).unwrap();
        let z = args.read::<f32>(2);
        for row in 0..16 {
            for column in 0..8 {
                let dot: i32 = (0..16).map(|k| x[row * 16 + k] * y[column * 16 + k]).sum();
                assert_eq!(z[row * 8 + column], (dot + (row * 8 + column) as i32) as f32);
            }
        }
    }
}

#[test]
fn half_floats_are_rounded_to_the_nearest() {
    let cases: [(f32, u16); 16] = [
        (0.0, 0),
        (-0.0, 0x8000),
        (1.0, 0x3c00),
        (-2.0, 0xc000),
        (65504.0, 0x7bff),
        (1e9, 0x7bff),
        (-f32::INFINITY, 0xfbff),
        (1.0 + 1.0 / 2048.0, 0x3c00), // a tie, to even
        (1.0 + 3.0 / 2048.0, 0x3c02),
        (1.0 + 1.001 / 2048.0, 0x3c01),
        (f32::from_bits(0x3380_0000), 1), // the least one
        (f32::from_bits(0x3300_0000), 0), // half of it
        (f32::from_bits(0x3300_0001), 1),
        (6.097555e-5, 0x03ff),
        (6.1035156e-5, 0x0400),
        (6.1020255e-5, 0x0400), // up to the least normal one
    ];
    let x: Vec<f32> = cases.iter().map(|case| case.0).collect();
    let args = Args::default().data(&x).data(&vec![0u32; 3 * x.len()]).numbers([x.len() as u32, 0]);
    run("test_half", [1, 1], 32, &args, 0).unwrap();
    let out = args.read::<u32>(1);
    for (i, (x, bits)) in cases.into_iter().enumerate() {
        assert_eq!(out[3 * i] as u16, bits, "{x}");
        let back = f32::from_bits(out[3 * i + 1]);
        assert!((back - x.clamp(-65504.0, 65504.0)).abs() <= x.abs() / 2000.0 + 3e-8, "{x} {back}");
    }
    assert_eq!(out[2 + 3 * 2], 0xc200_4200); // 1 − −2 in the low half, −2 − 1 in the high one
    assert_eq!(out[2 + 3 * 5], 0xfc00_7c00); // 65504 − −65504 is too large
}

/// What `test_wrong` writes in two blocks of 64 threads, or the error.
fn wrong(how: &str, order: u32) -> Result<Vec<u32>, String> {
    let how = HOW.iter().position(|name| *name == how).unwrap() as u32;
    let args = Args::default().data(&[7u32; 64]).numbers([how, 0]);
    run("test_wrong", [2, 1], 64, &args, order)?;
    Ok(args.read(0))
}

/// In the order of the kernel.
const HOW: &[&str] = &[
    "barriers apart",
    "a lane missing",
    "others returned",
    "not in its mask",
    "not written",
    "warps race",
    "too much shared memory",
    "past the end",
    "past the end of an array",
    "no memory",
    "misaligned",
    "blocks race",
    "blocks write the same",
    "lanes race",
    "lanes meet",
    "the last block",
];

#[test]
fn what_a_gpu_leaves_undefined_is_an_error() {
    for (how, expected) in [
        ("barriers apart", "32 at __syncthreads (kernels.cu:"),
        ("a lane missing", "31 at __shfl_xor_sync (kernels.cu:"),
        ("a lane missing", "33 returned"),
        ("not in its mask", "thread 31 is not in its own mask"),
        ("warps race", "at byte 128 of part, which thread 0 read with nothing between them"),
        ("too much shared memory", "48 KB"),
        ("past the end", "writes 4 bytes at byte 256 of 256 allocated"),
        ("past the end of an array", "writes 4 bytes at byte 256 of part, which has 256"),
        ("no memory", "where no memory is"),
        ("misaligned", "no multiple"),
        ("blocks race", "of block (0, 0) wrote with nothing between them"),
        ("lanes race", "with nothing between them"),
    ] {
        // In the ascending order, so that who comes first is known.
        let message = wrong(how, 0).unwrap_err();
        assert!(message.contains(expected), "{how}: {message}");
        for order in ORDERS {
            wrong(how, order).unwrap_err();
        }
    }
}

#[test]
fn what_a_gpu_defines_is_none() {
    for order in ORDERS {
        for how in ["others returned", "lanes meet", "the last block", "blocks write the same"] {
            wrong(how, order).unwrap();
        }
        assert_eq!(wrong("not written", order).unwrap(), [0; 64], "NaN, which differs from itself");
    }
}

#[test]
fn launches_are_checked() {
    let error = |kernel: &str, grid: [u32; 2], threads: u32, args_bytes: usize| {
        let args = Args { bytes: vec![0; args_bytes], memory: Vec::new() };
        run(kernel, grid, threads, &args, 0).unwrap_err()
    };
    assert!(error("nothing", [1, 1], 32, 32).contains("no kernel nothing"));
    assert!(error("test_add", [1, 1], 0, 32).contains("0 threads"));
    assert!(error("test_add", [1, 1], 48, 32).contains("48 threads"));
    assert!(error("test_add", [1, 1], 1056, 32).contains("1056 threads"));
    assert!(error("test_add", [0, 1], 32, 32).contains("0 × 1"));
    assert!(error("test_add", [1, 1], 32, 31).contains("32 bytes, not 31"));
    assert!(error("test_reduce_64", [1, 1], 96, 16).contains("launch bounds"));
}
