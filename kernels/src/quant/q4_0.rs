//! `Q4_0`: 32 weights in 18 bytes, `w = d · (code − 8)`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{Block, Codes, Format, Scale, Values, nibbles};

/// 32 weights: a scale and 4-bit codes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q4_0 {
    d: f16,
    /// Byte `i` holds code `i` (low) and code `i + 16` (high).
    codes: [u8; 16],
}

const _: () = assert!(size_of::<Q4_0>() == 18);

impl Block for Q4_0 {
    const FORMAT: Format = Format {
        block_len: 32,
        sub_len: 32,
        bits: 4,
        values: Values::Offset(8),
        d: Scale::F16(0),
        scaled: false,
        min: false,
    };

    fn codes(&self, out: &mut Codes) {
        nibbles(&self.codes, &mut out.code[..32]);
        out.one_scale(self.d);
    }
}
