//! Where the rows' loop gets a tile from: unpacked on the way from the packed matrix, or from what was unpacked before for
//! all rows of a panel.

use std::marker::PhantomData;
use std::ops::Range;

use super::super::pack::{Bits, Line};
use super::super::simd::{LANES, Simd};
use super::scales::{PackedScales, Scaling, VECTORS, Wide};

/// Reads a packed tile column's codes.
pub trait PackedCodes: Copy {
    const BITS: Bits;
    /// A tile's codes, unpacked or where they can be loaded from.
    type Read<S: Simd>: Copy;
    fn read<S: Simd>(self, s: S, tile: usize) -> Self::Read<S>;
    /// The codes of one group.
    fn group<S: Simd>(s: S, read: Self::Read<S>, g: usize) -> S::B;
    /// Says that a tile will be read soon.
    fn prefetch<S: Simd>(self, s: S, tile: usize);
}

/// The packed lines of a tile column.
#[derive(Clone, Copy)]
pub struct Packed<'a, const LINES: usize>(&'a [[Line; LINES]]);

impl<'a, const LINES: usize> Packed<'a, LINES> {
    pub fn new(lines: &'a [Line]) -> Packed<'a, LINES> {
        Packed(lines.as_chunks().0)
    }

    #[inline(always)]
    fn lines_soon<S: Simd>(self, s: S, tile: usize) {
        for line in 0..LINES {
            s.prefetch(self.0.as_flattened(), tile * LINES + line);
        }
    }
}

/// The groups of nibbles in four lines.
#[inline(always)]
fn nibbles<S: Simd>(s: S, lines: &[Line; 4]) -> [S::B; 8] {
    let mut groups = [s.bytes(&lines[0].0); 8];
    each_group!(G, {
        let line = s.bytes(&lines[G % 4].0);
        groups[G] = s.bits_right(line, G as i32 / 4 * 4, 15);
    });
    groups
}

/// Bits of two lines of pairs, moved to where they belong in a code.
#[inline(always)]
fn pairs<S: Simd>(s: S, lines: &[Line; 2], low: i32) -> [S::B; 8] {
    let mut groups = [s.bytes(&lines[0].0); 8];
    each_group!(G, {
        let from = G as i32 % 4 * 2;
        let line = s.bytes(&lines[G / 4].0);
        groups[G] = moved(s, line, (from, low), 3 << low);
    });
    groups
}

/// Bits of a line of single bits, moved to where they belong in a code.
#[inline(always)]
fn singles<S: Simd>(s: S, line: &Line, low: i32) -> [S::B; 8] {
    let line = s.bytes(&line.0);
    let mut groups = [line; 8];
    each_group!(G, {
        groups[G] = moved(s, line, (G as i32, low), 1 << low);
    });
    groups
}

#[inline(always)]
fn moved<S: Simd>(s: S, x: S::B, (from, to): (i32, i32), mask: u8) -> S::B {
    if from >= to {
        s.bits_right(x, from - to, mask)
    } else {
        s.bits_left(x, to - from, mask)
    }
}

#[inline(always)]
fn joined<S: Simd>(s: S, low: [S::B; 8], high: [S::B; 8]) -> [S::B; 8] {
    let mut codes = low;
    each_group!(G, {
        codes[G] = s.either(low[G], high[G]);
    });
    codes
}

impl PackedCodes for Packed<'_, 2> {
    const BITS: Bits = Bits::Two;
    type Read<S: Simd> = [S::B; 8];

    #[inline(always)]
    fn read<S: Simd>(self, s: S, tile: usize) -> [S::B; 8] {
        pairs(s, &self.0[tile], 0)
    }
    #[inline(always)]
    fn group<S: Simd>(_: S, read: [S::B; 8], g: usize) -> S::B {
        read[g]
    }
    #[inline(always)]
    fn prefetch<S: Simd>(self, s: S, tile: usize) {
        self.lines_soon(s, tile);
    }
}

impl PackedCodes for Packed<'_, 3> {
    const BITS: Bits = Bits::Three;
    type Read<S: Simd> = [S::B; 8];

    #[inline(always)]
    fn read<S: Simd>(self, s: S, tile: usize) -> [S::B; 8] {
        let [a, b, high] = self.0[tile];
        joined(s, pairs(s, &[a, b], 0), singles(s, &high, 2))
    }
    #[inline(always)]
    fn group<S: Simd>(_: S, read: [S::B; 8], g: usize) -> S::B {
        read[g]
    }
    #[inline(always)]
    fn prefetch<S: Simd>(self, s: S, tile: usize) {
        self.lines_soon(s, tile);
    }
}

