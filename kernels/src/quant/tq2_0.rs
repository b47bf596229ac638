//! `TQ2_0`: 256 ternary weights in 66 bytes, `w = d · (code − 1)`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{Block, Codes, Format, Scale, Values, crumbs};

/// 256 weights: 2-bit codes, of which 3 is not used, and one scale.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Tq2_0 {
    /// Laid out as in `Q2_K`.
    codes: [u8; 64],
    d: f16,
}

const _: () = assert!(size_of::<Tq2_0>() == 66);

impl Block for Tq2_0 {
    const FORMAT: Format = Format {
        block_len: 256,
        sub_len: 32,
        bits: 2,
        values: Values::Offset(1),
        d: Scale::F16(0),
        scaled: false,
        min: false,
    };

    fn codes(&self, out: &mut Codes) {
        crumbs(&self.codes, &mut out.code);
        out.no_scales(self.d);
    }
}
