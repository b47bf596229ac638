//! `Q3_K`: 256 weights in 110 bytes, `w = d · scale · (code − 4)`, 16 weights a sub-block.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{Block, Codes, Format, Scale, Values, add_plane, crumbs};

/// 256 weights: 6-bit signed scales of 16 sub-blocks, 3-bit codes, whose third bits are stored apart.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q3K {
    /// Bit `b` of byte `i` is the third bit of code `i + 32·b`.
    third: [u8; 32],
    /// The low bits, laid out as in `Q2_K`.
    codes: [u8; 64],
    /// Scale `j` plus 32: its low four bits in the nibbles of bytes 0 to 7 (as in `Q4_0`), its high
    /// two bits in byte `8 + j % 4`, at bit `2 · (j / 4)`.
    scales: [u8; 12],
    d: f16,
}

const _: () = assert!(size_of::<Q3K>() == 110);

impl Block for Q3K {
    const FORMAT: Format = Format {
        block_len: 256,
        sub_len: 16,
        bits: 3,
        values: Values::Offset(4),
        d: Scale::F16(0),
        scaled: true,
        min: false,
    };

    fn codes(&self, out: &mut Codes) {
        crumbs(&self.codes, &mut out.code);
        add_plane(2, &self.third, &mut out.code);
        for (j, scale) in out.scale.iter_mut().enumerate() {
            let low = self.scales[j % 8] >> (j / 8 * 4) & 15;
            let high = self.scales[8 + j % 4] >> (j / 4 * 2) & 3;
            *scale = (low | high << 4) as i8 - 32;
        }
        out.scales_alone(self.d);
    }
}
