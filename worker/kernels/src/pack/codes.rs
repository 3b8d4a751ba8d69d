//! The integer codes of a packed matrix: how many bits they have and how they lie in a tile's lines.

use super::TILE_K;

/// 64 bytes on a cache line: for each of 16 columns the codes of 4 consecutive inputs, or parts of such codes.
///
/// A tile of 32 inputs has eight such groups; group `g` holds inputs `4g..4g+4`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

/// The parts of a code that lie in lines of their own, lowest bits first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// Two lines of pairs: line `g / 4` holds group `g` in bits `2 (g % 4)` and the next.
    Two,
    /// As [`Bits::Two`], then a line of single bits: bit `g` belongs to group `g`.
    Three,
    /// Four lines of nibbles: line `g % 4` holds group `g` in its low nibbles (`g < 4`) or its high ones.
    Four,
    /// As [`Bits::Four`], then a line of single bits.
    Five,
    /// As [`Bits::Four`], then two lines of pairs.
    Six,
    /// Eight lines of bytes.
    Eight,
}

impl Bits {
    /// Lines of a tile.
    pub const fn lines(self) -> usize {
        match self {
            Bits::Two => 2,
            Bits::Three => 3,
            Bits::Four => 4,
            Bits::Five => 5,
            Bits::Six => 6,
            Bits::Eight => 8,
        }
    }

    /// The parts of a code, lowest bits first: how many bits each has.
    const fn parts(self) -> &'static [usize] {
        match self {
            Bits::Two => &[2],
            Bits::Three => &[2, 1],
            Bits::Four => &[4],
            Bits::Five => &[4, 1],
            Bits::Six => &[4, 2],
            Bits::Eight => &[8],
        }
    }
}

/// Where the part of `width` bits of group `g` lies: its line among those of the part, and its lowest bit there.
const fn place(width: usize, g: usize) -> (usize, usize) {
    match width {
        1 => (0, g),
        2 => (g / 4, g % 4 * 2),
        4 => (g % 4, g / 4 * 4),
        _ => (g, 0),
    }
}

/// The codes of every tile, tile column by tile column, then along the inputs.
pub struct Codes {
    pub bits: Bits,
    pub lines: Vec<Line>,
}

impl Codes {
    /// Codes of `tiles` tiles, all `blank`.
    pub fn new(bits: Bits, tiles: usize, blank: u8) -> Codes {
        let mut tile = vec![Line([0; 64]); bits.lines()];
        for lane in 0..super::LANES {
            put(bits, &mut tile, lane, &[blank; TILE_K]);
        }
        let mut lines = Vec::with_capacity(tiles * tile.len());
        for _ in 0..tiles {
            lines.extend_from_slice(&tile);
        }
        Codes { bits, lines }
    }

    /// Sets one column's codes of a tile.
    pub fn put(&mut self, tile: usize, lane: usize, codes: &[u8; TILE_K]) {
        let count = self.bits.lines();
        put(
            self.bits,
            &mut self.lines[tile * count..][..count],
            lane,
            codes,
        );
    }

    /// The code of input `i` of one column of a tile.
    pub fn code(&self, tile: usize, lane: usize, i: usize) -> u8 {
        let lines = &self.lines[tile * self.bits.lines()..];
        let (g, byte) = (i / 4, lane * 4 + i % 4);
        let (mut code, mut low, mut first) = (0, 0, 0);
        for &width in self.bits.parts() {
            let (line, bit) = place(width, g);
            let part = lines[first + line].0[byte] >> bit & mask(width);
            code |= part << low;
            low += width;
            first += width;
        }
        code
    }
}

fn mask(width: usize) -> u8 {
    (0xFFu16 >> (8 - width)) as u8
}

/// Parts of `width` bits take `width` lines, so a part's first line is the sum of the widths before it. A group is handled
/// as one word, for packing is what loading a model takes its time for.
#[inline(always)]
fn put(bits: Bits, tile: &mut [Line], lane: usize, codes: &[u8; TILE_K]) {
    let groups = codes.as_chunks::<4>().0;
    let (mut low, mut first) = (0, 0);
    for &width in bits.parts() {
        let parts = u32::from_le_bytes([mask(width); 4]);
        for (at, line) in tile[first..first + width].iter_mut().enumerate() {
            let mut word = 0;
            for (g, group) in groups.iter().enumerate() {
                let (line, bit) = place(width, g);
                if line == at {
                    word |= (u32::from_le_bytes(*group) >> low & parts) << bit;
                }
            }
            line.0.as_chunks_mut::<4>().0[lane] = word.to_le_bytes();
        }
        low += width;
        first += width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_out_as_they_went_in_and_touch_no_others() {
        let all = [
            Bits::Two,
            Bits::Three,
            Bits::Four,
            Bits::Five,
            Bits::Six,
            Bits::Eight,
        ];
        for bits in all {
            let width: usize = bits.parts().iter().sum();
            let blank = 5 & mask(width);
            let mut codes = Codes::new(bits, 3, blank);
            let given = std::array::from_fn(|i| (i as u8).wrapping_mul(37) & mask(width));
            codes.put(1, 9, &given);
            for tile in 0..3 {
                for lane in 0..16 {
                    for (i, given) in given.iter().enumerate() {
                        let expected = if (tile, lane) == (1, 9) {
                            *given
                        } else {
                            blank
                        };
                        assert_eq!(codes.code(tile, lane, i), expected, "{bits:?}");
                    }
                }
            }
        }
    }
}
