//! `Q8_0`: 32 weights in 34 bytes, `w = d · (code − 128)`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{Block, Codes, Format, Scale, Values};

/// 32 weights: a scale and signed bytes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q8_0 {
    d: f16,
    signed: [i8; 32],
}

const _: () = assert!(size_of::<Q8_0>() == 34);

impl Block for Q8_0 {
    const FORMAT: Format = Format {
        block_len: 32,
        sub_len: 32,
        bits: 8,
        values: Values::Offset(128),
        d: Scale::F16(0),
        scaled: false,
        min: false,
    };

    fn codes(&self, out: &mut Codes) {
        for (code, &signed) in out.code.iter_mut().zip(&self.signed) {
            // Flipping the sign bit adds 128: −128 becomes 0, 127 becomes 255.
            *code = signed as u8 ^ 0x80;
        }
        out.one_scale(self.d);
    }
}
