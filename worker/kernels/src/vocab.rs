//! Reductions over a row of logits, for the sampler.

use super::math::exp_lanes;
use super::{Kernel, LANES, Op, Simd};

/// Index of the greatest value, the lowest one among equals; 0 for an empty row. NaN is never greater.
pub fn arg_max(xs: &[f32]) -> usize {
    first_of(xs, max(xs))
}

/// Index of the first value that equals `wanted`, or 0.
fn first_of(xs: &[f32], wanted: f32) -> usize {
    Kernel::detect().run(FirstOf { xs, wanted })
}

/// As [`arg_max`], in one pass with the check that no value is NaN or infinite; `None` if one is.
pub fn finite_arg_max(xs: &[f32]) -> Option<usize> {
    let greatest = Kernel::detect().run(FiniteMax(xs))?;
    Some(first_of(xs, greatest))
}

/// The greatest value, negative infinity for an empty row; NaN is passed over.
pub fn max(xs: &[f32]) -> f32 {
    Kernel::detect().run(Max(xs))
}

/// Σ exp((x - max) * scale): lane i adds the values at i, i + 16, …; the lanes are added by the fixed tree.
pub fn sum_exp(xs: &[f32], max: f32, scale: f32) -> f32 {
    Kernel::detect().run(SumExp { xs, max, scale })
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

struct FiniteMax<'a>(&'a [f32]);

impl Op for FiniteMax<'_> {
    type Out = Option<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Option<f32> {
        let mut best = [s.splat(f32::NEG_INFINITY); 2];
        // Zero times a value is zero, or NaN where the value is not finite, and a NaN stays.
        let mut zeros = [s.splat(0.0); 2];
        let mut pairs = self.0.chunks_exact(2 * LANES);
        for pair in &mut pairs {
            for half in 0..2 {
                let x = s.load(&pair[half * LANES..][..LANES]);
                best[half] = s.max(x, best[half]);
                zeros[half] = s.fma(x, s.splat(0.0), zeros[half]);
            }
        }
        let mut greatest = s.max_lane(s.max(best[0], best[1]));
        let mut finite = s
            .to_array(s.add(zeros[0], zeros[1]))
            .iter()
            .all(|zero| *zero == 0.0);
        for x in pairs.remainder() {
            finite &= x.is_finite();
            greatest = if *x > greatest { *x } else { greatest };
        }
        finite.then_some(greatest)
    }
}

/// Values that are compared at once.
const SCAN: usize = 256;

struct FirstOf<'a> {
    xs: &'a [f32],
    wanted: f32,
}

impl Op for FirstOf<'_> {
    type Out = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        for (scan, values) in self.xs.chunks(SCAN).enumerate() {
            let mut found = false;
            for x in values {
                found |= *x == self.wanted;
            }
            if found {
                let at = values.iter().position(|x| *x == self.wanted);
                return scan * SCAN + at.unwrap_or(0);
            }
        }
        0
    }
}
