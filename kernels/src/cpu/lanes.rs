//! Sixteen lanes: the small vocabulary in which every kernel is written once.
//!
//! A kernel is an `#[inline(always)]` function generic over [`Lanes`]; an instruction set is one file
//! that implements this trait (one 512-bit register, two 256-bit ones, four of 128 bits, or plain
//! arrays) and instantiates the kernels under its `#[target_feature]`s. As each operation is exactly
//! rounded and lanes never mix, the choice of instruction set cannot change a bit of the result.
//!
//! A value of a type that implements `Lanes` exists only where its instructions were detected: that
//! is what makes the methods safe to call.

/// Number of lanes, of output rows in a packed group, and of positions in a block of keys.
pub const LANES: usize = 16;

/// An instruction set, as operations on 16 lanes of 32 bits.
pub trait Lanes: Copy {
    /// 16 × f32.
    type F: Copy;
    /// 16 × i32.
    type I: Copy;
    /// 16 × 4 bytes: in each lane four consecutive weights of one output row.
    type B: Copy;

    /// What [`Lanes::dot`] over 8-bit codes leaves to be subtracted: 128 where the instruction
    /// multiplies unsigned by signed bytes, 0 where the codes are turned into signed ones first.
    const OFFSET8: i32;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// Reads 16 floats.
    fn load(self, x: &[f32; 16]) -> Self::F;
    /// Writes 16 floats.
    fn store(self, v: Self::F, out: &mut [f32; 16]);
    /// Reads 16 little-endian floats.
    fn load_f32(self, x: &[u8; 64]) -> Self::F;
    /// Reads 16 little-endian IEEE half floats.
    fn load_f16(self, x: &[u8; 32]) -> Self::F;
    /// Reads 16 little-endian bfloat16.
    fn load_bf16(self, x: &[u8; 32]) -> Self::F;
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
    /// The larger of the two, lane by lane.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller of the two, lane by lane.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// Absolute value.
    fn abs(self, a: Self::F) -> Self::F;
    /// `yes` where `a < b`, else `no`.
    fn select_lt(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F;
    /// Nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// 2ⁿ for integral `n` in −126…127.
    fn exp2i(self, n: Self::F) -> Self::F;
    /// Integral floats in −128…127 as bytes.
    fn to_i8(self, a: Self::F) -> [i8; 16];

    /// All lanes `x`.
    fn splat_i(self, x: i32) -> Self::I;
    /// Reads 16 signed bytes, widened.
    fn load_i8(self, x: &[u8; 16]) -> Self::I;
    /// `a · b + c`, wrapping.
    fn mul_add_i(self, a: Self::I, b: Self::I, c: Self::I) -> Self::I;
    /// Nearest float.
    fn to_f(self, a: Self::I) -> Self::F;

    /// Reads 64 bytes.
    fn load_b(self, x: &[u8; 64]) -> Self::B;
    /// Reads 32 unsigned bytes as 16 × 2 words of 16 bits.
    fn load_u8_pairs(self, x: &[u8; 32]) -> Self::B;
    /// All bytes `x`.
    fn splat_b(self, x: u8) -> Self::B;
    /// Bitwise and.
    fn and(self, a: Self::B, b: Self::B) -> Self::B;
    /// Bitwise or.
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    /// Words of 16 bits shifted right by `n`: mask off what crosses from the neighbouring byte.
    fn shr(self, a: Self::B, n: u32) -> Self::B;
    /// Words of 16 bits shifted left by `n`.
    fn shl(self, a: Self::B, n: u32) -> Self::B;
    /// `acc + Σ codes · y` over 16 weights of each lane's row: codes below `2^BITS`, `y` in ±127.
    /// For `BITS = 8` the sum is that of `code − 128 + OFFSET8`.
    fn dot<const BITS: usize>(self, acc: Self::I, codes: &[Self::B; 4], y: &[i8; 16]) -> Self::I;
    /// `acc + a₀ · y₀ + a₁ · y₁` of each lane's two 16-bit words.
    fn dot_pairs(self, acc: Self::I, a: Self::B, y: [i16; 2]) -> Self::I;

    /// Asks for the cache line `ahead` bytes past `line`; a hint that may point anywhere.
    fn prefetch(self, line: &[u8; 64], ahead: usize);
}

/// Adds up 16 lanes in the one order used everywhere: halves onto each other, 8, 4, 2, 1.
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

/// The lanes of `v` as an array.
#[inline(always)]
pub fn lanes<S: Lanes>(s: S, v: S::F) -> [f32; 16] {
    let mut out = [0.0; 16];
    s.store(v, &mut out);
    out
}

/// The `i`-th array of `N` in `x`.
#[inline(always)]
pub fn nth<T, const N: usize>(x: &[T], i: usize) -> &[T; N] {
    x[i * N..(i + 1) * N].first_chunk().expect("the range has N elements")
}

/// eˣ in each lane, to about one unit in the last place; 0 below −87.3, finite up to 88.3.
///
/// `n = round(x / ln 2)`, `r = x − n·ln 2` in two fused steps, the Taylor series of eʳ to r⁷ (|r| ≤
/// 0.347, so the rest is below 5·10⁻⁹), times 2ⁿ.
#[inline(always)]
pub fn exp<S: Lanes>(s: S, x: S::F) -> S::F {
    const LN2_HI: f32 = 0.693_145_75; // 16 bits, so that n · LN2_HI is exact
    const LN2_LO: f32 = 1.428_606_8e-6;
    let lowest = s.splat(-87.3);
    let y = s.min(s.max(x, lowest), s.splat(88.3));
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
