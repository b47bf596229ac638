//! `Q6_K`: 256 weights in 210 bytes, `w = d · scale · (code − 32)`, 16 weights a sub-block.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{Block, Codes, Format, Scale, Values, crumbs, nibbles};

/// 256 weights: 8-bit signed scales of 16 sub-blocks, 6-bit codes in two parts.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q6K {
    /// Low four bits in two halves of 64 bytes: byte `i` of a half holds those of code `i` (low)
    /// and code `i + 64` (high) of its 128 weights.
    low: [u8; 128],
    /// High two bits, laid out as the codes of `Q2_K`.
    high: [u8; 64],
    scales: [i8; 16],
    d: f16,
}

const _: () = assert!(size_of::<Q6K>() == 210);

impl Block for Q6K {
    const FORMAT: Format = Format {
        block_len: 256,
        sub_len: 16,
        bits: 6,
        values: Values::Offset(32),
        d: Scale::F16(0),
        scaled: true,
        min: false,
    };

    fn codes(&self, out: &mut Codes) {
        let mut high = [0; 256];
        crumbs(&self.high, &mut high);
        for (code, half) in out.code.chunks_exact_mut(128).zip(self.low.chunks_exact(64)) {
            nibbles(half, code);
        }
        for (code, high) in out.code.iter_mut().zip(high) {
            *code |= high << 4;
        }
        out.scale = self.scales;
        out.scales_alone(self.d);
    }
}
