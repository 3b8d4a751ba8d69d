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

/// The root mean square error of results, relative to the size of the exact ones.
fn relative_error(case: &Case, got: impl Fn(&[f32], usize, usize) -> f64) -> f64 {
    let (n, k) = (case.matrix.n, case.matrix.k);
    let (mut error, mut size) = (0.0, 0.0);
    let mut w = vec![0.0; k];
    for column in 0..n {
        case.matrix.column(column, &mut w);
        for row in 0..case.rows {
            let truth = dot(&case.x[row * k..][..k], &w);
            error += (got(&w, row, column) - truth).powi(2);
            size += truth.powi(2);
        }
    }
    (error / size).sqrt()
}

fn dot(x: &[f32], w: &[f32]) -> f64 {
    let product = |(x, w): (&f32, &f32)| f64::from(*x) * f64::from(*w);
    x.iter().zip(w).map(product).sum()
}

#[test]
fn products_agree_with_f64_up_to_the_rounding_of_activations() {
    for dtype in packed_types() {
        let case = case(dtype, 32, 512, 9);
        let got = case.product(Kernel::detect(), 2, 0..9);
        let relative = relative_error(&case, |_, row, column| f64::from(got[row * 32 + column]));
        let bound = if case.matrix.quantised() { 6e-3 } else { 2e-6 };
        assert!(relative < bound, "{:?}: relative error {relative}", dtype);
    }
}

/// Activations as llama.cpp rounds them before a product: to bytes by blocks of 32 whose scale is an f16, or, for types with
/// super-blocks, by blocks of 256 that share one scale (`quantize_row_q8_0` and `quantize_row_q8_K` in ggml-quants.c).
fn rounded_as_by_llama_cpp(dtype: BlockType, x: &[f32]) -> Vec<f32> {
    let wide = dtype.block_len() == 256;
    let rounded = |block: &[f32]| {
        let greatest = block.iter().fold(0f32, |a, x| a.max(x.abs()));
        let scale = greatest / 127.0;
        let stored = match wide {
            true => scale,
            false => f16::from_f32(scale).to_f32(),
        };
        let byte = move |x: &f32| (x / scale).round().clamp(-127.0, 127.0) * stored;
        block.iter().map(byte).collect::<Vec<f32>>()
    };
    let len = if wide { 256 } else { 32 };
    x.chunks(len).flat_map(rounded).collect()
}

#[test]
fn errors_are_no_larger_than_those_of_llama_cpps_method() {
    let (n, k, rows) = (48, 1024, 24);
    for dtype in packed_types().filter(|dtype| dtype.is_quantised()) {
        let mut case = case(dtype, n, k, rows);
        // A few activations stand out, as they do in real models.
        for x in &mut case.x {
            *x *= x.powi(4);
        }
        for (row, blocks) in case.x.chunks(k).zip(case.blocks.chunks_mut(k / 32)) {
            quantise_row(Kernel::Scalar, row, blocks);
        }
        let got = case.product(Kernel::detect(), 2, 0..rows);
        let ours = relative_error(&case, |_, row, column| f64::from(got[row * n + column]));
        let theirs: Vec<Vec<f32>> = case
            .x
            .chunks(k)
            .map(|row| rounded_as_by_llama_cpp(dtype, row))
            .collect();
        // Their sums are taken as exact, which favours them.
        let theirs = relative_error(&case, |w, row, _| dot(&theirs[row], w));
        println!("{dtype:?}: {ours:.2e}, llama.cpp's method {theirs:.2e}");
        assert!(ours <= 1.01 * theirs, "{dtype:?}: {ours} and {theirs}");
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
