use super::*;
use crate::attention::{AttentionChunk, AttentionParams, attention};
use crate::kv::{BLOCK_TOKENS, BlockId, KvElement, KvLayer, KvPlaces, KvShape};
use crate::pool::Pool;
use crate::shared::RowsMut;

struct Case {
    shape: KvShape,
    heads: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    len: usize,
    window: Option<usize>,
}

impl Case {
    fn new(
        seed: u64,
        kv_heads: usize,
        group: usize,
        head_dim: usize,
        len: usize,
        window: Option<usize>,
    ) -> Case {
        let mut numbers = Numbers::new(seed);
        let (heads, shape) = (kv_heads * group, KvShape { kv_heads, head_dim });
        let kv = |numbers: &mut Numbers| numbers.floats(len * kv_heads * head_dim, 2.0);
        let (keys, values) = (kv(&mut numbers), kv(&mut numbers));
        let queries = numbers.floats(len * heads * head_dim, 1.0);
        Case {
            shape,
            heads,
            keys,
            values,
            queries,
            len,
            window,
        }
    }

    fn layer<T: KvElement>(&self, blocks: &[BlockId]) -> KvLayer<T> {
        let most = blocks
            .iter()
            .map(|b| b.0 as usize + 1)
            .max()
            .expect("blocks");
        let mut layer = KvLayer::new(self.shape, most);
        let width = self.shape.kv_heads * self.shape.head_dim;
        let mut rows = Vec::new();
        let mut places = Vec::new();
        for position in 0..blocks.len() * BLOCK_TOKENS {
            places.push((blocks[position / BLOCK_TOKENS], position % BLOCK_TOKENS));
            if position < self.len {
                rows.extend_from_slice(&self.keys[position * width..][..width]);
                rows.extend_from_slice(&self.values[position * width..][..width]);
            } else {
                rows.extend(vec![f32::NAN; 2 * width]);
            }
        }
        let places = KvPlaces::new(places).expect("distinct places");
        let rows = RowsMut::new(&mut rows, 2 * width);
        layer.store_rows(
            (Kernel::Scalar, &mut Pool::new(2)),
            &places,
            (rows, 0),
            |_, _| {},
        );
        layer
    }

    /// All positions, cut into chunks at `cuts`.
    fn run<T: KvElement>(
        &self,
        kernel: Kernel,
        threads: usize,
        cuts: &[usize],
        blocks: &[BlockId],
    ) -> Vec<f32> {
        let layer = self.layer::<T>(blocks);
        let width = self.heads * self.shape.head_dim;
        let params = AttentionParams {
            heads: self.heads,
            scale: 0.125,
            window: self.window,
        };
        let mut out = vec![f32::NAN; self.len * width];
        let ends = cuts.iter().copied().chain([self.len]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let chunks: Vec<_> = starts
            .zip(ends)
            .map(|(start, end)| AttentionChunk {
                row: start,
                len: end - start,
                start,
                blocks,
            })
            .collect();
        attention(
            kernel,
            &mut Pool::new(threads),
            &layer,
            params,
            &chunks,
            (&self.queries, width),
            &mut out,
        );
        out
    }

    fn reference(&self, row: usize, head: usize) -> Vec<f64> {
        let KvShape { kv_heads, head_dim } = self.shape;
        let kv_head = head / (self.heads / kv_heads);
        let first = self.window.map_or(0, |w| (row + 1).saturating_sub(w));
        let query = &self.queries[(row * self.heads + head) * head_dim..][..head_dim];
        let part = |of: &[f32], t: usize| -> Vec<f64> {
            of[(t * kv_heads + kv_head) * head_dim..][..head_dim]
                .iter()
                .map(|x| f64::from(*x))
                .collect()
        };
        let scores: Vec<f64> = (first..=row)
            .map(|t| {
                part(&self.keys, t)
                    .iter()
                    .zip(query)
                    .map(|(k, q)| k * f64::from(*q))
                    .sum::<f64>()
                    * 0.125
            })
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut out = vec![0.0; head_dim];
        for (weight, t) in weights.iter().zip(first..) {
            for (out, v) in out.iter_mut().zip(part(&self.values, t)) {
                *out += weight / sum * v;
            }
        }
        out
    }
}

fn blocks(len: usize, shuffled: bool) -> Vec<BlockId> {
    let count = len.div_ceil(BLOCK_TOKENS) as u32;
    if shuffled {
        (0..count).map(|i| BlockId((count - i) * 2)).collect()
    } else {
        (0..count).map(BlockId).collect()
    }
}

#[test]
fn attention_agrees_with_f64() {
    for (kv_heads, group, head_dim, len, window) in [
        (3, 3, 64, 70, None),
        (1, 4, 256, 40, Some(9)),
        (2, 1, 80, 530, None),
        (1, 5, 24, 300, Some(280)),
    ] {
        let case = Case::new(5, kv_heads, group, head_dim, len, window);
        let out = case.run::<f32>(Kernel::detect(), 2, &[], &blocks(len, false));
        for row in [0, 1, len / 2, len - 1] {
            for head in 0..case.heads {
                let got = &out[(row * case.heads + head) * head_dim..][..head_dim];
                for (got, truth) in got.iter().zip(case.reference(row, head)) {
                    assert!(
                        (f64::from(*got) - truth).abs() < 2e-6,
                        "row {row} head {head}: {got} is not {truth}"
                    );
                }
            }
        }
    }
}

#[test]
fn attention_is_equal_for_every_kernel_chunking_thread_count_and_block_order() {
    for window in [None, Some(300), Some(17)] {
        let case = Case::new(6, 2, 3, 40, 600, window);
        let expected = bits(&case.run::<u16>(Kernel::Scalar, 1, &[], &blocks(600, false)));
        let every: Vec<usize> = (1..600).collect();
        for kernel in Kernel::available() {
            for (cuts, threads, shuffled) in [
                (&[][..], 2, true),
                (&[1, 2, 250, 255, 257, 512], 2, false),
                (&[300], 1, true),
                (&every, 2, true),
            ] {
                let got = case.run::<u16>(*kernel, threads, cuts, &blocks(600, shuffled));
                assert!(
                    bits(&got) == expected,
                    "{kernel} with {} cuts, {threads} threads, window {window:?}",
                    cuts.len()
                );
            }
        }
    }
}
