//! How the integer sums of a tile become its part of an f32 sum, for each way of scaling.
//!
//! A way of scaling holds its numbers in registers (`Of`), and reads and writes them in the form that all rows of a panel
//! use after the tile was unpacked once.

use super::super::activations::ActivationBlock;
use super::super::pack::Halves;
use super::super::simd::{LANES, Simd};

/// 16 values of an unpacked tile, one a column.
pub type Wide = [f32; LANES];

/// Vectors that an unpacked tile's numbers take at most.
pub const VECTORS: usize = 6;

/// Integer sums of a tile: of the whole in `first`, or of its halves.
pub struct Dots<S: Simd> {
    pub first: S::I,
    pub second: S::I,
}

/// A way of scaling.
pub trait Scaling: Copy {
    /// The numbers of one tile.
    type Of<S: Simd>: Copy;
    /// Whether the codes may have an offset.
    const OFFSET: bool;
    /// Whether the two halves of a tile have scales of their own.
    const HALVES: bool;
    /// `sum` plus the tile's part; `dots` are the dot products, the codes' offset taken off.
    fn add<S: Simd>(s: S, of: Self::Of<S>, x: &ActivationBlock, dots: Dots<S>, sum: S::F) -> S::F;
    fn write<S: Simd>(s: S, of: Self::Of<S>, out: &mut [Wide; VECTORS]);
    fn read<S: Simd>(s: S, wide: &[Wide; VECTORS]) -> Self::Of<S>;
}

/// `d * q`.
#[derive(Clone, Copy)]
pub struct Plain;

impl Scaling for Plain {
    type Of<S: Simd> = S::F;
    const OFFSET: bool = true;
    const HALVES: bool = false;

    #[inline(always)]
    fn add<S: Simd>(s: S, d: S::F, x: &ActivationBlock, dots: Dots<S>, sum: S::F) -> S::F {
        s.fma(s.mul(d, s.splat(x.scale)), s.to_float(dots.first), sum)
    }
    #[inline(always)]
    fn write<S: Simd>(s: S, d: S::F, out: &mut [Wide; VECTORS]) {
        out[0] = s.to_array(d);
    }
    #[inline(always)]
    fn read<S: Simd>(s: S, wide: &[Wide; VECTORS]) -> S::F {
        s.from_array(wide[0])
    }
}

/// `d * q + m`.
#[derive(Clone, Copy)]
pub struct WithMin;

impl Scaling for WithMin {
    type Of<S: Simd> = (S::F, S::F);
    const OFFSET: bool = false;
    const HALVES: bool = false;

    #[inline(always)]
    fn add<S: Simd>(
        s: S,
        (d, m): (S::F, S::F),
        x: &ActivationBlock,
        dots: Dots<S>,
        sum: S::F,
    ) -> S::F {
        let sum = Plain::add(s, d, x, dots, sum);
        s.fma(m, s.splat(x.scaled_sum), sum)
    }
    #[inline(always)]
    fn write<S: Simd>(s: S, (d, m): (S::F, S::F), out: &mut [Wide; VECTORS]) {
        (out[0], out[1]) = (s.to_array(d), s.to_array(m));
    }
    #[inline(always)]
    fn read<S: Simd>(s: S, wide: &[Wide; VECTORS]) -> (S::F, S::F) {
        (s.from_array(wide[0]), s.from_array(wide[1]))
    }
}

/// `d * (scale * q)` with one integer scale a half.
#[derive(Clone, Copy)]
pub struct ByHalves;

/// The numbers of [`ByHalves`].
#[derive(Clone, Copy)]
pub struct HalfScales<F> {
    pub d: F,
    /// Integers.
    pub scale: [F; 2],
}

impl Scaling for ByHalves {
    type Of<S: Simd> = HalfScales<S::F>;
    const OFFSET: bool = true;
    const HALVES: bool = true;

    #[inline(always)]
    fn add<S: Simd>(
        s: S,
        of: HalfScales<S::F>,
        x: &ActivationBlock,
        dots: Dots<S>,
        sum: S::F,
    ) -> S::F {
        // Integers all the way, and exact as f32: a half's dot product is at most 127 * 32 * 16 in magnitude, its scale
        // 128, and both halves together 127 * 32 * 16 * 128 * 2 < 2^24.
        let first = s.mul(of.scale[0], s.to_float(dots.first));
        let dot = s.fma(of.scale[1], s.to_float(dots.second), first);
        s.fma(s.mul(of.d, s.splat(x.scale)), dot, sum)
    }
    #[inline(always)]
    fn write<S: Simd>(s: S, of: HalfScales<S::F>, out: &mut [Wide; VECTORS]) {
        out[0] = s.to_array(of.d);
        (out[1], out[2]) = (s.to_array(of.scale[0]), s.to_array(of.scale[1]));
    }
    #[inline(always)]
    fn read<S: Simd>(s: S, wide: &[Wide; VECTORS]) -> HalfScales<S::F> {
        HalfScales {
            d: s.from_array(wide[0]),
            scale: [s.from_array(wide[1]), s.from_array(wide[2])],
        }
    }
}

/// `d * (scale * q) - dmin * min` with an integer scale and minimum a half.
#[derive(Clone, Copy)]
pub struct ByHalvesWithMin;

/// The numbers of [`ByHalvesWithMin`].
#[derive(Clone, Copy)]
pub struct HalfMins<F> {
    pub scales: HalfScales<F>,
    /// Minus dmin.
    pub dmin: F,
    /// Integers.
    pub min: [F; 2],
}

