//! The results themselves, as digests: whatever kernel computes them and on whatever processor, they are these.
//!
//! A change here changes the bytes of every batch: it is a new version of the numerics.

use super::*;
use crate::activations::{ActivationBlock, quantise_row};
use crate::attention::{AttentionChunk, AttentionParams, attention};
use crate::elementwise::{Gate, RopeStyle, add, gate_up, rms_norm, rms_norm_in_place, rope};
use crate::kv::{BLOCK_TOKENS, BlockId, KvElement, KvLayer, KvPlaces, KvShape};
use crate::math::exp_lanes;
use crate::matmul::{Linear, Rows, Write, linear};
use crate::pack::PackedMatrix;
use crate::pool::Pool;
use crate::shared::RowsMut;

/// FNV-1a over the bits of results; NaNs count as one.
struct Digest(u64);

impl Digest {
    fn new() -> Digest {
        Digest(0xCBF2_9CE4_8422_2325)
    }

    fn add(&mut self, word: u32) {
        for byte in word.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }

    fn floats(&mut self, values: &[f32]) {
        for x in values {
            self.add(if x.is_nan() { f32::NAN } else { *x }.to_bits());
        }
    }
}

/// Rows, outputs and inputs of a product: neither whole panels of rows nor whole tiles of outputs.
const ROWS: usize = 7;
const N: usize = 37;
const K: usize = 512;

fn product(kernel: Kernel, dtype: BlockType) -> u64 {
    let mut numbers = Numbers::new(21);
    let matrix = PackedMatrix::pack(dtype, N, K, &weights(&mut numbers, dtype, N * K));
    let x = numbers.floats(ROWS * K, 2.0);
    let bias = numbers.floats(N, 1.0);
    let mut blocks = vec![ActivationBlock::default(); ROWS * K / 32];
    for (row, blocks) in x.chunks(K).zip(blocks.chunks_mut(K / 32)) {
        quantise_row(kernel, row, blocks);
    }
    let rows = Rows {
        count: ROWS,
        floats: &x,
        stride: K,
        blocks: &blocks,
    };
    let part = Linear {
        matrix: &matrix,
        bias: Some(&bias),
        column: 0,
    };
    let mut digest = Digest::new();
    let mut out = vec![0.0; ROWS * N];
    for write in [Write::Replace, Write::Add] {
        let out = (&mut out[..], N);
        linear(kernel, &mut Pool::new(2), &[part], rows, out, write);
    }
    digest.floats(&out);
    let mut column = vec![0.0; K];
    matrix.column(N - 1, &mut column);
    digest.floats(&column);
    digest.0
}

fn attended<T: KvElement>(kernel: Kernel) -> u64 {
    const LEN: usize = 300;
    let shape = KvShape {
        kv_heads: 2,
        head_dim: 40,
    };
    let (heads, width) = (6, 2 * 2 * 40);
    let mut numbers = Numbers::new(22);
    let blocks: Vec<BlockId> = (0..=LEN as u32 / 32).map(BlockId).collect();
    let mut layer = KvLayer::<T>::new(shape, blocks.len());
    let places = (0..LEN).map(|p| (blocks[p / BLOCK_TOKENS], p % BLOCK_TOKENS));
    let places = KvPlaces::new(places.collect()).expect("positions are distinct");
    let mut kv = numbers.floats(LEN * width, 2.0);
    let pool = &mut Pool::new(2);
    let rows = (RowsMut::new(&mut kv, width), 0);
    layer.store_rows((kernel, pool), &places, rows, |_, _| {});
    let mut digest = Digest::new();
    for window in [None, Some(70)] {
        let queries = numbers.floats(9 * heads * 40, 1.0);
        let mut out = vec![0.0; queries.len()];
        let params = AttentionParams {
            heads,
            scale: 0.15,
            window,
        };
        let chunk = AttentionChunk {
            row: 0,
            len: 9,
            start: LEN - 9,
            blocks: &blocks,
        };
        let queries = (&queries[..], heads * 40);
        attention(kernel, pool, &layer, params, &[chunk], queries, &mut out);
        digest.floats(&out);
    }
    digest.0
}

fn quantised(kernel: Kernel) -> u64 {
    let mut numbers = Numbers::new(23);
    let mut x = numbers.floats(32 * 40, 9.0);
    x[32..64].fill(0.0);
    x[64..96].fill(1e-38);
    x[96] = f32::INFINITY;
    x[128..160].fill(3e38);
    let mut blocks = [ActivationBlock::default(); 40];
    quantise_row(kernel, &x, &mut blocks);
    let mut digest = Digest::new();
    for block in blocks {
        for integer in block.quads.into_iter().chain(block.sums) {
            digest.add(integer as u32);
        }
        digest.floats(&[block.scale, block.scaled_sum]);
    }
    digest.0
}

struct Exp<'a>(&'a mut [f32]);

impl Op for Exp<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for x in self.0.as_chunks_mut::<LANES>().0 {
            *x = s.to_array(exp_lanes(s, s.from_array(*x)));
        }
    }
}

