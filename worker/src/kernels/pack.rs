//! Weight matrices in the shape that the matrix kernels read: tiles of 16 output columns by 32 inputs.
//!
//! A GGUF file stores a matrix row by row (a row is one output column's weights). Packing happens once at load:
//! every block type becomes unsigned bytes or nibbles with one offset, plus its scales, which stay in the file's own
//! precision. Nothing is rounded, so that a packed matrix holds exactly the file's values.
//! Block layouts: ggml's `ggml-common.h`.

use crate::gguf::BlockType;
use half::{bf16, f16};

use super::LANES;
use super::pack_block::{Block, take_apart};

/// Inputs of a tile.
pub const TILE_K: usize = 32;
/// Inputs of a K-quant super-block.
const SUPER_K: usize = 256;
const TILES_OF_SUPER: usize = SUPER_K / TILE_K;

/// 64 bytes on a cache line: for each of 16 columns the codes of 4 consecutive inputs.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

/// The codes of every tile, tile column by tile column, then along the inputs.
pub enum Codes {
    /// Four lines a tile: inputs 4g..4g+4 in the low nibbles of line g, those of g + 4 in the high ones.
    Nibbles(Vec<Line>),
    /// Eight lines a tile, line g holding inputs 4g..4g+4.
    Bytes(Vec<Line>),
}

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
    /// `d * (scale * q) - dmin * min`, scale and min for each 16 inputs.
    SubMin {
        d: Vec<Halves>,
        dmin: Vec<Halves>,
        scale: Vec<[[i8; LANES]; 2]>,
        min: Vec<[[u8; LANES]; 2]>,
    },
}

/// What a packed matrix is made of.
pub enum Body {
    /// Integer codes; the weight is `q = code - offset` under the scales.
    Blocks {
        codes: Codes,
        scales: Scales,
        offset: i32,
    },
    /// For each tile column, 16 f16 values an input.
    F16(Vec<Halves>),
    /// For each tile column, 16 bf16 values an input.
    Bf16(Vec<Halves>),
    /// For each tile column, 16 f32 values an input.
    F32(Vec<[f32; LANES]>),
}

/// A matrix of `n` output columns by `k` inputs.
pub struct PackedMatrix {
    pub n: usize,
    pub k: usize,
    pub body: Body,
}

impl PackedMatrix {
    /// Packs `n` rows of `k` weights from the file's bytes.
    ///
    /// Panics if the bytes do not make up the matrix; the file's checks come before.
    pub fn pack(dtype: BlockType, n: usize, k: usize, data: &[u8]) -> PackedMatrix {
        assert_eq!(
            data.len() * dtype.block_len(),
            n * k * dtype.block_bytes(),
            "bytes of a {n} x {k} matrix"
        );
        let body = match dtype {
            BlockType::F32 => Body::F32(pack_values(n, k, data, f32::from_le_bytes)),
            BlockType::F16 => Body::F16(pack_values(n, k, data, u16::from_le_bytes)),
            BlockType::BF16 => Body::Bf16(pack_values(n, k, data, u16::from_le_bytes)),
            _ => pack_blocks(dtype, n, k, data),
        };
        PackedMatrix { n, k, body }
    }

    /// Tile columns: `n / 16`, rounded up.
    pub fn tile_columns(&self) -> usize {
        self.n.div_ceil(LANES)
    }

    /// Whether the kernels want the activations as 8-bit blocks.
    pub fn quantised(&self) -> bool {
        matches!(self.body, Body::Blocks { .. })
    }

    /// Bytes of memory that a matrix of this type and size takes when packed.
    pub fn packed_bytes(dtype: BlockType, n: usize, k: usize) -> usize {
        let columns = n.div_ceil(LANES) * LANES;
        let (tiles, supers) = (columns * k / TILE_K, columns * k / SUPER_K);
        match dtype {
            BlockType::F32 => columns * k * 4,
            BlockType::F16 | BlockType::BF16 => columns * k * 2,
            BlockType::Q4_0 => tiles * 18,
            BlockType::Q4_1 => tiles * 20,
            BlockType::Q5_0 | BlockType::Q8_0 => tiles * 34,
            BlockType::Q5_1 => tiles * 36,
            BlockType::Q4K => tiles * 18 + supers * 4,
            BlockType::Q5K => tiles * 34 + supers * 4,
            BlockType::Q2K => tiles * 36 + supers * 4,
            BlockType::Q3K | BlockType::Q6K => tiles * 34 + supers * 2,
            BlockType::Q8K => tiles * 34,
        }
    }

