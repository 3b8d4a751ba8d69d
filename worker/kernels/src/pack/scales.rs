//! The scales of a packed matrix, in the file's own precision.

use half::f16;

use super::block::Block;
use super::{LANES, TILES_OF_SUPER};

/// f16 bit patterns, one a column.
pub type Halves = [u16; LANES];

/// What turns integer sums into values; indices run as the codes do, by tile or by super-block.
pub enum Scales {
    /// `d * q`.
    Plain { d: Vec<Halves> },
    /// `d * q + m`.
    Min { d: Vec<Halves>, m: Vec<Halves> },
    /// `(d * scale) * q - (dmin * min)`, d and dmin by super-block.
    SuperMin {
        d: Vec<Halves>,
        dmin: Vec<Halves>,
        scale: Vec<[u8; LANES]>,
        min: Vec<[u8; LANES]>,
    },
    /// `d * (scale * q)` with one integer scale for each 16 inputs, d by super-block.
    Sub {
        d: Vec<Halves>,
        scale: Vec<[[i8; LANES]; 2]>,
    },
    /// `d * (scale * q) - dmin * min`, scale (low nibble) and min (high nibble) for each 16 inputs.
    SubMin {
        d: Vec<Halves>,
        dmin: Vec<Halves>,
        both: Vec<[[u8; LANES]; 2]>,
    },
}

impl Scales {
    /// Sets one column's scales of a tile.
    pub fn put(&mut self, tile: usize, lane: usize, block: &Block) {
        let large = tile / TILES_OF_SUPER;
        match self {
            Scales::Plain { d } => d[tile][lane] = block.d,
            Scales::Min { d, m } => {
                d[tile][lane] = block.d;
                m[tile][lane] = block.m;
            }
            Scales::SuperMin {
                d,
                dmin,
                scale,
                min,
            } => {
                d[large][lane] = block.d;
                dmin[large][lane] = block.m;
                scale[tile][lane] = block.scale[0];
                min[tile][lane] = block.min[0];
            }
            Scales::Sub { d, scale } => {
                d[large][lane] = block.d;
                for half in 0..2 {
                    scale[tile][half][lane] = block.scale[half] as i8;
                }
            }
            Scales::SubMin { d, dmin, both } => {
                d[large][lane] = block.d;
                dmin[large][lane] = block.m;
                for half in 0..2 {
                    both[tile][half][lane] = block.scale[half] | block.min[half] << 4;
                }
            }
        }
    }

    /// The weight of input `i` of one column of a tile, whose code without the offset is `q`.
    pub fn value(&self, tile: usize, lane: usize, i: usize, q: i32) -> f32 {
        let float = |x: &Halves| f16::from_bits(x[lane]).to_f32();
        let (small, large) = (tile, tile / TILES_OF_SUPER);
        let half = i / 16;
        match self {
            Scales::Plain { d } => float(&d[small]) * q as f32,
            Scales::Min { d, m } => float(&d[small]).mul_add(q as f32, float(&m[small])),
            Scales::SuperMin {
                d,
                dmin,
                scale,
                min,
            } => {
                let scale = float(&d[large]) * f32::from(scale[small][lane]);
                let min = float(&dmin[large]) * f32::from(min[small][lane]);
                scale.mul_add(q as f32, -min)
            }
            Scales::Sub { d, scale } => {
                float(&d[large]) * (i32::from(scale[small][half][lane]) * q) as f32
            }
            Scales::SubMin { d, dmin, both } => {
                let both = both[small][half][lane];
                let min = float(&dmin[large]) * f32::from(both >> 4);
                float(&d[large]).mul_add((i32::from(both & 15) * q) as f32, -min)
            }
        }
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        fn of<T>(x: &[T]) -> usize {
            std::mem::size_of_val(x)
        }
        match self {
            Scales::Plain { d } => of(d),
            Scales::Min { d, m } => of(d) + of(m),
            Scales::SuperMin {
                d,
                dmin,
                scale,
                min,
            } => of(d) + of(dmin) + of(scale) + of(min),
            Scales::Sub { d, scale } => of(d) + of(scale),
            Scales::SubMin { d, dmin, both } => of(d) + of(dmin) + of(both),
        }
    }
}
