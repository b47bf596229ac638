//! AVX2 with FMA and F16C: a register has eight lanes. Bytes are multiplied through 16-bit words, or by AVX-VNNI if the
//! CPU has it.

use crate::cpu::lanes::{Arith, Simd, has_rows, nth};
use std::arch::x86_64::*;

/// Exists only where AVX2, FMA and F16C, and with `VNNI` AVX-VNNI, were detected.
#[derive(Clone, Copy)]
pub struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// The instruction set, if the CPU has it.
    pub fn detect() -> Option<Avx2<VNNI>> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && (!VNNI || is_x86_feature_detected!("avxvnni")))
        .then_some(Avx2(()))
    }
}

pub(in crate::cpu) mod plain {
    use super::Avx2;
    use crate::cpu::lanes::Wide;
    crate::cpu::instantiate!(Wide::<Avx2<false>, 2>(Avx2(())), "avx2", "avx2,fma,f16c");
}

pub(in crate::cpu) mod vnni {
    use super::Avx2;
    use crate::cpu::lanes::Wide;
    crate::cpu::instantiate!(Wide::<Avx2<true>, 2>(Avx2(())), "avxvnni", "avx2,fma,f16c,avxvnni");
}

/// Calls intrinsics of the instruction sets that an `Avx2` proves to be there.
macro_rules! simd {
    ($e:expr) => {
        // SAFETY: `self` exists, so the instructions do; pointers come from references to arrays of
        // exactly the width that is read or written.
        unsafe { $e }
    };
}

/// How many products of 4 codes below `2^bits` and 4 activations fit the 16-bit words in which `maddubs` adds them in
/// pairs: each product adds up to 2 · 127 · (2^bits − 1).
const fn quads_per_widening(bits: usize) -> usize {
    match bits {
        0..=4 => 8,
        5 => 4,
        6 => 2,
        _ => 1,
    }
}

impl<const VNNI: bool> Avx2<VNNI> {
    /// Σ codes · y in 16-bit words, over the quads from `first` until the words are full; each lane has one word for
    /// the first two of four weights and one for the last two.
    #[inline(always)]
    fn dot_words<const BITS: usize, const Q: usize>(
        self,
        codes: &[__m256i; Q],
        y: &[[i8; 4]; Q],
        first: usize,
    ) -> __m256i {
        let mut words = simd!(_mm256_setzero_si256());
        for j in first..Q.min(first + quads_per_widening(BITS)) {
            let y = simd!(_mm256_set1_epi32(i32::from_le_bytes(bytemuck::cast(y[j]))));
            let products = simd!(if BITS == 8 {
                // Unsigned 8-bit codes would saturate. |code − 128| times y with the sign of code − 128 stays within 2
                // · 128 · 127.
                _mm256_maddubs_epi16(_mm256_abs_epi8(codes[j]), _mm256_sign_epi8(y, codes[j]))
            } else {
                _mm256_maddubs_epi16(codes[j], y)
            });
            words = if j == first { products } else { simd!(_mm256_add_epi16(words, products)) };
        }
        words
    }
}

