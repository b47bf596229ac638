//! Plain arrays in place of registers. This runs on every machine, and defines each operation.

use super::lanes::{Arith, Simd, Wide, nth_row};
use half::{bf16, f16};

/// The instruction set of plain Rust.
#[derive(Clone, Copy)]
pub struct Scalar;

crate::cpu::instantiate!(Wide::<Scalar, 1>(Scalar), "scalar");

macro_rules! each {
    ($f:expr) => {
        std::array::from_fn($f)
    };
}

impl Arith for Scalar {
    type F = [f32; 16];
    type I = [i32; 16];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; 16]
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        each!(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        each!(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        each!(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        each!(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        each!(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        each!(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        each!(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        each!(|i| a[i].abs())
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        each!(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        each!(|i| a[i].round_ties_even())
    }
    #[inline(always)]
    fn exp2i(self, n: Self::F) -> Self::F {
        each!(|i| f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        each!(|i| a[i] as f32)
    }
    #[inline(always)]
    fn prefetch(self, _: &[u8], _: usize) {}
}

impl Simd for Scalar {
    const WIDTH: usize = 16;

    type B = [u8; 64];

    const OFFSET8: i32 = 128;

    // A register holds all lanes, so there is only part 0.
    #[inline(always)]
    fn load(self, x: &[f32; 16], _: usize) -> Self::F {
        *x
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; 16], _: usize) {
        *out = v;
    }
    #[inline(always)]
    fn load_f32(self, x: &[u8; 64], _: usize) -> Self::F {
        each!(|i| f32::from_le_bytes(*x[4 * i..].first_chunk().expect("four bytes a lane")))
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32], _: usize) -> Self::F {
        each!(|i| f16::from_le_bytes([x[2 * i], x[2 * i + 1]]).to_f32())
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 32], _: usize) -> Self::F {
        each!(|i| bf16::from_le_bytes([x[2 * i], x[2 * i + 1]]).to_f32())
    }
    #[inline(always)]
    fn load_e8m0(self, x: &[u8; 16], _: usize) -> Self::F {
        each!(|i| f32::from_bits((u32::from(x[i]) << 23).max(1 << 22)))
    }
    #[inline(always)]
    fn store_i8(self, a: Self::F, out: &mut [i8; 16], _: usize) {
        *out = each!(|i| a[i] as i8);
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [x; 16]
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; 16], _: usize) -> Self::I {
        each!(|i| x[i] as i8 as i32)
    }
    #[inline(always)]
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I {
        each!(|i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn shl_i(self, a: Self::I, n: u32) -> Self::I {
        each!(|i| a[i] << n)
    }

    #[inline(always)]
    fn load_b(self, x: &[u8; 64], _: usize) -> Self::B {
        *x
    }
    #[inline(always)]
    fn load_rows(self, x: &[u8], stride: usize, _: usize) -> [Self::B; 4] {
        each!(|i| each!(|b| nth_row(x, stride, b / 4)[4 * i + b % 4]))
    }
    #[inline(always)]
    fn store_b(self, v: Self::B, out: &mut [u8; 64], _: usize) {
        *out = v;
    }
    #[inline(always)]
    fn load_u8_pairs(self, x: &[u8; 32], _: usize) -> Self::B {
        each!(|i| if i % 2 == 0 { x[i / 2] } else { 0 })
    }
    #[inline(always)]
    fn splat_b(self, x: u8) -> Self::B {
        [x; 64]
    }
    #[inline(always)]
    fn and(self, a: Self::B, b: Self::B) -> Self::B {
        each!(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        each!(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn xor(self, a: Self::B, b: Self::B) -> Self::B {
        each!(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn shr(self, a: Self::B, n: u32) -> Self::B {
        words(a, |w| w >> n)
    }
    #[inline(always)]
    fn shl(self, a: Self::B, n: u32) -> Self::B {
        words(a, |w| w << n)
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], codes: Self::B) -> Self::B {
        each!(|i| table[codes[i] as usize])
    }
    #[inline(always)]
    fn codes8(self, codes: Self::B) -> Self::B {
        codes
    }
    #[inline(always)]
    fn dots<const BITS: usize, const Q: usize, const N: usize>(
        self,
        acc: [Self::I; N],
        codes: &[Self::B; Q],
        y: [&[[i8; 4]; Q]; N],
    ) -> [Self::I; N] {
        self.dots_scaled::<BITS, Q, N>(acc, codes, y, [1; 16])
    }
    #[inline(always)]
    fn load_scale(self, x: &[u8; 16], part: usize) -> Self::I {
        self.load_i8(x, part)
    }
    #[inline(always)]
    fn dots_scaled<const BITS: usize, const Q: usize, const N: usize>(
        self,
        mut acc: [Self::I; N],
        codes: &[Self::B; Q],
        y: [&[[i8; 4]; Q]; N],
        scale: Self::I,
    ) -> [Self::I; N] {
        for (acc, y) in acc.iter_mut().zip(y) {
            for (codes, y) in codes.iter().zip(y) {
                for (i, acc) in acc.iter_mut().enumerate() {
                    for j in 0..4 {
                        *acc += scale[i] * codes[4 * i + j] as i32 * y[j] as i32;
                    }
                }
            }
        }
        acc
    }
    #[inline(always)]
    fn scale_pairs(self, a: Self::I, b: Self::I) -> Self::B {
        each!(|i| (if i % 4 < 2 { a } else { b })[i / 4].to_le_bytes()[i % 2])
    }
    #[inline(always)]
    fn dot_pairs(self, acc: Self::I, a: Self::B, y: [i16; 2]) -> Self::I {
        each!(|i| {
            let word = |j: usize| i16::from_le_bytes([a[4 * i + 2 * j], a[4 * i + 2 * j + 1]]);
            acc[i] + word(0) as i32 * y[0] as i32 + word(1) as i32 * y[1] as i32
        })
    }
}

#[inline(always)]
fn words(a: [u8; 64], f: impl Fn(u16) -> u16) -> [u8; 64] {
    let mut out = [0; 64];
    for (out, a) in out.chunks_exact_mut(2).zip(a.chunks_exact(2)) {
        out.copy_from_slice(&f(u16::from_le_bytes([a[0], a[1]])).to_le_bytes());
    }
    out
}
