//! Rows of quantised activations times a tile column of quantised weights.

use std::cell::RefCell;
use std::ops::Range;

use super::super::activations::{ActivationBlock, Offset};
use super::super::pack::{Bits, Codes, Scales};
use super::super::simd::{LANES, Simd};
use super::super::{Kernel, Op};
use super::scales::{
    Dots, PackedMin, PackedPlain, PackedScales, PackedSub, PackedSubMin, PackedSuperMin, Scaling,
};
use super::tiles::{CHUNK, COLUMNS, Direct, Packed, PackedCodes, Place, Room, Tiles};
use super::{PANEL_ROWS, TileColumns};

/// What a thread needs besides the registers.
struct Scratch {
    room: Room,
    /// The panel's sums so far, for each row those of all columns.
    sums: Vec<[[f32; LANES]; COLUMNS]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        room: Room::new(),
        sums: vec![[[0.0; LANES]; COLUMNS]; PANEL_ROWS],
    });
}

impl TileColumns<'_, '_> {
    /// Multiplies the panel's rows with weights of integer codes.
    pub fn blocks(&self, kernel: Kernel, codes: &Codes, scales: &Scales, offset: i32) {
        let lines = &codes.lines;
        let run = Run {
            columns: self,
            kernel,
            offset,
        };
        match (scales, codes.bits) {
            (Scales::Plain { d }, bits) => {
                let scales = PackedPlain(d);
                match bits {
                    Bits::Four => run.with(Packed::<4>::new(lines), scales),
                    Bits::Five => run.with(Packed::<5>::new(lines), scales),
                    Bits::Eight => run.with(Packed::<8>::new(lines), scales),
                    _ => unreachable!("no block type has {bits:?} bits and plain scales"),
                }
            }
            (Scales::Min { d, m }, bits) => {
                let scales = PackedMin(d, m);
                match bits {
                    Bits::Four => run.with(Packed::<4>::new(lines), scales),
                    Bits::Five => run.with(Packed::<5>::new(lines), scales),
                    _ => unreachable!("no block type has {bits:?} bits and a minimum"),
                }
            }
            (
                Scales::SuperMin {
                    d,
                    dmin,
                    scale,
                    min,
                },
                bits,
            ) => {
                let scales = PackedSuperMin {
                    d,
                    dmin,
                    scale,
                    min,
                };
                match bits {
                    Bits::Four => run.with(Packed::<4>::new(lines), scales),
                    Bits::Five => run.with(Packed::<5>::new(lines), scales),
                    _ => unreachable!("no super-block has {bits:?} bits and minimums"),
                }
            }
            (Scales::Sub { d, scale }, bits) => {
                let scales = PackedSub { d, scale };
                match bits {
                    Bits::Three => run.with(Packed::<3>::new(lines), scales),
                    Bits::Six => run.with(Packed::<6>::new(lines), scales),
                    _ => unreachable!("no super-block has {bits:?} bits and halves"),
                }
            }
            (Scales::SubMin { d, dmin, both }, _) => {
                let scales = PackedSubMin { d, dmin, both };
                run.with(Packed::<2>::new(lines), scales);
            }
        }
    }
}

/// The columns, before it is known what their tiles are read from.
#[derive(Clone, Copy)]
struct Run<'c, 't, 'a> {
    columns: &'c TileColumns<'t, 'a>,
    kernel: Kernel,
    offset: i32,
}

impl Run<'_, '_, '_> {
    fn with<C: PackedCodes, Z: PackedScales>(self, codes: C, scales: Z) {
        SCRATCH.with_borrow_mut(|scratch| {
            self.kernel.run(Product {
                columns: self.columns,
                offset: Offset::of(self.offset),
                half_offset: self.offset,
                codes,
                scales,
                scratch,
            });
        });
    }
}

struct Product<'c, 't, 'a, C, Z> {
    columns: &'c TileColumns<'t, 'a>,
    offset: Offset,
    half_offset: i32,
    codes: C,
    scales: Z,
    scratch: &'c mut Scratch,
}

impl<C: PackedCodes, Z: PackedScales> Op for Product<'_, '_, '_, C, Z> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut column = self.columns.tiles.start;
        while S::COLUMNS == COLUMNS && column + COLUMNS <= self.columns.tiles.end {
            self.columns_from::<S, COLUMNS>(s, column);
            column += COLUMNS;
        }
        while column < self.columns.tiles.end {
            self.columns_from::<S, 1>(s, column);
            column += 1;
        }
    }
}

