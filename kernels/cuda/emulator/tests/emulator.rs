//! The emulator itself: kernels small enough to know what comes out.

use cuda_emulator::launch_in_order;

/// The bytes of a structure of pointers and numbers.
struct Args(Vec<u8>);

impl Args {
    fn new() -> Args {
        Args(Vec::new())
    }

    fn pointer<T>(mut self, data: &[T]) -> Args {
        self.0.extend((data.as_ptr() as u64).to_ne_bytes());
        self
    }

    fn output<T>(mut self, data: &mut [T]) -> Args {
        self.0.extend((data.as_mut_ptr() as u64).to_ne_bytes());
        self
    }

    fn numbers(mut self, numbers: [u32; 2]) -> Args {
        self.0.extend(numbers.iter().flat_map(|n| n.to_ne_bytes()));
        self
    }
}

/// Runs it in this order.
fn run(kernel: &str, grid: [u32; 2], threads: u32, args: &Args, order: u32) -> Result<(), String> {
    // SAFETY: the tests' arguments point to vectors that live, as long as the kernels need.
    unsafe { launch_in_order(kernel, grid, threads, &args.0, order) }
}

const ORDERS: std::ops::Range<u32> = 0..4;

#[test]
fn adds_vectors() {
    for order in ORDERS {
        let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let y: Vec<f32> = (0..1000).map(|i| 0.5 * i as f32).collect();
        let mut sum = vec![-1.0f32; 1001];
        let args = Args::new().pointer(&x).pointer(&y).output(&mut sum).numbers([1000, 0]);
        run("test_add", [8, 1], 128, &args, order).unwrap();
        let expected: Vec<f32> = (0..1000).map(|i| 1.5 * i as f32).chain([-1.0]).collect();
        assert_eq!(sum, expected);
    }
}

#[test]
fn sums_a_block_with_barriers() {
    for (kernel, threads) in [("test_reduce_64", 64), ("test_reduce_256", 256)] {
        for order in ORDERS {
            let x: Vec<f32> = (0..6 * threads).map(|i| i as f32).collect();
            let mut sum = vec![0.0f32; 6];
            let args = Args::new().pointer(&x).output(&mut sum);
            run(kernel, [3, 2], threads, &args, order).unwrap();
            let expected: Vec<f32> =
                x.chunks(threads as usize).map(|block| block.iter().sum()).collect();
            assert_eq!(sum, expected);
        }
    }
}

#[test]
fn lanes_of_a_warp_exchange() {
    for order in ORDERS {
        let x: Vec<u32> = (0..32).map(|i| (i * 37 + 11) % 100).collect();
        let mut out = vec![0u32; 256];
        let args = Args::new().pointer(&x).output(&mut out);
        run("test_warp", [1, 1], 32, &args, order).unwrap();
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
        let mut z: Vec<f32> = (0..128).map(|i| i as f32).collect();
        let halves = |x: &[i32]| x.iter().map(|x| half(*x)).collect::<Vec<u16>>();
        let (x16, y16) = (halves(&x), halves(&y));
        let args = Args::new().pointer(&x16).pointer(&y16).output(&mut z);
        run("test_mma", [1, 1], 32, &args, order).unwrap();
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
    let mut out = vec![0u32; 3 * x.len()];
    let args = Args::new().pointer(&x).output(&mut out).numbers([x.len() as u32, 0]);
    run("test_half", [1, 1], 32, &args, 0).unwrap();
    for (i, (x, bits)) in cases.into_iter().enumerate() {
        assert_eq!(out[3 * i] as u16, bits, "{x}");
        let back = f32::from_bits(out[3 * i + 1]);
        assert!((back - x.clamp(-65504.0, 65504.0)).abs() <= x.abs() / 2000.0 + 3e-8, "{x} {back}");
    }
    assert_eq!(out[2 + 3 * 2], 0xc200_4200); // 1 − −2 in the low half, −2 − 1 in the high one
    assert_eq!(out[2 + 3 * 5], 0xfc00_7c00); // 65504 − −65504 is too large
}

#[test]
fn what_a_gpu_leaves_undefined_is_an_error() {
    let mut out = vec![7u32; 64];
    let mut wrong = |how: u32| {
        let args = Args::new().output(&mut out).numbers([how, 0]);
        run("test_wrong", [1, 1], 64, &args, 0).unwrap_err()
    };
    let message = wrong(0);
    assert!(message.contains("32 at __syncthreads (kernels.cu:"), "{message}");
    let message = wrong(1);
    assert!(message.contains("31 at __shfl_xor_sync (kernels.cu:"), "{message}");
    assert!(message.contains("33 returned"), "{message}");
    let message = wrong(3);
    assert!(message.contains("mask"), "{message}");
    let message = wrong(6);
    assert!(message.contains("48 KB"), "{message}");
    // After a failure all is as before.
    let args = Args::new().output(&mut out).numbers([2, 0]);
    run("test_wrong", [1, 1], 64, &args, 0).unwrap();
    assert_eq!(out[..32], std::array::from_fn::<u32, 32, _>(|i| i as u32));
    let args = Args::new().output(&mut out).numbers([4, 0]);
    run("test_wrong", [1, 1], 64, &args, 0).unwrap();
    assert_eq!(out, [0; 64], "not written: NaN, which differs from itself");
}

#[test]
fn a_race_shows_in_another_order() {
    let result = |order| {
        let mut out = vec![7u32; 64];
        let args = Args::new().output(&mut out).numbers([5, 0]);
        run("test_wrong", [1, 1], 64, &args, order).unwrap();
        out
    };
    assert_ne!(result(0), result(1));
}

#[test]
fn launches_are_checked() {
    let error = |kernel: &str, grid: [u32; 2], threads: u32, args_bytes: usize| {
        run(kernel, grid, threads, &Args(vec![0; args_bytes]), 0).unwrap_err()
    };
    assert!(error("nothing", [1, 1], 32, 32).contains("no kernel nothing"));
    assert!(error("test_add", [1, 1], 0, 32).contains("0 threads"));
    assert!(error("test_add", [1, 1], 48, 32).contains("48 threads"));
    assert!(error("test_add", [1, 1], 1056, 32).contains("1056 threads"));
    assert!(error("test_add", [0, 1], 32, 32).contains("0 × 1"));
    assert!(error("test_add", [1, 1], 32, 31).contains("32 bytes, not 31"));
    assert!(error("test_reduce_64", [1, 1], 96, 16).contains("launch bounds"));
}
