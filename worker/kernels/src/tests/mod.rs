//! Every kernel against its scalar twin bit for bit, and the twins against plain f64 arithmetic.

mod attention;
mod golden;
mod matmul;
mod operations;
mod rows;

use super::*;
use crate::block_type::BlockType;
use half::{bf16, f16};

/// A small deterministic stream of numbers, so that failures repeat.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Any bits at all, a magnitude that f16 has, or one of those where rounding and order change.
    pub fn any_float(&mut self) -> f32 {
        const EDGES: [f32; 12] = [
            0.0,
            f32::INFINITY,
            f32::NAN,
            f32::MIN_POSITIVE,
            f32::MAX,
            // The greatest subnormal and the least.
            f32::from_bits(0x007F_FFFF),
            f32::from_bits(1),
            // The greatest f16, and halfway from there to what would come next.
            65504.0,
            65520.0,
            // The least normal f16, the least of all, and halfway from there to zero.
            6.103_515_6e-5,
            5.960_464_5e-8,
            2.980_232_2e-8,
        ];
        let bits = self.next();
        match bits >> 62 {
            0 => f32::from_bits(bits as u32),
            1 => {
                let edge = EDGES[(bits >> 8) as usize % EDGES.len()];
                if bits & 1 == 0 { edge } else { -edge }
            }
            // Exponents from 2^-28 to 2^19, often with few bits, so that ties are met.
            wide => {
                let exponent = 99 + (bits >> 32) as u32 % 48;
                let fraction = if wide == 2 {
                    bits as u32
                } else {
                    (bits as u32) << 12
                };
                f32::from_bits((bits as u32) & 1 << 31 | exponent << 23 | fraction & 0x007F_FFFF)
            }
        }
    }

    pub fn floats(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.unit() * scale).collect()
    }
}

pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// The types that weights may have.
pub fn packed_types() -> impl Iterator<Item = BlockType> {
    BlockType::ALL
        .into_iter()
        .filter(|dtype| *dtype != BlockType::Q8K)
}

/// Bytes of `len` weights as a file has them: floats of ordinary size, or blocks of any codes and any integer scales under
/// f16 scales of ordinary size.
pub fn weights(numbers: &mut Numbers, dtype: BlockType, len: usize) -> Vec<u8> {
    // Where in a block its f16 scales lie.
    let scales: &[usize] = match dtype {
        BlockType::F32 => {
            let values = numbers.floats(len, 0.2).into_iter();
            return values.flat_map(f32::to_le_bytes).collect();
        }
        BlockType::F16 => {
            let values = numbers.floats(len, 0.2).into_iter();
            return values
                .flat_map(|x| f16::from_f32(x).to_le_bytes())
                .collect();
        }
        BlockType::BF16 => {
            let values = numbers.floats(len, 0.2).into_iter();
            return values
                .flat_map(|x| bf16::from_f32(x).to_le_bytes())
                .collect();
        }
        BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0 => &[0],
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => &[0, 2],
        BlockType::Q2K => &[80, 82],
        BlockType::Q3K => &[108],
        BlockType::Q6K => &[208],
        BlockType::Q8K => unreachable!("weights are never of that type"),
    };
    let mut bytes = Vec::new();
    for _ in 0..len / dtype.block_len() {
        let first = bytes.len();
        bytes.extend((0..dtype.block_bytes()).map(|_| numbers.next() as u8));
        for at in scales {
            let scale = f16::from_f32(numbers.unit() * 0.1).to_le_bytes();
            bytes[first + at..][..2].copy_from_slice(&scale);
        }
    }
    bytes
}
