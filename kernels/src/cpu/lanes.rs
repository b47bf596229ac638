//! Registers, and sixteen lanes made of them: the operations in which every kernel is written once.
//!
//! [`Simd`] is one register of an instruction set: 16, 8 or 4 lanes of 32 bits. [`Wide`] combines registers of any
//! width to 16 lanes, [`Lanes`]; both have the operations of [`Arith`]. Kernels are `#[inline(always)]` functions
//! generic over one of the two. An instruction set is one file that implements `Simd` and instantiates the kernels
//! under its `#[target_feature]`s. Each operation is exactly rounded and lanes never mix, so the choice of the
//! instruction set cannot change a bit of the result.
//!
//! A value of a type that implements `Simd` exists only where its instructions were detected, which makes the methods
//! safe to call.

/// Number of lanes, of output rows in a packed group, and of positions in a block of keys.
pub const LANES: usize = 16;

/// Arithmetic on the lanes of a register, or of several.
pub trait Arith: Copy {
    /// f32 in each lane.
    type F: Copy;
    /// i32 in each lane.
    type I: Copy;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a − b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger of the two, lane by lane; `b` where one of them is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller of the two, lane by lane; `b` where one of them is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// Absolute value.
    fn abs(self, a: Self::F) -> Self::F;
    /// `yes` where `a < b`, else `no`.
    fn select_lt(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F;
    /// Nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// 2ⁿ for integral `n` in −126…127.
    fn exp2i(self, n: Self::F) -> Self::F;
    /// Nearest float.
    fn to_f(self, a: Self::I) -> Self::F;
    /// Prefetches the cache line `ahead` bytes after the beginning of `line`; a hint, for which any address is valid.
    fn prefetch(self, line: &[u8], ahead: usize);
}

/// One register of an instruction set.
///
/// Operands in memory are rows of 16 lanes. `part` selects the register's lanes, from `part · WIDTH` on.
pub trait Simd: Arith {
    /// Lanes of a register: a divisor of 16.
    const WIDTH: usize;

    /// 4 bytes in each lane: four consecutive weights of one output row.
    type B: Copy;

    /// The offset of codes of 8 bits in [`Simd::dots`]: 128 if products are of unsigned by signed bytes, 0 if both
    /// are signed.
    const OFFSET8: i32;

    /// Reads floats.
    fn load(self, x: &[f32; 16], part: usize) -> Self::F;
    /// Writes floats.
    fn store(self, v: Self::F, out: &mut [f32; 16], part: usize);
    /// Reads little-endian floats.
    fn load_f32(self, x: &[u8; 64], part: usize) -> Self::F;
    /// Reads little-endian IEEE half floats.
    fn load_f16(self, x: &[u8; 32], part: usize) -> Self::F;
    /// Reads little-endian bfloat16.
    fn load_bf16(self, x: &[u8; 32], part: usize) -> Self::F;
    /// Reads bytes that stand for `2^(byte − 127)`; 255 is infinite.
    fn load_e8m0(self, x: &[u8; 16], part: usize) -> Self::F;
    /// Writes integral floats in −128…127 as bytes.
    fn store_i8(self, a: Self::F, out: &mut [i8; 16], part: usize);

