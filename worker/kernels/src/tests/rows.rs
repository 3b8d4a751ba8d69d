use super::*;
use crate::activations::{ActivationBlock, quantise_row};
use crate::elementwise::{Gate, RopeStyle, gate_up, rms_norm, rope};
use crate::math::{exp, exp_lanes};

struct ExpAll<'a>(&'a mut [f32]);

impl Op for ExpAll<'_> {
    type Out = ();
    fn run<S: Simd>(self, s: S) {
        for x in self.0.as_chunks_mut::<LANES>().0 {
            *x = s.to_array(exp_lanes(s, s.from_array(*x)));
        }
    }
}

#[test]
fn exp_is_accurate_and_equal_on_every_kernel() {
    let mut numbers = Numbers::new(1);
    let mut inputs = numbers.floats(16 * 4096, 95.0);
    inputs[..6].copy_from_slice(&[0.0, -0.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 88.0]);
    let expected: Vec<f32> = inputs.iter().map(|x| exp(*x)).collect();
    for (x, y) in inputs
        .iter()
        .zip(&expected)
        .filter(|(x, _)| (-87.0..88.0).contains(*x))
    {
        let truth = f64::from(*x).exp();
        assert!(
            (f64::from(*y) - truth).abs() <= truth * 2e-7,
            "exp({x}) = {y}, not {truth}"
        );
    }
    assert_eq!(
        (expected[0], expected[2], expected[3]),
        (1.0, 0.0, f32::INFINITY)
    );
    assert!(expected[4].is_nan());
    for kernel in Kernel::available() {
        let mut out = inputs.clone();
        kernel.run(ExpAll(&mut out));
        let same = out
            .iter()
            .zip(&expected)
            .all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
        assert!(same, "{kernel} differs from the scalar twin");
    }
}

#[test]
fn row_operations_are_equal_on_every_kernel() {
    let mut numbers = Numbers::new(2);
    for len in [1, 15, 16, 17, 64, 576, 1000] {
        let x = numbers.floats(len, 3.0);
        let weight = numbers.floats(len, 1.0);
        let double = numbers.floats(2 * len, 4.0);
        let (cos, sin) = (numbers.floats(len / 2, 1.0), numbers.floats(len / 2, 1.0));
        let run = |kernel: Kernel| {
            let mut out = Vec::new();
            let mut normed = vec![0.0; len];
            rms_norm(kernel, &x, &weight, 1e-5, &mut normed);
            out.extend(bits(&normed));
            for gate in [Gate::Silu, Gate::Gelu] {
                let mut row = double.clone();
                gate_up(kernel, &mut row, gate);
                out.extend(bits(&row[..len]));
            }
            for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
                let mut row = x.clone();
                rope(kernel, &mut row, &cos, &sin, style);
                out.extend(bits(&row));
            }
            out.extend([
                vocab::max(&x).to_bits(),
                vocab::sum_exp(&x, 1.5, 0.7).to_bits(),
            ]);
            out
        };
        let expected = run(Kernel::Scalar);
        for kernel in Kernel::available() {
            assert!(
                run(*kernel) == expected,
                "{kernel} differs from the scalar twin at length {len}"
            );
        }
    }
}

#[test]
fn rms_norm_agrees_with_f64() {
    let mut numbers = Numbers::new(3);
    let x = numbers.floats(576, 5.0);
    let weight = numbers.floats(576, 1.0);
    let mut out = vec![0.0; 576];
    rms_norm(Kernel::detect(), &x, &weight, 1e-5, &mut out);
    let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 576.0;
    for ((out, x), weight) in out.iter().zip(&x).zip(&weight) {
        let truth = f64::from(*x) / (mean + 1e-5).sqrt() * f64::from(*weight);
        assert!(
            (f64::from(*out) - truth).abs() < 1e-6,
            "{out} is not {truth}"
        );
    }
}

#[test]
fn quantised_rows_are_equal_on_every_kernel_and_close_to_the_row() {
    let mut numbers = Numbers::new(4);
    let mut x = numbers.floats(32 * 6, 7.0);
    x[32..64].fill(0.0);
    x[64] = f32::NAN;
    x[96..128].fill(1e-38);
    let run = |kernel| {
        let mut out = [ActivationBlock::default(); 6];
        quantise_row(kernel, &x, &mut out);
        out
    };
    let expected = run(Kernel::Scalar);
    for kernel in Kernel::available() {
        assert_eq!(
            format!("{:?}", run(*kernel)),
            format!("{expected:?}"),
            "{kernel}"
        );
    }
    assert!(expected[2].scale.is_nan(), "a NaN must not get lost");
    let first = &expected[0];
    for (i, x) in x[..32].iter().enumerate() {
        let byte = first.quads[i / 4].to_le_bytes()[i % 4] as i8;
        assert!(
            (f32::from(byte) * first.scale - x).abs() <= first.scale * 0.5001,
            "value {i}"
        );
    }
}

#[test]
fn arg_max_takes_the_lowest_of_equals_and_passes_over_nan() {
    let mut row = vec![-1.0; 50];
    row[7] = f32::NAN;
    row[20] = 3.0;
    row[33] = 3.0;
    assert_eq!(vocab::arg_max(&row), 20);
    assert_eq!(vocab::finite_arg_max(&row), None);
    row[7] = 0.0;
    assert_eq!(vocab::finite_arg_max(&row), Some(20));
    for at in [0, 31, 32, 49] {
        let mut infinite = row.clone();
        infinite[at] = f32::NEG_INFINITY;
        assert_eq!(vocab::finite_arg_max(&infinite), None, "at {at}");
        let mut great = row.clone();
        great[at] = 4.0;
        assert_eq!(vocab::finite_arg_max(&great), Some(at));
    }
    assert_eq!(vocab::finite_arg_max(&[-0.0, 0.0]), Some(0));
}
