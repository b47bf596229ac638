//! `IQ4_NL`: 32 weights in 18 bytes, `w = d · VALUES[code]`.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::{Block, Codes, Format, Scale, Values, nibbles};

/// What the codes of `IQ4_NL` and `IQ4_XS` stand for: denser around zero, where most weights are.
pub(super) const VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 weights: a scale and 4-bit codes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Iq4Nl {
    d: f16,
    /// Byte `i` holds code `i` (low) and code `i + 16` (high).
    codes: [u8; 16],
}

const _: () = assert!(size_of::<Iq4Nl>() == 18);

impl Block for Iq4Nl {
    const FORMAT: Format = Format {
        block_len: 32,
        sub_len: 32,
        bits: 4,
        values: Values::Table(&VALUES),
        d: Scale::F16(0),
        scaled: false,
        min: false,
    };

    fn codes(&self, out: &mut Codes) {
        nibbles(&self.codes, &mut out.code[..32]);
        out.one_scale(self.d);
    }
}
