//! `Q5_K`: 256 weights in 176 bytes, `w = d · scale · code − dmin · min`, 32 weights a sub-block.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::q4_k::SixBits;
use super::{Block, Codes, Format, Scale, Values, add_plane, nibbles};

/// 256 weights: 6-bit scales and minima of 8 sub-blocks, 5-bit codes, whose fifth bits are stored apart.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Q5K {
    d: f16,
    dmin: f16,
    scales: SixBits,
    /// Bit `b` of byte `i` is the fifth bit of code `i + 32·b`.
    fifth: [u8; 32],
    /// The low bits, laid out as in `Q4_K`.
    codes: [u8; 128],
}

const _: () = assert!(size_of::<Q5K>() == 176);

impl Block for Q5K {
    const FORMAT: Format = Format {
        block_len: 256,
        sub_len: 32,
        bits: 5,
        values: Values::Offset(0),
        d: Scale::F16(0),
        scaled: true,
        min: true,
    };

    fn codes(&self, out: &mut Codes) {
        for (code, run) in out.code.chunks_exact_mut(64).zip(self.codes.chunks_exact(32)) {
            nibbles(run, code);
        }
        add_plane(4, &self.fifth, &mut out.code);
        self.scales.unpack(out);
        (out.d, out.m) = (self.d, -self.dmin);
    }
}
