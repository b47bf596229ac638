//! Formats of tensors: one file for each type, and the table of all types.
//!
//! A *row* is `n` weights stored as consecutive *blocks* of `block_len` weights each. Every type of our own defines
//! only [`Block::codes`]: the small unsigned integers of a block and their scales. Dequantisation, the scalar dot
//! product (the specification of every kernel) and the packed layout (`cpu/pack.rs`) follow from that:
//!
//! ```text
//! w[i] = d · scale[i / sub] · (code[i] − offset) + m · min[i / sub]
//! ```
//!
//! To add a type: write `quant/NAME.rs` (block struct, size assert, `impl Block`) and add a row to [`TYPES`]. The tests
//! (`tests.rs`) compare every row of the table with ggml. Types without a file of their own (`IQ*`, `TQ*`, `MXFP4`, …)
//! are read through ggml, which is slower.
//!
//! # Source
//! The formats are GGML's (`ggml-common.h` of ggml 0.26): the structs here are the same bytes.

pub mod float;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;

#[cfg(test)]
mod tests;

use half::f16;

/// Layout and scaling of a block's codes; constant for a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Weights in one block: 32 (one scale a block) or 256 (a superblock with sub-blocks).
    pub block_len: usize,
    /// Weights that share one entry of `scale` and `min`: 32, or 16 in some superblocks.
    pub sub_len: usize,
    /// Bits of a code: 2, 3, 4, 5, 6 or 8.
    pub bits: u32,
    /// Subtracted from each code, which is stored unsigned: `1 << (bits - 1)`, or 0 if there is a minimum.
    pub offset: i32,
    /// Whether sub-blocks have integer scales (superblocks); otherwise all scales are 1.
    pub scaled: bool,
    /// Whether a minimum is added: `m · min[j]`.
    pub min: bool,
}

/// One block, unpacked to plain integers. Entries beyond the format's lengths are unspecified.
#[derive(Clone, Debug)]
pub struct Codes {
    /// Unsigned codes, `block_len` of them, each below `1 << bits`.
    pub code: [u8; 256],
    /// Integer scale of each sub-block; 1 if the format is not `scaled`.
    pub scale: [i8; 16],
    /// Integer minimum of each sub-block: 1 in blocks of 32 with a minimum, 0 without.
    pub min: [u8; 16],
    /// Scale of the block.
    pub d: f16,
    /// Scale of the minima, with its sign: `+m` for `Q4_1`, `−dmin` for the K-quants.
    pub m: f16,
}

/// A quantised block in the format of the file.
pub trait Block: bytemuck::Pod {
    /// The layout of this type's codes.
    const FORMAT: Format;

    /// Unpacks the block.
    fn codes(&self, out: &mut Codes);
}

/// A type of tensors: a row of [`TYPES`], found by [`type_info`].
#[derive(Clone, Copy, Debug)]
pub struct TypeInfo {
    /// Number of the type in a GGUF file.
    pub id: u32,
    /// ggml's name, for example `q4_K`.
    pub name: &'static str,
    /// Weights in one block; 1 for plain numbers.
    pub block_len: usize,
    /// Bytes of one block.
    pub block_bytes: usize,
    /// How its bytes are read.
    pub kind: Kind,
}

/// How the bytes of a type are read.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Plain single precision.
    F32,
    /// Plain half precision.
    F16,
    /// Plain brain floats.
    BF16,
    /// Blocks of codes: the kernels multiply these.
    Blocks(&'static BlockOps),
    /// Read through ggml: it can be dequantised, and no kernel multiplies it.
    Foreign,
}

/// The operations of a [`Block`] as values.
#[derive(Clone, Copy, Debug)]
pub struct BlockOps {
    /// The layout of the codes.
    pub format: Format,
    /// Bytes of one block.
    pub block_bytes: usize,
    /// Unpacks the bytes of exactly one block, at any alignment; panics for any other length.
    pub codes: fn(&[u8], &mut Codes),
}