    /// All lanes `x`.
    fn splat_i(self, x: i32) -> Self::I;
    /// Reads signed bytes, widened.
    fn load_i8(self, x: &[u8; 16], part: usize) -> Self::I;
    /// `a − b`, wrapping.
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a · 2ⁿ`, wrapping.
    fn shl_i(self, a: Self::I, n: u32) -> Self::I;

    /// Reads 4 bytes a lane.
    fn load_b(self, x: &[u8; 64], part: usize) -> Self::B;
    /// Reads 16 bytes of each lane's row: those of the first row begin `x`, and rows are `stride` bytes apart. Register
    /// `i` gets the bytes `4i…4i+3`.
    fn load_rows(self, x: &[u8], stride: usize, part: usize) -> [Self::B; 4];
    /// Writes 4 bytes a lane.
    fn store_b(self, v: Self::B, out: &mut [u8; 64], part: usize);
    /// Reads two unsigned bytes a lane, each widened to 16 bits.
    fn load_u8_pairs(self, x: &[u8; 32], part: usize) -> Self::B;
    /// All bytes `x`.
    fn splat_b(self, x: u8) -> Self::B;
    /// Bitwise and.
    fn and(self, a: Self::B, b: Self::B) -> Self::B;
    /// Bitwise or.
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    /// Bitwise exclusive or.
    fn xor(self, a: Self::B, b: Self::B) -> Self::B;
    /// Shifts bytes, or 16-bit words, right by `n`: the caller must mask off bits from the neighbouring byte.
    fn shr(self, a: Self::B, n: u32) -> Self::B;
    /// Shifts bytes, or 16-bit words, left by `n`; likewise.
    fn shl(self, a: Self::B, n: u32) -> Self::B;

    /// `table[code]` for each byte; codes are below 16.
    fn lookup(self, table: &[u8; 16], codes: Self::B) -> Self::B;
    /// Converts codes of 8 bits for [`Simd::dots`]: subtracts `128 − OFFSET8`.
    fn codes8(self, codes: Self::B) -> Self::B;
    /// `acc + Σ codes · y` for each of `N` rows of activations, over `4 Q` weights of each lane's row. Codes are below
    /// `2^BITS`, or for `BITS = 8` numbers in −128…127 plus `OFFSET8`; `y` is in ±127.
    fn dots<const BITS: usize, const Q: usize, const N: usize>(
        self,
        acc: [Self::I; N],
        codes: &[Self::B; Q],
        y: [&[[i8; 4]; Q]; N],
    ) -> [Self::I; N];
    /// Reads signed bytes in the form of the `scale` of [`Simd::dots_scaled`].
    fn load_scale(self, x: &[u8; 16], part: usize) -> Self::I;
    /// `acc + scale · Σ codes · y`: [`Simd::dots`] with a scale.
    fn dots_scaled<const BITS: usize, const Q: usize, const N: usize>(
        self,
        acc: [Self::I; N],
        codes: &[Self::B; Q],
        y: [&[[i8; 4]; Q]; N],
        scale: Self::I,
    ) -> [Self::I; N];
    /// Combines two scales from [`Simd::load_scale`] to two 16-bit words in each lane.
    fn scale_pairs(self, a: Self::I, b: Self::I) -> Self::B;
    /// `acc + a₀ · y₀ + a₁ · y₁`, where `a` has two signed 16-bit words in each lane.
    fn dot_pairs(self, acc: Self::I, a: Self::B, y: [i16; 2]) -> Self::I;
}

/// Sixteen lanes.
pub trait Lanes: Arith {
    /// Number of registers.
    const REGISTERS: usize;

    /// Reads 16 floats.
    fn load(self, x: &[f32; 16]) -> Self::F;
    /// Writes 16 floats.
    fn store(self, v: Self::F, out: &mut [f32; 16]);
    /// Reads 16 little-endian IEEE half floats.
    fn load_f16(self, x: &[u8; 32]) -> Self::F;
    /// Reads 16 little-endian bfloat16.
    fn load_bf16(self, x: &[u8; 32]) -> Self::F;
    /// Converts integral floats in −128…127 to bytes.
    fn to_i8(self, a: Self::F) -> [i8; 16];
    /// Reads 16 signed bytes, widened.
    fn load_i8(self, x: &[u8; 16]) -> Self::I;
}

/// Sixteen lanes as `P` registers of `S`, in order: `P · S::WIDTH` is 16.
#[derive(Clone, Copy)]
pub struct Wide<S, const P: usize>(pub S);

/// Calls a method of the register type on each part of its arguments.
macro_rules! each_part {
    ($self:ident.$method:ident($($arg:ident),*) from $first:ident) => {{
        let mut out = $first;
        for (i, out) in out.iter_mut().enumerate() {
            *out = $self.0.$method($($arg[i]),*);
        }
        out
    }};
}

/// Reads the parts of 16 lanes one after the other.
macro_rules! read_parts {
    ($self:ident.$method:ident($x:ident)) => {{
        let mut out = [$self.0.$method($x, 0); P];
        for (part, out) in out.iter_mut().enumerate().skip(1) {
            *out = $self.0.$method($x, part);
        }
        out
    }};
}

impl<S: Simd, const P: usize> Arith for Wide<S, P> {
    type F = [S::F; P];
    type I = [S::I; P];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [self.0.splat(x); P]
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        each_part!(self.fma(a, b, c) from a)
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        each_part!(self.add(a, b) from a)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        each_part!(self.sub(a, b) from a)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        each_part!(self.mul(a, b) from a)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        each_part!(self.div(a, b) from a)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        each_part!(self.max(a, b) from a)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        each_part!(self.min(a, b) from a)
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        each_part!(self.abs(a) from a)
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        each_part!(self.select_lt(a, b, yes, no) from a)
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        each_part!(self.round(a) from a)
    }
    #[inline(always)]
    fn exp2i(self, n: Self::F) -> Self::F {
        each_part!(self.exp2i(n) from n)
    }
    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        let mut out = [self.0.splat(0.0); P];
        for (out, a) in out.iter_mut().zip(a) {
            *out = self.0.to_f(a);
        }
        out
    }
    #[inline(always)]
    fn prefetch(self, line: &[u8], ahead: usize) {
        self.0.prefetch(line, ahead);
    }
}

impl<S: Simd, const P: usize> Lanes for Wide<S, P> {
    const REGISTERS: usize = P;

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Self::F {
        read_parts!(self.load(x))
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; 16]) {
        for (part, v) in v.into_iter().enumerate() {
            self.0.store(v, out, part);
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> Self::F {
        read_parts!(self.load_f16(x))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> Self::F {
        read_parts!(self.load_bf16(x))
    }
    #[inline(always)]
    fn to_i8(self, a: Self::F) -> [i8; 16] {
        let mut out = [0; 16];
        for (part, a) in a.into_iter().enumerate() {
            self.0.store_i8(a, &mut out, part);
        }
        out
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; 16]) -> Self::I {
        read_parts!(self.load_i8(x))
    }
}

/// Sums 16 lanes in the one order used everywhere: halves are added, 8, 4, 2, 1.
#[inline(always)]
pub fn sum_lanes(x: [f32; 16]) -> f32 {
    let mut x = x;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            x[i] += x[i + half];
        }
    }
    x[0]
}

/// The largest of 16 lanes.
#[inline(always)]
pub fn max_lanes(x: [f32; 16]) -> f32 {
    x.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The largest magnitude of 16 lanes; NaN if there is one.
#[inline(always)]
pub fn max_magnitude(x: [f32; 16]) -> f32 {
    // As numbers without a sign, floats are in the order of their bits, and NaN is the largest.
    let bits = x.map(|x| x.to_bits() & !(1 << 31));
    f32::from_bits(bits.into_iter().fold(0, u32::max))
}

/// The lanes of `v` as an array.
#[inline(always)]
pub fn lanes<S: Lanes>(s: S, v: S::F) -> [f32; 16] {
    let mut out = [0.0; 16];
    s.store(v, &mut out);
    out
}

/// The first 16 bytes of row `i`, for rows that are `stride` bytes apart.
#[inline(always)]
pub fn nth_row(x: &[u8], stride: usize, i: usize) -> &[u8; 16] {
    x[i * stride..].first_chunk().expect("a row has 16 bytes")
}

/// Whether `x` has 16 bytes of each of 16 rows that are `stride` bytes apart.
#[inline(always)]
pub fn has_rows(x: &[u8], stride: usize) -> bool {
    stride
        .checked_mul(LANES - 1)
        .and_then(|last| last.checked_add(16))
        .is_some_and(|n| n <= x.len())
}

/// The `i`-th array of `N` in `x`.
#[inline(always)]
pub fn nth<T, const N: usize>(x: &[T], i: usize) -> &[T; N] {
    x[i * N..(i + 1) * N].first_chunk().expect("the range has N elements")
}

/// eˣ in each lane, to about one unit in the last place; 0 below −87.3, finite up to 88.3, NaN for NaN.
///
/// `n = round(x / ln 2)`, `r = x − n·ln 2` in two fused steps; the Taylor series of eʳ up to r⁷ (|r| ≤ 0.347, so the
/// remainder is below 5·10⁻⁹), times 2ⁿ.
#[inline(always)]
pub fn exp<S: Lanes>(s: S, x: S::F) -> S::F {
    const LN2_HI: f32 = 0.693_145_75; // 16 bits, so that n · LN2_HI is exact
    const LN2_LO: f32 = 1.428_606_8e-6;
    let lowest = s.splat(-87.3);
    // In this order NaN is kept.
    let y = s.min(s.splat(88.3), s.max(lowest, x));
    let n = s.round(s.mul(y, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN2_HI), y);
    let r = s.fma(n, s.splat(-LN2_LO), r);
    let mut p = s.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = s.fma(p, r, s.splat(c));
    }
    let e = s.mul(p, s.exp2i(n));
    s.select_lt(x, lowest, s.splat(0.0), e)
}

/// `cap · tanh(x / cap)` in each lane for positive `cap`, computed as `cap − 2 cap / (1 + exp(2 x / cap))` with one
/// exponential and one division. The error is about one rounding of `cap`.
#[inline(always)]
pub fn soft_cap<S: Lanes>(s: S, x: S::F, cap: f32) -> S::F {
    let e = exp(s, s.mul(x, s.splat(2.0 / cap)));
    s.sub(s.splat(cap), s.div(s.splat(2.0 * cap), s.add(s.splat(1.0), e)))
}
