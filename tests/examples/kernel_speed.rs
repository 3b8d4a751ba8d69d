//! Measures the matrix kernels alone, for every block type, and the processor's peak of 8-bit dot products beside them:
//! `kernel_speed THREADS ROWS [KERNEL]`. Prints JSON; `cargo xtask bench kernels` shows it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rbee_tests::random::Random;
use rbee_worker::gguf::BlockType;
use rbee_worker::kernels::activations::{ActivationBlock, BLOCK, quantise_row};
use rbee_worker::kernels::matmul::{Linear, Rows, Write, linear};
use rbee_worker::kernels::pack::PackedMatrix;
use rbee_worker::kernels::pool::Pool;
use rbee_worker::kernels::{Kernel, Op, Simd};
use serde_json::json;

/// How long each figure is measured at least, after as long a warm-up.
const MEASURE: Duration = Duration::from_millis(200);
/// Best of so many: what else the machine does only makes a kernel look slower.
const TRIES: usize = 5;
/// Independent sums in the measurement of the peak: more than a dot product's latency times its rate.
const SUMS: usize = 16;
/// Dot products of a unit of work there, for each sum.
const TURNS: usize = 20_000;
/// Columns by inputs: SmolLM2's gate and up, and its down projection as far as 256 divides it.
const SHAPES: [(usize, usize); 2] = [(3072, 768), (768, 1536)];

/// Dot products on registers and nothing else.
struct Peak {
    weights: [u8; 64],
    activations: i32,
}

impl Op for Peak {
    type Out = i32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> i32 {
        let (weights, activations) = (s.bytes(&self.weights), self.activations);
        let mut sums = [s.isplat(0); SUMS];
        for turn in 0..TURNS as i32 {
            for sum in &mut sums {
                // A turn's activations differ, or all turns would be one multiplication.
                *sum = s.dot4_small(*sum, weights, activations ^ turn);
            }
        }
        let mut all = s.isplat(0);
        for sum in sums {
            all = s.iadd(all, sum);
        }
        s.to_array(s.to_float(all)).iter().sum::<f32>() as i32
    }
}

/// Seconds that the main thread has had a processor, where the system tells.
fn busy_s() -> Option<f64> {
    let told = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    let ns: u64 = told.split_whitespace().next()?.parse().ok()?;
    Some(ns as f64 / 1e9)
}

/// The best rate, in units of `operations`, of something that is done over and over. With one thread only the time counts
/// in which it had a processor, so that others on the machine matter less.
fn giga_per_s(threads: usize, operations: f64, mut work: impl FnMut()) -> f64 {
    let mut best = 0f64;
    for _ in 0..TRIES {
        let (started, busy, mut times) = (Instant::now(), busy_s(), 0);
        while started.elapsed() < MEASURE {
            work();
            times += 1;
        }
        let seconds = match (threads, busy, busy_s()) {
            (1, Some(before), Some(after)) => after - before,
            _ => started.elapsed().as_secs_f64(),
        };
        best = best.max(operations * f64::from(times) / seconds / 1e9);
    }
    best
}

fn peak(kernel: Kernel, pool: &mut Pool) -> f64 {
    let units = pool.threads() * 8;
    let operations = (units * TURNS * SUMS * 64 * 2) as f64;
    giga_per_s(pool.threads(), operations, || {
        pool.run(units, |unit| {
            black_box(kernel.run(Peak {
                weights: black_box([unit as u8 & 127; 64]),
                activations: black_box(0x0102_0304),
            }));
        });
    })
}

/// Bytes that are a sound matrix of the type: every 16 bits are a small number, whatever they are taken for.
fn matrix(dtype: BlockType, n: usize, k: usize) -> PackedMatrix {
    let mut random = Random::new(n as u64);
    let len = n * k / dtype.block_len() * dtype.block_bytes();
    let bytes: Vec<u8> = (0..len)
        .map(|at| (at % 2 * 0x38 + random.below(4)) as u8)
        .collect();
    PackedMatrix::pack(dtype, n, k, &bytes)
}

fn product(kernel: Kernel, pool: &mut Pool, matrix: &PackedMatrix, rows: usize) -> f64 {
    let (n, k) = (matrix.n, matrix.k);
    let floats: Vec<f32> = Random::new(1).normals(rows * k, 1.0);
    let mut blocks = vec![ActivationBlock::default(); rows * k / BLOCK];
    for (row, blocks) in floats.chunks(k).zip(blocks.chunks_mut(k / BLOCK)) {
        quantise_row(kernel, row, blocks);
    }
    let mut out = vec![0.0; rows * n];
    giga_per_s(pool.threads(), (2 * n * k * rows) as f64, || {
        let rows = Rows {
            count: rows,
            floats: &floats,
            stride: k,
            blocks: &blocks,
        };
        let part = Linear {
            matrix,
            bias: None,
            column: 0,
        };
        linear(kernel, pool, &[part], rows, (&mut out, n), Write::Replace);
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (threads, rows, kernel) = match arguments.as_slice() {
        [threads, rows] => (threads, rows, Kernel::detect()),
        [threads, rows, kernel] => (
            threads,
            rows,
            kernel.parse().expect("a kernel of this machine"),
        ),
        _ => panic!("kernel_speed THREADS ROWS [KERNEL]"),
    };
    let number = |text: &String| text.parse().expect("a whole number");
    let (threads, rows): (usize, usize) = (number(threads), number(rows));
    let mut pool = Pool::new(threads);
    let mut peak_gops = peak(kernel, &mut pool);
    let mut matrices = Vec::new();
    for dtype in BlockType::ALL {
        if dtype == BlockType::Q8K {
            continue;
        }
        for (n, k) in SHAPES {
            let matrix = matrix(dtype, n, k);
            let gops = product(kernel, &mut pool, &matrix, rows);
            matrices.push(
                json!({"type": format!("{dtype:?}"), "n": n, "k": k, "gops": gops,
                                 "bytes_of_file": matrix.bytes() as f64
                                     / (n * k / dtype.block_len() * dtype.block_bytes()) as f64}),
            );
        }
    }
    peak_gops = peak_gops.max(peak(kernel, &mut pool));
    println!(
        "{}",
        json!({"kernel": kernel.to_string(), "peak_gops": peak_gops, "matrices": matrices})
    );
}
