//! Rows times a tile column of float weights: one fused multiply-add an input, ascending.

use super::super::pack::Halves;
use super::super::simd::{LANES, Simd};
use super::super::{Kernel, Op};
use super::TileColumns;
use super::tiles::COLUMNS;

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
        let (panel, mut tile) = (&self.columns.panel, self.columns.tiles.start);
        while S::COLUMNS == COLUMNS && tile + COLUMNS <= self.columns.tiles.end {
            // Float sums take half the registers that integer ones do.
            by_rows!(2 * S::ROWS, panel, row, |R| self
                .rows::<S, R, COLUMNS>(s, tile, row));
            tile += COLUMNS;
        }
        while tile < self.columns.tiles.end {
            by_rows!(2 * S::ROWS, panel, row, |R| self
                .rows::<S, R, 1>(s, tile, row));
            tile += 1;
        }
    }
}

impl<W: TileFloats> FloatRows<'_, '_, '_, W> {
    /// `R` rows from `first` on times `N` tile columns from `tile` on.
    #[inline(always)]
    fn rows<S: Simd, const R: usize, const N: usize>(&self, s: S, tile: usize, first: usize) {
        let (k, rows) = (self.columns.matrix.k, &self.columns.rows);
        let mut inputs: [&[f32]; R] = [&[]; R];
        for r in 0..R {
            inputs[r] = &rows.floats[(first + r) * rows.stride..][..k];
        }
        let mut sums = [[s.splat(0.0); N]; R];
        for i in 0..k {
            let mut w = [s.splat(0.0); N];
            each_column!(N, COLUMN, {
                w[COLUMN] = self.weights.read(s, (tile + COLUMN) * k + i);
            });
            each_row!(R, ROW, {
                let x = s.splat(inputs[ROW][i]);
                each_column!(N, COLUMN, {
                    sums[ROW][COLUMN] = s.fma(w[COLUMN], x, sums[ROW][COLUMN]);
                });
            });
        }
        each_row!(R, ROW, {
            each_column!(N, COLUMN, {
                let target = &self.columns.target;
                target.put(s, first + ROW, tile + COLUMN, sums[ROW][COLUMN]);
            });
        });
    }
}
