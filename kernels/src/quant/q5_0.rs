//! `Q5_0`: 32 weights in 22 bytes, `w = d · (code − 16)`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{Block, Codes, Format, Scale, Values, add_bit, nibbles};

/// 32 weights: a scale and 5-bit codes, whose fifth bits are stored apart.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q5_0 {
    d: f16,
    /// Bit `i` of the little-endian word is the fifth bit of code `i`.
    fifth: [u8; 4],
    /// Byte `i` holds the low bits of code `i` (low) and code `i + 16` (high).
    codes: [u8; 16],
}

const _: () = assert!(size_of::<Q5_0>() == 22);

impl Block for Q5_0 {
    const FORMAT: Format = Format {
        block_len: 32,
        sub_len: 32,
        bits: 5,
        values: Values::Offset(16),
        d: Scale::F16(0),
        scaled: false,
        min: false,
    };

    fn codes(&self, out: &mut Codes) {
        nibbles(&self.codes, &mut out.code[..32]);
        add_bit(4, u32::from_le_bytes(self.fifth), &mut out.code[..32]);
        out.one_scale(self.d);
    }
}