impl PackedCodes for Packed<'_, 4> {
    const BITS: Bits = Bits::Four;
    type Read<S: Simd> = [S::B; 8];

    #[inline(always)]
    fn read<S: Simd>(self, s: S, tile: usize) -> [S::B; 8] {
        nibbles(s, &self.0[tile])
    }
    #[inline(always)]
    fn group<S: Simd>(_: S, read: [S::B; 8], g: usize) -> S::B {
        read[g]
    }
    #[inline(always)]
    fn prefetch<S: Simd>(self, s: S, tile: usize) {
        self.lines_soon(s, tile);
    }
}

impl PackedCodes for Packed<'_, 5> {
    const BITS: Bits = Bits::Five;
    type Read<S: Simd> = [S::B; 8];

    #[inline(always)]
    fn read<S: Simd>(self, s: S, tile: usize) -> [S::B; 8] {
        let [a, b, c, d, high] = self.0[tile];
        joined(s, nibbles(s, &[a, b, c, d]), singles(s, &high, 4))
    }
    #[inline(always)]
    fn group<S: Simd>(_: S, read: [S::B; 8], g: usize) -> S::B {
        read[g]
    }
    #[inline(always)]
    fn prefetch<S: Simd>(self, s: S, tile: usize) {
        self.lines_soon(s, tile);
    }
}

impl PackedCodes for Packed<'_, 6> {
    const BITS: Bits = Bits::Six;
    type Read<S: Simd> = [S::B; 8];

    #[inline(always)]
    fn read<S: Simd>(self, s: S, tile: usize) -> [S::B; 8] {
        let [a, b, c, d, e, f] = self.0[tile];
        joined(s, nibbles(s, &[a, b, c, d]), pairs(s, &[e, f], 4))
    }
    #[inline(always)]
    fn group<S: Simd>(_: S, read: [S::B; 8], g: usize) -> S::B {
        read[g]
    }
    #[inline(always)]
    fn prefetch<S: Simd>(self, s: S, tile: usize) {
        self.lines_soon(s, tile);
    }
}

impl<'a> PackedCodes for Packed<'a, 8> {
    const BITS: Bits = Bits::Eight;
    type Read<S: Simd> = &'a [Line; 8];

    #[inline(always)]
    fn read<S: Simd>(self, _: S, tile: usize) -> &'a [Line; 8] {
        &self.0[tile]
    }
    #[inline(always)]
    fn group<S: Simd>(s: S, read: &'a [Line; 8], g: usize) -> S::B {
        s.bytes(&read[g].0)
    }
    #[inline(always)]
    fn prefetch<S: Simd>(self, s: S, tile: usize) {
        self.lines_soon(s, tile);
    }
}

/// Tiles of a few neighbouring columns as the rows' loop reads them.
pub trait Tiles: Copy {
    type Scaling: Scaling;
    /// Whether codes are below 128.
    const SMALL: bool;
    /// A tile's codes, unpacked or where they can be loaded from.
    type Codes<S: Simd>: Copy;
    fn codes<S: Simd>(self, s: S, at: Place) -> Self::Codes<S>;
    /// The codes of one group.
    fn group<S: Simd>(s: S, codes: Self::Codes<S>, g: usize) -> S::B;
    fn scales<S: Simd>(self, s: S, at: Place) -> <Self::Scaling as Scaling>::Of<S>;
    /// Fetches what comes a while after this tile.
    #[inline(always)]
    fn soon<S: Simd>(self, _: S, _: Place) {}
}

/// A tile among those of a few neighbouring columns.
#[derive(Clone, Copy)]
pub struct Place {
    /// Which of the columns.
    pub column: usize,
    /// Which of the column's tiles.
    pub tile: usize,
}

/// Tiles that are fetched ahead when a single row goes over the columns: some thousand bytes.
const AHEAD: usize = 12;

/// Straight from the packed matrix, for a single row.
#[derive(Clone, Copy)]
pub struct Direct<C, Z> {
    pub codes: C,
    pub scales: Z,
    /// The first of the columns.
    pub first: usize,
    /// Tiles of a column.
    pub tiles: usize,
}

impl<C, Z> Direct<C, Z> {
    #[inline(always)]
    pub fn index(&self, at: Place) -> usize {
        (self.first + at.column) * self.tiles + at.tile
    }
}

impl<C: PackedCodes, Z: PackedScales> Tiles for Direct<C, Z> {
    type Scaling = Z::Scaling;
    const SMALL: bool = !matches!(C::BITS, Bits::Eight);
    type Codes<S: Simd> = C::Read<S>;

