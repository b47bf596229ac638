//! `IQ4_XS`: 256 weights in 136 bytes, `w = d · scale · VALUES[code]`, 32 weights a sub-block.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::iq4_nl::VALUES;
use super::{Block, Codes, Format, Scale, Values, nibbles};

/// 256 weights: 6-bit signed scales of 8 sub-blocks, 4-bit codes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Iq4Xs {
    d: f16,
    /// The little-endian word holds the high two bits of scale `j` plus 32 from bit `2 · j` on.
    scales_high: [u8; 2],
    /// Nibble `j` holds the low four bits of scale `j` plus 32.
    scales_low: [u8; 4],
    /// Eight runs of 16 bytes: byte `i` of a run holds code `i` (low) and code `i + 16` (high) of its
    /// 32 weights.
    codes: [u8; 128],
}

const _: () = assert!(size_of::<Iq4Xs>() == 136);

impl Block for Iq4Xs {
    const FORMAT: Format = Format {
        block_len: 256,
        sub_len: 32,
        bits: 4,
        values: Values::Table(&VALUES),
        d: Scale::F16(0),
        scaled: true,
        min: false,
    };

    fn codes(&self, out: &mut Codes) {
        for (code, run) in out.code.chunks_exact_mut(32).zip(self.codes.chunks_exact(16)) {
            nibbles(run, code);
        }
        let high = u16::from_le_bytes(self.scales_high);
        for (j, scale) in out.scale[..8].iter_mut().enumerate() {
            let low = self.scales_low[j / 2] >> (j % 2 * 4) & 15;
            *scale = (low | ((high >> (2 * j) & 3) as u8) << 4) as i8 - 32;
        }
        out.scales_alone(self.d);
    }
}