impl<const VNNI: bool> Arith for Avx2<VNNI> {
    type F = __m256;
    type I = __m256i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        simd!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        simd!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        simd!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn select_lt(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        simd!(_mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)))
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        simd!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn exp2i(self, n: __m256) -> __m256 {
        simd!({
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    fn to_f(self, a: __m256i) -> __m256 {
        simd!(_mm256_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn prefetch(self, line: &[u8], ahead: usize) {
        simd!(_mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(ahead).cast()))
    }
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    const WIDTH: usize = 8;

    type B = __m256i;

    const OFFSET8: i32 = if VNNI { 128 } else { 0 };

    #[inline(always)]
    fn load(self, x: &[f32; 16], part: usize) -> __m256 {
        simd!(_mm256_loadu_ps(nth::<_, 8>(x, part).as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m256, out: &mut [f32; 16], part: usize) {
        simd!(_mm256_storeu_ps(out.as_chunks_mut::<8>().0[part].as_mut_ptr(), v))
    }
    #[inline(always)]
    fn load_f32(self, x: &[u8; 64], part: usize) -> __m256 {
        simd!(_mm256_loadu_ps(nth::<_, 32>(x, part).as_ptr().cast()))
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32], part: usize) -> __m256 {
        simd!(_mm256_cvtph_ps(_mm_loadu_si128(nth::<_, 16>(x, part).as_ptr().cast())))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32], part: usize) -> __m256 {
        simd!({
            let half = _mm_loadu_si128(nth::<_, 16>(x, part).as_ptr().cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half)))
        })
    }
    #[inline(always)]
    fn load_e8m0(self, x: &[u8; 16], part: usize) -> __m256 {
        simd!({
            let exponents = _mm_loadl_epi64(nth::<_, 8>(x, part).as_ptr().cast());
            let bits = _mm256_slli_epi32::<23>(_mm256_cvtepu8_epi32(exponents));
            _mm256_castsi256_ps(_mm256_max_epi32(bits, _mm256_set1_epi32(1 << 22)))
        })
    }
    #[inline(always)]
    fn store_i8(self, a: __m256, out: &mut [i8; 16], part: usize) {
        simd!({
            let lanes = _mm256_cvtps_epi32(a);
            let high = _mm256_extracti128_si256::<1>(lanes);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(lanes), high);
            let out = out.as_chunks_mut::<8>().0[part].as_mut_ptr();
            _mm_storel_epi64(out.cast(), _mm_packs_epi16(words, words));
        });
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> __m256i {
        simd!(_mm256_set1_epi32(x))
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; 16], part: usize) -> __m256i {
        simd!(_mm256_cvtepi8_epi32(_mm_loadl_epi64(nth::<_, 8>(x, part).as_ptr().cast())))
    }
    #[inline(always)]
    fn sub_i(self, a: __m256i, b: __m256i) -> __m256i {
        simd!(_mm256_sub_epi32(a, b))
    }
    #[inline(always)]
    fn shl_i(self, a: __m256i, n: u32) -> __m256i {
        simd!(_mm256_sll_epi32(a, _mm_cvtsi32_si128(n as i32)))
    }

    #[inline(always)]
    fn load_b(self, x: &[u8; 64], part: usize) -> __m256i {
        simd!(_mm256_loadu_si256(nth::<_, 32>(x, part).as_ptr().cast()))
    }
    #[inline(always)]
    fn load_rows(self, x: &[u8], stride: usize, part: usize) -> [__m256i; 4] {
        assert!(part < 2 && has_rows(x, stride), "there are 16 rows");
        let mut rows = [self.splat_b(0); 4];
        for (i, rows) in rows.iter_mut().enumerate() {
            // SAFETY: there are 16 rows, `part` is below 2, and `i` below 4.
            *rows = unsafe {
                let first = x.as_ptr().add((8 * part + i) * stride);
                let low = _mm256_castsi128_si256(_mm_loadu_si128(first.cast()));
                let second = _mm_loadu_si128(first.add(4 * stride).cast());
                _mm256_inserti128_si256::<1>(low, second)
            };
        }
        // Each half is transposed.
        let [a, b, c, d] = rows;
        simd!({
            let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab, cd),
                _mm256_unpackhi_epi64(ab, cd),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ]
        })
    }
    #[inline(always)]
    fn store_b(self, v: __m256i, out: &mut [u8; 64], part: usize) {
        simd!(_mm256_storeu_si256(out.as_chunks_mut::<32>().0[part].as_mut_ptr().cast(), v))
    }
    #[inline(always)]
    fn load_u8_pairs(self, x: &[u8; 32], part: usize) -> __m256i {
        simd!(_mm256_cvtepu8_epi16(_mm_loadu_si128(nth::<_, 16>(x, part).as_ptr().cast())))
    }
    #[inline(always)]
    fn splat_b(self, x: u8) -> __m256i {
        simd!(_mm256_set1_epi8(x as i8))
    }
    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        simd!(_mm256_and_si256(a, b))
    }
    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        simd!(_mm256_or_si256(a, b))
    }
    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        simd!(_mm256_xor_si256(a, b))
    }
    #[inline(always)]
    fn shr(self, a: __m256i, n: u32) -> __m256i {
        simd!(_mm256_srl_epi16(a, _mm_cvtsi32_si128(n as i32)))
    }
    #[inline(always)]
    fn shl(self, a: __m256i, n: u32) -> __m256i {
        simd!(_mm256_sll_epi16(a, _mm_cvtsi32_si128(n as i32)))
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], codes: __m256i) -> __m256i {
        simd!({
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            _mm256_shuffle_epi8(table, codes)
        })
    }
    #[inline(always)]
    fn codes8(self, codes: __m256i) -> __m256i {
        if VNNI { codes } else { simd!(_mm256_xor_si256(codes, _mm256_set1_epi8(-128))) }
    }
    #[inline(always)]
    fn dots<const BITS: usize, const Q: usize, const N: usize>(
        self,
        mut acc: [__m256i; N],
        codes: &[__m256i; Q],
        y: [&[[i8; 4]; Q]; N],
    ) -> [__m256i; N] {
        if !VNNI {
            return self.dots_scaled::<BITS, Q, N>(acc, codes, y, simd!(_mm256_set1_epi16(1)));
        }
        for (j, &codes) in codes.iter().enumerate() {
            for (acc, y) in acc.iter_mut().zip(y) {
                let y = i32::from_le_bytes(bytemuck::cast(y[j]));
                *acc = simd!(_mm256_dpbusd_avx_epi32(*acc, codes, _mm256_set1_epi32(y)));
            }
        }
        acc
    }
    #[inline(always)]
    fn load_scale(self, x: &[u8; 16], part: usize) -> __m256i {
        let lanes = self.load_i8(x, part);
        if VNNI {
            return lanes;
        }
        // Each scale twice in its lane, so that one `madd` widens, scales and adds.
        simd!(_mm256_blend_epi16::<0xAA>(lanes, _mm256_slli_epi32::<16>(lanes)))
    }
    #[inline(always)]
    fn dots_scaled<const BITS: usize, const Q: usize, const N: usize>(
        self,
        mut acc: [__m256i; N],
        codes: &[__m256i; Q],
        y: [&[[i8; 4]; Q]; N],
        scale: __m256i,
    ) -> [__m256i; N] {
        if VNNI {
            let dots = self.dots::<BITS, Q, N>([self.splat_i(0); N], codes, y);
            for (acc, dot) in acc.iter_mut().zip(dots) {
                *acc = simd!(_mm256_add_epi32(*acc, _mm256_mullo_epi32(dot, scale)));
            }
            return acc;
        }
        for first in (0..Q).step_by(quads_per_widening(BITS)) {
            for (acc, y) in acc.iter_mut().zip(y) {
                let words = self.dot_words::<BITS, Q>(codes, y, first);
                *acc = simd!(_mm256_add_epi32(*acc, _mm256_madd_epi16(words, scale)));
            }
        }
        acc
    }
    #[inline(always)]
    fn scale_pairs(self, a: __m256i, b: __m256i) -> __m256i {
        let b = if VNNI { simd!(_mm256_slli_epi32::<16>(b)) } else { b };
        simd!(_mm256_blend_epi16::<0xAA>(a, b))
    }
    #[inline(always)]
    fn dot_pairs(self, acc: __m256i, a: __m256i, y: [i16; 2]) -> __m256i {
        let pair = (y[0] as u16 as u32 | (y[1] as u16 as u32) << 16) as i32;
        simd!(_mm256_add_epi32(acc, _mm256_madd_epi16(a, _mm256_set1_epi32(pair))))
    }
}
