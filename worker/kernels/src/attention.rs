//! Attention of query rows over the blocks of a sequence's keys and values.
//!
//! Keys lie transposed in a block, so that a lane is a position: a score is one fused multiply-add a head dimension,
//! ascending. The softmax is taken over partitions of [`PARTITION`] absolute positions, and partitions are merged in
//! ascending order, so that a row's result depends on neither the chunk nor the rows beside it. Positions that a row
//! may not see are skipped exactly as if they were absent.

use super::kv::{BLOCK_TOKENS, BlockId, KvElement, KvLayer};
use super::math::{exp, exp_lanes};
use super::pool::Pool;
use super::shared::SharedSlice;
use super::simd::{LANES, Simd};
use super::{Kernel, Op};

/// Positions of a softmax partition.
pub const PARTITION: usize = 256;
/// Queries that share a pass over the keys, their sums held in registers.
const QUERIES: usize = 4;
/// Vectors of a value row that one pass sums.
const VALUE_VECTORS: usize = 4;
/// Rows that make a unit of work.
const ROWS_OF_UNIT: usize = 8;

/// Consecutive tokens of one sequence whose queries are computed.
#[derive(Clone, Copy)]
pub struct AttentionChunk<'a> {
    /// Row of the first token in the query and output buffers.
    pub row: usize,
    /// Tokens.
    pub len: usize,
    /// Absolute position of the first token.
    pub start: usize,
    /// Blocks of the sequence; they cover all positions up to the last token.
    pub blocks: &'a [BlockId],
}

/// What attention does besides the keys and values.
#[derive(Clone, Copy)]
pub struct AttentionParams {
    pub heads: usize,
    /// What scores are multiplied with.
    pub scale: f32,
    /// A token sees itself and at most `window - 1` positions before it.
    pub window: Option<usize>,
}

/// Computes attention for all chunks.
///
/// `queries` has rows of `query_stride` values whose first `heads * head_dim` are the queries; `out` rows of
/// `heads * head_dim`.
pub fn attention<T: KvElement>(
    kernel: Kernel,
    pool: &mut Pool,
    layer: &KvLayer<T>,
    params: AttentionParams,
    chunks: &[AttentionChunk<'_>],
    queries: (&[f32], usize),
    out: &mut [f32],
) {
    let mut units = Vec::new();
    for chunk in chunks {
        for first in (0..chunk.len).step_by(ROWS_OF_UNIT) {
            let len = ROWS_OF_UNIT.min(chunk.len - first);
            let part = AttentionChunk {
                row: chunk.row + first,
                len,
                start: chunk.start + first,
                blocks: chunk.blocks,
            };
            units.extend((0..layer.shape.kv_heads).map(|head| (part, head)));
        }
    }
    // Long ones first, so that the threads end together.
    units.sort_by_key(|(part, _)| std::cmp::Reverse((part.start + part.len) * part.len));
    let out = SharedSlice::new(out);
    let threads = pool.threads();
    pool.run(units.len(), |unit| {
        let (chunk, kv_head) = units[unit];
        // Most likely this thread's next unit.
        let next = units.get(unit + threads).unwrap_or(&units[unit]);
        kernel.run(Unit {
            layer,
            params,
            chunk,
            kv_head,
            next: layer.head_at(first_block(next, params), next.1),
            queries,
            out: &out,
        });
    });
}

/// The block of the first position that the unit's first row sees.
fn first_block((chunk, _): &(AttentionChunk<'_>, usize), params: AttentionParams) -> BlockId {
    let end = chunk.start + 1;
    let first = params.window.map_or(0, |window| end.saturating_sub(window));
    chunk.blocks[first / BLOCK_TOKENS]
}

/// The queries of some rows that read one key-value head.
struct Unit<'t, 'a, T> {
    layer: &'t KvLayer<T>,
    params: AttentionParams,
    chunk: AttentionChunk<'t>,
    kv_head: usize,
    /// Where the keys lie that are read after this unit's.
    next: usize,
    queries: (&'t [f32], usize),
    out: &'t SharedSlice<'a, f32>,
}

/// One query: its row, its head and the positions that it sees.
#[derive(Clone, Copy)]
struct Query {
    row: usize,
    head: usize,
    first: usize,
    end: usize,
}

impl<T: KvElement> Op for Unit<'_, '_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let group = self.params.heads / self.layer.shape.kv_heads;
        let mut queries = [Query {
            row: 0,
            head: 0,
            first: 0,
            end: 0,
        }; QUERIES];
        let mut filled = 0;
        for row in 0..self.chunk.len {
            let end = self.chunk.start + row + 1;
            let first = self
                .params
                .window
                .map_or(0, |window| end.saturating_sub(window));
            for head in self.kv_head * group..(self.kv_head + 1) * group {
                queries[filled] = Query {
                    row: self.chunk.row + row,
                    head,
                    first,
                    end,
                };
                filled += 1;
                if filled == QUERIES {
                    self.attend::<S, QUERIES>(s, queries);
                    filled = 0;
                }
            }
        }
        let [a, b, c, _] = queries;
        match filled {
            1 => self.attend::<S, 1>(s, [a]),
            2 => self.attend::<S, 2>(s, [a, b]),
            3 => self.attend::<S, 3>(s, [a, b, c]),
            _ => {}
        }
    }
}

/// A softmax over the partitions so far: the greatest score, the sum of the exponentials.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    sum: f32,
}

