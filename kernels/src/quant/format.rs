//! What a type says of its blocks: how many weights, which codes, and what these stand for.

/// Layout and scaling of a block's codes; constant for a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Weights in one block: 32 (one scale a block) or 256 (a superblock with sub-blocks).
    pub block_len: usize,
    /// Weights that share one entry of `scale` and `min`: 32, or 16 in some superblocks.
    pub sub_len: usize,
    /// Bits of a code: 2, 3, 4, 5, 6 or 8.
    pub bits: u32,
    /// What the codes stand for.
    pub values: Values,
    /// How the block's scale is stored; a minimum's scale is stored likewise.
    pub d: Scale,
    /// Whether sub-blocks have integer scales (superblocks); otherwise all scales are 1.
    pub scaled: bool,
    /// Whether a minimum is added: `m · min[j]`.
    pub min: bool,
}

/// The small integers that codes stand for.
///
/// With them, every integer sum fits 32 bits, whatever the type: 256 products of a value and an activation, each up to
/// 128, times scales of 8 bits are less than 2³⁰, also where a kernel has added up to 128 to each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// `code − offset`. The offset is a power of two, or 0 if there is a minimum.
    Offset(i32),
    /// `table[code]`, within ±127. Entries that no code has are 0.
    Table(&'static [i8; 16]),
}

/// How the scale of a block is stored, and the exponent of a power of two by which it is multiplied: values are
/// integers, though the format may count in eighths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// An IEEE half float.
    F16(i32),
    /// A byte that stands for `2^(byte − 127)`; 255 is infinite. Only in blocks of 32 without a minimum.
    E8M0(i32),
}

impl Format {
    /// The value of a code.
    pub fn value(&self, code: u8) -> i32 {
        match self.values {
            Values::Offset(offset) => i32::from(code) - offset,
            Values::Table(table) => i32::from(table[usize::from(code)]),
        }
    }

    /// What a block's scale is multiplied by: a power of two.
    pub const fn unit(&self) -> f32 {
        let (Scale::F16(exponent) | Scale::E8M0(exponent)) = self.d;
        f32::from_bits(((127 + exponent) as u32) << 23)
    }

    /// The offset that makes all values unsigned, as kernels multiply them.
    pub const fn offset(&self) -> i32 {
        match self.values {
            Values::Offset(offset) => offset,
            Values::Table(_) => 1 << (self.value_bits() - 1),
        }
    }

    /// Bits of a value plus [`Format::offset`]: those of a code, or 5 to 8 for a table.
    pub const fn value_bits(&self) -> u32 {
        let Values::Table(table) = self.values else { return self.bits };
        let (mut bits, mut i) = (5, 0);
        while i < table.len() {
            while table[i].unsigned_abs() as u32 >= 1 << (bits - 1) {
                bits += 1;
            }
            i += 1;
        }
        bits
    }
}

/// `2^(byte − 127)`; 255 is infinite.
pub(super) fn e8m0(byte: u8) -> f32 {
    f32::from_bits((u32::from(byte) << 23).max(1 << 22))
}