    /// Bytes of memory that the packed weights take.
    pub fn bytes(&self) -> usize {
        fn of<T>(x: &[T]) -> usize {
            std::mem::size_of_val(x)
        }
        match &self.body {
            Body::F16(x) | Body::Bf16(x) => of(x),
            Body::F32(x) => of(x),
            Body::Blocks {
                codes: Codes::Nibbles(lines) | Codes::Bytes(lines),
                scales,
                ..
            } => {
                of(lines)
                    + match scales {
                        Scales::Plain { d } => of(d),
                        Scales::Min { d, m } => of(d) + of(m),
                        Scales::SuperMin {
                            d,
                            dmin,
                            scale,
                            min,
                        } => of(d) + of(dmin) + of(scale) + of(min),
                        Scales::Sub { d, scale } => of(d) + of(scale),
                        Scales::SubMin {
                            d,
                            dmin,
                            scale,
                            min,
                        } => of(d) + of(dmin) + of(scale) + of(min),
                    }
            }
        }
    }

    /// Writes the weights of output column `column` as f32 into `out` (`k` values): an embedding's row.
    pub fn column(&self, column: usize, out: &mut [f32]) {
        assert!(
            column < self.n && out.len() == self.k,
            "column of a packed matrix"
        );
        let (tile, lane) = (column / LANES, column % LANES);
        match &self.body {
            Body::F32(x) => fill(out, &x[tile * self.k..], |x| x[lane]),
            Body::F16(x) => fill(out, &x[tile * self.k..], |x| {
                f16::from_bits(x[lane]).to_f32()
            }),
            Body::Bf16(x) => fill(out, &x[tile * self.k..], |x| {
                bf16::from_bits(x[lane]).to_f32()
            }),
            Body::Blocks {
                codes,
                scales,
                offset,
            } => {
                let tiles = self.k / TILE_K;
                let at = Position { tiles, tile, lane };
                for (block, out) in out.as_chunks_mut::<TILE_K>().0.iter_mut().enumerate() {
                    for (i, out) in out.iter_mut().enumerate() {
                        let q = i32::from(codes.code(at, block, i)) - offset;
                        *out = scales.value(at, block, i, q);
                    }
                }
            }
        }
    }
}

/// A column of a packed matrix of `tiles` tiles along the inputs.
#[derive(Clone, Copy)]
struct Position {
    tiles: usize,
    tile: usize,
    lane: usize,
}

impl Codes {
    fn code(&self, at: Position, block: usize, i: usize) -> u8 {
        let (line, byte) = (i / 4, at.lane * 4 + i % 4);
        let tile = at.tile * at.tiles + block;
        match self {
            Codes::Bytes(lines) => lines[tile * 8 + line].0[byte],
            Codes::Nibbles(lines) => {
                let both = lines[tile * 4 + line % 4].0[byte];
                if line < 4 { both & 15 } else { both >> 4 }
            }
        }
    }
}

impl Scales {
    fn put(&mut self, tile: usize, lane: usize, block: &Block) {
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
            Scales::SubMin {
                d,
                dmin,
                scale,
                min,
            } => {
                d[large][lane] = block.d;
                dmin[large][lane] = block.m;
                for half in 0..2 {
                    scale[tile][half][lane] = block.scale[half] as i8;
                    min[tile][half][lane] = block.min[half];
                }
            }
        }
    }

    fn value(&self, at: Position, block: usize, i: usize, q: i32) -> f32 {
        let Position { tiles, tile, lane } = at;
        let float = |x: &Halves| f16::from_bits(x[lane]).to_f32();
        let (small, large) = (
            tile * tiles + block,
            (tile * tiles + block) / TILES_OF_SUPER,
        );
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
            Scales::SubMin {
                d,
                dmin,
                scale,
                min,
            } => {
                let min = float(&dmin[large]) * f32::from(min[small][half][lane]);
                float(&d[large]).mul_add((i32::from(scale[small][half][lane]) * q) as f32, -min)
            }
        }
    }
}

fn fill<T>(out: &mut [f32], from: &[T], value: impl Fn(&T) -> f32) {
    for (out, x) in out.iter_mut().zip(from) {
        *out = value(x);
    }
}