/// All types that are read here and not through ggml, by their GGUF numbers.
pub static TYPES: &[TypeInfo] = &[
    plain(0, "f32", 4, Kind::F32),
    plain(1, "f16", 2, Kind::F16),
    blocks::<q4_0::Q4_0>(2, "q4_0"),
    blocks::<q4_1::Q4_1>(3, "q4_1"),
    blocks::<q5_0::Q5_0>(6, "q5_0"),
    blocks::<q5_1::Q5_1>(7, "q5_1"),
    blocks::<q8_0::Q8_0>(8, "q8_0"),
    blocks::<q2_k::Q2K>(10, "q2_K"),
    blocks::<q3_k::Q3K>(11, "q3_K"),
    blocks::<q4_k::Q4K>(12, "q4_K"),
    blocks::<q5_k::Q5K>(13, "q5_K"),
    blocks::<q6_k::Q6K>(14, "q6_K"),
    plain(30, "bf16", 2, Kind::BF16),
];

/// The type with GGUF number `id`, from [`TYPES`] or through ggml ([`Kind::Foreign`]). `None` for unknown numbers and
/// for types that are not used for weights (integers, `f64`, quantised activations).
pub fn type_info(id: u32) -> Option<TypeInfo> {
    if let Some(info) = TYPES.iter().find(|info| info.id == id) {
        return Some(*info);
    }
    let ggml_sys::TypeInfo { name, block_len, block_bytes, .. } =
        ggml_sys::type_info(id).filter(|info| info.readable)?;
    Some(TypeInfo { id, name, block_len, block_bytes, kind: Kind::Foreign })
}

impl TypeInfo {
    /// Bytes of `n` weights; `None` if they are not a whole number of blocks, or too many to count.
    pub fn row_bytes(&self, n: usize) -> Option<usize> {
        if !n.is_multiple_of(self.block_len) {
            return None;
        }
        (n / self.block_len).checked_mul(self.block_bytes)
    }

    /// Writes the weights of `bytes` to `out`.
    ///
    /// Any bytes are valid; scales may be infinite or NaN, and then so may the weights.
    ///
    /// # Panics
    /// If the length of `bytes` is not [`row_bytes`](Self::row_bytes) of `out.len()`.
    pub fn dequantize(&self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(
            Some(bytes.len()),
            self.row_bytes(out.len()),
            "bytes of {} {}",
            out.len(),
            self.name
        );
        match self.kind {
            Kind::F32 => float::dequantize_f32(bytes, out),
            Kind::F16 => float::dequantize_f16(bytes, out),
            Kind::BF16 => float::dequantize_bf16(bytes, out),
            Kind::Blocks(ops) => {
                let mut codes = Codes::default();
                let weights = out.chunks_exact_mut(self.block_len);
                for (block, weights) in bytes.chunks_exact(self.block_bytes).zip(weights) {
                    (ops.codes)(block, &mut codes);
                    codes.weights(&ops.format, weights);
                }
            }
            Kind::Foreign => ggml_sys::dequantize(self.id, bytes, out)
                .expect("ggml named the type and the lengths have been checked"),
        }
    }
}

/// Activations of one token, quantised in blocks as long as the blocks of the weights.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRow<'a> {
    /// Signed codes: −127 to 127.
    pub q: &'a [i8], // (k)
    /// Scale of each block.
    pub d: &'a [f32], // (k / block_len)
}

/// The dot product of one row of weights and one row of activations: the specification of every kernel, bit for bit.
///
/// Block after block, `acc ← fma(d·x.d, Σⱼ scaleⱼ Σᵢ (codeᵢ − offset)·qᵢ, acc)`, and then, if the format has minima,
/// `acc ← fma(m·x.d, Σⱼ minⱼ Σᵢ qᵢ, acc)`. The sums are integers and exact; `fma` rounds once.
///
/// # Panics
/// If `row` and `x` do not have the same whole number of blocks.
pub fn dot(ops: &BlockOps, row: &[u8], x: &QuantizedRow) -> f32 {
    let Format { block_len, sub_len, offset, min, .. } = ops.format;
    assert_eq!(x.q.len(), x.d.len() * block_len, "activations are whole blocks");
    assert_eq!(row.len(), x.d.len() * ops.block_bytes, "weights are as many blocks");
    let mut codes = Codes::default();
    let mut acc = 0f32;
    let blocks = row.chunks_exact(ops.block_bytes).zip(x.q.chunks_exact(block_len));
    for ((block, q), d) in blocks.zip(x.d) {
        (ops.codes)(block, &mut codes);
        let (mut sum, mut min_sum) = (0i32, 0i32);
        for (j, q) in q.chunks_exact(sub_len).enumerate() {
            let code = codes.code[j * sub_len..].iter().map(|&code| i32::from(code) - offset);
            let products = code.zip(q).map(|(code, &q)| code * i32::from(q));
            sum += i32::from(codes.scale[j]) * products.sum::<i32>();
            min_sum += i32::from(codes.min[j]) * q.iter().map(|&q| i32::from(q)).sum::<i32>();
        }
        acc = f32::mul_add(codes.d.to_f32() * d, sum as f32, acc);
        if min {
            acc = f32::mul_add(codes.m.to_f32(), min_sum as f32 * d, acc);
        }
    }
    acc
}

