use super::*;
use crate::activations::{ActivationBlock, quantise_row};
use crate::block_type::BlockType;
use crate::matmul::{Linear, Rows, Write, linear};
use crate::pack::PackedMatrix;
use crate::pool::Pool;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

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

struct Case {
    matrix: PackedMatrix,
    /// The weights as Candle reads them, row by row.
    weights: Vec<f32>,
    x: Vec<f32>,
    blocks: Vec<ActivationBlock>,
    rows: usize,
}

fn case(dtype: (BlockType, GgmlDType), n: usize, k: usize, rows: usize) -> Case {
    let mut numbers = Numbers::new(k as u64 * 31 + n as u64);
    let tensor =
        Tensor::from_vec(numbers.floats(n * k, 0.2), (n, k), &Device::Cpu).expect("a tensor");
    let quantised = QTensor::quantize(&tensor, dtype.1).expect("Candle quantises");
    let weights = quantised
        .dequantize(&Device::Cpu)
        .and_then(|t| t.flatten_all()?.to_vec1())
        .expect("values");
    let matrix = PackedMatrix::pack(dtype.0, n, k, &quantised.data().expect("bytes"));
    let x = numbers.floats(rows * k, 2.0);
    let mut blocks = vec![ActivationBlock::default(); rows * k / 32];
    for (row, blocks) in x.chunks(k).zip(blocks.chunks_mut(k / 32)) {
        quantise_row(Kernel::Scalar, row, blocks);
    }
    Case {
        matrix,
        weights,
        x,
        blocks,
        rows,
    }
}

impl Case {
    fn product(&self, kernel: Kernel, threads: usize, rows: std::ops::Range<usize>) -> Vec<f32> {
        let (n, k) = (self.matrix.n, self.matrix.k);
        let given = Rows {
            count: rows.len(),
            floats: &self.x[rows.start * k..],
            stride: k,
            blocks: &self.blocks[rows.start * (k / 32)..],
        };
        let mut out = vec![f32::NAN; rows.len() * n];
        let part = Linear {
            matrix: &self.matrix,
            bias: None,
            column: 0,
        };
        linear(
            kernel,
            &mut Pool::new(threads),
            &[part],
            given,
            (&mut out, n),
            Write::Replace,
        );
        out
    }
}

#[test]
fn packed_columns_hold_the_values_that_candle_reads() {
    for dtype in TYPES {
        let case = case(dtype, 19, 512, 1);
        assert_eq!(
            case.matrix.bytes(),
            PackedMatrix::packed_bytes(dtype.0, 19, 512),
            "{:?}",
            dtype.0
        );
        let mut column = vec![0.0; 512];
        for (n, expected) in case.weights.chunks(512).enumerate() {
            case.matrix.column(n, &mut column);
            for (got, expected) in column.iter().zip(expected) {
                let close = (got - expected).abs() <= expected.abs() * 3e-7 + 1e-7;
                assert!(close, "{:?} column {n}: {got} is not {expected}", dtype.0);
            }
        }
    }
}

#[test]
fn products_are_equal_for_every_kernel_thread_count_and_number_of_rows() {
    for dtype in TYPES {
        let case = case(dtype, 37, 512, 100);
        let expected = bits(&case.product(Kernel::Scalar, 1, 0..case.rows));
        for kernel in Kernel::available() {
            for threads in [1, 2] {
                assert!(
                    bits(&case.product(*kernel, threads, 0..100)) == expected,
                    "{:?} {kernel}",
                    dtype.0
                );
            }
            for (first, rows) in [(0, 1), (99, 1), (5, 2), (40, 3), (13, 7), (60, 32)] {
                let got = bits(&case.product(*kernel, 2, first..first + rows));
                assert!(
                    got == expected[first * 37..(first + rows) * 37],
                    "{:?} {kernel} {rows} rows",
                    dtype.0
                );
            }
        }
    }
}

#[test]
fn products_agree_with_f64_up_to_the_rounding_of_activations() {
    for dtype in TYPES {
        let (n, k, rows) = (32, 512, 3);
        let case = case(dtype, n, k, rows);
        let got = case.product(Kernel::detect(), 2, 0..rows);
        let mut error = 0f64;
        let mut size = 0f64;
        for row in 0..rows {
            for column in 0..n {
                let x = &case.x[row * k..][..k];
                let w = &case.weights[column * k..][..k];
                let truth: f64 = x
                    .iter()
                    .zip(w)
                    .map(|(x, w)| f64::from(*x) * f64::from(*w))
                    .sum();
                error += (f64::from(got[row * n + column]) - truth).powi(2);
                size += truth.powi(2);
            }
        }
        let relative = (error / size).sqrt();
        let bound = if case.matrix.quantised() { 6e-3 } else { 2e-6 };
        assert!(relative < bound, "{:?}: relative error {relative}", dtype.0);
    }
}

#[test]
fn columns_of_several_matrices_lie_side_by_side_with_bias_and_are_added() {
    let (a, b) = (case(TYPES[4], 20, 64, 3), case(TYPES[7], 33, 64, 3));
    let bias: Vec<f32> = (0..33).map(|i| i as f32).collect();
    let rows = Rows {
        count: 3,
        floats: &a.x,
        stride: 64,
        blocks: &a.blocks,
    };
    let mut out = vec![1.0; 3 * 53];
    let parts = [
        Linear {
            matrix: &a.matrix,
            bias: None,
            column: 0,
        },
        Linear {
            matrix: &b.matrix,
            bias: Some(&bias),
            column: 20,
        },
    ];
    linear(
        Kernel::detect(),
        &mut Pool::new(2),
        &parts,
        rows,
        (&mut out, 53),
        Write::Add,
    );
    let left = a.product(Kernel::Scalar, 1, 0..3);
    let mut other = vec![0.0; 3 * 33];
    let part = Linear {
        matrix: &b.matrix,
        bias: None,
        column: 0,
    };
    linear(
        Kernel::Scalar,
        &mut Pool::new(1),
        &[part],
        rows,
        (&mut other, 33),
        Write::Replace,
    );
    for row in 0..3 {
        for column in 0..53 {
            let expected = if column < 20 {
                1.0 + left[row * 20 + column]
            } else {
                1.0 + (other[row * 33 + column - 20] + bias[column - 20])
            };
            assert_eq!(
                out[row * 53 + column].to_bits(),
                expected.to_bits(),
                "row {row} column {column}"
            );
        }
    }
}

#[test]
fn a_panic_in_a_unit_reaches_the_caller_and_the_pool_goes_on() {
    let mut pool = Pool::new(3);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.run(64, |unit| assert_ne!(unit, 33, "unit 33 is broken"));
    }));
    assert!(outcome.is_err());
    let sum = std::sync::atomic::AtomicUsize::new(0);
    pool.run(100, |unit| {
        sum.fetch_add(unit, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(sum.into_inner(), 4950);
}
