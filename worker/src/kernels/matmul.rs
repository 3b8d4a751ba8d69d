//! Activations times packed weights, in the order of numerics v1.
//!
//! For each output column: over the blocks of 32 inputs in ascending order, the integer dot product is exact and
//! enters the f32 sum by one fused multiply-add (and the block's minimum by a second); for float weights there is one
//! fused multiply-add an input, ascending. Lanes are output columns. So a row's results do not depend on the other
//! rows, on the threads or on the instruction set.

use super::activations::ActivationBlock;
use super::pack::{Body, Codes, Halves, Line, PackedMatrix, Scales};
use super::pool::Pool;
use super::shared::SharedSlice;
use super::simd::{LANES, Simd};
use super::{Kernel, Op};

/// Rows that go through the matrix together, so that their activations stay in the second-level cache.
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
    pool.run(units.count(), |unit| {
        let (panel, tiles) = units.unit(unit);
        for (part, tile) in tiles {
            let target = Target {
                out: &out,
                stride,
                column: part.column,
                write,
                bias: part.bias,
                n: part.matrix.n,
            };
            kernel.run(TileColumn {
                matrix: part.matrix,
                tile,
                rows,
                panel: panel.clone(),
                target,
            });
        }
    });
}

/// How the tile columns of all matrices and the panels of rows are cut into units of work.
struct Units<'p, 'a> {
    parts: &'p [Linear<'a>],
    tiles: usize,
    tiles_of_unit: usize,
    rows: usize,
}

impl<'p, 'a> Units<'p, 'a> {
    fn new(parts: &'p [Linear<'a>], rows: usize, threads: usize) -> Units<'p, 'a> {
        let tiles = parts.iter().map(|part| part.matrix.tile_columns()).sum();
        // Enough units that a thread which is held up leaves the rest to the others, few enough to cost nothing.
        Units {
            parts,
            tiles,
            tiles_of_unit: (tiles / (threads * 8)).max(1),
            rows,
        }
    }

    fn units_of_panel(&self) -> usize {
        self.tiles.div_ceil(self.tiles_of_unit)
    }

    fn count(&self) -> usize {
        self.units_of_panel() * self.rows.div_ceil(PANEL_ROWS)
    }

    fn unit(
        &self,
        unit: usize,
    ) -> (
        std::ops::Range<usize>,
        impl Iterator<Item = (&Linear<'a>, usize)>,
    ) {
        let (panel, group) = (unit / self.units_of_panel(), unit % self.units_of_panel());
        let rows = panel * PANEL_ROWS..((panel + 1) * PANEL_ROWS).min(self.rows);
        let tiles = group * self.tiles_of_unit..((group + 1) * self.tiles_of_unit).min(self.tiles);
        (rows, tiles.map(|tile| self.locate(tile)))
    }

    fn locate(&self, mut tile: usize) -> (&Linear<'a>, usize) {
        for part in self.parts {
            let own = part.matrix.tile_columns();
            if tile < own {
                return (part, tile);
            }
            tile -= own;
        }
        unreachable!("a tile below the sum of all matrices' tiles")
    }
}

/// Where one tile column's results go.
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

/// One tile column of one matrix over one panel of rows.
struct TileColumn<'t, 'a> {
    matrix: &'t PackedMatrix,
    tile: usize,
    rows: Rows<'t>,
    panel: std::ops::Range<usize>,
    target: Target<'t, 'a>,
}

impl Op for TileColumn<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (k, tile) = (self.matrix.k, self.tile);
        match &self.matrix.body {
            Body::F32(x) => self.floats(s, Singles(&x[tile * k..][..k])),
            Body::F16(x) => self.floats(s, HalfFloats(&x[tile * k..][..k])),
            Body::Bf16(x) => self.floats(s, BrainFloats(&x[tile * k..][..k])),
            Body::Blocks {
                codes: Codes::Nibbles(lines),
                scales,
                offset,
            } => {
                self.scaled(s, Nibbles(tile_lines(lines, tile, k, 4)), scales, *offset);
            }
            Body::Blocks {
                codes: Codes::Bytes(lines),
                scales,
                offset,
            } => {
                self.scaled(s, Bytes(tile_lines(lines, tile, k, 8)), scales, *offset);
            }
        }
    }
}

fn tile_lines(lines: &[Line], tile: usize, k: usize, lines_of_tile: usize) -> &[Line] {
    let len = k / 32 * lines_of_tile;
    &lines[tile * len..][..len]
}

/// Reads a tile's codes.
trait TileCodes: Copy {
    /// Whether codes are below 128.
    const SMALL: bool;
    fn unpack<S: Simd>(self, s: S, block: usize) -> [S::B; 8];
}

