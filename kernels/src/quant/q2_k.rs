//! `Q2_K`: 256 weights in 84 bytes, `w = d · scale · code − dmin · min`, 16 weights a sub-block.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{Block, Codes, Format, Scale, Values, crumbs};

/// 256 weights: 4-bit scales and minima of 16 sub-blocks, 2-bit codes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q2K {
    /// Of each sub-block: the scale (low) and the minimum (high).
    scales: [u8; 16],
    /// Two halves of 32 bytes: byte `i` of a half holds the codes `i`, `i + 32`, `i + 64`, `i + 96`
    /// of its 128 weights, lowest bits first.
    codes: [u8; 64],
    d: f16,
    dmin: f16,
}

const _: () = assert!(size_of::<Q2K>() == 84);

impl Block for Q2K {
    const FORMAT: Format = Format {
        block_len: 256,
        sub_len: 16,
        bits: 2,
        values: Values::Offset(0),
        d: Scale::F16(0),
        scaled: true,
        min: true,
    };

    fn codes(&self, out: &mut Codes) {
        crumbs(&self.codes, &mut out.code);
        for (j, &both) in self.scales.iter().enumerate() {
            out.scale[j] = (both & 15) as i8;
            out.min[j] = both >> 4;
        }
        (out.d, out.m) = (self.d, -self.dmin);
    }
}
