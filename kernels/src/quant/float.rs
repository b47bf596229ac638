//! `F32`, `F16`, `BF16`: plain numbers, little endian. All of them are exact in `f32`.
//!
//! One file for the three, because modules called `f32` and `f16` would hide the types.

use half::f16;

/// `F32`: reads the weights of `bytes`, four bytes each, into `out`.
pub fn dequantize_f32(bytes: &[u8], out: &mut [f32]) {
    for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *value = f32::from_le_bytes(bytes.try_into().expect("chunks of four"));
    }
}

/// `F16`: reads the weights of `bytes`, IEEE half precision, into `out`.
pub fn dequantize_f16(bytes: &[u8], out: &mut [f32]) {
    for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *value = f16::from_le_bytes(bytes.try_into().expect("chunks of two")).to_f32();
    }
}

/// `BF16`: reads the weights of `bytes`, the upper halves of `f32`, into `out`.
pub fn dequantize_bf16(bytes: &[u8], out: &mut [f32]) {
    for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        let upper = u16::from_le_bytes(bytes.try_into().expect("chunks of two"));
        *value = f32::from_bits(u32::from(upper) << 16);
    }
}