impl<C: PackedCodes, Z: PackedScales> Product<'_, '_, '_, C, Z> {
    /// All rows of the panel times `N` columns from `first` on, chunk by chunk of the inputs.
    #[inline(always)]
    fn columns_from<S: Simd, const N: usize>(&mut self, s: S, first: usize) {
        let tiles = self.columns.matrix.k / 32;
        let direct = Direct {
            codes: self.codes,
            scales: self.scales,
            first,
            tiles,
        };
        let mut pass = Pass {
            columns: self.columns,
            first,
            tiles,
            offset: self.offset,
            half_offset: self.half_offset,
            sums: &mut self.scratch.sums,
        };
        let panel = self.columns.panel.clone();
        if panel.len() == 1 {
            return pass.rows::<S, _, 1, N>(s, direct, panel.start, 0..tiles);
        }
        // Chunks of about equal length.
        let chunk_len = tiles.div_ceil(tiles.div_ceil(CHUNK).max(1)).max(1);
        for start in (0..tiles).step_by(chunk_len) {
            let chunk = start..(start + chunk_len).min(tiles);
            let next = if chunk.end < tiles {
                (first, chunk.end)
            } else if first + N < self.columns.tiles.end {
                (first + N, 0)
            } else {
                (self.columns.then, 0)
            };
            let room = &mut self.scratch.room;
            room.fill(s, direct, (N, &chunk));
            let mut unpacked = room.unpacked::<C, Z::Scaling>(start, self.codes);
            let mut fetched = 0;
            by_rows!(S::ROWS, panel, row, |R| {
                // One column's next chunk with each group of rows: all at once would wait for one another. The last group
                // takes what is left.
                for column in 0..N {
                    let now = column == fetched || (column > fetched && row + R == panel.end);
                    let tile = (next.0 + column) * tiles + next.1;
                    unpacked.ahead[column] = now.then_some(tile);
                }
                fetched += 1;
                pass.rows::<S, _, R, N>(s, unpacked, row, chunk.clone());
            });
        }
    }
}

/// The rows of a panel times a few columns.
struct Pass<'c, 't, 'a> {
    columns: &'c TileColumns<'t, 'a>,
    /// The first of the columns.
    first: usize,
    /// Tiles of a column.
    tiles: usize,
    offset: Offset,
    half_offset: i32,
    sums: &'c mut [[[f32; LANES]; COLUMNS]],
}

impl Pass<'_, '_, '_> {
    /// `R` rows from `row` on times a chunk of `N` columns: the sums stay in registers, a tile's codes are read once for
    /// all rows, and a row's activations once for all columns.
    #[inline(always)]
    fn rows<S: Simd, T: Tiles, const R: usize, const N: usize>(
        &mut self,
        s: S,
        tiles: T,
        row: usize,
        chunk: Range<usize>,
    ) {
        let blocks = &self.columns.rows.blocks[row * self.tiles..][..R * self.tiles];
        assert!(chunk.end <= self.tiles, "a chunk of the columns' tiles");
        let kept = row - self.columns.panel.start;
        let mut sums = [[s.splat(0.0); N]; R];
        if chunk.start > 0 {
            each_row!(R, ROW, {
                each_column!(N, COLUMN, {
                    sums[ROW][COLUMN] = s.from_array(self.sums[kept + ROW][COLUMN]);
                });
            });
        }
        for tile in chunk.clone() {
            let at = |column| Place { column, tile };
            each_column!(N, COLUMN, {
                tiles.soon(s, at(COLUMN));
            });
            let mut x = [&blocks[0]; R];
            let mut dots = [[[s.isplat(0); 2]; N]; R];
            each_row!(R, ROW, {
                // SAFETY: `blocks` has `self.tiles` entries for each of the `R` rows, and `tile` is below that.
                x[ROW] = unsafe { blocks.get_unchecked(ROW * self.tiles + tile) };
                dots[ROW] = [self.start::<S, T>(s, x[ROW]); N];
            });
            let mut codes = [tiles.codes(s, at(0)); N];
            each_column!(N, COLUMN, {
                codes[COLUMN] = tiles.codes(s, at(COLUMN));
            });
            each_group!(G, {
                let half = if T::Scaling::HALVES { G / 4 } else { 0 };
                let mut group = [s.bytes(&[0; 64]); N];
                each_column!(N, COLUMN, {
                    group[COLUMN] = T::group(s, codes[COLUMN], G);
                });
                each_row!(R, ROW, {
                    let quad = x[ROW].quads[G];
                    each_column!(N, COLUMN, {
                        let sum = &mut dots[ROW][COLUMN][half];
                        *sum = dot::<S, T>(s, *sum, group[COLUMN], quad);
                    });
                });
            });
            each_column!(N, COLUMN, {
                let scales = tiles.scales(s, at(COLUMN));
                each_row!(R, ROW, {
                    let [first, second] = dots[ROW][COLUMN];
                    let dots = Dots { first, second };
                    let sum = &mut sums[ROW][COLUMN];
                    *sum = T::Scaling::add(s, scales, x[ROW], dots, *sum);
                });
            });
        }
        each_row!(R, ROW, {
            each_column!(N, COLUMN, {
                let sum = sums[ROW][COLUMN];
                if chunk.end == self.tiles {
                    let target = &self.columns.target;
                    target.put(s, row + ROW, self.first + COLUMN, sum);
                } else {
                    self.sums[kept + ROW][COLUMN] = s.to_array(sum);
                }
            });
        });
    }

    /// What the dot products start from: minus the codes' offset times the sum of the activations.
    #[inline(always)]
    fn start<S: Simd, T: Tiles>(&self, s: S, x: &ActivationBlock) -> [S::I; 2] {
        if !T::Scaling::OFFSET {
            [s.isplat(0); 2]
        } else if T::Scaling::HALVES {
            [
                s.isplat(-self.half_offset * x.sums[0]),
                s.isplat(-self.half_offset * x.sums[1]),
            ]
        } else {
            [s.isplat(x.minus(self.offset)), s.isplat(0)]
        }
    }
}

#[inline(always)]
fn dot<S: Simd, T: Tiles>(s: S, acc: S::I, codes: S::B, quad: i32) -> S::I {
    if T::SMALL {
        s.dot4_small(acc, codes, quad)
    } else {
        s.dot4(acc, codes, quad)
    }
}
