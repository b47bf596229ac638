//! Parts of blocks that several types have, as codes of a byte each.

/// Unpacks four-bit codes: the low halves of all bytes, then the high halves.
pub(super) fn nibbles(bytes: &[u8], out: &mut [u8]) {
    let (low, high) = out.split_at_mut(bytes.len());
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

/// Unpacks two-bit codes of the superblocks: byte `i` of each half of 32 bytes holds the codes
/// `i`, `i + 32`, `i + 64`, `i + 96` of its 128, lowest bits first.
pub(super) fn crumbs(bytes: &[u8; 64], out: &mut [u8; 256]) {
    for (codes, half) in out.as_chunks_mut::<128>().0.iter_mut().zip(bytes.as_chunks::<32>().0) {
        for (t, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (code, byte) in codes.iter_mut().zip(half) {
                *code = byte >> (2 * t) & 3;
            }
        }
    }
}

/// Adds bit `i` of `word` to code `i` as its bit number `place`.
pub(super) fn add_bit(place: u32, word: u32, out: &mut [u8]) {
    for (g, codes) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        // Four bits, spread to the lowest bits of four bytes.
        let spread = (word >> (4 * g) & 15).wrapping_mul(0x0020_4081) & 0x0101_0101;
        *codes = (u32::from_le_bytes(*codes) | spread << place).to_le_bytes();
    }
}

/// Adds bit `b` of byte `i` to code `i + 32·b` as its bit number `place`.
pub(super) fn add_plane(place: u32, bytes: &[u8; 32], out: &mut [u8; 256]) {
    for (b, codes) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, byte) in codes.iter_mut().zip(bytes) {
            *code |= (byte >> b & 1) << place;
        }
    }
}

/// Scales `2 s + 1` from four-bit numbers `s`, the low halves first.
pub(super) fn odd_scales(nibbles: &[u8], out: &mut [i8; 16]) {
    for (scales, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(nibbles) {
        *scales = [byte & 15, byte >> 4].map(|s| 2 * s as i8 + 1);
    }
}
