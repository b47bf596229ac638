//! AVX-512 with VNNI: one register has sixteen lanes, and one instruction adds four products of bytes in each.

use crate::cpu::lanes::{Arith, Simd, Wide, has_rows};
use std::arch::x86_64::*;

/// Exists only where AVX-512 F, BW, VL and VNNI were detected.
#[derive(Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// The instruction set, if the CPU has it.
    pub fn detect() -> Option<Avx512> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c"))
        .then_some(Avx512(()))
    }

    /// The instruction set, without detection.
    ///
    /// # Safety
    /// It must have been detected.
    pub(super) unsafe fn assume() -> Avx512 {
        Avx512(())
    }
}

crate::cpu::instantiate!(
    Wide::<Avx512, 1>(Avx512(())),
    "avx512",
    "avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c"
);

impl Avx512 {
    /// Reads 16 bytes of each of four rows to the quarters of a register.
    ///
    /// # Safety
    /// From `row` on there must be 16 bytes of four rows that are `stride` bytes apart.
    #[inline(always)]
    unsafe fn load_quarters(self, row: *const u8, stride: usize) -> __m512i {
        // SAFETY: as the caller says.
        unsafe {
            let [a, b] = [row, row.add(stride)];
            let [c, d] = [a.add(2 * stride), b.add(2 * stride)];
            let low = _mm256_castsi128_si256(_mm_loadu_si128(a.cast()));
            let low = _mm256_inserti128_si256::<1>(low, _mm_loadu_si128(b.cast()));
            let high = _mm256_castsi128_si256(_mm_loadu_si128(c.cast()));
            let high = _mm256_inserti128_si256::<1>(high, _mm_loadu_si128(d.cast()));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        }
    }
}

/// Calls intrinsics of the instruction sets that an `Avx512` proves to be there.
macro_rules! simd {
    ($e:expr) => {
        // SAFETY: `self` exists, so the instructions do; pointers come from references to arrays of
        // exactly the width that is read or written.
        unsafe { $e }
    };
}

