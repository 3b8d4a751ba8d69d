//! Activations times packed weights, in the order of numerics v1.
//!
//! For each output column: over the blocks of 32 inputs in ascending order, the integer dot product is exact and
//! enters the f32 sum by one fused multiply-add (and the block's minimum by a second); for float weights there is one
//! fused multiply-add an input, ascending. Lanes are output columns. So a row's results do not depend on the other
//! rows, on the threads or on the instruction set.

#[macro_use]
mod unroll;
mod blocks;
mod floats;
mod scales;
mod tiles;

use std::ops::Range;

use super::Kernel;
use super::activations::ActivationBlock;
use super::pack::{Body, PackedMatrix};
use super::pool::Pool;
use super::shared::SharedSlice;
use super::simd::{LANES, Simd};

/// Rows that go through the matrix together at most, so that their activations stay in the second-level cache.
const PANEL_ROWS: usize = 128;

/// The input rows of a multiplication.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Rows.
    pub count: usize,
    /// `count` rows of at least `k` values, for float weights.
    pub floats: &'a [f32],
    /// Values from one row of `floats` to the next.
    pub stride: usize,
    /// `count` rows of `k / 32` blocks, for quantised weights.
    pub blocks: &'a [ActivationBlock],
}

/// One matrix of a multiplication and where its results go in an output row.
#[derive(Clone, Copy)]
pub struct Linear<'a> {
    pub matrix: &'a PackedMatrix,
    /// One value an output column, added to the sum.
    pub bias: Option<&'a [f32]>,
    /// First column of the output row.
    pub column: usize,
}

/// Whether results replace what the output holds or are added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Write {
    Replace,
    Add,
}

/// `out[row][column ..] = matrix * row + bias` for several matrices over the same rows.
///
/// `out` has rows of `stride` values. Panics if a size does not fit.
pub fn linear(
    kernel: Kernel,
    pool: &mut Pool,
    parts: &[Linear<'_>],
    rows: Rows<'_>,
    out: (&mut [f32], usize),
    write: Write,
) {
    let (out, stride) = out;
    assert!(
        out.len() >= rows.count * stride,
        "output rows of a multiplication"
    );
    for part in parts {
        let PackedMatrix { n, k, .. } = *part.matrix;
        assert!(
            part.column + n <= stride,
            "output columns of a multiplication"
        );
        let enough = if part.matrix.quantised() {
            rows.blocks.len() * 32 >= rows.count * k
        } else {
            k <= rows.stride && rows.floats.len() >= rows.count * rows.stride
        };
        assert!(enough, "input rows of a multiplication");
    }
    let units = Units::new(parts, rows.count, pool.threads());
    let out = SharedSlice::new(out);
    let threads = pool.threads();
    pool.run(units.count(), |unit| {
        let (panel, mut tiles) = units.unit(unit);
        // Most likely this thread's next unit; past the last one there is no tile, and nothing is fetched.
        let (_, mut then) = units.unit(unit + threads);
        for part in parts {
            let own = part.matrix.tile_columns();
            let columns = TileColumns {
                matrix: part.matrix,
                tiles: tiles.start.min(own)..tiles.end.min(own),
                then: then.start,
                rows,
                panel: panel.clone(),
                target: Target {
                    out: &out,
                    stride,
                    column: part.column,
                    write,
                    bias: part.bias,
                    n: part.matrix.n,
                },
            };
            if !columns.tiles.is_empty() {
                columns.compute(kernel);
            }
            tiles = tiles.start.saturating_sub(own)..tiles.end.saturating_sub(own);
            then = then.start.saturating_sub(own)..then.end.saturating_sub(own);
        }
    });
}

/// How the tile columns of all matrices and the panels of rows are cut into units of work.
struct Units {
    tiles: usize,
    tiles_of_unit: usize,
    rows: usize,
    rows_of_panel: usize,
}

impl Units {
    fn new(parts: &[Linear<'_>], rows: usize, threads: usize) -> Units {
        let tiles: usize = parts.iter().map(|part| part.matrix.tile_columns()).sum();
        // Enough units that a thread which is held up leaves the rest to the others, few enough to cost nothing; pairs
        // of columns stay together.
        Units {
            tiles,
            tiles_of_unit: (tiles / (threads * 8)).max(1).next_multiple_of(2),
            rows,
            // Panels of about equal length: every one reads the whole matrix, whatever its rows.
            rows_of_panel: rows.div_ceil(rows.div_ceil(PANEL_ROWS).max(1)).max(1),
        }
    }

    fn units_of_panel(&self) -> usize {
        self.tiles.div_ceil(self.tiles_of_unit)
    }

    fn count(&self) -> usize {
        self.units_of_panel() * self.rows.div_ceil(self.rows_of_panel)
    }

    /// The rows and the tile columns, counted over all matrices, of one unit.
    fn unit(&self, unit: usize) -> (Range<usize>, Range<usize>) {
        let (panel, group) = (unit / self.units_of_panel(), unit % self.units_of_panel());
        let rows = panel * self.rows_of_panel..((panel + 1) * self.rows_of_panel).min(self.rows);
        let tiles = group * self.tiles_of_unit..((group + 1) * self.tiles_of_unit).min(self.tiles);
        (rows, tiles)
    }
}

/// Where one tile column's results go.
#[derive(Clone, Copy)]
struct Target<'t, 'a> {
    out: &'t SharedSlice<'a, f32>,
    stride: usize,
    column: usize,
    write: Write,
    bias: Option<&'t [f32]>,
    n: usize,
}

impl Target<'_, '_> {
    #[inline(always)]
    fn put<S: Simd>(&self, s: S, row: usize, tile: usize, sum: S::F) {
        let first = tile * LANES;
        let width = LANES.min(self.n - first);
        let at = row * self.stride + self.column + first;
        // SAFETY: each (row, tile column of a matrix) belongs to one unit of work, and the matrices' columns do not
        // overlap, so no two live parts do.
        let out = unsafe { self.out.part(at..at + width) };
        let mut sum = sum;
        if let Some(bias) = self.bias {
            sum = s.add(sum, s.load_partial(&bias[first..first + width], 0.0));
        }
        if width == LANES {
            if self.write == Write::Add {
                sum = s.add(s.load(out), sum);
            }
            s.store(sum, out);
        } else {
            for (out, sum) in out.iter_mut().zip(s.to_array(sum)) {
                *out = if self.write == Write::Add {
                    *out + sum
                } else {
                    sum
                };
            }
        }
    }
}

/// Some tile columns of one matrix over one panel of rows.
struct TileColumns<'t, 'a> {
    matrix: &'t PackedMatrix,
    tiles: Range<usize>,
    /// The tile column that is probably multiplied after these.
    then: usize,
    rows: Rows<'t>,
    panel: Range<usize>,
    target: Target<'t, 'a>,
}

impl TileColumns<'_, '_> {
    fn compute(&self, kernel: Kernel) {
        match &self.matrix.body {
            Body::F32(x) => self.floats(kernel, floats::Singles(x)),
            Body::F16(x) => self.floats(kernel, floats::Halved(x)),
            Body::Bf16(x) => self.floats(kernel, floats::Brain(x)),
            Body::Blocks {
                codes,
                scales,
                offset,
            } => self.blocks(kernel, codes, scales, *offset),
        }
    }
}