fn pack_values<T: Copy + Default, const BYTES: usize>(
    n: usize,
    k: usize,
    data: &[u8],
    value: fn([u8; BYTES]) -> T,
) -> Vec<[T; LANES]> {
    let values = data.as_chunks::<BYTES>().0;
    let mut packed = vec![[T::default(); LANES]; n.div_ceil(LANES) * k];
    for (row, values) in values.chunks_exact(k.max(1)).enumerate() {
        let (tile, lane) = (row / LANES, row % LANES);
        for (out, x) in packed[tile * k..].iter_mut().zip(values) {
            out[lane] = value(*x);
        }
    }
    packed
}

/// Whether the codes fit in four bits, what is subtracted from them, and how they are scaled.
struct Layout {
    nibbles: bool,
    offset: i32,
    scales: Scales,
}

fn layout(dtype: BlockType, tiles: usize) -> Layout {
    let small = || vec![[0u16; LANES]; tiles];
    let large = || vec![[0u16; LANES]; tiles.div_ceil(TILES_OF_SUPER)];
    let (nibbles, offset, scales) = match dtype {
        BlockType::Q4_0 => (true, 8, Scales::Plain { d: small() }),
        BlockType::Q4_1 => (
            true,
            0,
            Scales::Min {
                d: small(),
                m: small(),
            },
        ),
        BlockType::Q5_0 => (false, 16, Scales::Plain { d: small() }),
        BlockType::Q5_1 => (
            false,
            0,
            Scales::Min {
                d: small(),
                m: small(),
            },
        ),
        BlockType::Q8_0 => (false, 128, Scales::Plain { d: small() }),
        BlockType::Q4K | BlockType::Q5K => {
            let bytes = || vec![[0u8; LANES]; tiles];
            let scales = Scales::SuperMin {
                d: large(),
                dmin: large(),
                scale: bytes(),
                min: bytes(),
            };
            (dtype == BlockType::Q4K, 0, scales)
        }
        BlockType::Q3K | BlockType::Q6K => {
            let scales = Scales::Sub {
                d: large(),
                scale: vec![[[0; LANES]; 2]; tiles],
            };
            (false, if dtype == BlockType::Q3K { 4 } else { 32 }, scales)
        }
        BlockType::Q2K => {
            let (scale, min) = (vec![[[0; LANES]; 2]; tiles], vec![[[0; LANES]; 2]; tiles]);
            (
                false,
                0,
                Scales::SubMin {
                    d: large(),
                    dmin: large(),
                    scale,
                    min,
                },
            )
        }
        BlockType::F32 | BlockType::F16 | BlockType::BF16 | BlockType::Q8K => {
            unreachable!("{dtype:?} is not a block type of weights; the loader refuses it")
        }
    };
    Layout {
        nibbles,
        offset,
        scales,
    }
}

fn pack_blocks(dtype: BlockType, n: usize, k: usize, data: &[u8]) -> Body {
    let (tiles, columns) = (k / TILE_K, n.div_ceil(LANES));
    let Layout {
        nibbles,
        offset,
        mut scales,
    } = layout(dtype, columns * tiles);
    let lines_of_tile = if nibbles { 4 } else { 8 };
    // Columns that pad the last tile hold `offset`, which is zero.
    let blank = if nibbles {
        offset as u8 * 17
    } else {
        offset as u8
    };
    let mut lines = vec![Line([blank; 64]); columns * tiles * lines_of_tile];
    let row_bytes = k / dtype.block_len() * dtype.block_bytes();
    for (row, bytes) in data.chunks_exact(row_bytes).enumerate() {
        let (column, lane) = (row / LANES, row % LANES);
        for block in 0..tiles {
            let tile = column * tiles + block;
            let parts = take_apart(dtype, bytes, block);
            put_codes(
                &mut lines[tile * lines_of_tile..][..lines_of_tile],
                &parts.codes,
                lane,
                nibbles,
            );
            scales.put(tile, lane, &parts);
        }
    }
    let codes = if nibbles {
        Codes::Nibbles(lines)
    } else {
        Codes::Bytes(lines)
    };
    Body::Blocks {
        codes,
        scales,
        offset,
    }
}

fn put_codes(lines: &mut [Line], codes: &[u8; TILE_K], lane: usize, nibbles: bool) {
    for (g, four) in codes.as_chunks::<4>().0.iter().enumerate() {
        if !nibbles {
            lines[g].0[lane * 4..][..4].copy_from_slice(four);
        } else if g < 4 {
            let high = &codes.as_chunks::<4>().0[g + 4];
            for j in 0..4 {
                lines[g].0[lane * 4 + j] = four[j] | high[j] << 4;
            }
        }
    }
}
