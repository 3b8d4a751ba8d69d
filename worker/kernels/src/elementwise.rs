//! Work on one row at a time: norms, rotary positions, gates, sums.

use super::math::{gelu_lanes, silu_lanes};
use super::simd::{LANES, Simd};
use super::{Kernel, Op};

/// The non-linear half of a gated feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// x * sigmoid(x).
    Silu,
    /// The tanh form of GELU.
    Gelu,
}

/// Root-mean-square norm: `out = x / sqrt(mean(x²) + epsilon) * weight`.
pub fn rms_norm(kernel: Kernel, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    debug_assert!(x.len() == weight.len() && x.len() == out.len());
    let scale = norm_scale(kernel, x, epsilon);
    kernel.run(ScaleByWeight {
        x,
        scale,
        weight,
        out,
    });
}

/// [`rms_norm`] with the result in the place of `x`.
#[inline]
pub fn rms_norm_in_place(kernel: Kernel, x: &mut [f32], weight: &[f32], epsilon: f32) {
    let scale = norm_scale(kernel, x, epsilon);
    for (x, weight) in x.iter_mut().zip(weight) {
        *x = *x * scale * weight;
    }
}

fn norm_scale(kernel: Kernel, x: &[f32], epsilon: f32) -> f32 {
    let mean = kernel.run(SumOfSquares(x)) / x.len() as f32;
    1.0 / (mean + epsilon).sqrt()
}

struct SumOfSquares<'a>(&'a [f32]);

impl Op for SumOfSquares<'_> {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sum = s.splat(0.0);
        let mut vectors = self.0.chunks_exact(LANES);
        for x in &mut vectors {
            let x = s.load(x);
            sum = s.fma(x, x, sum);
        }
        let rest = s.load_partial(vectors.remainder(), 0.0);
        s.sum_tree(s.fma(rest, rest, sum))
    }
}

struct ScaleByWeight<'a> {
    x: &'a [f32],
    scale: f32,
    weight: &'a [f32],
    out: &'a mut [f32],
}

impl Op for ScaleByWeight<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for ((out, x), weight) in self.out.iter_mut().zip(self.x).zip(self.weight) {
            *out = x * self.scale * weight;
        }
    }
}

/// `x += y`.
#[inline]
pub fn add(kernel: Kernel, x: &mut [f32], y: &[f32]) {
    struct Add<'a>(&'a mut [f32], &'a [f32]);
    impl Op for Add<'_> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            for (x, y) in self.0.iter_mut().zip(self.1) {
                *x += y;
            }
        }
    }
    kernel.run(Add(x, y));
}

/// `gate = f(gate) * up` for a row that holds the gates first and then as many ups.
pub fn gate_up(kernel: Kernel, row: &mut [f32], gate: Gate) {
    let (gates, ups) = row.split_at_mut(row.len() / 2);
    match gate {
        Gate::Silu => kernel.run(GateUp::<true> { gates, ups }),
        Gate::Gelu => kernel.run(GateUp::<false> { gates, ups }),
    }
}

struct GateUp<'a, const SILU: bool> {
    gates: &'a mut [f32],
    ups: &'a [f32],
}

#[inline(always)]
fn activate<S: Simd, const SILU: bool>(s: S, x: S::F) -> S::F {
    if SILU {
        silu_lanes(s, x)
    } else {
        gelu_lanes(s, x)
    }
}

impl<const SILU: bool> Op for GateUp<'_, SILU> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut gates = self.gates.chunks_exact_mut(LANES);
        let mut ups = self.ups.chunks_exact(LANES);
        for (gate, up) in (&mut gates).zip(&mut ups) {
            s.store(
                s.mul(activate::<S, SILU>(s, s.load(gate)), s.load(up)),
                gate,
            );
        }
        let rest = gates.into_remainder();
        let product = s.mul(
            activate::<S, SILU>(s, s.load_partial(rest, 0.0)),
            s.load_partial(ups.remainder(), 0.0),
        );
        let len = rest.len();
        rest.copy_from_slice(&s.to_array(product)[..len]);
    }
}

/// How the two parts of a rotated pair lie in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// Neighbours: (0, 1), (2, 3), … as Llama's GGUF files have them.
    Interleaved,
    /// Halves: (0, d/2), (1, d/2 + 1), … as GPT-NeoX and most others.
    Halves,
}

/// Rotates the first `2 * cos.len()` values of one head by the angles whose cosines and sines are given.
#[inline]
pub fn rope(kernel: Kernel, head: &mut [f32], cos: &[f32], sin: &[f32], style: RopeStyle) {
    kernel.run(Rope {
        head,
        cos,
        sin,
        style,
    });
}

struct Rope<'a> {
    head: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    style: RopeStyle,
}

impl Op for Rope<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let half = self.cos.len();
        let angles = self.cos.iter().zip(self.sin);
        match self.style {
            RopeStyle::Interleaved => {
                let vectors = self.cos.as_chunks::<LANES>().0;
                let vectors = vectors.iter().zip(self.sin.as_chunks::<LANES>().0);
                let pairs = self.head.as_chunks_mut::<{ 2 * LANES }>().0;
                for (pairs, (cos, sin)) in pairs.iter_mut().zip(vectors) {
                    rotate_pairs(s, pairs, cos, sin);
                }
                let done = half / LANES * LANES;
                let pairs = self.head.as_chunks_mut::<2>().0.iter_mut();
                for (pair, (cos, sin)) in pairs.zip(angles).skip(done) {
                    *pair = rotate(pair[0], pair[1], *cos, *sin);
                }
            }
            RopeStyle::Halves => {
                let (low, high) = self.head[..2 * half].split_at_mut(half);
                for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(angles) {
                    [*low, *high] = rotate(*low, *high, *cos, *sin);
                }
            }
        }
    }
}

/// [`rotate`] on 16 neighbouring pairs.
#[inline(always)]
fn rotate_pairs<S: Simd>(
    s: S,
    pairs: &mut [f32; 2 * LANES],
    cos: &[f32; LANES],
    sin: &[f32; LANES],
) {
    let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        (a[lane], b[lane]) = (pairs[2 * lane], pairs[2 * lane + 1]);
    }
    let (a, b) = (s.from_array(a), s.from_array(b));
    let (cos, sin) = (s.from_array(*cos), s.from_array(*sin));
    // A product with minus one is exact, so that this is the product's negative, zeros included.
    let minus_sin = s.mul(sin, s.splat(-1.0));
    let first = s.to_array(s.fma(a, cos, s.mul(b, minus_sin)));
    let second = s.to_array(s.fma(a, sin, s.mul(b, cos)));
    for lane in 0..LANES {
        (pairs[2 * lane], pairs[2 * lane + 1]) = (first[lane], second[lane]);
    }
}

#[inline(always)]
fn rotate(a: f32, b: f32, cos: f32, sin: f32) -> [f32; 2] {
    [a.mul_add(cos, -(b * sin)), a.mul_add(sin, b * cos)]
}
