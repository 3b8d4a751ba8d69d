//! Rows times a tile column of float weights: one fused multiply-add an input, ascending.

use super::super::pack::Halves;
use super::super::simd::{LANES, Simd};
use super::super::{Kernel, Op};
use super::TileColumns;

/// Reads a matrix's float weights, tile column by tile column.
pub trait TileFloats: Copy {
    /// The weights of one input in one tile column.
    fn read<S: Simd>(self, s: S, input: usize) -> S::F;
}

#[derive(Clone, Copy)]
pub struct Singles<'a>(pub &'a [[f32; LANES]]);

impl TileFloats for Singles<'_> {
    #[inline(always)]
    fn read<S: Simd>(self, s: S, input: usize) -> S::F {
        s.from_array(self.0[input])
    }
}

/// f16.
#[derive(Clone, Copy)]
pub struct Halved<'a>(pub &'a [Halves]);

impl TileFloats for Halved<'_> {
    #[inline(always)]
    fn read<S: Simd>(self, s: S, input: usize) -> S::F {
        s.from_f16(&self.0[input])
    }
}

/// bf16.
#[derive(Clone, Copy)]
pub struct Brain<'a>(pub &'a [Halves]);

impl TileFloats for Brain<'_> {
    #[inline(always)]
    fn read<S: Simd>(self, s: S, input: usize) -> S::F {
        // A bf16 is the upper half of an f32.
        let mut wide = [0.0; LANES];
        for (wide, half) in wide.iter_mut().zip(&self.0[input]) {
            *wide = f32::from_bits(u32::from(*half) << 16);
        }
        s.from_array(wide)
    }
}

struct FloatRows<'c, 't, 'a, W> {
    columns: &'c TileColumns<'t, 'a>,
    weights: W,
}

impl TileColumns<'_, '_> {
    /// Multiplies the panel's rows with float weights.
    pub fn floats<W: TileFloats>(&self, kernel: Kernel, weights: W) {
        kernel.run(FloatRows {
            columns: self,
            weights,
        });
    }
}

impl<W: TileFloats> Op for FloatRows<'_, '_, '_, W> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for tile in self.columns.tiles.clone() {
            by_rows!(S, self.columns.panel, row, |R| self
                .rows::<S, R>(s, tile, row));
        }
    }
}

impl<W: TileFloats> FloatRows<'_, '_, '_, W> {
    #[inline(always)]
    fn rows<S: Simd, const R: usize>(&self, s: S, tile: usize, first: usize) {
        let (k, rows) = (self.columns.matrix.k, &self.columns.rows);
        let mut inputs: [&[f32]; R] = [&[]; R];
        for r in 0..R {
            inputs[r] = &rows.floats[(first + r) * rows.stride..][..k];
        }
        let mut sums = [s.splat(0.0); R];
        for i in 0..k {
            let w = self.weights.read(s, tile * k + i);
            each_row!(R, ROW, {
                sums[ROW] = s.fma(w, s.splat(inputs[ROW][i]), sums[ROW]);
            });
        }
        each_row!(R, ROW, {
            self.columns.target.put(s, first + ROW, tile, sums[ROW]);
        });
    }
}
