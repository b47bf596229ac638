//! What the types with a codebook share.
//!
//! Such a type stores several weights at once: the index of an entry, whose digits are their magnitudes, and their
//! signs. Packing takes the entries apart: each weight becomes a code, its digit with its sign above, and a table of
//! values does the rest. So a kernel looks up single bytes in a register; reading whole entries, which it would have
//! to gather, was estimated to take three times as long.
//!
//! A codebook has no rule: its entries were chosen by what they give. The digits of an entry are stored from the
//! lowest bits on, and the entries in ascending order.

/// Signs of eight weights from the first seven: an even number of them is negative.
pub(super) fn with_parity(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | ((seven.count_ones() % 2) as u8) << 7
}

/// Eight codes of three bits: the two-bit digits of an entry, with the signs as their third bits.
pub(super) fn eight_codes(entry: u16, signs: u8, out: &mut [u8; 8]) {
    for (i, code) in out.iter_mut().enumerate() {
        *code = (entry >> (2 * i) & 3) as u8 | (signs >> i & 1) << 2;
    }
}

/// Eight codes of four bits: the three-bit digits of two entries, with the signs as their fourth bits.
pub(super) fn two_fours(entries: [u16; 2], signs: u8, out: &mut [u8; 8]) {
    let digits = u32::from(entries[0]) | u32::from(entries[1]) << 12;
    for (i, code) in out.iter_mut().enumerate() {
        *code = (digits >> (3 * i) & 7) as u8 | (signs >> i & 1) << 3;
    }
}
