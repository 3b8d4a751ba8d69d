//! AVX2 with FMA, with or without the 256-bit VNNI dot product: two registers a vector.

use super::simd::{LANES, Simd};
use super::{Kernel, Op};
use std::arch::x86_64::*;

/// Proof that the CPU has avx2, fma and f16c, and avxvnni where `VNNI`.
#[derive(Clone, Copy)]
pub struct Avx2<const VNNI: bool>(());

/// Runs `op` with AVX2, FMA and F16C switched on.
#[inline]
pub fn run_avx2<O: Op>(op: O) -> O::Out {
    assert!(
        Kernel::available().contains(&Kernel::Avx2),
        "this CPU has no AVX2"
    );
    // SAFETY: the assertion above shows that the CPU has every feature that the entry is compiled for.
    unsafe { entry_avx2(op) }
}

/// Runs `op` with AVX2, FMA, F16C and AVX-VNNI switched on.
#[inline]
pub fn run_avx_vnni<O: Op>(op: O) -> O::Out {
    assert!(
        Kernel::available().contains(&Kernel::AvxVnni),
        "this CPU has no AVX-VNNI"
    );
    // SAFETY: the assertion above shows that the CPU has every feature that the entry is compiled for.
    unsafe { entry_avx_vnni(op) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn entry_avx2<O: Op>(op: O) -> O::Out {
    op.run(Avx2::<false>(()))
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn entry_avx_vnni<O: Op>(op: O) -> O::Out {
    op.run(Avx2::<true>(()))
}

/// Two registers of eight lanes.
type F = [__m256; 2];
type I = [__m256i; 2];

// SAFETY of every block below: a value of `Avx2` exists only inside its entry, where the CPU is known to have the
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

/// Sums of products of unsigned and signed bytes, exact for unsigned bytes below 128: the pairs of 16-bit sums stay
/// within 127 * 127 * 2 < 2^15, so `maddubs` never saturates.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn dot4_half_small(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
    // SAFETY: the caller vouches for AVX2.
    unsafe {
        let pairs = _mm256_maddubs_epi16(w, a);
        _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// As [`dot4_half_small`] for any unsigned byte: the top bit is multiplied apart (128 * 127 * 2 < 2^15).
///
/// # Safety
/// The CPU must have AVX2, and avxvnni where `VNNI`.
#[inline(always)]
unsafe fn dot4_half<const VNNI: bool>(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
    // SAFETY: the caller vouches for the features.
    unsafe {
        if VNNI {
            return _mm256_dpbusd_avx_epi32(acc, w, a);
        }
        let top = _mm256_set1_epi8(i8::MIN);
        let acc = dot4_half_small(acc, _mm256_andnot_si256(top, w), a);
        dot4_half_small(acc, _mm256_and_si256(top, w), a)
    }
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    const ROWS: usize = 2;
    const COLUMNS: usize = 1;
    type F = F;
    type I = I;
    type B = I;

    ops! {
        splat(x: f32) -> F = [_mm256_set1_ps(x); 2];
        from_array(x: [f32; LANES]) -> F = std::mem::transmute::<[f32; LANES], F>(x);
        to_array(x: F) -> [f32; LANES] = std::mem::transmute::<F, [f32; LANES]>(x);
        add(a: F, b: F) -> F = [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])];
        sub(a: F, b: F) -> F = [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])];
        mul(a: F, b: F) -> F = [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])];
        div(a: F, b: F) -> F = [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])];
        fma(a: F, b: F, c: F) -> F = [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])];
        max(a: F, b: F) -> F = [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])];
        select_lt(a: F, b: F, x: F, y: F) -> F = [
            _mm256_blendv_ps(y[0], x[0], _mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0])),
            _mm256_blendv_ps(y[1], x[1], _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])),
        ];
        exp2_of_magic(t: F) -> F = {
            let bias = _mm256_set1_epi32(127 - 0x4B40_0000);
            let low = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_castps_si256(t[0]), bias));
            let high = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_castps_si256(t[1]), bias));
            [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
        };
        from_f16(x: &[u16; LANES]) -> F = [
            _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().add(8).cast())),
        ];
        to_f16(x: F) -> [u16; LANES] = std::mem::transmute::<[__m128i; 2], [u16; LANES]>([
            _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[0]),
            _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[1]),
        ]);
        isplat(x: i32) -> I = [_mm256_set1_epi32(x); 2];
        iadd(a: I, b: I) -> I = [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])];
        ifrom_i8(x: &[i8; LANES]) -> I = [
            _mm256_cvtepi8_epi32(_mm_loadl_epi64(x.as_ptr().cast())),
            _mm256_cvtepi8_epi32(_mm_loadl_epi64(x.as_ptr().add(8).cast())),
        ];
        ifrom_u8(x: &[u8; LANES]) -> I = [
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().cast())),
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().add(8).cast())),
        ];
        to_float(x: I) -> F = [_mm256_cvtepi32_ps(x[0]), _mm256_cvtepi32_ps(x[1])];
        bytes(x: &[u8; 64]) -> I = [
            _mm256_loadu_si256(x.as_ptr().cast()),
            _mm256_loadu_si256(x.as_ptr().add(32).cast()),
        ];
        to_bytes(x: I) -> [u8; 64] = std::mem::transmute::<I, [u8; 64]>(x);
        bits_right(x: I, by: i32, mask: u8) -> I = {
            let (by, mask) = (_mm_cvtsi32_si128(by), _mm256_set1_epi8(mask as i8));
            [
                _mm256_and_si256(_mm256_srl_epi16(x[0], by), mask),
                _mm256_and_si256(_mm256_srl_epi16(x[1], by), mask),
            ]
        };
        bits_left(x: I, by: i32, mask: u8) -> I = {
            let (by, mask) = (_mm_cvtsi32_si128(by), _mm256_set1_epi8(mask as i8));
            [
                _mm256_and_si256(_mm256_sll_epi16(x[0], by), mask),
                _mm256_and_si256(_mm256_sll_epi16(x[1], by), mask),
            ]
        };
        either(a: I, b: I) -> I = [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])];
        dot4(acc: I, w: I, a: i32) -> I = {
            let a = _mm256_set1_epi32(a);
            [dot4_half::<VNNI>(acc[0], w[0], a), dot4_half::<VNNI>(acc[1], w[1], a)]
        };
        dot4_small(acc: I, w: I, a: i32) -> I = {
            let a = _mm256_set1_epi32(a);
            if VNNI {
                [dot4_half::<true>(acc[0], w[0], a), dot4_half::<true>(acc[1], w[1], a)]
            } else {
                [dot4_half_small(acc[0], w[0], a), dot4_half_small(acc[1], w[1], a)]
            }
        };
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], index: usize) {
        super::simd::prefetch_line(from, index);
    }
}