const fn plain(id: u32, name: &'static str, block_bytes: usize, kind: Kind) -> TypeInfo {
    TypeInfo { id, name, block_len: 1, block_bytes, kind }
}

const fn blocks<B: Block>(id: u32, name: &'static str) -> TypeInfo {
    let Format { bits, offset, min, .. } = B::FORMAT;
    assert!(offset == if min { 0 } else { 1 << (bits - 1) }, "the kernels know no other offset");
    let (block_len, block_bytes) = (B::FORMAT.block_len, size_of::<B>());
    TypeInfo { id, name, block_len, block_bytes, kind: Kind::Blocks(Erased::<B>::OPS) }
}

/// Helps to define a static of each block type's operations, which a generic function cannot contain.
struct Erased<B>(std::marker::PhantomData<B>);

impl<B: Block> Erased<B> {
    const OPS: &'static BlockOps = &BlockOps {
        format: B::FORMAT,
        block_bytes: size_of::<B>(),
        // Most blocks are at even addresses, which is the only alignment they need.
        codes: |bytes, out| match bytemuck::try_from_bytes::<B>(bytes) {
            Ok(block) => block.codes(out),
            Err(_) => bytemuck::pod_read_unaligned::<B>(bytes).codes(out),
        },
    };
}

impl Default for Codes {
    fn default() -> Self {
        Self { code: [0; 256], scale: [0; 16], min: [0; 16], d: f16::ZERO, m: f16::ZERO }
    }
}

impl Codes {
    /// Writes the weights, `(d · scale) · (code − offset) + m · min`, rounded after each operation.
    pub fn weights(&self, format: &Format, out: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (i, (weight, &code)) in out.iter_mut().zip(&self.code).enumerate() {
            let j = i / format.sub_len;
            *weight = d * f32::from(self.scale[j]) * (i32::from(code) - format.offset) as f32;
            // Not `+ 0`: that would turn −0 into 0.
            if format.min {
                *weight += m * f32::from(self.min[j]);
            }
        }
    }

    /// The scales of a 32-weight block without a minimum.
    fn one_scale(&mut self, d: f16) {
        (self.scale[0], self.min[0], self.d, self.m) = (1, 0, d, f16::ZERO);
    }

    /// The scales of a 32-weight block with a minimum.
    fn one_scale_and_min(&mut self, d: f16, m: f16) {
        (self.scale[0], self.min[0], self.d, self.m) = (1, 1, d, m);
    }
}

/// Unpacks four-bit codes: the low halves of all bytes, then the high halves.
fn nibbles(bytes: &[u8], out: &mut [u8]) {
    let (low, high) = out.split_at_mut(bytes.len());
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

/// Unpacks two-bit codes of the superblocks: byte `i` of each half of 32 bytes holds the codes
/// `i`, `i + 32`, `i + 64`, `i + 96` of its 128, lowest bits first.
fn crumbs(bytes: &[u8; 64], out: &mut [u8; 256]) {
    for (codes, half) in out.as_chunks_mut::<128>().0.iter_mut().zip(bytes.as_chunks::<32>().0) {
        for (t, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (code, byte) in codes.iter_mut().zip(half) {
                *code = byte >> (2 * t) & 3;
            }
        }
    }
}

/// Adds bit `i` of `word` to code `i` as its bit number `place`.
fn add_bit(place: u32, word: u32, out: &mut [u8]) {
    for (g, codes) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        // Four bits, spread to the lowest bits of four bytes.
        let spread = (word >> (4 * g) & 15).wrapping_mul(0x0020_4081) & 0x0101_0101;
        *codes = (u32::from_le_bytes(*codes) | spread << place).to_le_bytes();
    }
}

/// Adds bit `b` of byte `i` to code `i + 32·b` as its bit number `place`.
fn add_plane(place: u32, bytes: &[u8; 32], out: &mut [u8; 256]) {
    for (b, codes) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, byte) in codes.iter_mut().zip(bytes) {
            *code |= (byte >> b & 1) << place;
        }
    }
}
