//! The digest that says which nodes compute the same bytes.

use sha2::{Digest, Sha256};

use crate::engine::grammar::GRAMMAR_RULES;
use crate::engine::step::BlockId;
use crate::gguf::BlockType;
use crate::kernels::Kernel;
use crate::kernels::activations::{ActivationBlock, BLOCK, quantise_row};
use crate::kernels::attention::{AttentionChunk, AttentionParams, attention};
use crate::kernels::elementwise::{Gate, RopeStyle, gate_up, rms_norm, rope};
use crate::kernels::kv::{KvElement, KvLayer, KvPlaces, KvShape};
use crate::kernels::matmul::{Linear, Rows, Write, linear};
use crate::kernels::pack::PackedMatrix;
use crate::kernels::pool::Pool;
use crate::kernels::shared::RowsMut;

use super::device::ComputeDevice;
use super::memory::KvType;
use super::rope::{RopeConfig, RopeScaling, RopeTable};

/// Version of the rules by which results are computed; it changes whenever a kernel's order of operations does.
const RULES: &str = "numerics v1";

/// The version of candle whose arithmetic its models have.
pub(super) const CANDLE: &str = "candle-0.11.1";

/// Outputs and inputs of the probe's matrices: one tile column more than whole, one super-block.
const N: usize = 24;
const K: usize = 256;

/// What results are called whose sums are in candle's order.
pub fn of_candle(architecture: &str, device: ComputeDevice) -> String {
    match device {
        ComputeDevice::Cpu => format!("{CANDLE}-{architecture}"),
        ComputeDevice::Cuda(_) => format!("{CANDLE}-cuda-{architecture}"),
    }
}

/// The numerics of this process: the rules, the KV type, and the results of a fixed probe of all kernels.
///
/// Two nodes with equal numerics give equal bytes for the same job, model and seed.
pub fn digest(kernel: Kernel, kv: KvType) -> String {
    let mut probe = Probe {
        hash: Sha256::new(),
        state: 0,
        kernel,
        pool: Pool::new(1),
    };
    probe.hash.update(RULES);
    probe.hash.update(GRAMMAR_RULES);
    probe.hash.update(kv.to_string());
    for dtype in BlockType::ALL
        .into_iter()
        .filter(|dtype| *dtype != BlockType::Q8K)
    {
        probe.matrix(dtype);
    }
    probe.rows();
    match kv {
        KvType::F16 => probe.attention::<u16>(),
        KvType::F32 => probe.attention::<f32>(),
    }
    let digest = probe.hash.finalize();
    format!("v1-{kv}-{}", hex::encode(&digest[..6]))
}

struct Probe {
    hash: Sha256,
    state: u64,
    kernel: Kernel,
    pool: Pool,
}

impl Probe {
    /// SplitMix64: a fixed stream of numbers.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1, exactly representable.
    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0)
            .collect()
    }

    fn add(&mut self, values: &[f32]) {
        for value in values {
            self.hash.update(value.to_bits().to_le_bytes());
        }
    }

    fn matrix(&mut self, dtype: BlockType) {
        let len = N * K / dtype.block_len() * dtype.block_bytes();
        // Bytes below 0x3C keep every f16 and f32 that they happen to form small and finite.
        let data: Vec<u8> = (0..len).map(|_| (self.next() % 0x3C) as u8).collect();
        let matrix = PackedMatrix::pack(dtype, N, K, &data);
        let floats = self.floats(3 * K);
        let mut blocks = vec![ActivationBlock::default(); 3 * K / BLOCK];
        for (row, blocks) in floats.chunks(K).zip(blocks.chunks_mut(K / BLOCK)) {
            quantise_row(self.kernel, row, blocks);
        }
        let rows = Rows {
            count: 3,
            floats: &floats,
            stride: K,
            blocks: &blocks,
        };
        let mut out = vec![0.0; 3 * N];
        let part = Linear {
            matrix: &matrix,
            bias: None,
            column: 0,
        };
        linear(
            self.kernel,
            &mut self.pool,
            &[part],
            rows,
            (&mut out, N),
            Write::Replace,
        );
        self.add(&out);
    }

    fn rows(&mut self) {
        let (x, weight) = (self.floats(100), self.floats(100));
        let mut out = vec![0.0; 100];
        rms_norm(self.kernel, &x, &weight, 1e-5, &mut out);
        self.add(&out);
        for gate in [Gate::Silu, Gate::Gelu] {
            let mut row = x.clone();
            gate_up(self.kernel, &mut row, gate);
            self.add(&row[..50]);
        }
        let config = RopeConfig {
            dims: 64,
            base: 1e5,
            scaling: RopeScaling::None,
            magnitude: 1.0,
        };
        let mut angles = vec![0.0; 64];
        RopeTable::new(&config).angles(4097, &mut angles);
        for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
            let mut row = x[..64].to_vec();
            rope(self.kernel, &mut row, &angles[..32], &angles[32..], style);
            self.add(&row);
        }
        let lse = crate::kernels::vocab::sum_exp(&x, 1.0, 0.7);
        self.add(&[lse, crate::kernels::math::ln(lse)]);
    }

    fn attention<T: KvElement>(&mut self) {
        let shape = KvShape {
            kv_heads: 2,
            head_dim: 24,
        };
        let (len, width) = (300, 2 * 2 * 24);
        let mut layer = KvLayer::<T>::new(shape, len / 32 + 1);
        let blocks: Vec<BlockId> = (0..=len as u32 / 32).map(BlockId).collect();
        let places = (0..len).map(|p| (blocks[p / 32], p % 32)).collect();
        let places = KvPlaces::new(places).expect("consecutive positions are distinct");
        let mut kv = self.floats(len * width);
        layer.store_rows(
            (self.kernel, &mut self.pool),
            &places,
            (RowsMut::new(&mut kv, width), 0),
            |_, _| {},
        );
        let queries = self.floats(2 * 96);
        let mut out = vec![0.0; 2 * 96];
        let params = AttentionParams {
            heads: 4,
            scale: 0.2,
            window: Some(290),
        };
        let chunk = AttentionChunk {
            row: 0,
            len: 2,
            start: len - 2,
            blocks: &blocks,
        };
        attention(
            self.kernel,
            &mut self.pool,
            &layer,
            params,
            &[chunk],
            (&queries, 96),
            &mut out,
        );
        self.add(&out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_the_same_numerics() {
        let expected = digest(Kernel::Scalar, KvType::F16);
        for kernel in Kernel::available() {
            assert_eq!(digest(*kernel, KvType::F16), expected, "{kernel}");
        }
        assert_ne!(digest(Kernel::Scalar, KvType::F32), expected);
    }
}
