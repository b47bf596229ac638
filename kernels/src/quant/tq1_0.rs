//! `TQ1_0`: 256 ternary weights in 54 bytes, `w = d · (code − 1)`: five of them are a byte.
//!
//! The digits `c₀ … c₄` of a byte are those of a fraction to the base of three: the byte is 256 times the fraction,
//! rounded up. So three times the byte has the first digit above its low eight bits, and these hold the others.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::tq2_0::Tq2_0;
use super::{Block, Codes, Format};

/// 256 weights: codes from 0 to 2, and one scale.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Tq1_0 {
    /// Digit `n` of byte `i` is code `i + 32 · n`.
    first: [u8; 32],
    /// Digit `n` of byte `i` is code `160 + i + 16 · n`.
    second: [u8; 16],
    /// Digit `n` of byte `i` is code `240 + i + 4 · n`, for four digits.
    last: [u8; 4],
    d: f16,
}

const _: () = assert!(size_of::<Tq1_0>() == 54);

impl Block for Tq1_0 {
    const FORMAT: Format = Tq2_0::FORMAT;

    fn codes(&self, out: &mut Codes) {
        let (first, rest) = out.code.split_at_mut(160);
        let (second, last) = rest.split_at_mut(80);
        digits(&self.first, first);
        digits(&self.second, second);
        digits(&self.last, last);
        out.no_scales(self.d);
    }
}

/// The digits of some bytes: the first of all, then the second of all, and so on.
fn digits(bytes: &[u8], out: &mut [u8]) {
    for (n, codes) in out.chunks_exact_mut(bytes.len()).enumerate() {
        for (code, byte) in codes.iter_mut().zip(bytes) {
            let rest = byte.wrapping_mul(3u8.pow(n as u32));
            *code = ((u16::from(rest) * 3) >> 8) as u8;
        }
    }
}
