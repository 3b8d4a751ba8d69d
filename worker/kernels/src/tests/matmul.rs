use super::*;
use crate::activations::{ActivationBlock, quantise_row};
use crate::matmul::{Linear, Rows, Write, linear};
use crate::pack::PackedMatrix;
use crate::pool::Pool;

struct Case {
    matrix: PackedMatrix,
    x: Vec<f32>,
    blocks: Vec<ActivationBlock>,
    rows: usize,
}

fn case(dtype: BlockType, n: usize, k: usize, rows: usize) -> Case {
    let mut numbers = Numbers::new(k as u64 * 31 + n as u64);
    let matrix = PackedMatrix::pack(dtype, n, k, &weights(&mut numbers, dtype, n * k));
    let x = numbers.floats(rows * k, 2.0);
    let mut blocks = vec![ActivationBlock::default(); rows * k / 32];
    for (row, blocks) in x.chunks(k).zip(blocks.chunks_mut(k / 32)) {
        quantise_row(Kernel::Scalar, row, blocks);
    }
    Case {
        matrix,
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
fn products_are_equal_for_every_kernel_thread_count_and_number_of_rows() {
    for dtype in packed_types() {
        let case = case(dtype, 37, 512, 100);
        let expected = bits(&case.product(Kernel::Scalar, 1, 0..case.rows));
        for kernel in Kernel::available() {
            for threads in [1, 2] {
                assert!(
                    bits(&case.product(*kernel, threads, 0..100)) == expected,
                    "{:?} {kernel}",
                    dtype
                );
            }
            for (first, rows) in [(0, 1), (99, 1), (5, 2), (40, 3), (13, 7), (60, 32)] {
                let got = bits(&case.product(*kernel, 2, first..first + rows));
                assert!(
                    got == expected[first * 37..(first + rows) * 37],
                    "{:?} {kernel} {rows} rows",
                    dtype
                );
            }
        }
    }
}

#[test]
fn products_agree_with_f64_up_to_the_rounding_of_activations() {
    for dtype in packed_types() {
        let (n, k, rows) = (32, 512, 9);
        let case = case(dtype, n, k, rows);
        let got = case.product(Kernel::detect(), 2, 0..rows);
        let mut error = 0f64;
        let mut size = 0f64;
        let mut w = vec![0.0; k];
        for column in 0..n {
            case.matrix.column(column, &mut w);
            for row in 0..rows {
                let x = &case.x[row * k..][..k];
                let truth: f64 = x
                    .iter()
                    .zip(&w)
                    .map(|(x, w)| f64::from(*x) * f64::from(*w))
                    .sum();
                error += (f64::from(got[row * n + column]) - truth).powi(2);
                size += truth.powi(2);
            }
        }
        let relative = (error / size).sqrt();
        let bound = if case.matrix.quantised() { 6e-3 } else { 2e-6 };
        assert!(relative < bound, "{:?}: relative error {relative}", dtype);
    }
}

#[test]
fn columns_of_several_matrices_lie_side_by_side_with_bias_and_are_added() {
    let (a, b) = (
        case(BlockType::Q4_1, 20, 64, 3),
        case(BlockType::Q8_0, 33, 64, 3),
    );
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
