//! AVX2 with FMA and F16C: sixteen lanes are two registers, and bytes are multiplied through 16 bits.

use crate::cpu::lanes::Lanes;
use std::arch::x86_64::*;

/// Exists only where AVX2, FMA and F16C were detected.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The instruction set, where the CPU has it.
    pub fn detect() -> Option<Avx2> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c"))
        .then_some(Avx2(()))
    }
}

crate::cpu::instantiate!(Avx2(()), "avx2", "avx2,fma,f16c");

/// Calls intrinsics of the instruction sets that an `Avx2` proves to be there.
macro_rules! simd {
    ($e:expr) => {
        // SAFETY: `self` exists, so the instructions do; pointers come from references to arrays of
        // exactly the width that is read or written.
        unsafe { $e }
    };
}

/// Two registers as one value, halves in order.
#[derive(Clone, Copy)]
pub struct Two<T>(T, T);

impl Avx2 {
    /// `words + codes · y`, neighbouring products added, in 16 bits.
    #[inline(always)]
    fn dot_words<const BITS: usize>(self, words: __m256i, codes: __m256i, y: __m256i) -> __m256i {
        simd!({
            let products = if BITS == 8 {
                // Unsigned 8-bit codes would saturate: |code − 128| times y with the sign of
                // code − 128 stays within 2 · 128 · 127.
                let w = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
                _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(y, w))
            } else {
                _mm256_maddubs_epi16(codes, y)
            };
            _mm256_add_epi16(words, products)
        })
    }
    /// `acc` plus the sums of neighbouring 16-bit words.
    #[inline(always)]
    fn widen(self, acc: __m256i, words: __m256i) -> __m256i {
        simd!(_mm256_add_epi32(acc, _mm256_madd_epi16(words, _mm256_set1_epi16(1))))
    }
    #[inline(always)]
    fn exp2i_half(self, n: __m256) -> __m256 {
        simd!({
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    fn bf16_half(self, half: __m128i) -> __m256 {
        simd!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half))))
    }
}

impl Lanes for Avx2 {
    type F = Two<__m256>;
    type I = Two<__m256i>;
    type B = Two<__m256i>;

