//! `Q4_1`: 32 weights in 20 bytes, `w = d · code + m`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{Block, Codes, Format, Scale, Values, nibbles};

/// 32 weights: a scale, a minimum and 4-bit codes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q4_1 {
    d: f16,
    m: f16,
    /// Byte `i` holds code `i` (low) and code `i + 16` (high).
    codes: [u8; 16],
}

const _: () = assert!(size_of::<Q4_1>() == 20);

impl Block for Q4_1 {
    const FORMAT: Format = Format {
        block_len: 32,
        sub_len: 32,
        bits: 4,
        values: Values::Offset(0),
        d: Scale::F16(0),
        scaled: false,
        min: true,
    };

    fn codes(&self, out: &mut Codes) {
        nibbles(&self.codes, &mut out.code[..32]);
        out.one_scale_and_min(self.d, self.m);
    }
}
