//! Every method of an instruction set alone, on bit patterns of all kinds.

use super::*;

/// Rounds of fresh inputs: each has 16 lanes of every operation.
const ROUNDS: u64 = 3000;

/// What the operations are given.
struct Inputs {
    floats: [[f32; LANES]; 4],
    /// Integers as they follow 1.5 * 2^23, for [`Simd::exp2_of_magic`].
    magic: [f32; LANES],
    halves: [u16; LANES],
    integers: [i32; LANES],
    bytes: [[u8; 64]; 2],
    quad: [i8; 4],
    by: u32,
    mask: u8,
}

impl Inputs {
    fn new(numbers: &mut Numbers) -> Inputs {
        let floats = [(); 4].map(|()| [0.0; LANES].map(|_| numbers.any_float()));
        Inputs {
            floats,
            magic: [0.0; LANES].map(|_: f32| 12_582_912.0 + (numbers.next() % 256) as f32 - 127.0),
            halves: [0; LANES].map(|_: u16| numbers.next() as u16),
            integers: [0; LANES].map(|_: i32| numbers.next() as i32 >> 2),
            bytes: [[0; 64]; 2].map(|bytes| bytes.map(|_: u8| numbers.next() as u8)),
            quad: [0; 4].map(|_: i8| (numbers.next() as i8).max(-127)),
            by: (numbers.next() % 8) as u32,
            mask: numbers.next() as u8,
        }
    }
}

/// Runs every operation and returns the bits of all results, each beside the operation's name. NaNs count as equal.
struct Every<'a>(&'a Inputs);

type Found = Vec<(&'static str, Vec<u32>)>;

fn floats(x: [f32; LANES]) -> Vec<u32> {
    x.map(|x| if x.is_nan() { f32::NAN } else { x }.to_bits())
        .to_vec()
}

fn halves(x: [u16; LANES]) -> Vec<u32> {
    let one = |half: u16| if half & 0x7FFF > 0x7C00 { 0x7E00 } else { half };
    x.map(|half| u32::from(one(half))).to_vec()
}

fn bytes(x: [u8; 64]) -> Vec<u32> {
    x.map(u32::from).to_vec()
}

impl Op for Every<'_> {
    type Out = Found;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Found {
        let given = self.0;
        let lanes = given.floats.map(|x| s.from_array(x));
        let [a, b, c, d] = lanes;
        let float = |x: S::F| floats(s.to_array(x));
        let integer = |x: S::I| floats(s.to_array(s.to_float(x)));
        let (left, right) = (s.bytes(&given.bytes[0]), s.bytes(&given.bytes[1]));
        let quad = i32::from_le_bytes(given.quad.map(|x| x as u8));
        let sums = s.iadd(
            s.ifrom_u8(
                given.bytes[1]
                    .first_chunk()
                    .expect("64 bytes are more than 16"),
            ),
            s.isplat(given.integers[0] >> 8),
        );
        let small = s.bits_right(left, 1, 0x7F);
        let signed = given.bytes[0].map(|x| x as i8);
        let signed = signed.first_chunk().expect("64 bytes are more than 16");
        let by = given.by as i32;
        vec![
            ("splat", float(s.splat(given.floats[0][3]))),
            ("add", float(s.add(a, b))),
            ("sub", float(s.sub(a, b))),
            ("mul", float(s.mul(a, b))),
            ("div", float(s.div(a, b))),
            ("fma", float(s.fma(a, b, c))),
            ("max", float(s.max(a, b))),
            ("max of equals", float(s.max(a, a))),
            ("select_lt", float(s.select_lt(a, b, c, d))),
            (
                "exp2_of_magic",
                float(s.exp2_of_magic(s.from_array(given.magic))),
            ),
            ("from_f16", float(s.from_f16(&given.halves))),
            ("to_f16", halves(s.to_f16(a))),
            ("isplat", integer(s.isplat(given.integers[1]))),
            ("ifrom_i8", integer(s.ifrom_i8(signed))),
            ("iadd and ifrom_u8", integer(sums)),
            ("to_bytes", bytes(s.to_bytes(left))),
            (
                "bits_right",
                bytes(s.to_bytes(s.bits_right(left, by, given.mask & 0xFF >> by))),
            ),
            (
                "bits_left",
                bytes(s.to_bytes(s.bits_left(left, by, given.mask & 0xFF << by))),
            ),
            ("either", bytes(s.to_bytes(s.either(left, right)))),
            ("dot4", integer(s.dot4(sums, left, quad))),
            ("dot4_small", integer(s.dot4_small(sums, small, quad))),
            (
                "greatest_magnitude_bits",
                vec![s.greatest_magnitude_bits(a, b)],
            ),
            (
                "low_bytes",
                s.low_bytes(a).map(|x| u32::from(x as u8)).to_vec(),
            ),
            ("sum_of_bytes", vec![s.sum_of_bytes(*signed) as u32]),
            ("sum_tree", floats([s.sum_tree(a); LANES])),
            ("max_lane", floats([s.max_lane(a); LANES])),
        ]
    }
}

#[test]
fn every_operation_gives_the_bits_of_its_scalar_twin() {
    let mut numbers = Numbers::new(11);
    for _ in 0..ROUNDS {
        let inputs = Inputs::new(&mut numbers);
        let expected = Kernel::Scalar.run(Every(&inputs));
        for kernel in Kernel::available() {
            let found = kernel.run(Every(&inputs));
            for ((name, found), (_, expected)) in found.iter().zip(&expected) {
                assert_eq!(
                    found, expected,
                    "{name} on {kernel} differs from the scalar twin"
                );
            }
        }
    }
}

/// All halves to singles and back.
struct ThereAndBack;

impl Op for ThereAndBack {
    type Out = Vec<(u16, u32, u16)>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Out {
        let mut found = Vec::new();
        for first in (0..=u16::MAX).step_by(LANES) {
            let halves = std::array::from_fn(|lane| first + lane as u16);
            let wide = s.from_f16(&halves);
            let (singles, back) = (s.to_array(wide), s.to_f16(wide));
            for lane in 0..LANES {
                found.push((halves[lane], singles[lane].to_bits(), back[lane]));
            }
        }
        found
    }
}

#[test]
fn every_half_goes_to_single_exactly_and_comes_back() {
    for kernel in Kernel::available() {
        for (half, single, back) in kernel.run(ThereAndBack) {
            let truth = exact(half);
            let single = f32::from_bits(single);
            if truth.is_nan() {
                let nan_again = back & 0x7FFF > 0x7C00;
                assert!(single.is_nan() && nan_again, "{kernel}: {half:#06x}");
            } else {
                assert!(
                    f64::from(single).to_bits() == truth.to_bits() && back == half,
                    "{kernel}: {half:#06x} became {single}, then {back:#06x}"
                );
            }
        }
    }
}

/// What the bits of a half say, by the standard's formula.
fn exact(half: u16) -> f64 {
    let (exponent, fraction) = (half >> 10 & 31, f64::from(half & 0x3FF));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if half & 0x3FF == 0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(i32::from(exponent) - 25),
    };
    if half >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }
}
