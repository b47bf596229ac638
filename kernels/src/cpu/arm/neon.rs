//! NEON: a register has four lanes. Bytes are multiplied through 16-bit words, or by `sdot` if the CPU has it.
//!
//! Registers are converted to and from arrays, so there are no pointers to justify. The intrinsics of `sdot`, and on
//! the oldest supported compiler those of half floats, are not stable, so these instructions are written in assembly.

use crate::cpu::lanes::{Arith, Simd, nth, nth_row};
use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};
use std::mem::transmute;

/// Exists only where NEON, and with `DOT` the dot product of bytes, were detected.
#[derive(Clone, Copy)]
pub struct Neon<const DOT: bool>(());

impl<const DOT: bool> Neon<DOT> {
    /// The instruction set, if the CPU has it.
    pub fn detect() -> Option<Neon<DOT>> {
        (is_aarch64_feature_detected!("neon") && (!DOT || is_aarch64_feature_detected!("dotprod")))
            .then_some(Neon(()))
    }

    /// The instruction set, without detection.
    ///
    /// # Safety
    /// It must have been detected.
    pub(super) unsafe fn assume() -> Neon<DOT> {
        Neon(())
    }
}

pub(in crate::cpu) mod plain {
    use super::Neon;
    use crate::cpu::lanes::Wide;
    crate::cpu::instantiate!(Wide::<Neon<false>, 4>(Neon(())), "neon", "neon");
}

pub(in crate::cpu) mod dotprod {
    use super::Neon;
    use crate::cpu::lanes::Wide;
    crate::cpu::instantiate!(Wide::<Neon<true>, 4>(Neon(())), "dotprod", "neon,dotprod");
}

/// Calls intrinsics of the instruction sets that a `Neon` proves to be there.
macro_rules! simd {
    ($e:expr) => {
        // SAFETY: `self` exists, so the instructions do; `transmute` is between a register and an
        // array of its size, of numbers both.
        unsafe { $e }
    };
}

/// How many products of 4 codes below `2^bits` and 4 activations fit the 16-bit words in which `smlal` adds them: each
/// product adds up to 127 · (2^bits − 1) to a word, or 127 · 128 for 8 bits.
const fn quads_per_widening(bits: usize) -> usize {
    match bits {
        0..=5 => 8,
        6 => 4,
        _ => 2,
    }
}

impl<const DOT: bool> Neon<DOT> {
    /// Reads four 16-bit words.
    #[inline(always)]
    fn load_half(self, x: &[u8; 32], part: usize) -> uint16x4_t {
        simd!(transmute::<[u8; 8], _>(*nth(x, part)))
    }

