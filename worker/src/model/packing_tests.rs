//! Packed weights against candle, which reads the same block types with code of its own.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use crate::gguf::BlockType;
use crate::kernels::pack::PackedMatrix;

const TYPES: [(BlockType, GgmlDType); 13] = [
    (BlockType::F32, GgmlDType::F32),
    (BlockType::F16, GgmlDType::F16),
    (BlockType::BF16, GgmlDType::BF16),
    (BlockType::Q4_0, GgmlDType::Q4_0),
    (BlockType::Q4_1, GgmlDType::Q4_1),
    (BlockType::Q5_0, GgmlDType::Q5_0),
    (BlockType::Q5_1, GgmlDType::Q5_1),
    (BlockType::Q8_0, GgmlDType::Q8_0),
    (BlockType::Q2K, GgmlDType::Q2K),
    (BlockType::Q3K, GgmlDType::Q3K),
    (BlockType::Q4K, GgmlDType::Q4K),
    (BlockType::Q5K, GgmlDType::Q5K),
    (BlockType::Q6K, GgmlDType::Q6K),
];

#[test]
fn packed_columns_hold_the_values_that_candle_reads() {
    const N: usize = 19;
    const K: usize = 512;
    // Steps of an irrational number fill -0.2..0.2 evenly.
    let values: Vec<f32> = (0..N * K)
        .map(|i| (i as f32 * 0.618_034).fract() * 0.4 - 0.2)
        .collect();
    let tensor = Tensor::from_vec(values, (N, K), &Device::Cpu).expect("a tensor");
    for (dtype, of_candle) in TYPES {
        let quantised = QTensor::quantize(&tensor, of_candle).expect("candle quantises");
        let expected: Vec<f32> = quantised
            .dequantize(&Device::Cpu)
            .and_then(|t| t.flatten_all()?.to_vec1())
            .expect("values");
        let matrix = PackedMatrix::pack(dtype, N, K, &quantised.data().expect("bytes"));
        assert_eq!(
            matrix.bytes(),
            PackedMatrix::packed_bytes(dtype, N, K),
            "{dtype:?}"
        );
        let mut column = vec![0.0; K];
        for (n, expected) in expected.chunks(K).enumerate() {
            matrix.column(n, &mut column);
            for (got, expected) in column.iter().zip(expected) {
                let close = (got - expected).abs() <= expected.abs() * 3e-7 + 1e-7;
                assert!(close, "{dtype:?} column {n}: {got} is not {expected}");
            }
        }
    }
}