fn exponentials(kernel: Kernel) -> u64 {
    let mut numbers = Numbers::new(24);
    let mut x = numbers.floats(4096, 95.0);
    x.extend([(); 1024].map(|()| numbers.any_float()));
    kernel.run(Exp(&mut x));
    let mut digest = Digest::new();
    digest.floats(&x);
    digest.0
}

/// Norms, or rotations, or gates, on rows that are not whole vectors.
fn rows(kernel: Kernel, work: fn(Kernel, &mut Numbers, &mut [f32])) -> u64 {
    let mut numbers = Numbers::new(25);
    let mut digest = Digest::new();
    for len in [2, 30, 64, 100, 576] {
        let mut row = numbers.floats(len, 3.0);
        work(kernel, &mut numbers, &mut row);
        digest.floats(&row);
    }
    digest.0
}

fn norms(kernel: Kernel, numbers: &mut Numbers, row: &mut [f32]) {
    let weight = numbers.floats(row.len(), 1.0);
    let x = row.to_vec();
    rms_norm(kernel, &x, &weight, 1e-5, row);
    rms_norm_in_place(kernel, row, &weight, 1e-6);
    add(kernel, row, &x);
}

fn rotations(kernel: Kernel, numbers: &mut Numbers, row: &mut [f32]) {
    let half = row.len() / 2;
    for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
        let (cos, sin) = (numbers.floats(half, 1.0), numbers.floats(half, 1.0));
        rope(kernel, row, &cos, &sin, style);
    }
}

/// One gate's results in the first half, the other's in the second.
fn gates(kernel: Kernel, _: &mut Numbers, row: &mut [f32]) {
    let half = row.len() / 2;
    let mut other = row.to_vec();
    gate_up(kernel, row, Gate::Silu);
    gate_up(kernel, &mut other, Gate::Gelu);
    row[half..].copy_from_slice(&other[..half]);
}

/// Every digest, with what it is of.
fn digests(kernel: Kernel) -> Vec<(String, u64)> {
    let mut found: Vec<_> = packed_types()
        .map(|dtype| (format!("product {dtype}"), product(kernel, dtype)))
        .collect();
    found.extend(
        [
            ("attention f16", attended::<u16>(kernel)),
            ("attention f32", attended::<f32>(kernel)),
            ("quantised", quantised(kernel)),
            ("exp", exponentials(kernel)),
            ("norms", rows(kernel, norms)),
            ("rotations", rows(kernel, rotations)),
            ("gates", rows(kernel, gates)),
        ]
        .map(|(name, digest)| (name.to_owned(), digest)),
    );
    found
}

/// The digests of numerics v1.
const GOLDEN: [(&str, u64); 20] = [
    ("product F32", 0x85AC_D62C_8825_CEC3),
    ("product F16", 0x3EE4_71CB_FA89_A8EB),
    ("product BF16", 0xCE55_7270_6C4A_0161),
    ("product Q4_0", 0x32CB_D3C5_0AE2_6DDB),
    ("product Q4_1", 0xB6BA_688E_0130_EFE0),
    ("product Q5_0", 0x5063_3DF8_B75E_7061),
    ("product Q5_1", 0xA98E_C8A9_2A7E_B091),
    ("product Q8_0", 0xD99C_4448_8258_E3BF),
    ("product Q2_K", 0xFF42_CCFC_153A_A088),
    ("product Q3_K", 0x7D86_B3E8_42F4_36AF),
    ("product Q4_K", 0x7012_AE73_D261_3C45),
    ("product Q5_K", 0xF350_205B_2ABA_8B29),
    ("product Q6_K", 0x64CF_5808_75C3_DAAA),
    ("attention f16", 0xCB32_EE7B_394F_857A),
    ("attention f32", 0x5AF7_CFBF_DB98_6048),
    ("quantised", 0xBFA5_0BF5_B4A6_2C96),
    ("exp", 0x4359_225C_6FC7_FC67),
    ("norms", 0x300B_2932_4E16_7612),
    ("rotations", 0x266F_EF6F_4DBE_CF4B),
    ("gates", 0x0A1D_1EB6_F70A_6DF3),
];

#[test]
fn results_are_the_golden_ones_on_every_kernel() {
    for kernel in Kernel::available() {
        let found = digests(*kernel);
        let wrong: Vec<_> = found
            .iter()
            .zip(GOLDEN)
            .filter(|((name, digest), golden)| (name.as_str(), *digest) != *golden)
            .map(|((name, digest), _)| format!("    (\"{name}\", {digest:#018x}),"))
            .collect();
        assert!(
            wrong.is_empty() && found.len() == GOLDEN.len(),
            "{kernel} gives other results:\n{}",
            wrong.join("\n")
        );
    }
}

#[test]
fn reductions_over_a_vocabulary_are_the_golden_ones() {
    let mut numbers = Numbers::new(26);
    let row = numbers.floats(1003, 12.0);
    let max = vocab::max(&row);
    let sum = vocab::sum_exp(&row, max, 0.8);
    let found = [max, sum, math::ln(sum), math::exp(-sum)].map(f32::to_bits);
    let golden = [1_094_688_950, 1_111_102_088, 1_081_458_678, 502_069_455];
    assert_eq!((found, vocab::arg_max(&row)), (golden, 171));
}