    /// `acc + Σ codes · y` over 16 weights of each lane's row.
    #[inline(always)]
    fn dot16(self, acc: int32x4_t, codes: &[uint8x16_t; 4], y: &[[i8; 4]; 4]) -> int32x4_t {
        let mut acc = acc;
        let y: int8x16_t = simd!(transmute::<[[i8; 4]; 4], _>(*y));
        // SAFETY: called only with `DOT`, so the instruction was detected; it touches registers
        // alone.
        unsafe {
            asm!(
                "sdot {acc:v}.4s, {a:v}.16b, {y:v}.4b[0]",
                "sdot {acc:v}.4s, {b:v}.16b, {y:v}.4b[1]",
                "sdot {acc:v}.4s, {c:v}.16b, {y:v}.4b[2]",
                "sdot {acc:v}.4s, {d:v}.16b, {y:v}.4b[3]",
                acc = inout(vreg) acc, y = in(vreg) y,
                a = in(vreg) codes[0], b = in(vreg) codes[1],
                c = in(vreg) codes[2], d = in(vreg) codes[3],
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        acc
    }

    /// `Σ codes · y` through 16-bit words.
    #[inline(always)]
    fn dot_words<const BITS: usize, const Q: usize>(
        self,
        codes: &[uint8x16_t; Q],
        y: &[[i8; 4]; Q],
    ) -> int32x4_t {
        let mut sums = [self.splat_i(0); 2];
        for first in (0..Q).step_by(quads_per_widening(BITS)) {
            let mut words = [simd!(vdupq_n_s16(0)); 2];
            for j in first..Q.min(first + quads_per_widening(BITS)) {
                simd!({
                    let codes = vreinterpretq_s8_u8(codes[j]);
                    let y = vdupq_n_s32(i32::from_le_bytes(bytemuck::cast(y[j])));
                    let y = vreinterpretq_s8_s32(y);
                    words[0] = vmlal_s8(words[0], vget_low_s8(codes), vget_low_s8(y));
                    words[1] = vmlal_high_s8(words[1], codes, y);
                });
            }
            for (sum, words) in sums.iter_mut().zip(words) {
                *sum = simd!(vpadalq_s16(*sum, words));
            }
        }
        simd!(vpaddq_s32(sums[0], sums[1]))
    }
}

impl<const DOT: bool> Arith for Neon<DOT> {
    type F = float32x4_t;
    type I = int32x4_t;

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        simd!(vdupq_n_f32(x))
    }
    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        simd!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        simd!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        simd!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        simd!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        simd!(vdivq_f32(a, b))
    }
    // `fmax` and `fmin` treat NaN and the sign of zero differently from other instruction sets.
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        simd!(vbslq_f32(vcgtq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        simd!(vbslq_f32(vcltq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn abs(self, a: float32x4_t) -> float32x4_t {
        simd!(vabsq_f32(a))
    }
    #[inline(always)]
    fn select_lt(
        self,
        a: float32x4_t,
        b: float32x4_t,
        yes: float32x4_t,
        no: float32x4_t,
    ) -> float32x4_t {
        simd!(vbslq_f32(vcltq_f32(a, b), yes, no))
    }
    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        simd!(vrndnq_f32(a))
    }
    #[inline(always)]
    fn exp2i(self, n: float32x4_t) -> float32x4_t {
        simd!({
            let biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        })
    }
    #[inline(always)]
    fn to_f(self, a: int32x4_t) -> float32x4_t {
        simd!(vcvtq_f32_s32(a))
    }
    #[inline(always)]
    fn prefetch(self, line: &[u8], ahead: usize) {
        // SAFETY: a hint, which faults nowhere.
        unsafe {
            asm!("prfm pldl1keep, [{}]", in(reg) line.as_ptr().addr().wrapping_add(ahead),
                options(nomem, nostack, preserves_flags));
        }
    }
}

impl<const DOT: bool> Simd for Neon<DOT> {
    const WIDTH: usize = 4;

    type B = uint8x16_t;

    const OFFSET8: i32 = 0;

    #[inline(always)]
    fn load(self, x: &[f32; 16], part: usize) -> float32x4_t {
        simd!(transmute::<[f32; 4], _>(*nth(x, part)))
    }
    #[inline(always)]
    fn store(self, v: float32x4_t, out: &mut [f32; 16], part: usize) {
        out.as_chunks_mut::<4>().0[part] = simd!(transmute::<float32x4_t, [f32; 4]>(v));
    }
    #[inline(always)]
    fn load_f32(self, x: &[u8; 64], part: usize) -> float32x4_t {
        simd!(transmute::<[u8; 16], _>(*nth(x, part)))
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32], part: usize) -> float32x4_t {
        simd!({
            let out: float32x4_t;
            asm!("fcvtl {:v}.4s, {:v}.4h", lateout(vreg) out, in(vreg) self.load_half(x, part),
                options(pure, nomem, nostack, preserves_flags));
            out
        })
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32], part: usize) -> float32x4_t {
        simd!({
            let half = vmovl_u16(self.load_half(x, part));
            vreinterpretq_f32_u32(vshlq_n_u32::<16>(half))
        })
    }
    #[inline(always)]
    fn load_e8m0(self, x: &[u8; 16], part: usize) -> float32x4_t {
        simd!({
            let bytes = vcreate_u8(u64::from(u32::from_le_bytes(*nth(x, part))));
            let exponents = vmovl_u16(vget_low_u16(vmovl_u8(bytes)));
            let bits = vmaxq_u32(vshlq_n_u32::<23>(exponents), vdupq_n_u32(1 << 22));
            vreinterpretq_f32_u32(bits)
        })
    }
    #[inline(always)]
    fn store_i8(self, a: float32x4_t, out: &mut [i8; 16], part: usize) {
        simd!({
            let words = vmovn_s32(vcvtq_s32_f32(a));
            let bytes = vreinterpret_s32_s8(vmovn_s16(vcombine_s16(words, words)));
            out.as_chunks_mut::<4>().0[part] = bytemuck::cast(vget_lane_s32::<0>(bytes).to_le());
        });
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> int32x4_t {
        simd!(vdupq_n_s32(x))
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; 16], part: usize) -> int32x4_t {
        simd!({
            let bytes = vdup_n_u32(u32::from_le_bytes(*nth(x, part)));
            vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(bytes))))
        })
    }
    #[inline(always)]
    fn sub_i(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        simd!(vsubq_s32(a, b))
    }
    #[inline(always)]
    fn shl_i(self, a: int32x4_t, n: u32) -> int32x4_t {
        simd!(vshlq_s32(a, vdupq_n_s32(n as i32)))
    }

    #[inline(always)]
    fn load_b(self, x: &[u8; 64], part: usize) -> uint8x16_t {
        simd!(transmute::<[u8; 16], _>(*nth(x, part)))
    }
    #[inline(always)]
    fn load_rows(self, x: &[u8], stride: usize, part: usize) -> [uint8x16_t; 4] {
        let mut rows = [simd!(vdupq_n_u32(0)); 4];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = simd!(transmute::<[u8; 16], uint32x4_t>(*nth_row(x, stride, 4 * part + i)));
        }
        let [a, b, c, d] = rows;
        simd!({
            let even = [vtrn1q_u32(a, b), vtrn1q_u32(c, d)];
            let odd = [vtrn2q_u32(a, b), vtrn2q_u32(c, d)];
            let [a, c] = [vreinterpretq_u64_u32(even[0]), vreinterpretq_u64_u32(even[1])];
            let [b, d] = [vreinterpretq_u64_u32(odd[0]), vreinterpretq_u64_u32(odd[1])];
            [
                vreinterpretq_u8_u64(vtrn1q_u64(a, c)),
                vreinterpretq_u8_u64(vtrn1q_u64(b, d)),
                vreinterpretq_u8_u64(vtrn2q_u64(a, c)),
                vreinterpretq_u8_u64(vtrn2q_u64(b, d)),
            ]
        })
    }
    #[inline(always)]
    fn store_b(self, v: uint8x16_t, out: &mut [u8; 64], part: usize) {
        out.as_chunks_mut::<16>().0[part] = simd!(transmute::<uint8x16_t, [u8; 16]>(v));
    }
    // The first words of all pairs come first, then the second words, so that each half has one factor in `dot_pairs`.
    #[inline(always)]
    fn load_u8_pairs(self, x: &[u8; 32], part: usize) -> uint8x16_t {
        simd!({
            let pairs = self.load_half(x, part);
            let first = vand_u16(pairs, vdup_n_u16(0xff));
            vreinterpretq_u8_u16(vcombine_u16(first, vshr_n_u16::<8>(pairs)))
        })
    }
    #[inline(always)]
    fn splat_b(self, x: u8) -> uint8x16_t {
        simd!(vdupq_n_u8(x))
    }
    #[inline(always)]
    fn and(self, a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        simd!(vandq_u8(a, b))
    }
    #[inline(always)]
    fn or(self, a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        simd!(vorrq_u8(a, b))
    }
    #[inline(always)]
    fn xor(self, a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        simd!(veorq_u8(a, b))
    }
    #[inline(always)]
    fn shr(self, a: uint8x16_t, n: u32) -> uint8x16_t {
        simd!(vshlq_u8(a, vdupq_n_s8(-(n as i8))))
    }
    #[inline(always)]
    fn shl(self, a: uint8x16_t, n: u32) -> uint8x16_t {
        simd!(vshlq_u8(a, vdupq_n_s8(n as i8)))
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], codes: uint8x16_t) -> uint8x16_t {
        simd!(vqtbl1q_u8(transmute::<[u8; 16], _>(*table), codes))
    }
    #[inline(always)]
    fn codes8(self, codes: uint8x16_t) -> uint8x16_t {
        simd!(veorq_u8(codes, vdupq_n_u8(0x80)))
    }
    #[inline(always)]
    fn dots<const BITS: usize, const Q: usize, const N: usize>(
        self,
        mut acc: [int32x4_t; N],
        codes: &[uint8x16_t; Q],
        y: [&[[i8; 4]; Q]; N],
    ) -> [int32x4_t; N] {
        if !DOT {
            for (acc, y) in acc.iter_mut().zip(y) {
                *acc = simd!(vaddq_s32(*acc, self.dot_words::<BITS, Q>(codes, y)));
            }
            return acc;
        }
        for i in 0..Q / 4 {
            for (acc, y) in acc.iter_mut().zip(y) {
                *acc = self.dot16(*acc, nth(codes, i), nth(y, i));
            }
        }
        acc
    }
    #[inline(always)]
    fn load_scale(self, x: &[u8; 16], part: usize) -> int32x4_t {
        self.load_i8(x, part)
    }
    #[inline(always)]
    fn dots_scaled<const BITS: usize, const Q: usize, const N: usize>(
        self,
        mut acc: [int32x4_t; N],
        codes: &[uint8x16_t; Q],
        y: [&[[i8; 4]; Q]; N],
        scale: int32x4_t,
    ) -> [int32x4_t; N] {
        let dots = self.dots::<BITS, Q, N>([self.splat_i(0); N], codes, y);
        for (acc, dot) in acc.iter_mut().zip(dots) {
            *acc = simd!(vmlaq_s32(*acc, dot, scale));
        }
        acc
    }
    #[inline(always)]
    fn scale_pairs(self, a: int32x4_t, b: int32x4_t) -> uint8x16_t {
        simd!(vreinterpretq_u8_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(b))))
    }
    #[inline(always)]
    fn dot_pairs(self, acc: int32x4_t, a: uint8x16_t, y: [i16; 2]) -> int32x4_t {
        simd!({
            let a = vreinterpretq_s16_u8(a);
            vmlal_high_n_s16(vmlal_n_s16(acc, vget_low_s16(a), y[0]), a, y[1])
        })
    }
}
