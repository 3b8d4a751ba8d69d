//! NEON, with or without the dot product of 8-bit integers: four registers a vector.

use super::simd::{LANES, Simd};
use super::{Kernel, Op};
use std::arch::aarch64::*;
use std::arch::asm;

/// Proof that the CPU has neon, and dotprod where `DOT`.
#[derive(Clone, Copy)]
pub struct Neon<const DOT: bool>(());

/// Runs `op` with NEON switched on.
#[inline]
pub fn run_neon<O: Op>(op: O) -> O::Out {
    assert!(
        Kernel::available().contains(&Kernel::Neon),
        "this CPU has no NEON"
    );
    // SAFETY: the assertion above shows that the CPU has every feature that the entry is compiled for.
    unsafe { entry_neon(op) }
}

/// Runs `op` with NEON and its dot product switched on.
#[inline]
pub fn run_neon_dotprod<O: Op>(op: O) -> O::Out {
    assert!(
        Kernel::available().contains(&Kernel::NeonDotprod),
        "this CPU has no NEON dot product"
    );
    // SAFETY: the assertion above shows that the CPU has every feature that the entry is compiled for.
    unsafe { entry_neon_dotprod(op) }
}

#[target_feature(enable = "neon")]
fn entry_neon<O: Op>(op: O) -> O::Out {
    op.run(Neon::<false>(()))
}

#[target_feature(enable = "neon,dotprod")]
fn entry_neon_dotprod<O: Op>(op: O) -> O::Out {
    op.run(Neon::<true>(()))
}

/// Four registers of four lanes, or of sixteen bytes.
type F = [float32x4_t; 4];
type I = [int32x4_t; 4];
type B = [uint8x16_t; 4];

/// The body for each of the four registers, `$register` being its number.
macro_rules! each {
    ($register:ident => $body:expr) => {
        [
            {
                const $register: usize = 0;
                $body
            },
            {
                const $register: usize = 1;
                $body
            },
            {
                const $register: usize = 2;
                $body
            },
            {
                const $register: usize = 3;
                $body
            },
        ]
    };
}

// SAFETY of every block below: a value of `Neon` exists only inside its entry, where the CPU is known to have the
// features; the intrinsics have no other requirement, and transmutes are between plain values of equal size.
macro_rules! ops {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: $ty),*) -> $out {
                // SAFETY: see the comment above `macro_rules! ops`.
                unsafe { $body }
            }
        )*
    };
}

/// `sums[c] + Σ_j w[4c + j] * a[j]`, exact. The standard library's intrinsic is not stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sums: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction touches nothing but its three registers, and who calls this has it.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {w:v}.16b, {a:v}.16b",
            sums = inout(vreg) sums,
            w = in(vreg) w,
            a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// `sums[c] + Σ_j w[4c + j] * a[j]`, exact unless a byte of `a` is -128: without [`sdot`] two products are added in 16 bits,
/// and 128 * 127 * 2 < 2^15.
///
/// # Safety
/// The CPU must have NEON, and dotprod where `DOT`.
#[inline(always)]
unsafe fn dot_signed<const DOT: bool>(sums: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: the caller vouches for the features.
    unsafe {
        if DOT {
            return sdot(sums, w, a);
        }
        let low = vmull_s8(vget_low_s8(w), vget_low_s8(a));
        let high = vmull_high_s8(w, a);
        vpadalq_s16(sums, vpaddq_s16(low, high))
    }
}

impl<const DOT: bool> Simd for Neon<DOT> {
    const ROWS: usize = 2;
    const COLUMNS: usize = 1;
    type F = F;
    type I = I;
    type B = B;

