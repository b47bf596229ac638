//! Formats of tensors: one file for each type, and the table of all types.
//!
//! A *row* is `n` weights stored as consecutive *blocks* of `block_len` weights each. Every type of our own defines
//! only [`Block::codes`]: the small unsigned integers of a block and their scales. Dequantisation, the scalar dot
//! product (the specification of every kernel) and the packed layout (`cpu/pack.rs`) follow from that:
//!
//! ```text
//! w[i] = d · scale[i / sub] · value(code[i]) + m · min[i / sub]
//! ```
//!
//! where a value is the code less an offset, or an entry of a table (`format.rs`). Types whose weights stand in a
//! codebook, several to an entry, are taken apart to such codes.
//!
//! To add a type: write `quant/NAME.rs` (block struct, size assert, `impl Block`) and add a row to [`TYPES`]. The tests
//! (`tests.rs`) compare every row of the table with ggml. Types without a file of their own (`NVFP4`, …) are
//! read through ggml, which is slower.
//!
//! # Source
//! The formats are GGML's (`ggml-common.h` of ggml 0.26): the structs here are the same bytes.

mod codebook;
pub mod float;
mod format;
pub mod iq1_m;
pub mod iq1_s;
pub mod iq2_s;
pub mod iq2_xs;
pub mod iq2_xxs;
pub mod iq3_s;
pub mod iq3_xxs;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod mxfp4;
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
pub mod tq1_0;
pub mod tq2_0;
mod unpack;

#[cfg(test)]
pub(crate) mod tests;

pub use format::{Format, Scale, Values};
use half::f16;
use unpack::{add_bit, add_plane, crumbs, nibbles, odd_scales};

/// One block, unpacked to plain integers. Entries beyond the format's lengths are unspecified.
#[derive(Clone, Debug)]
pub struct Codes {
    /// Unsigned codes, `block_len` of them, each below `1 << bits`.
    pub code: [u8; 256],
    /// Integer scale of each sub-block; 1 if the format is not `scaled`.
    pub scale: [i8; 16],
    /// Integer minimum of each sub-block: 1 in blocks of 32 with a minimum, 0 without.
    pub min: [u8; 16],
    /// Scale of the block in its unit, if the format has [`Scale::F16`].
    pub d: f16,
    /// The same, if it has [`Scale::E8M0`].
    pub exponent: u8,
    /// Scale of the minima in that unit, with its sign: `+m` for `Q4_1`, `−dmin` for the K-quants.
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
    blocks::<iq2_xxs::Iq2Xxs>(16, "iq2_xxs"),
    blocks::<iq2_xs::Iq2Xs>(17, "iq2_xs"),
    blocks::<iq3_xxs::Iq3Xxs>(18, "iq3_xxs"),
    blocks::<iq1_s::Iq1S>(19, "iq1_s"),
    blocks::<iq4_nl::Iq4Nl>(20, "iq4_nl"),
    blocks::<iq3_s::Iq3S>(21, "iq3_s"),
    blocks::<iq2_s::Iq2S>(22, "iq2_s"),
    blocks::<iq4_xs::Iq4Xs>(23, "iq4_xs"),
    blocks::<iq1_m::Iq1M>(29, "iq1_m"),
    plain(30, "bf16", 2, Kind::BF16),
    blocks::<tq1_0::Tq1_0>(34, "tq1_0"),
    blocks::<tq2_0::Tq2_0>(35, "tq2_0"),
    blocks::<mxfp4::Mxfp4>(39, "mxfp4"),
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
/// Block after block, `acc ← fma(d·x.d, Σⱼ scaleⱼ Σᵢ valueᵢ·qᵢ, acc)`, and then, if the format has minima,
/// `acc ← fma(m, x.d·Σⱼ minⱼ Σᵢ qᵢ, acc)`. The sums are integers and exact; `fma` rounds once.
///
/// # Panics
/// If `row` and `x` do not have the same whole number of blocks.
pub fn dot(ops: &BlockOps, row: &[u8], x: &QuantizedRow) -> f32 {
    let format = &ops.format;
    let Format { block_len, sub_len, min, .. } = *format;
    assert_eq!(x.q.len(), x.d.len() * block_len, "activations are whole blocks");
    assert_eq!(row.len(), x.d.len() * ops.block_bytes, "weights are as many blocks");
    let mut codes = Codes::default();
    let mut acc = 0f32;
    let blocks = row.chunks_exact(ops.block_bytes).zip(x.q.chunks_exact(block_len));
    for ((block, q), d) in blocks.zip(x.d) {
        (ops.codes)(block, &mut codes);
        let (mut sum, mut min_sum) = (0i32, 0i32);
        for (j, q) in q.chunks_exact(sub_len).enumerate() {
            let values = codes.code[j * sub_len..].iter().map(|&code| format.value(code));
            let products = values.zip(q).map(|(value, &q)| value * i32::from(q));
            sum += i32::from(codes.scale[j]) * products.sum::<i32>();
            min_sum += i32::from(codes.min[j]) * q.iter().map(|&q| i32::from(q)).sum::<i32>();
        }
        acc = f32::mul_add(codes.d(format) * d, sum as f32, acc);
        if min {
            acc = f32::mul_add(codes.m(format), min_sum as f32 * d, acc);
        }
    }
    acc
}

const fn plain(id: u32, name: &'static str, block_bytes: usize, kind: Kind) -> TypeInfo {
    TypeInfo { id, name, block_len: 1, block_bytes, kind }
}

const fn blocks<B: Block>(id: u32, name: &'static str) -> TypeInfo {
    let offset = B::FORMAT.offset();
    assert!(if B::FORMAT.min { offset == 0 } else { offset.count_ones() == 1 }, "see `Values`");
    let plain = B::FORMAT.block_len == 32 && !B::FORMAT.min;
    assert!(plain || matches!(B::FORMAT.d, Scale::F16(_)), "see `Scale::E8M0`");
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
        let (d, m) = (f16::ZERO, f16::ZERO);
        Self { code: [0; 256], scale: [0; 16], min: [0; 16], d, exponent: 0, m }
    }
}

impl Codes {
    /// Scale of the block.
    pub fn d(&self, format: &Format) -> f32 {
        let stored = match format.d {
            Scale::F16(_) => self.d.to_f32(),
            Scale::E8M0(_) => format::e8m0(self.exponent),
        };
        stored * format.unit()
    }

    /// Scale of the minima.
    pub fn m(&self, format: &Format) -> f32 {
        self.m.to_f32() * format.unit()
    }

    /// Writes the weights, `(d · scale) · value + m · min`, rounded after each operation.
    pub fn weights(&self, format: &Format, out: &mut [f32]) {
        let (d, m) = (self.d(format), self.m(format));
        for (i, (weight, &code)) in out.iter_mut().zip(&self.code).enumerate() {
            let j = i / format.sub_len;
            *weight = d * f32::from(self.scale[j]) * format.value(code) as f32;
            // Not `+ 0`: that would turn −0 into 0.
            if format.min {
                *weight += m * f32::from(self.min[j]);
            }
        }
    }

    /// Completes a superblock without minima, whose integer scales are set.
    fn scales_alone(&mut self, d: f16) {
        (self.min, self.d, self.m) = ([0; 16], d, f16::ZERO);
    }

    /// The one scale of a superblock.
    fn no_scales(&mut self, d: f16) {
        self.scale = [1; 16];
        self.scales_alone(d);
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