impl<T: KvElement> Unit<'_, '_, T> {
    #[inline(always)]
    fn attend<S: Simd, const Q: usize>(&self, s: S, queries: [Query; Q]) {
        let head_dim = self.layer.shape.head_dim;
        let value_len = self.layer.shape.value_len();
        let mut input: [&[f32]; Q] = [&[]; Q];
        for (input, query) in input.iter_mut().zip(&queries) {
            let at = query.row * self.queries.1 + query.head * head_dim;
            *input = &self.queries.0[at..][..head_dim];
        }
        let first = queries
            .iter()
            .map(|q| q.first)
            .min()
            .expect("at least one query");
        let end = queries
            .iter()
            .map(|q| q.end)
            .max()
            .expect("at least one query");
        let mut state = [Softmax {
            max: f32::NEG_INFINITY,
            sum: 0.0,
        }; Q];
        let mut sums = vec![0.0f32; Q * value_len];
        let mut weights = [[0.0f32; PARTITION]; Q];
        for partition in first / PARTITION..end.div_ceil(PARTITION) {
            let base = partition * PARTITION;
            let (from, to) = (first.max(base), end.min(base + PARTITION));
            self.scores(s, input, (base, from, to), &mut weights);
            let mut scales = [None; Q];
            for q in 0..Q {
                let seen = (
                    queries[q].first.max(base),
                    queries[q].end.min(base + PARTITION),
                );
                scales[q] = softmax_partition(s, &mut weights[q], base, seen, &mut state[q]);
            }
            self.add_values(s, (base, from, to), &weights, scales, &mut sums);
        }
        for q in 0..Q {
            let at = (queries[q].row * self.params.heads + queries[q].head) * head_dim;
            // SAFETY: each (row, head) is in one unit of work, so no two live parts overlap.
            let out = unsafe { self.out.part(at..at + head_dim) };
            let inverse = 1.0 / state[q].sum;
            for (out, sum) in out.iter_mut().zip(&sums[q * value_len..]) {
                *out = sum * inverse;
            }
        }
    }

    #[inline(always)]
    fn block(&self, position: usize) -> usize {
        let block = self.chunk.blocks[position / BLOCK_TOKENS];
        self.layer.head_at(block, self.kv_head)
    }

    /// Scores of positions `from..to` (rounded out to whole blocks) into `weights[.. - base]`.
    #[inline(always)]
    fn scores<S: Simd, const Q: usize>(
        &self,
        s: S,
        input: [&[f32]; Q],
        (base, from, to): (usize, usize, usize),
        weights: &mut [[f32; PARTITION]; Q],
    ) {
        let head_dim = self.layer.shape.head_dim;
        let scale = s.splat(self.params.scale);
        for position in (from / BLOCK_TOKENS * BLOCK_TOKENS..to).step_by(BLOCK_TOKENS) {
            let at = self.block(position);
            let keys = &self.layer.keys[at..][..head_dim * BLOCK_TOKENS];
            // A block begins on a page of its own, so that no hardware fetches it in time: its values, which come after the
            // scores, and the next block's keys are asked for here, a line with each of these.
            let next_position = position + BLOCK_TOKENS;
            let next = if next_position < to {
                self.block(next_position)
            } else {
                self.next
            };
            let soon = (&self.layer.values[at..], &self.layer.keys[next..]);
            let mut sums = [[s.splat(0.0); 2]; Q];
            for (d, keys) in keys.as_chunks::<BLOCK_TOKENS>().0.iter().enumerate() {
                s.prefetch(soon.0, d * BLOCK_TOKENS);
                s.prefetch(soon.1, d * BLOCK_TOKENS);
                let low = T::load(
                    s,
                    keys.first_chunk()
                        .expect("a block has two vectors of positions"),
                );
                let high = T::load(
                    s,
                    keys.last_chunk()
                        .expect("a block has two vectors of positions"),
                );
                for q in 0..Q {
                    let x = s.splat(input[q][d]);
                    sums[q][0] = s.fma(x, low, sums[q][0]);
                    sums[q][1] = s.fma(x, high, sums[q][1]);
                }
            }
            for q in 0..Q {
                let out = &mut weights[q][position - base..][..BLOCK_TOKENS];
                s.store(s.mul(sums[q][0], scale), &mut out[..LANES]);
                s.store(s.mul(sums[q][1], scale), &mut out[LANES..]);
            }
        }
    }