    #[inline(always)]
    fn codes<S: Simd>(self, s: S, at: Place) -> C::Read<S> {
        self.codes.read(s, self.index(at))
    }
    #[inline(always)]
    fn soon<S: Simd>(self, s: S, at: Place) {
        let mut next = Place {
            tile: at.tile + AHEAD,
            ..at
        };
        if next.tile >= self.tiles {
            next.tile -= self.tiles;
            next.column += COLUMNS;
        }
        self.codes.prefetch(s, self.index(next));
    }
    #[inline(always)]
    fn group<S: Simd>(s: S, codes: C::Read<S>, g: usize) -> S::B {
        C::group(s, codes, g)
    }
    #[inline(always)]
    fn scales<S: Simd>(self, s: S, at: Place) -> <Z::Scaling as Scaling>::Of<S> {
        self.scales.read(s, self.index(at))
    }
}

/// Tiles of a column that are unpacked at a time: with those of a second column and some rows they fit in the first-level
/// cache.
pub const CHUNK: usize = 24;
/// Columns that are multiplied together at most.
pub const COLUMNS: usize = 2;

/// One column's chunk of unpacked tiles.
struct Chunk {
    codes: [[Line; 8]; CHUNK],
    scales: [[Wide; VECTORS]; CHUNK],
}

/// Room for a chunk of tiles of a few columns; each thread has its own.
pub struct Room(Box<[Chunk; COLUMNS]>);

impl Room {
    pub fn new() -> Room {
        let chunk = || Chunk {
            codes: [[Line([0; 64]); 8]; CHUNK],
            scales: [[[0.0; LANES]; VECTORS]; CHUNK],
        };
        Room(Box::new([chunk(), chunk()]))
    }

    /// Unpacks a chunk of tiles of the first `columns` columns.
    #[inline(always)]
    pub fn fill<S: Simd, C: PackedCodes, Z: PackedScales>(
        &mut self,
        s: S,
        from: Direct<C, Z>,
        (columns, chunk): (usize, &Range<usize>),
    ) {
        for (column, out) in self.0[..columns].iter_mut().enumerate() {
            let tiles = out.codes.iter_mut().zip(&mut out.scales);
            for (tile, (codes_out, scales_out)) in chunk.clone().zip(tiles) {
                let at = Place { column, tile };
                let codes = from.codes(s, at);
                each_group!(G, {
                    codes_out[G].0 = s.to_bytes(C::group(s, codes, G));
                });
                Z::Scaling::write(s, from.scales(s, at), scales_out);
            }
        }
    }

    /// What [`Room::fill`] has put there for the chunk that begins with `first`.
    pub fn unpacked<C: PackedCodes, Z: Scaling>(
        &self,
        first: usize,
        packed: C,
    ) -> Unpacked<'_, C, Z> {
        Unpacked {
            chunks: &self.0,
            first,
            packed,
            ahead: [None; COLUMNS],
            scaling: PhantomData,
        }
    }
}

/// Unpacked before.
#[derive(Clone, Copy)]
pub struct Unpacked<'a, C, Z> {
    chunks: &'a [Chunk; COLUMNS],
    first: usize,
    /// Where the tiles of the next chunk are.
    packed: C,
    /// By column the tile to fetch while the first one of this chunk is multiplied; with the second one goes the tile after
    /// it, and so on. `None` where nothing is fetched.
    pub ahead: [Option<usize>; COLUMNS],
    scaling: PhantomData<Z>,
}

impl<'a, C: PackedCodes, Z: Scaling> Tiles for Unpacked<'a, C, Z> {
    type Scaling = Z;
    const SMALL: bool = !matches!(C::BITS, Bits::Eight);
    type Codes<S: Simd> = &'a [Line; 8];

    #[inline(always)]
    fn soon<S: Simd>(self, s: S, at: Place) {
        if let Some(first) = self.ahead[at.column] {
            self.packed.prefetch(s, first + at.tile - self.first);
        }
    }
    #[inline(always)]
    fn codes<S: Simd>(self, _: S, at: Place) -> &'a [Line; 8] {
        &self.chunks[at.column].codes[at.tile - self.first]
    }
    #[inline(always)]
    fn group<S: Simd>(s: S, codes: &'a [Line; 8], g: usize) -> S::B {
        s.bytes(&codes[g].0)
    }
    #[inline(always)]
    fn scales<S: Simd>(self, s: S, at: Place) -> Z::Of<S> {
        Z::read(s, &self.chunks[at.column].scales[at.tile - self.first])
    }
}