    ops! {
        splat(x: f32) -> F = [vdupq_n_f32(x); 4];
        from_array(x: [f32; LANES]) -> F = std::mem::transmute::<[f32; LANES], F>(x);
        to_array(x: F) -> [f32; LANES] = std::mem::transmute::<F, [f32; LANES]>(x);
        add(a: F, b: F) -> F = each!(R => vaddq_f32(a[R], b[R]));
        sub(a: F, b: F) -> F = each!(R => vsubq_f32(a[R], b[R]));
        mul(a: F, b: F) -> F = each!(R => vmulq_f32(a[R], b[R]));
        div(a: F, b: F) -> F = each!(R => vdivq_f32(a[R], b[R]));
        fma(a: F, b: F, c: F) -> F = each!(R => vfmaq_f32(c[R], a[R], b[R]));
        // Not the instruction for maxima: that one prefers NaN, and plus zero to minus zero.
        max(a: F, b: F) -> F = each!(R => vbslq_f32(vcgtq_f32(a[R], b[R]), a[R], b[R]));
        select_lt(a: F, b: F, x: F, y: F) -> F = each!(R => vbslq_f32(vcltq_f32(a[R], b[R]), x[R], y[R]));
        exp2_of_magic(t: F) -> F = {
            let bias = vdupq_n_s32(127 - 0x4B40_0000);
            each!(R => vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vreinterpretq_s32_f32(t[R]), bias))))
        };
        from_f16(x: &[u16; LANES]) -> F = {
            let x = std::mem::transmute::<[u16; LANES], [float16x4_t; 4]>(*x);
            each!(R => vcvt_f32_f16(x[R]))
        };
        to_f16(x: F) -> [u16; LANES] =
            std::mem::transmute::<[float16x4_t; 4], [u16; LANES]>(each!(R => vcvt_f16_f32(x[R])));
        isplat(x: i32) -> I = [vdupq_n_s32(x); 4];
        iadd(a: I, b: I) -> I = each!(R => vaddq_s32(a[R], b[R]));
        ifrom_i8(x: &[i8; LANES]) -> I = {
            let x = std::mem::transmute::<[i8; LANES], int8x16_t>(*x);
            let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
            [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ]
        };
        ifrom_u8(x: &[u8; LANES]) -> I = {
            let x = std::mem::transmute::<[u8; LANES], uint8x16_t>(*x);
            let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_high_u8(x));
            let wide = [
                vmovl_u16(vget_low_u16(low)),
                vmovl_high_u16(low),
                vmovl_u16(vget_low_u16(high)),
                vmovl_high_u16(high),
            ];
            each!(R => vreinterpretq_s32_u32(wide[R]))
        };
        to_float(x: I) -> F = each!(R => vcvtq_f32_s32(x[R]));
        bytes(x: &[u8; 64]) -> B = std::mem::transmute::<[u8; 64], B>(*x);
        to_bytes(x: B) -> [u8; 64] = std::mem::transmute::<B, [u8; 64]>(x);
        // A shift by a negative number is one to the right.
        bits_right(x: B, by: i32, mask: u8) -> B = {
            let (by, mask) = (vdupq_n_s8(-by as i8), vdupq_n_u8(mask));
            each!(R => vandq_u8(vshlq_u8(x[R], by), mask))
        };
        bits_left(x: B, by: i32, mask: u8) -> B = {
            let (by, mask) = (vdupq_n_s8(by as i8), vdupq_n_u8(mask));
            each!(R => vandq_u8(vshlq_u8(x[R], by), mask))
        };
        either(a: B, b: B) -> B = each!(R => vorrq_u8(a[R], b[R]));
        // Products are of signed bytes: with the top bit turned over, a byte is 128 less than it was.
        dot4(acc: I, w: B, a: i32) -> I = {
            let a = vreinterpretq_s8_s32(vdupq_n_s32(a));
            let less = dot_signed::<DOT>(vdupq_n_s32(0), vdupq_n_s8(i8::MIN), a);
            let top = vdupq_n_u8(0x80);
            each!(R => dot_signed::<DOT>(
                vsubq_s32(acc[R], less),
                vreinterpretq_s8_u8(veorq_u8(w[R], top)),
                a
            ))
        };
        dot4_small(acc: I, w: B, a: i32) -> I = {
            let a = vreinterpretq_s8_s32(vdupq_n_s32(a));
            each!(R => dot_signed::<DOT>(acc[R], vreinterpretq_s8_u8(w[R]), a))
        };
        greatest_magnitude_bits(a: F, b: F) -> u32 = {
            let most = each!(R => vmaxq_u32(
                vreinterpretq_u32_f32(vabsq_f32(a[R])),
                vreinterpretq_u32_f32(vabsq_f32(b[R]))
            ));
            vmaxvq_u32(vmaxq_u32(vmaxq_u32(most[0], most[1]), vmaxq_u32(most[2], most[3])))
        };
        low_bytes(x: F) -> [i8; LANES] = {
            let half = each!(R => vmovn_u32(vreinterpretq_u32_f32(x[R])));
            let low = vmovn_u16(vcombine_u16(half[0], half[1]));
            let high = vmovn_u16(vcombine_u16(half[2], half[3]));
            std::mem::transmute::<[uint8x8_t; 2], [i8; LANES]>([low, high])
        };
        sum_of_bytes(x: [i8; LANES]) -> i32 =
            i32::from(vaddlvq_s8(std::mem::transmute::<[i8; LANES], int8x16_t>(x)));
    }

    /// Into the second-level cache.
    #[inline(always)]
    fn prefetch<T>(self, from: &[T], index: usize) {
        if let Some(value) = from.get(index) {
            // SAFETY: the address is one of a live value, and the instruction only hints at it; every such CPU has it.
            unsafe {
                asm!(
                    "prfm pldl2keep, [{value}]",
                    value = in(reg) std::ptr::from_ref(value),
                    options(readonly, nostack, preserves_flags),
                );
            }
        }
    }
}