    const OFFSET8: i32 = 0;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        simd!(Two(_mm256_set1_ps(x), _mm256_set1_ps(x)))
    }
    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Self::F {
        simd!(Two(_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))))
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; 16]) {
        simd!({
            _mm256_storeu_ps(out.as_mut_ptr(), v.0);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), v.1);
        })
    }
    #[inline(always)]
    fn load_f32(self, x: &[u8; 64]) -> Self::F {
        simd!({
            let p: *const f32 = x.as_ptr().cast();
            Two(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8)))
        })
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> Self::F {
        simd!({
            let p: *const __m128i = x.as_ptr().cast();
            Two(_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p.add(1))))
        })
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32]) -> Self::F {
        simd!({
            let p: *const __m128i = x.as_ptr().cast();
            Two(self.bf16_half(_mm_loadu_si128(p)), self.bf16_half(_mm_loadu_si128(p.add(1))))
        })
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        simd!(Two(_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Two(_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Two(_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Two(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Two(_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Two(_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Two(_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        simd!({
            let sign = _mm256_set1_ps(-0.0);
            Two(_mm256_andnot_ps(sign, a.0), _mm256_andnot_ps(sign, a.1))
        })
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        simd!(Two(
            _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0)),
            _mm256_blendv_ps(no.1, yes.1, _mm256_cmp_ps::<_CMP_LT_OQ>(a.1, b.1)),
        ))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        simd!(Two(_mm256_round_ps::<NEAREST>(a.0), _mm256_round_ps::<NEAREST>(a.1)))
    }
    #[inline(always)]
    fn exp2i(self, n: Self::F) -> Self::F {
        Two(self.exp2i_half(n.0), self.exp2i_half(n.1))
    }
    #[inline(always)]
    fn to_i8(self, a: Self::F) -> [i8; 16] {
        let mut out = [0i8; 16];
        simd!({
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.0), _mm256_cvtps_epi32(a.1));
            // Packing works within 128-bit halves: bring the four pieces back into order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let low = _mm256_castsi256_si128(words);
            let bytes = _mm_packs_epi16(low, _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        });
        out
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        simd!(Two(_mm256_set1_epi32(x), _mm256_set1_epi32(x)))
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; 16]) -> Self::I {
        simd!({
            let bytes = _mm_loadu_si128(x.as_ptr().cast());
            Two(_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes)))
        })
    }
    #[inline(always)]
    fn mul_add_i(self, a: Self::I, b: Self::I, c: Self::I) -> Self::I {
        simd!(Two(
            _mm256_add_epi32(_mm256_mullo_epi32(a.0, b.0), c.0),
            _mm256_add_epi32(_mm256_mullo_epi32(a.1, b.1), c.1),
        ))
    }
    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        simd!(Two(_mm256_cvtepi32_ps(a.0), _mm256_cvtepi32_ps(a.1)))
    }

    #[inline(always)]
    fn load_b(self, x: &[u8; 64]) -> Self::B {
        simd!({
            let p: *const __m256i = x.as_ptr().cast();
            Two(_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1)))
        })
    }
    #[inline(always)]
    fn load_u8_pairs(self, x: &[u8; 32]) -> Self::B {
        simd!({
            let p: *const __m128i = x.as_ptr().cast();
            Two(
                _mm256_cvtepu8_epi16(_mm_loadu_si128(p)),
                _mm256_cvtepu8_epi16(_mm_loadu_si128(p.add(1))),
            )
        })
    }
    #[inline(always)]
    fn splat_b(self, x: u8) -> Self::B {
        simd!(Two(_mm256_set1_epi8(x as i8), _mm256_set1_epi8(x as i8)))
    }
    #[inline(always)]
    fn and(self, a: Self::B, b: Self::B) -> Self::B {
        simd!(Two(_mm256_and_si256(a.0, b.0), _mm256_and_si256(a.1, b.1)))
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        simd!(Two(_mm256_or_si256(a.0, b.0), _mm256_or_si256(a.1, b.1)))
    }
    #[inline(always)]
    fn shr(self, a: Self::B, n: u32) -> Self::B {
        simd!({
            let n = _mm_cvtsi32_si128(n as i32);
            Two(_mm256_srl_epi16(a.0, n), _mm256_srl_epi16(a.1, n))
        })
    }
    #[inline(always)]
    fn shl(self, a: Self::B, n: u32) -> Self::B {
        simd!({
            let n = _mm_cvtsi32_si128(n as i32);
            Two(_mm256_sll_epi16(a.0, n), _mm256_sll_epi16(a.1, n))
        })
    }
    #[inline(always)]
    fn dot<const BITS: usize>(self, acc: Self::I, codes: &[Self::B; 4], y: &[i8; 16]) -> Self::I {
        // One `maddubs` leaves at most 2 · 127 · (2^BITS − 1) in a 16-bit word: so many of them may be
        // added before the sum is widened to 32 bits.
        let per_widening = match BITS {
            0..=5 => 4,
            6 => 2,
            _ => 1,
        };
        let mut acc = acc;
        for (codes, y) in codes.chunks_exact(per_widening).zip(y.chunks_exact(4 * per_widening)) {
            let zero = simd!(_mm256_setzero_si256());
            let mut words = Two(zero, zero);
            for (codes, y) in codes.iter().zip(y.chunks_exact(4)) {
                let quad = i32::from_le_bytes(bytemuck::cast([y[0], y[1], y[2], y[3]]));
                let y = simd!(_mm256_set1_epi32(quad));
                words.0 = self.dot_words::<BITS>(words.0, codes.0, y);
                words.1 = self.dot_words::<BITS>(words.1, codes.1, y);
            }
            acc = Two(self.widen(acc.0, words.0), self.widen(acc.1, words.1));
        }
        acc
    }
    #[inline(always)]
    fn dot_pairs(self, acc: Self::I, a: Self::B, y: [i16; 2]) -> Self::I {
        let pair = (y[0] as u16 as u32 | (y[1] as u16 as u32) << 16) as i32;
        simd!({
            let y = _mm256_set1_epi32(pair);
            Two(
                _mm256_add_epi32(acc.0, _mm256_madd_epi16(a.0, y)),
                _mm256_add_epi32(acc.1, _mm256_madd_epi16(a.1, y)),
            )
        })
    }

    #[inline(always)]
    fn prefetch(self, line: &[u8; 64], ahead: usize) {
        simd!(_mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(ahead).cast()))
    }
}