#[derive(Clone, Copy)]
struct Nibbles<'a>(&'a [Line]);

impl TileCodes for Nibbles<'_> {
    const SMALL: bool = true;

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, block: usize) -> [S::B; 8] {
        let lines = &self.0.as_chunks::<4>().0[block];
        let both = [
            s.bytes(&lines[0].0),
            s.bytes(&lines[1].0),
            s.bytes(&lines[2].0),
            s.bytes(&lines[3].0),
        ];
        [
            s.low_nibbles(both[0]),
            s.low_nibbles(both[1]),
            s.low_nibbles(both[2]),
            s.low_nibbles(both[3]),
            s.high_nibbles(both[0]),
            s.high_nibbles(both[1]),
            s.high_nibbles(both[2]),
            s.high_nibbles(both[3]),
        ]
    }
}

#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [Line]);

impl TileCodes for Bytes<'_> {
    const SMALL: bool = false;

    #[inline(always)]
    fn unpack<S: Simd>(self, s: S, block: usize) -> [S::B; 8] {
        let lines = &self.0.as_chunks::<8>().0[block];
        [
            s.bytes(&lines[0].0),
            s.bytes(&lines[1].0),
            s.bytes(&lines[2].0),
            s.bytes(&lines[3].0),
            s.bytes(&lines[4].0),
            s.bytes(&lines[5].0),
            s.bytes(&lines[6].0),
            s.bytes(&lines[7].0),
        ]
    }
}

/// Reads a tile's scales and turns one row's integer sums into the f32 sum.
trait TileScales: Copy {
    type Of<S: Simd>: Copy;
    fn read<S: Simd>(self, s: S, block: usize) -> Self::Of<S>;
    /// `sum` plus the block's contribution; `dots` are the dot products of the two halves, offset removed.
    fn accumulate<S: Simd>(
        s: S,
        of: Self::Of<S>,
        x: &ActivationBlock,
        dots: Dots<S>,
        sum: S::F,
    ) -> S::F;
    /// Whether the halves of a block have different scales.
    const HALVES: bool;
}

/// Integer sums of a block: of the whole in `first`, or of its halves.
struct Dots<S: Simd> {
    first: S::I,
    second: S::I,
}

#[derive(Clone, Copy)]
struct PlainScales<'a>(&'a [Halves]);

impl TileScales for PlainScales<'_> {
    type Of<S: Simd> = S::F;
    const HALVES: bool = false;

    #[inline(always)]
    fn read<S: Simd>(self, s: S, block: usize) -> S::F {
        s.from_f16(&self.0[block])
    }
    #[inline(always)]
    fn accumulate<S: Simd>(s: S, d: S::F, x: &ActivationBlock, dots: Dots<S>, sum: S::F) -> S::F {
        s.fma(s.mul(d, s.splat(x.scale)), s.to_float(dots.first), sum)
    }
}

#[derive(Clone, Copy)]
struct MinScales<'a>(&'a [Halves], &'a [Halves]);

impl TileScales for MinScales<'_> {
    type Of<S: Simd> = (S::F, S::F);
    const HALVES: bool = false;

    #[inline(always)]
    fn read<S: Simd>(self, s: S, block: usize) -> (S::F, S::F) {
        (s.from_f16(&self.0[block]), s.from_f16(&self.1[block]))
    }
    #[inline(always)]
    fn accumulate<S: Simd>(
        s: S,
        (d, m): (S::F, S::F),
        x: &ActivationBlock,
        dots: Dots<S>,
        sum: S::F,
    ) -> S::F {
        let sum = s.fma(s.mul(d, s.splat(x.scale)), s.to_float(dots.first), sum);
        s.fma(m, s.splat(x.scaled_sum), sum)
    }
}

#[derive(Clone, Copy)]
struct SuperMinScales<'a> {
    d: &'a [Halves],
    dmin: &'a [Halves],
    scale: &'a [[u8; LANES]],
    min: &'a [[u8; LANES]],
}

impl TileScales for SuperMinScales<'_> {
    type Of<S: Simd> = (S::F, S::F);
    const HALVES: bool = false;

    #[inline(always)]
    fn read<S: Simd>(self, s: S, block: usize) -> (S::F, S::F) {
        // Both products are exact: 11 bits times 6.
        let scale = s.mul(
            s.from_f16(&self.d[block / 8]),
            s.to_float(s.ifrom_u8(&self.scale[block])),
        );
        let min = s.mul(
            s.from_f16(&self.dmin[block / 8]),
            s.to_float(s.ifrom_u8(&self.min[block])),
        );
        (scale, s.sub(s.splat(0.0), min))
    }
    #[inline(always)]
    fn accumulate<S: Simd>(
        s: S,
        of: (S::F, S::F),
        x: &ActivationBlock,
        dots: Dots<S>,
        sum: S::F,
    ) -> S::F {
        MinScales::accumulate(s, of, x, dots, sum)
    }
}