impl Arith for Avx512 {
    type F = __m512;
    type I = __m512i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        simd!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        simd!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        simd!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn select_lt(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        simd!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        simd!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn exp2i(self, n: __m512) -> __m512 {
        simd!({
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    fn to_f(self, a: __m512i) -> __m512 {
        simd!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn prefetch(self, line: &[u8], ahead: usize) {
        simd!(_mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(ahead).cast()))
    }
}

impl Simd for Avx512 {
    const WIDTH: usize = 16;

    type B = __m512i;

    const OFFSET8: i32 = 128;

    // A register holds all lanes, so there is only part 0.
    #[inline(always)]
    fn load(self, x: &[f32; 16], _: usize) -> __m512 {
        simd!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32; 16], _: usize) {
        simd!(_mm512_storeu_ps(out.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn load_f32(self, x: &[u8; 64], _: usize) -> __m512 {
        simd!(_mm512_loadu_ps(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32], _: usize) -> __m512 {
        simd!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32], _: usize) -> __m512 {
        simd!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }
    #[inline(always)]
    fn load_e8m0(self, x: &[u8; 16], _: usize) -> __m512 {
        simd!({
            let exponents = _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            let bits = _mm512_slli_epi32::<23>(exponents);
            _mm512_castsi512_ps(_mm512_max_epi32(bits, _mm512_set1_epi32(1 << 22)))
        })
    }
    #[inline(always)]
    fn store_i8(self, a: __m512, out: &mut [i8; 16], _: usize) {
        simd!({
            let bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        });
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> __m512i {
        simd!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; 16], _: usize) -> __m512i {
        simd!(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn sub_i(self, a: __m512i, b: __m512i) -> __m512i {
        simd!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn shl_i(self, a: __m512i, n: u32) -> __m512i {
        simd!(_mm512_sll_epi32(a, _mm_cvtsi32_si128(n as i32)))
    }

    #[inline(always)]
    fn load_b(self, x: &[u8; 64], _: usize) -> __m512i {
        simd!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_rows(self, x: &[u8], stride: usize, _: usize) -> [__m512i; 4] {
        assert!(has_rows(x, stride), "there are 16 rows");
        let mut rows = [self.splat_b(0); 4];
        for (i, rows) in rows.iter_mut().enumerate() {
            // SAFETY: there are 16 rows, and `i` is below 4.
            *rows = unsafe { self.load_quarters(x.as_ptr().add(i * stride), 4 * stride) };
        }
        // Each quarter is transposed.
        let [a, b, c, d] = rows;
        simd!({
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab, cd),
                _mm512_unpackhi_epi64(ab, cd),
                _mm512_unpacklo_epi64(ab_high, cd_high),
                _mm512_unpackhi_epi64(ab_high, cd_high),
            ]
        })
    }
    #[inline(always)]
    fn store_b(self, v: __m512i, out: &mut [u8; 64], _: usize) {
        simd!(_mm512_storeu_si512(out.as_mut_ptr().cast(), v))
    }
    #[inline(always)]
    fn load_u8_pairs(self, x: &[u8; 32], _: usize) -> __m512i {
        simd!(_mm512_cvtepu8_epi16(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn splat_b(self, x: u8) -> __m512i {
        simd!(_mm512_set1_epi8(x as i8))
    }
    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        simd!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        simd!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        simd!(_mm512_xor_si512(a, b))
    }
    #[inline(always)]
    fn shr(self, a: __m512i, n: u32) -> __m512i {
        simd!(_mm512_srl_epi16(a, _mm_cvtsi32_si128(n as i32)))
    }
    #[inline(always)]
    fn shl(self, a: __m512i, n: u32) -> __m512i {
        simd!(_mm512_sll_epi16(a, _mm_cvtsi32_si128(n as i32)))
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], codes: __m512i) -> __m512i {
        simd!({
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, codes)
        })
    }
    #[inline(always)]
    fn codes8(self, codes: __m512i) -> __m512i {
        codes
    }
    #[inline(always)]
    fn dots<const BITS: usize, const Q: usize, const N: usize>(
        self,
        mut acc: [__m512i; N],
        codes: &[__m512i; Q],
        y: [&[[i8; 4]; Q]; N],
    ) -> [__m512i; N] {
        for (j, &codes) in codes.iter().enumerate() {
            for (acc, y) in acc.iter_mut().zip(y) {
                let quad = i32::from_le_bytes(bytemuck::cast(y[j]));
                *acc = simd!(_mm512_dpbusd_epi32(*acc, codes, _mm512_set1_epi32(quad)));
            }
        }
        acc
    }
    #[inline(always)]
    fn load_scale(self, x: &[u8; 16], part: usize) -> __m512i {
        self.load_i8(x, part)
    }
    #[inline(always)]
    fn dots_scaled<const BITS: usize, const Q: usize, const N: usize>(
        self,
        mut acc: [__m512i; N],
        codes: &[__m512i; Q],
        y: [&[[i8; 4]; Q]; N],
        scale: __m512i,
    ) -> [__m512i; N] {
        let dots = self.dots::<BITS, Q, N>([self.splat_i(0); N], codes, y);
        for (acc, dot) in acc.iter_mut().zip(dots) {
            *acc = simd!(_mm512_add_epi32(*acc, _mm512_mullo_epi32(dot, scale)));
        }
        acc
    }
    #[inline(always)]
    fn scale_pairs(self, a: __m512i, b: __m512i) -> __m512i {
        simd!(_mm512_mask_blend_epi16(0xAAAA_AAAA, a, _mm512_slli_epi32::<16>(b)))
    }
    #[inline(always)]
    fn dot_pairs(self, acc: __m512i, a: __m512i, y: [i16; 2]) -> __m512i {
        let pair = (y[0] as u16 as u32 | (y[1] as u16 as u32) << 16) as i32;
        simd!(_mm512_dpwssd_epi32(acc, a, _mm512_set1_epi32(pair)))
    }
}
