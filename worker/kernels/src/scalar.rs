//! The scalar twin: arrays of 16, one operation at a time. Its results define numerics v1.

use super::simd::{LANES, Simd};
use half::f16;

/// Plain Rust; needs nothing of the CPU.
#[derive(Clone, Copy)]
pub struct Scalar(());

impl Scalar {
    #[inline(always)]
    pub(super) fn new() -> Scalar {
        Scalar(())
    }
}

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Scalar {
    const ROWS: usize = 1;
    const COLUMNS: usize = 1;
    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [u8; 64];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn from_array(self, x: [f32; LANES]) -> Self::F {
        x
    }
    #[inline(always)]
    fn to_array(self, x: Self::F) -> [f32; LANES] {
        x
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn exp2_of_magic(self, t: Self::F) -> Self::F {
        t.map(|t| f32::from_bits(t.to_bits().wrapping_sub(0x4B40_0000).wrapping_add(127) << 23))
    }
    #[inline(always)]
    fn from_f16(self, x: &[u16; LANES]) -> Self::F {
        x.map(|x| f16::from_bits(x).to_f32_const())
    }
    #[inline(always)]
    fn to_f16(self, x: Self::F) -> [u16; LANES] {
        x.map(|x| f16::from_f32_const(x).to_bits())
    }
    #[inline(always)]
    fn isplat(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn iadd(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn ifrom_i8(self, x: &[i8; LANES]) -> Self::I {
        x.map(i32::from)
    }
    #[inline(always)]
    fn ifrom_u8(self, x: &[u8; LANES]) -> Self::I {
        x.map(i32::from)
    }
    #[inline(always)]
    fn to_float(self, x: Self::I) -> Self::F {
        x.map(|x| x as f32)
    }
    #[inline(always)]
    fn bytes(self, x: &[u8; 64]) -> Self::B {
        *x
    }
    #[inline(always)]
    fn to_bytes(self, x: Self::B) -> [u8; 64] {
        x
    }
    #[inline(always)]
    fn bits_right(self, x: Self::B, by: i32, mask: u8) -> Self::B {
        x.map(|x| x >> by & mask)
    }
    #[inline(always)]
    fn bits_left(self, x: Self::B, by: i32, mask: u8) -> Self::B {
        x.map(|x| x << by & mask)
    }
    #[inline(always)]
    fn either(self, a: Self::B, b: Self::B) -> Self::B {
        std::array::from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn dot4(self, acc: Self::I, w: Self::B, a: i32) -> Self::I {
        let a = a.to_le_bytes().map(|a| i32::from(a as i8));
        std::array::from_fn(|c| {
            acc[c] + (0..4).map(|j| i32::from(w[4 * c + j]) * a[j]).sum::<i32>()
        })
    }
    #[inline(always)]
    fn dot4_small(self, acc: Self::I, w: Self::B, a: i32) -> Self::I {
        self.dot4(acc, w, a)
    }
}