impl Scaling for ByHalvesWithMin {
    type Of<S: Simd> = HalfMins<S::F>;
    const OFFSET: bool = false;
    const HALVES: bool = true;

    #[inline(always)]
    fn add<S: Simd>(
        s: S,
        of: HalfMins<S::F>,
        x: &ActivationBlock,
        dots: Dots<S>,
        sum: S::F,
    ) -> S::F {
        let sum = ByHalves::add(s, of.scales, x, dots, sum);
        // Exact: a minimum is at most 15, a half's sum of bytes 127 * 16.
        let first = s.mul(of.min[0], s.to_float(s.isplat(x.sums[0])));
        let min = s.fma(of.min[1], s.to_float(s.isplat(x.sums[1])), first);
        s.fma(s.mul(of.dmin, s.splat(x.scale)), min, sum)
    }
    #[inline(always)]
    fn write<S: Simd>(s: S, of: HalfMins<S::F>, out: &mut [Wide; VECTORS]) {
        ByHalves::write(s, of.scales, out);
        out[3] = s.to_array(of.dmin);
        (out[4], out[5]) = (s.to_array(of.min[0]), s.to_array(of.min[1]));
    }
    #[inline(always)]
    fn read<S: Simd>(s: S, wide: &[Wide; VECTORS]) -> HalfMins<S::F> {
        HalfMins {
            scales: ByHalves::read(s, wide),
            dmin: s.from_array(wide[3]),
            min: [s.from_array(wide[4]), s.from_array(wide[5])],
        }
    }
}

/// Reads a packed tile column's numbers.
pub trait PackedScales: Copy {
    type Scaling: Scaling;
    fn read<S: Simd>(self, s: S, tile: usize) -> <Self::Scaling as Scaling>::Of<S>;
}

#[derive(Clone, Copy)]
pub struct PackedPlain<'a>(pub &'a [Halves]);

impl PackedScales for PackedPlain<'_> {
    type Scaling = Plain;

    #[inline(always)]
    fn read<S: Simd>(self, s: S, tile: usize) -> S::F {
        s.from_f16(&self.0[tile])
    }
}

#[derive(Clone, Copy)]
pub struct PackedMin<'a>(pub &'a [Halves], pub &'a [Halves]);

impl PackedScales for PackedMin<'_> {
    type Scaling = WithMin;

    #[inline(always)]
    fn read<S: Simd>(self, s: S, tile: usize) -> (S::F, S::F) {
        (s.from_f16(&self.0[tile]), s.from_f16(&self.1[tile]))
    }
}

/// Tiles of a super-block.
const SUPER: usize = 8;

#[derive(Clone, Copy)]
pub struct PackedSuperMin<'a> {
    pub d: &'a [Halves],
    pub dmin: &'a [Halves],
    pub scale: &'a [[u8; LANES]],
    pub min: &'a [[u8; LANES]],
}

impl PackedScales for PackedSuperMin<'_> {
    type Scaling = WithMin;

    #[inline(always)]
    fn read<S: Simd>(self, s: S, tile: usize) -> (S::F, S::F) {
        // Both products are exact: 11 bits times 6.
        let scale = s.to_float(s.ifrom_u8(&self.scale[tile]));
        let scale = s.mul(s.from_f16(&self.d[tile / SUPER]), scale);
        let min = s.to_float(s.ifrom_u8(&self.min[tile]));
        let min = s.mul(s.from_f16(&self.dmin[tile / SUPER]), min);
        (scale, s.sub(s.splat(0.0), min))
    }
}

#[derive(Clone, Copy)]
pub struct PackedSub<'a> {
    pub d: &'a [Halves],
    pub scale: &'a [[[i8; LANES]; 2]],
}

impl PackedScales for PackedSub<'_> {
    type Scaling = ByHalves;

    #[inline(always)]
    fn read<S: Simd>(self, s: S, tile: usize) -> HalfScales<S::F> {
        let [first, second] = &self.scale[tile];
        HalfScales {
            d: s.from_f16(&self.d[tile / SUPER]),
            scale: [
                s.to_float(s.ifrom_i8(first)),
                s.to_float(s.ifrom_i8(second)),
            ],
        }
    }
}

#[derive(Clone, Copy)]
pub struct PackedSubMin<'a> {
    pub d: &'a [Halves],
    pub dmin: &'a [Halves],
    pub both: &'a [[[u8; LANES]; 2]],
}

impl PackedScales for PackedSubMin<'_> {
    type Scaling = ByHalvesWithMin;

    #[inline(always)]
    fn read<S: Simd>(self, s: S, tile: usize) -> HalfMins<S::F> {
        let (mut scale, mut min) = ([s.splat(0.0); 2], [s.splat(0.0); 2]);
        for half in 0..2 {
            let (mut low, mut high) = ([0; LANES], [0; LANES]);
            for lane in 0..LANES {
                let both = self.both[tile][half][lane];
                (low[lane], high[lane]) = (both & 15, both >> 4);
            }
            scale[half] = s.to_float(s.ifrom_u8(&low));
            min[half] = s.to_float(s.ifrom_u8(&high));
        }
        let d = s.from_f16(&self.d[tile / SUPER]);
        HalfMins {
            scales: HalfScales { d, scale },
            dmin: s.sub(s.splat(0.0), s.from_f16(&self.dmin[tile / SUPER])),
            min,
        }
    }
}
