//! What the bytes of a tensor mean: one file a type, and the table of all types.
//!
//! A *row* is `n` weights stored as consecutive *blocks* of `block_len` weights each. Every type of
//! our own says only one thing about a block, in [`Block::codes`]: which small unsigned integers it
//! holds and by which scales they are multiplied. Dequantisation, the scalar dot product (the
//! specification of every kernel) and the packed layout (`cpu/pack.rs`) all follow from that:
//!
//! ```text
//! w[i] = d · scale[i / sub] · (code[i] − offset) + m · min[i / sub]
//! ```
//!
//! To add a type: write `quant/NAME.rs` (block struct, size assert, `impl Block`) and give it a row
//! in [`TYPES`]. The tests at the end of this file walk the table and compare the row with ggml.
//! Types without a file of their own (`IQ*`, `TQ*`, `MXFP4`, …) are read through ggml: slower, right.
//!
//! # Source
//! The formats are GGML's (`ggml-common.h` of ggml 0.26): the structs here are the same bytes.

use half::f16;

/// How the codes of a block are laid out and scaled: constant for a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Weights in one block: 32 (one scale a block) or 256 (a superblock with sub-blocks).
    pub block_len: usize,
    /// Weights that share one entry of `scale` and `min`: 32, or 16 in some superblocks.
    pub sub_len: usize,
    /// Bits of a code: 2, 3, 4, 5, 6 or 8.
    pub bits: u32,
    /// Subtracted from each code: makes the stored codes unsigned.
    pub offset: i32,
    /// Whether sub-blocks have integer scales (superblocks) or all of them are one.
    pub scaled: bool,
    /// Whether a minimum is added: `m · min[j]`.
    pub min: bool,
}

/// One block, unpacked to plain integers. Entries past the format's lengths are left as they were.
#[derive(Clone, Debug)]
pub struct Codes {
    /// Unsigned codes, `block_len` of them, each below `1 << bits`.
    pub code: [u8; 256],
    /// Integer scale of each sub-block, all 1 where the format is not `scaled`.
    pub scale: [i8; 16],
    /// Integer minimum of each sub-block: 1 in 32-weight blocks with a minimum, 0 without.
    pub min: [u8; 16],
    /// Scale of the block.
    pub d: f16,
    /// Scale of the minima, with its sign: `+m` for `Q4_1`, `−dmin` for the K-quants.
    pub m: f16,
}

/// A quantised block as it lies in the file.
pub trait Block: bytemuck::Pod {
    /// The layout of this type's codes.
    const FORMAT: Format;

    /// Unpacks the block.
    fn codes(&self, out: &mut Codes);
}
