//! `MXFP4`: 32 weights in 17 bytes, `w = 2^(exponent − 127) · value`, of the standard of microscaling formats (OCP MX
//! 1.0).
//!
//! A value is a number of 4 bits: a sign, two bits of exponent and one of mantissa. Twice the value is an integer.

use bytemuck::{Pod, Zeroable};

use super::{Block, Codes, Format, Scale, Values, nibbles};

/// Twice what the codes stand for.
const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 32 weights: an exponent and 4-bit codes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Mxfp4 {
    /// 255 is no number by the standard, and an infinite scale here. ggml reads it as 2¹²⁸.
    exponent: u8,
    /// Byte `i` holds code `i` (low) and code `i + 16` (high).
    codes: [u8; 16],
}

const _: () = assert!(size_of::<Mxfp4>() == 17);

impl Block for Mxfp4 {
    const FORMAT: Format = Format {
        block_len: 32,
        sub_len: 32,
        bits: 4,
        values: Values::Table(&DOUBLED),
        d: Scale::E8M0(-1),
        scaled: false,
        min: false,
    };

    fn codes(&self, out: &mut Codes) {
        nibbles(&self.codes, &mut out.code[..32]);
        out.one_scale(half::f16::ZERO);
        out.exponent = self.exponent;
    }
}