    /// `sums = sums * scale.0 + scale.1 * Σ weight * value` over positions `from..to`, ascending.
    #[inline(always)]
    fn add_values<S: Simd, const Q: usize>(
        &self,
        s: S,
        (base, from, to): (usize, usize, usize),
        weights: &[[f32; PARTITION]; Q],
        scales: [Option<(f32, f32)>; Q],
        sums: &mut [f32],
    ) {
        let value_len = self.layer.shape.value_len();
        let vectors = value_len / LANES;
        for vector in (0..vectors).step_by(VALUE_VECTORS) {
            let width = VALUE_VECTORS.min(vectors - vector);
            let mut parts = [[s.splat(0.0); VALUE_VECTORS]; Q];
            let mut position = from;
            while position < to {
                let in_block = position % BLOCK_TOKENS;
                let len = (BLOCK_TOKENS - in_block).min(to - position);
                let rows = &self.layer.values[self.block(position) + in_block * value_len..]
                    [..len * value_len];
                for (i, row) in rows.chunks_exact(value_len).enumerate() {
                    let mut weight = [s.splat(0.0); Q];
                    for q in 0..Q {
                        weight[q] = s.splat(weights[q][position + i - base]);
                    }
                    let row = &row[vector * LANES..];
                    if width == VALUE_VECTORS {
                        add_row(s, row, weight, &mut parts, VALUE_VECTORS);
                    } else {
                        add_row(s, row, weight, &mut parts, width);
                    }
                }
                position += len;
            }
            for q in 0..Q {
                let Some((old, new)) = scales[q] else {
                    continue;
                };
                let (old, new) = (s.splat(old), s.splat(new));
                for v in 0..width {
                    let out = &mut sums[q * value_len + (vector + v) * LANES..][..LANES];
                    s.store(s.fma(s.load(out), old, s.mul(parts[q][v], new)), out);
                }
            }
        }
    }
}

#[inline(always)]
fn add_row<S: Simd, T: KvElement, const Q: usize>(
    s: S,
    row: &[T],
    weight: [S::F; Q],
    parts: &mut [[S::F; VALUE_VECTORS]; Q],
    width: usize,
) {
    for (v, value) in row.as_chunks::<LANES>().0.iter().take(width).enumerate() {
        let value = T::load(s, value);
        for q in 0..Q {
            parts[q][v] = s.fma(weight[q], value, parts[q][v]);
        }
    }
}

/// Turns the scores of one partition into weights, zero where the query does not see, and merges its maximum and sum
/// into `state`. Returns what the sums so far and the partition's sums are multiplied with; `None` if nothing is seen.
#[inline(always)]
fn softmax_partition<S: Simd>(
    s: S,
    weights: &mut [f32; PARTITION],
    base: usize,
    (first, end): (usize, usize),
    state: &mut Softmax,
) -> Option<(f32, f32)> {
    if first >= end {
        weights.fill(0.0);
        return None;
    }
    let (first, end) = (first - base, end - base);
    // What is not seen becomes minus infinity, and so gets weight zero and takes no part in the maximum.
    let (outer_first, outer_end) = (first / LANES * LANES, end.next_multiple_of(LANES));
    weights[outer_first..first].fill(f32::NEG_INFINITY);
    weights[end..outer_end].fill(f32::NEG_INFINITY);
    weights[..outer_first].fill(0.0);
    weights[outer_end..].fill(0.0);
    let seen = weights[outer_first..outer_end].as_chunks_mut::<LANES>().0;
    let mut max = s.splat(f32::NEG_INFINITY);
    for lanes in &*seen {
        max = s.max(s.from_array(*lanes), max);
    }
    let max = s.max_lane(max);
    let mut sum = s.splat(0.0);
    for lanes in seen {
        let weight = exp_lanes(s, s.sub(s.from_array(*lanes), s.splat(max)));
        *lanes = s.to_array(weight);
        sum = s.add(sum, weight);
    }
    let part = Softmax {
        max,
        sum: s.sum_tree(sum),
    };
    if state.max == f32::NEG_INFINITY && state.sum == 0.0 {
        *state = part;
        return Some((0.0, 1.0));
    }
    let greatest = if part.max > state.max {
        part.max
    } else {
        state.max
    };
    let (old, new) = (exp(state.max - greatest), exp(part.max - greatest));
    *state = Softmax {
        max: greatest,
        sum: state.sum.mul_add(old, part.sum * new),
    };
    Some((old, new))
}
