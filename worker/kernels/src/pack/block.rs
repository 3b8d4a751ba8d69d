//! Takes ggml's quantised blocks apart: codes in input order, scales as stored.

use crate::block_type::BlockType;

use super::TILE_K;

/// One row's block of 32 inputs.
#[derive(Clone, Copy)]
pub struct Block {
    /// Unsigned codes in input order.
    pub codes: [u8; TILE_K],
    /// f16 scale of the block or of its super-block.
    pub d: u16,
    /// f16: m of Q4_1 and Q5_1, dmin of the K-quants.
    pub m: u16,
    /// Integer scales: of the block (first), or of its two halves of 16 inputs (signed for Q3_K and Q6_K).
    pub scale: [u8; 2],
    /// Integer minimums, likewise.
    pub min: [u8; 2],
}

fn half(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

/// The block of inputs `32 * block ..` of a row that is stored as `row`.
pub fn take_apart(dtype: BlockType, row: &[u8], block: usize) -> Block {
    let of_super = dtype.block_len() / TILE_K;
    let bytes = &row[block / of_super * dtype.block_bytes()..][..dtype.block_bytes()];
    let part = block % of_super;
    match dtype {
        BlockType::Q4_0 => plain(nibbles(&bytes[2..]), half(bytes), 0),
        BlockType::Q4_1 => plain(nibbles(&bytes[4..]), half(bytes), half(&bytes[2..])),
        BlockType::Q5_0 => plain(five_bits(&bytes[2..]), half(bytes), 0),
        BlockType::Q5_1 => plain(five_bits(&bytes[4..]), half(bytes), half(&bytes[2..])),
        BlockType::Q8_0 => plain(std::array::from_fn(|i| bytes[2 + i] ^ 0x80), half(bytes), 0),
        BlockType::Q4K => super_min(bytes, part, |i| four_of_super(&bytes[16..], part, i)),
        BlockType::Q5K => super_min(bytes, part, |i| {
            four_of_super(&bytes[48..], part, i) | (bytes[16 + i] >> part & 1) << 4
        }),
        BlockType::Q6K => q6_k(bytes, part),
        BlockType::Q3K => q3_k(bytes, part),
        BlockType::Q2K => q2_k(bytes, part),
        BlockType::F32 | BlockType::F16 | BlockType::BF16 | BlockType::Q8K => {
            unreachable!("{dtype:?} is not packed by blocks")
        }
    }
}

fn plain(codes: [u8; TILE_K], d: u16, m: u16) -> Block {
    Block {
        codes,
        d,
        m,
        scale: [0; 2],
        min: [0; 2],
    }
}

/// 16 bytes: inputs 0..16 in the low nibbles, 16..32 in the high ones.
fn nibbles(bytes: &[u8]) -> [u8; TILE_K] {
    std::array::from_fn(|i| {
        if i < 16 {
            bytes[i] & 15
        } else {
            bytes[i - 16] >> 4
        }
    })
}

/// Four bytes with the fifth bit of each input, then [`nibbles`].
fn five_bits(bytes: &[u8]) -> [u8; TILE_K] {
    let low = nibbles(&bytes[4..]);
    std::array::from_fn(|i| low[i] | (bytes[i / 8] >> (i % 8) & 1) << 4)
}

/// 128 bytes of a super-block: blocks 2j and 2j + 1 are the low and high nibbles of bytes 32j..32j+32.
fn four_of_super(bytes: &[u8], part: usize, i: usize) -> u8 {
    let both = bytes[part / 2 * 32 + i];
    if part.is_multiple_of(2) {
        both & 15
    } else {
        both >> 4
    }
}

/// Q4_K and Q5_K: d, dmin, then eight 6-bit scales and minimums in 12 bytes.
fn super_min(bytes: &[u8], part: usize, code: impl Fn(usize) -> u8) -> Block {
    let packed = &bytes[4..16];
    let (scale, min) = if part < 4 {
        (packed[part] & 63, packed[part + 4] & 63)
    } else {
        (
            packed[part + 4] & 15 | packed[part - 4] >> 6 << 4,
            packed[part + 4] >> 4 | packed[part] >> 6 << 4,
        )
    };
    let codes = std::array::from_fn(code);
    Block {
        codes,
        d: half(bytes),
        m: half(&bytes[2..]),
        scale: [scale, 0],
        min: [min, 0],
    }
}

/// Q6_K: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, d.
fn q6_k(bytes: &[u8], part: usize) -> Block {
    let (hundred, quarter) = (part / 4, part % 4);
    let (low, high) = (&bytes[hundred * 64..], &bytes[128 + hundred * 32..]);
    let codes = std::array::from_fn(|i| {
        let both = low[quarter % 2 * 32 + i];
        let nibble = if quarter < 2 { both & 15 } else { both >> 4 };
        nibble | (high[i] >> (2 * quarter) & 3) << 4
    });
    let scale = [bytes[192 + 2 * part], bytes[192 + 2 * part + 1]];
    Block {
        codes,
        d: half(&bytes[208..]),
        m: 0,
        scale,
        min: [0; 2],
    }
}

/// Q3_K: 32 bytes of high bits, 64 bytes of low bit pairs, sixteen 6-bit scales with offset 32 in 12 bytes, d.
fn q3_k(bytes: &[u8], part: usize) -> Block {
    let (hundred, quarter) = (part / 4, part % 4);
    let low = &bytes[32 + hundred * 32..];
    let codes =
        std::array::from_fn(|i| (low[i] >> (2 * quarter) & 3) | (bytes[i] >> part & 1) << 2);
    let packed = &bytes[96..108];
    let scale = |j: usize| {
        let low = if j < 8 {
            packed[j] & 15
        } else {
            packed[j - 8] >> 4
        };
        let six = low | (packed[8 + j % 4] >> (2 * (j / 4)) & 3) << 4;
        (six as i8 - 32) as u8
    };
    Block {
        codes,
        d: half(&bytes[108..]),
        m: 0,
        scale: [scale(2 * part), scale(2 * part + 1)],
        min: [0; 2],
    }
}

/// Q2_K: sixteen bytes of 4-bit scales (low) and minimums (high), 64 bytes of bit pairs, d, dmin.
fn q2_k(bytes: &[u8], part: usize) -> Block {
    let (hundred, quarter) = (part / 4, part % 4);
    let low = &bytes[16 + hundred * 32..];
    let codes = std::array::from_fn(|i| low[i] >> (2 * quarter) & 3);
    let pair = [bytes[2 * part], bytes[2 * part + 1]];
    Block {
        codes,
        d: half(&bytes[80..]),
        m: half(&bytes[82..]),
        scale: pair.map(|x| x & 15),
        min: pair.map(|x| x >> 4),
    }
}
