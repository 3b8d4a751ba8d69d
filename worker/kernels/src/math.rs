//! The one exponential of numerics v1, on lanes and on a single value, equal bit for bit.

use super::simd::Simd;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits.
const MAGIC: f32 = 12_582_912.0;
/// ln 2 in two parts, the first with few bits, so that `x - n * ln 2` keeps its precision (Cephes).
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Below this the result would be subnormal; it is 0 by definition.
const SMALLEST: f32 = -87.336_54;
/// Above this the result is infinity.
const LARGEST: f32 = 88.722_84;
/// Minimax polynomial of `(e^r - 1 - r) / r^2` on [-ln 2 / 2, ln 2 / 2] (Cephes `expf`), highest power first.
const POLYNOMIAL: [f32; 6] = [
    1.987_569_2e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_6e-1,
    0.5,
];

/// e^x, to about two units in the last place; 0 below -87.3, infinity above 88.4, NaN for NaN.
#[inline(always)]
pub fn exp_lanes<S: Simd>(s: S, x: S::F) -> S::F {
    let largest = s.splat(LARGEST);
    let clamped = s.select_lt(largest, x, largest, x);
    let t = s.fma(clamped, s.splat(LOG2_E), s.splat(MAGIC));
    let n = s.sub(t, s.splat(MAGIC));
    let r = s.fma(n, s.splat(-LN_2_HIGH), clamped);
    let r = s.fma(n, s.splat(-LN_2_LOW), r);
    let mut p = s.splat(POLYNOMIAL[0]);
    for c in &POLYNOMIAL[1..] {
        p = s.fma(p, r, s.splat(*c));
    }
    let y = s.fma(p, s.mul(r, r), r);
    let y = s.add(y, s.splat(1.0));
    let power = s.exp2_of_magic(t);
    s.select_lt(x, s.splat(SMALLEST), s.splat(0.0), s.mul(y, power))
}

/// [`exp_lanes`] of one value.
#[inline]
pub fn exp(x: f32) -> f32 {
    exp_lanes(super::scalar::Scalar::new(), [x; 16])[0]
}

/// x / (1 + e^-x).
#[inline(always)]
pub fn silu_lanes<S: Simd>(s: S, x: S::F) -> S::F {
    let e = exp_lanes(s, s.sub(s.splat(0.0), x));
    s.div(x, s.add(s.splat(1.0), e))
}

/// The tanh form of GELU: x / (1 + e^(-2u)), u = sqrt(2 / pi) * (x + 0.044715 x^3).
#[inline(always)]
pub fn gelu_lanes<S: Simd>(s: S, x: S::F) -> S::F {
    let cubic = s.fma(s.mul(x, x), s.mul(x, s.splat(0.044_715)), x);
    let e = exp_lanes(s, s.mul(cubic, s.splat(-1.595_769)));
    s.div(x, s.add(s.splat(1.0), e))
}

/// Natural logarithm, by the `libm` crate: the same on every machine.
#[inline]
pub fn ln(x: f32) -> f32 {
    libm::logf(x)
}