#[derive(Clone, Copy)]
struct SubScales<'a> {
    d: &'a [Halves],
    scale: &'a [[[i8; LANES]; 2]],
}

impl TileScales for SubScales<'_> {
    type Of<S: Simd> = (S::F, [S::I; 2]);
    const HALVES: bool = true;

    #[inline(always)]
    fn read<S: Simd>(self, s: S, block: usize) -> (S::F, [S::I; 2]) {
        let [first, second] = &self.scale[block];
        (
            s.from_f16(&self.d[block / 8]),
            [s.ifrom_i8(first), s.ifrom_i8(second)],
        )
    }
    #[inline(always)]
    fn accumulate<S: Simd>(
        s: S,
        of: Self::Of<S>,
        x: &ActivationBlock,
        dots: Dots<S>,
        sum: S::F,
    ) -> S::F {
        let (d, [first, second]) = of;
        // At most 128 * 127 * 16 * 63 * 2 < 2^25 in magnitude, and for the types at hand below 2^24: exact as f32.
        let dot = s.iadd(s.imul(first, dots.first), s.imul(second, dots.second));
        s.fma(s.mul(d, s.splat(x.scale)), s.to_float(dot), sum)
    }
}

#[derive(Clone, Copy)]
struct SubMinScales<'a> {
    sub: SubScales<'a>,
    dmin: &'a [Halves],
    min: &'a [[[u8; LANES]; 2]],
}

impl TileScales for SubMinScales<'_> {
    type Of<S: Simd> = ((S::F, [S::I; 2]), S::F, [S::I; 2]);
    const HALVES: bool = true;

    #[inline(always)]
    fn read<S: Simd>(self, s: S, block: usize) -> Self::Of<S> {
        let [first, second] = &self.min[block];
        let dmin = s.sub(s.splat(0.0), s.from_f16(&self.dmin[block / 8]));
        (
            self.sub.read(s, block),
            dmin,
            [s.ifrom_u8(first), s.ifrom_u8(second)],
        )
    }
    #[inline(always)]
    fn accumulate<S: Simd>(
        s: S,
        of: Self::Of<S>,
        x: &ActivationBlock,
        dots: Dots<S>,
        sum: S::F,
    ) -> S::F {
        let (sub, dmin, [first, second]) = of;
        let sum = SubScales::accumulate(s, sub, x, dots, sum);
        let min = s.iadd(
            s.imul(first, s.isplat(x.sums[0])),
            s.imul(second, s.isplat(x.sums[1])),
        );
        s.fma(s.mul(dmin, s.splat(x.scale)), s.to_float(min), sum)
    }
}

/// Calls `$self.$rows::<_, …, R>` for the panel's rows, eight at a time, then four, two and one.
macro_rules! by_rows {
    ($panel:expr, $row:ident, |$count:ident| $body:expr) => {{
        let mut $row = $panel.start;
        while $row + 8 <= $panel.end {
            const $count: usize = 8;
            $body;
            $row += 8;
        }
        if $row + 4 <= $panel.end {
            const $count: usize = 4;
            $body;
            $row += 4;
        }
        if $row + 2 <= $panel.end {
            const $count: usize = 2;
            $body;
            $row += 2;
        }
        if $row < $panel.end {
            const $count: usize = 1;
            $body;
        }
    }};
}

impl TileColumn<'_, '_> {
    #[inline(always)]
    fn scaled<S: Simd, C: TileCodes>(&self, s: S, codes: C, scales: &Scales, offset: i32) {
        let blocks = self.matrix.k / 32;
        let (small, large) = (self.tile * blocks, self.tile * blocks / 8);
        let plan = Plan {
            codes,
            offset,
            blocks,
        };
        match scales {
            Scales::Plain { d } => self.blocks(s, plan, PlainScales(&d[small..])),
            Scales::Min { d, m } => self.blocks(s, plan, MinScales(&d[small..], &m[small..])),
            Scales::SuperMin {
                d,
                dmin,
                scale,
                min,
            } => {
                let (d, dmin) = (&d[large..], &dmin[large..]);
                self.blocks(
                    s,
                    plan,
                    SuperMinScales {
                        d,
                        dmin,
                        scale: &scale[small..],
                        min: &min[small..],
                    },
                );
            }
            Scales::Sub { d, scale } => {
                self.blocks(
                    s,
                    plan,
                    SubScales {
                        d: &d[large..],
                        scale: &scale[small..],
                    },
                );
            }
            Scales::SubMin {
                d,
                dmin,
                scale,
                min,
            } => {
                let sub = SubScales {
                    d: &d[large..],
                    scale: &scale[small..],
                };
                self.blocks(
                    s,
                    plan,
                    SubMinScales {
                        sub,
                        dmin: &dmin[large..],
                        min: &min[small..],
                    },
                );
            }
        }
    }

