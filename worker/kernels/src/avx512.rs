//! AVX-512 with VNNI: one register a vector.

use super::Op;
use super::simd::{LANES, Simd};
use std::arch::x86_64::*;

/// Proof that the CPU has avx512f, bw, dq, vl and vnni.
#[derive(Clone, Copy)]
pub struct Avx512(());

/// Runs `op` with the AVX-512 instructions switched on.
#[inline]
pub fn run<O: Op>(op: O) -> O::Out {
    assert!(
        super::Kernel::available().contains(&super::Kernel::Avx512Vnni),
        "this CPU has no AVX-512 VNNI"
    );
    // SAFETY: the assertion above shows that the CPU has every feature that `entry` is compiled for.
    unsafe { entry(op) }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn entry<O: Op>(op: O) -> O::Out {
    op.run(Avx512(()))
}

// SAFETY of every block below: a value of `Avx512` exists only inside `entry`, where the CPU is known to have the
// features; the intrinsics have no other requirement, and transmutes are between plain 64-byte values.
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

impl Simd for Avx512 {
    // Twelve sums of two columns keep both multipliers busy, whose results take five cycles; with the sums in f32 they
    // leave eight of the 32 registers.
    const ROWS: usize = 6;
    const COLUMNS: usize = 2;
    type F = __m512;
    type I = __m512i;
    type B = __m512i;

    ops! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        from_array(x: [f32; LANES]) -> __m512 = std::mem::transmute::<[f32; LANES], __m512>(x);
        to_array(x: __m512) -> [f32; LANES] = std::mem::transmute::<__m512, [f32; LANES]>(x);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        select_lt(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 =
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x);
        exp2_of_magic(t: __m512) -> __m512 = _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
            _mm512_castps_si512(t),
            _mm512_set1_epi32(127 - 0x4B40_0000),
        )));
        from_f16(x: &[u16; LANES]) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast()));
        to_f16(x: __m512) -> [u16; LANES] = std::mem::transmute::<__m256i, [u16; LANES]>(
            _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
        );
        isplat(x: i32) -> __m512i = _mm512_set1_epi32(x);
        iadd(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        ifrom_i8(x: &[i8; LANES]) -> __m512i = _mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()));
        ifrom_u8(x: &[u8; LANES]) -> __m512i = _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()));
        to_float(x: __m512i) -> __m512 = _mm512_cvtepi32_ps(x);
        bytes(x: &[u8; 64]) -> __m512i = _mm512_loadu_si512(x.as_ptr().cast());
        to_bytes(x: __m512i) -> [u8; 64] = std::mem::transmute::<__m512i, [u8; 64]>(x);
        bits_right(x: __m512i, by: i32, mask: u8) -> __m512i = _mm512_and_si512(
            _mm512_srl_epi16(x, _mm_cvtsi32_si128(by)),
            _mm512_set1_epi8(mask as i8),
        );
        bits_left(x: __m512i, by: i32, mask: u8) -> __m512i = _mm512_and_si512(
            _mm512_sll_epi16(x, _mm_cvtsi32_si128(by)),
            _mm512_set1_epi8(mask as i8),
        );
        greatest_magnitude_bits(a: __m512, b: __m512) -> u32 = {
            let magnitude = _mm512_set1_epi32(i32::MAX);
            let a = _mm512_and_si512(_mm512_castps_si512(a), magnitude);
            let b = _mm512_and_si512(_mm512_castps_si512(b), magnitude);
            _mm512_reduce_max_epu32(_mm512_max_epu32(a, b))
        };
        low_bytes(x: __m512) -> [i8; LANES] =
            std::mem::transmute::<__m128i, [i8; LANES]>(_mm512_cvtepi32_epi8(_mm512_castps_si512(x)));
        sum_of_bytes(x: [i8; LANES]) -> i32 = {
            // Moved up by 128 they are unsigned, and their absolute differences from zero are summed in two halves.
            let x = _mm_xor_si128(std::mem::transmute::<[i8; LANES], __m128i>(x), _mm_set1_epi8(i8::MIN));
            let halves = _mm_sad_epu8(x, _mm_setzero_si128());
            _mm_cvtsi128_si32(halves) + _mm_extract_epi32::<2>(halves) - 128 * LANES as i32
        };
        either(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        dot4(acc: __m512i, w: __m512i, a: i32) -> __m512i = _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(a));
        dot4_small(acc: __m512i, w: __m512i, a: i32) -> __m512i = _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(a));
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], index: usize) {
        super::simd::prefetch_line(from, index);
    }
}
