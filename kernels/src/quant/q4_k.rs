//! `Q4_K`: 256 weights in 144 bytes, `w = d · scale · code − dmin · min`, 32 weights a sub-block.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{Block, Codes, Format, Scale, Values, nibbles};

/// 256 weights: 6-bit scales and minima of 8 sub-blocks, 4-bit codes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q4K {
    d: f16,
    dmin: f16,
    scales: SixBits,
    /// Four runs of 32 bytes: byte `i` of a run holds code `i` (low) and code `i + 32` (high) of its
    /// 64 weights.
    codes: [u8; 128],
}

const _: () = assert!(size_of::<Q4K>() == 144);

impl Block for Q4K {
    const FORMAT: Format = Format {
        block_len: 256,
        sub_len: 32,
        bits: 4,
        values: Values::Offset(0),
        d: Scale::F16(0),
        scaled: true,
        min: true,
    };

    fn codes(&self, out: &mut Codes) {
        for (code, run) in out.code.chunks_exact_mut(64).zip(self.codes.chunks_exact(32)) {
            nibbles(run, code);
        }
        self.scales.unpack(out);
        (out.d, out.m) = (self.d, -self.dmin);
    }
}

/// Eight scales and eight minima of six bits each, as `Q4_K` and `Q5_K` pack them.
///
/// Bytes 0 to 3 hold scales 0 to 3 and bytes 4 to 7 minima 0 to 3 in their low six bits. Bytes 8 to 11 hold the low
/// four bits of scales 4 to 7 (low) and of minima 4 to 7 (high); the upper two bits of these are the upper two bits of
/// bytes 0 to 3 and 4 to 7.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub(super) struct SixBits([u8; 12]);

impl SixBits {
    /// Writes the first eight scales and minima of `out`.
    pub(super) fn unpack(&self, out: &mut Codes) {
        let bytes = &self.0;
        for j in 0..4 {
            out.scale[j] = (bytes[j] & 63) as i8;
            out.min[j] = bytes[4 + j] & 63;
            out.scale[4 + j] = (bytes[8 + j] & 15 | bytes[j] >> 6 << 4) as i8;
            out.min[4 + j] = bytes[8 + j] >> 4 | bytes[4 + j] >> 6 << 4;
        }
    }
}