    #[inline(always)]
    fn blocks<S: Simd, C: TileCodes, Z: TileScales>(&self, s: S, plan: Plan<C>, scales: Z) {
        by_rows!(self.panel, row, |R| self
            .block_rows::<S, C, Z, R>(s, plan, scales, row));
    }

    /// `R` rows from `first` on: their sums stay in registers while the tile's codes are read once.
    #[inline(always)]
    fn block_rows<S: Simd, C: TileCodes, Z: TileScales, const R: usize>(
        &self,
        s: S,
        plan: Plan<C>,
        scales: Z,
        first: usize,
    ) {
        let mut rows: [&[ActivationBlock]; R] = [&[]; R];
        for r in 0..R {
            rows[r] = &self.rows.blocks[(first + r) * plan.blocks..][..plan.blocks];
        }
        let mut sums = [s.splat(0.0); R];
        for block in 0..plan.blocks {
            let codes = plan.codes.unpack(s, block);
            let of = scales.read(s, block);
            for r in 0..R {
                let x = &rows[r][block];
                let dots = dot_block::<S, C, Z>(s, &codes, x, plan.offset);
                sums[r] = Z::accumulate(s, of, x, dots, sums[r]);
            }
        }
        for r in 0..R {
            self.target.put(s, first + r, self.tile, sums[r]);
        }
    }

    #[inline(always)]
    fn floats<S: Simd, W: TileFloats>(&self, s: S, weights: W) {
        by_rows!(self.panel, row, |R| self
            .float_rows::<S, W, R>(s, weights, row));
    }

    #[inline(always)]
    fn float_rows<S: Simd, W: TileFloats, const R: usize>(&self, s: S, weights: W, first: usize) {
        let k = self.matrix.k;
        let mut rows: [&[f32]; R] = [&[]; R];
        for r in 0..R {
            rows[r] = &self.rows.floats[(first + r) * self.rows.stride..][..k];
        }
        let mut sums = [s.splat(0.0); R];
        for i in 0..k {
            let w = weights.read(s, i);
            for r in 0..R {
                sums[r] = s.fma(w, s.splat(rows[r][i]), sums[r]);
            }
        }
        for r in 0..R {
            self.target.put(s, first + r, self.tile, sums[r]);
        }
    }
}

/// Reads a tile column's float weights.
trait TileFloats: Copy {
    fn read<S: Simd>(self, s: S, input: usize) -> S::F;
}

#[derive(Clone, Copy)]
struct Singles<'a>(&'a [[f32; LANES]]);

impl TileFloats for Singles<'_> {
    #[inline(always)]
    fn read<S: Simd>(self, s: S, input: usize) -> S::F {
        s.from_array(self.0[input])
    }
}

#[derive(Clone, Copy)]
struct HalfFloats<'a>(&'a [Halves]);

impl TileFloats for HalfFloats<'_> {
    #[inline(always)]
    fn read<S: Simd>(self, s: S, input: usize) -> S::F {
        s.from_f16(&self.0[input])
    }
}

#[derive(Clone, Copy)]
struct BrainFloats<'a>(&'a [Halves]);

impl TileFloats for BrainFloats<'_> {
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

#[derive(Clone, Copy)]
struct Plan<C> {
    codes: C,
    offset: i32,
    blocks: usize,
}

#[inline(always)]
fn dot<S: Simd, C: TileCodes>(s: S, acc: S::I, codes: S::B, quad: i32) -> S::I {
    if C::SMALL {
        s.dot4_small(acc, codes, quad)
    } else {
        s.dot4(acc, codes, quad)
    }
}

#[inline(always)]
fn dot_block<S: Simd, C: TileCodes, Z: TileScales>(
    s: S,
    codes: &[S::B; 8],
    x: &ActivationBlock,
    offset: i32,
) -> Dots<S> {
    if Z::HALVES {
        let mut first = s.isplat(-offset * x.sums[0]);
        let mut second = s.isplat(-offset * x.sums[1]);
        for g in 0..4 {
            first = dot::<S, C>(s, first, codes[g], x.quads[g]);
            second = dot::<S, C>(s, second, codes[g + 4], x.quads[g + 4]);
        }
        Dots { first, second }
    } else {
        let mut first = s.isplat(-offset * (x.sums[0] + x.sums[1]));
        for g in 0..8 {
            first = dot::<S, C>(s, first, codes[g], x.quads[g]);
        }
        Dots {
            first,
            second: first,
        }
    }
}
