//! Reductions over a row of logits, for the sampler.

use super::math::exp_lanes;
use super::{Kernel, LANES, Op, Simd};

/// Index of the greatest value, the lowest one among equals; 0 for an empty row. NaN is never greater.
pub fn arg_max(xs: &[f32]) -> usize {
    let greatest = max(xs);
    xs.iter().position(|x| *x == greatest).unwrap_or(0)
}

/// The greatest value, negative infinity for an empty row; NaN is passed over.
pub fn max(xs: &[f32]) -> f32 {
    Kernel::detect().run(Max(xs))
}

/// Σ exp((x - max) * scale): lane i adds the values at i, i + 16, …; the lanes are added by the fixed tree.
pub fn sum_exp(xs: &[f32], max: f32, scale: f32) -> f32 {
    Kernel::detect().run(SumExp { xs, max, scale })
}

/// Whether no value is NaN or infinite.
pub fn all_finite(xs: &[f32]) -> bool {
    Kernel::detect().run(AllFinite(xs))
}

struct Max<'a>(&'a [f32]);

impl Op for Max<'_> {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut best = s.splat(f32::NEG_INFINITY);
        let mut vectors = self.0.chunks_exact(LANES);
        for x in &mut vectors {
            // The new value comes first: where it is NaN the second operand, the best so far, stays.
            best = s.max(s.load(x), best);
        }
        best = s.max(s.load_partial(vectors.remainder(), f32::NEG_INFINITY), best);
        s.max_lane(best)
    }
}

struct SumExp<'a> {
    xs: &'a [f32],
    max: f32,
    scale: f32,
}

impl Op for SumExp<'_> {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (max, scale) = (s.splat(self.max), s.splat(self.scale));
        let mut sum = s.splat(0.0);
        let mut vectors = self.xs.chunks_exact(LANES);
        for x in &mut vectors {
            sum = s.add(sum, exp_lanes(s, s.mul(s.sub(s.load(x), max), scale)));
        }
        let rest = vectors.remainder();
        if !rest.is_empty() {
            let mut last = s.to_array(exp_lanes(
                s,
                s.mul(s.sub(s.load_partial(rest, 0.0), max), scale),
            ));
            last[rest.len()..].fill(0.0);
            sum = s.add(sum, s.from_array(last));
        }
        s.sum_tree(sum)
    }
}

struct AllFinite<'a>(&'a [f32]);

impl Op for AllFinite<'_> {
    type Out = bool;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> bool {
        self.0.iter().fold(true, |finite, x| finite & x.is_finite())
    }
}
