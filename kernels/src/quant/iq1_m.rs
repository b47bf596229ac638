//! `IQ1_M`: 256 weights in 56 bytes, `w = d · (2 s + 1) · (digit − 1 ± 1/8)`, 16 weights a sub-block.
//!
//! The sign of 1/8 holds for eight weights. With it above the digit, a code stands for one of six numbers of eighths.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::codebook::eight_codes;
use super::iq1_s::CODEBOOK;
use super::{Block, Codes, Format, Scale, Values};

/// What the codes stand for: `8 · (digit − 1) + 1`, and `− 1` in its place.
const VALUES: [i8; 16] = [-7, 1, 9, 0, -9, -1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// 256 weights: 3-bit scales of 16 sub-blocks, entries of eight weights.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Iq1M {
    /// The low eight bits of the entries' indices.
    entries: [u8; 32],
    /// Nibble `i`: the high three bits of the index of entry `i`, and whether 1/8 is subtracted.
    high: [u8; 16],
    /// Little-endian words: in the low twelve bits `s` of four sub-blocks, and above four bits of the
    /// half float `d`, the lowest ones in the first word.
    scales: [[u8; 2]; 4],
}

const _: () = assert!(size_of::<Iq1M>() == 56);

impl Block for Iq1M {
    const FORMAT: Format = Format {
        block_len: 256,
        sub_len: 16,
        bits: 3,
        values: Values::Table(&VALUES),
        d: Scale::F16(-3),
        scaled: true,
        min: false,
    };

    fn codes(&self, out: &mut Codes) {
        for (i, codes) in out.code.as_chunks_mut().0.iter_mut().enumerate() {
            let high = self.high[i / 2] >> (4 * (i % 2));
            let index = u16::from(self.entries[i]) | u16::from(high & 7) << 8;
            let signs = if high & 8 == 0 { 0 } else { 0xff };
            eight_codes(CODEBOOK[usize::from(index)], signs, codes);
        }
        let mut d = 0;
        for (i, word) in self.scales.iter().enumerate() {
            let word = u16::from_le_bytes(*word);
            for (j, scale) in out.scale[4 * i..][..4].iter_mut().enumerate() {
                *scale = 2 * (word >> (3 * j) & 7) as i8 + 1;
            }
            d |= word >> 12 << (4 * i);
        }
        out.scales_alone(f16::from_bits(d));
    }
}
