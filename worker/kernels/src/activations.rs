//! Rows of activations as the matrix kernels read them: 8-bit blocks of 32, or plain f32 for float weights.

use super::simd::{LANES, Simd};
use super::{Kernel, Op};

/// Values that share a scale.
pub const BLOCK: usize = 32;
/// A block whose greatest magnitude is below this is stored as zeros, so that no division overflows.
const NEGLIGIBLE: f32 = 1e-30;
/// Adding 1.5 * 2^23 rounds to an integer, ties to even.
const MAGIC: f32 = 12_582_912.0;
const INFINITY_BITS: u32 = 0x7F80_0000;

/// The offsets that plain codes have, one for each of [`ActivationBlock::minus`].
const OFFSETS: [i32; 4] = [0, 8, 16, 128];

/// One of [`OFFSETS`].
#[derive(Clone, Copy)]
pub struct Offset(usize);

impl Offset {
    /// Any other offset counts as none.
    pub fn of(offset: i32) -> Offset {
        Offset(OFFSETS.iter().position(|one| *one == offset).unwrap_or(0))
    }
}

/// 32 values of one row: `x[4g + j] ≈ scale * byte j of quads[g]`. One cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub struct ActivationBlock {
    /// 32 signed bytes in -127..=127, four a word, the first in the lowest byte.
    pub quads: [i32; 8],
    /// Greatest magnitude / 127; NaN if a value is NaN or infinite.
    pub scale: f32,
    /// `scale` times the sum of the bytes, for weights with a minimum.
    pub scaled_sum: f32,
    /// Sums of the first and the last 16 bytes.
    pub sums: [i32; 2],
    /// Minus each of [`OFFSETS`] times the sum of the bytes: what dot products with such codes start from.
    minus: [i32; OFFSETS.len()],
}

impl ActivationBlock {
    /// Minus the offset times the sum of the bytes.
    #[inline(always)]
    pub fn minus(&self, offset: Offset) -> i32 {
        self.minus[offset.0]
    }
}

/// Quantises one row; `row.len()` is a multiple of 32 and `out` has one entry a block.
#[inline]
pub fn quantise_row(kernel: Kernel, row: &[f32], out: &mut [ActivationBlock]) {
    debug_assert_eq!(row.len(), out.len() * BLOCK);
    kernel.run(QuantiseRow { row, out });
}

pub(super) struct QuantiseRow<'a> {
    pub row: &'a [f32],
    pub out: &'a mut [ActivationBlock],
}

impl Op for QuantiseRow<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, out) in self.row.as_chunks::<BLOCK>().0.iter().zip(self.out) {
            *out = quantise_block(s, x);
        }
    }
}

#[inline(always)]
fn quantise_block<S: Simd>(s: S, x: &[f32; BLOCK]) -> ActivationBlock {
    let (low, high) = x.split_at(LANES);
    let halves = [s.load(low), s.load(high)];
    let greatest = s.greatest_magnitude_bits(halves[0], halves[1]);
    if greatest >= INFINITY_BITS {
        return ActivationBlock {
            scale: f32::NAN,
            scaled_sum: f32::NAN,
            ..ActivationBlock::default()
        };
    }
    let greatest = f32::from_bits(greatest);
    if greatest < NEGLIGIBLE {
        return ActivationBlock::default();
    }
    let (scale, inverse) = (greatest / 127.0, s.splat(127.0 / greatest));
    let mut quads = [0i32; 8];
    let mut sums = [0i32; 2];
    for half in 0..2 {
        let bytes = s.low_bytes(s.fma(halves[half], inverse, s.splat(MAGIC)));
        sums[half] = s.sum_of_bytes(bytes);
        for (quad, four) in quads[half * 4..].iter_mut().zip(bytes.as_chunks::<4>().0) {
            *quad = i32::from_le_bytes(four.map(|b| b as u8));
        }
    }
    let sum = sums[0] + sums[1];
    ActivationBlock {
        quads,
        scale,
        scaled_sum: scale * sum as f32,
        sums,
        minus: OFFSETS.map(|offset| -offset * sum),
    }
}
