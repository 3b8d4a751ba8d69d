//! Weight matrices in the shape that the matrix kernels read: tiles of 16 output columns by 32 inputs.
//!
//! A GGUF file stores a matrix row by row (a row is one output column's weights). Packing happens once at load:
//! every block type becomes unsigned codes of as many bits with one offset, plus its scales, which stay in the file's own
//! precision. Nothing is rounded, so that a packed matrix holds exactly the file's values in about the file's bytes.
//! Block layouts: ggml's `ggml-common.h`.

use crate::block_type::BlockType;
use block::take_apart;
use half::{bf16, f16};

use super::LANES;
pub use codes::{Bits, Codes, Line};
pub use scales::{Halves, Scales};

mod block;
mod codes;
mod scales;

/// Inputs of a tile.
pub const TILE_K: usize = 32;
/// Inputs of a K-quant super-block.
const SUPER_K: usize = 256;
const TILES_OF_SUPER: usize = SUPER_K / TILE_K;

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
    #[inline]
    pub fn tile_columns(&self) -> usize {
        self.n.div_ceil(LANES)
    }

    /// Whether the kernels want the activations as 8-bit blocks.
    #[inline]
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
            BlockType::Q5_0 => tiles * 22,
            BlockType::Q5_1 => tiles * 24,
            BlockType::Q8_0 | BlockType::Q8K => tiles * 34,
            BlockType::Q2K => tiles * 10 + supers * 4,
            BlockType::Q3K => tiles * 14 + supers * 2,
            BlockType::Q4K => tiles * 18 + supers * 4,
            BlockType::Q5K => tiles * 22 + supers * 4,
            BlockType::Q6K => tiles * 26 + supers * 2,
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
            Body::Blocks { codes, scales, .. } => of(&codes.lines) + scales.bytes(),
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
                let first = tile * (self.k / TILE_K);
                for (block, out) in out.as_chunks_mut::<TILE_K>().0.iter_mut().enumerate() {
                    for (i, out) in out.iter_mut().enumerate() {
                        let q = i32::from(codes.code(first + block, lane, i)) - offset;
                        *out = scales.value(first + block, lane, i, q);
                    }
                }
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

/// Bits of the codes, what is subtracted from them, and how they are scaled.
struct Layout {
    bits: Bits,
    offset: i32,
    scales: Scales,
}

fn layout(dtype: BlockType, tiles: usize) -> Layout {
    let small = || vec![[0u16; LANES]; tiles];
    let large = || vec![[0u16; LANES]; tiles.div_ceil(TILES_OF_SUPER)];
    let plain = || Scales::Plain { d: small() };
    let min = || Scales::Min {
        d: small(),
        m: small(),
    };
    let super_min = || Scales::SuperMin {
        d: large(),
        dmin: large(),
        scale: vec![[0; LANES]; tiles],
        min: vec![[0; LANES]; tiles],
    };
    let sub = || Scales::Sub {
        d: large(),
        scale: vec![[[0; LANES]; 2]; tiles],
    };
    let sub_min = || Scales::SubMin {
        d: large(),
        dmin: large(),
        both: vec![[[0; LANES]; 2]; tiles],
    };
    let (bits, offset, scales) = match dtype {
        BlockType::Q4_0 => (Bits::Four, 8, plain()),
        BlockType::Q4_1 => (Bits::Four, 0, min()),
        BlockType::Q5_0 => (Bits::Five, 16, plain()),
        BlockType::Q5_1 => (Bits::Five, 0, min()),
        BlockType::Q8_0 => (Bits::Eight, 128, plain()),
        BlockType::Q2K => (Bits::Two, 0, sub_min()),
        BlockType::Q3K => (Bits::Three, 4, sub()),
        BlockType::Q4K => (Bits::Four, 0, super_min()),
        BlockType::Q5K => (Bits::Five, 0, super_min()),
        BlockType::Q6K => (Bits::Six, 32, sub()),
        BlockType::F32 | BlockType::F16 | BlockType::BF16 | BlockType::Q8K => {
            unreachable!("{dtype:?} is not a block type of weights; the loader refuses it")
        }
    };
    Layout {
        bits,
        offset,
        scales,
    }
}

fn pack_blocks(dtype: BlockType, n: usize, k: usize, data: &[u8]) -> Body {
    let (tiles, columns) = (k / TILE_K, n.div_ceil(LANES));
    let Layout {
        bits,
        offset,
        mut scales,
    } = layout(dtype, columns * tiles);
    // Columns that pad the last tile hold `offset`, which is zero.
    let mut codes = Codes::new(bits, columns * tiles, offset as u8);
    let row_bytes = k / dtype.block_len() * dtype.block_bytes();
    for (row, bytes) in data.chunks_exact(row_bytes).enumerate() {
        let (column, lane) = (row / LANES, row % LANES);
        for block in 0..tiles {
            let tile = column * tiles + block;
            let parts = take_apart(dtype, bytes, block);
            codes.put(tile, lane, &parts.codes);
            scales.put(tile, lane, &parts);
        }
    }
    Body::Blocks {
        codes,
        scales,
        offset,
    }
}
