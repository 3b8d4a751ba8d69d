//! One layer: queries, keys and values; attention; the gated feed-forward part.

use std::ops::Range;

use crate::kernels::Kernel;
use crate::kernels::activations::{BLOCK, quantise_row};
use crate::kernels::attention::{AttentionChunk, AttentionParams, attention};
use crate::kernels::elementwise::{add, gate_up, rms_norm, rms_norm_in_place, rope};
use crate::kernels::kv::{KvElement, KvLayer, KvPlaces};
use crate::kernels::matmul::{Linear, Rows, Write, linear};
use crate::kernels::pool::Pool;
use crate::kernels::shared::RowsMut;

use super::super::config::ModelConfig;
use super::super::weights::{LayerWeights, Projection};
use super::Scratch;

/// One layer over the rows of a step.
pub(super) struct LayerPass<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) weights: &'a LayerWeights,
    pub(super) kernel: Kernel,
    pub(super) pool: &'a mut Pool,
    pub(super) scratch: &'a mut Scratch,
    /// Rows of the step.
    pub(super) count: usize,
}

/// Lays the columns of several projections side by side.
fn side_by_side(projections: &[Projection]) -> Vec<Linear<'_>> {
    let mut column = 0;
    projections
        .iter()
        .map(|projection| {
            let part = Linear {
                matrix: &projection.matrix,
                bias: projection.bias.as_deref(),
                column,
            };
            column += projection.matrix.n;
            part
        })
        .collect()
}

/// Whether any of the matrices wants the activations quantised.
fn wants_blocks(projections: &[Projection]) -> bool {
    projections
        .iter()
        .any(|projection| projection.matrix.quantised())
}

impl LayerPass<'_> {
    pub(super) fn queries_keys_values(&mut self) {
        let config = self.config;
        let width = config.query_width() + 2 * config.kv_width();
        self.norm_rows(
            &self.weights.attention_norm,
            wants_blocks(&self.weights.qkv),
        );
        let Scratch {
            qkv,
            floats,
            blocks,
            ..
        } = &mut *self.scratch;
        let rows = Rows {
            count: self.count,
            floats,
            stride: config.hidden,
            blocks,
        };
        linear(
            self.kernel,
            self.pool,
            &side_by_side(&self.weights.qkv),
            rows,
            (qkv, width),
            Write::Replace,
        );
    }

    /// Normalises the stream into the input rows of the next matrix.
    fn norm_rows(&mut self, weight: &[f32], quantise: bool) {
        let (hidden, kernel, epsilon) = (self.config.hidden, self.kernel, self.config.norm_epsilon);
        let Scratch {
            stream,
            floats,
            blocks,
            ..
        } = &mut *self.scratch;
        let outputs = (
            RowsMut::new(floats, hidden),
            RowsMut::new(blocks, hidden / BLOCK),
        );
        self.pool
            .for_rows(self.count, outputs, |row, (floats, blocks)| {
                rms_norm(
                    kernel,
                    &stream[row * hidden..][..hidden],
                    weight,
                    epsilon,
                    floats,
                );
                if quantise {
                    quantise_row(kernel, floats, blocks);
                }
            });
    }

    /// Normalises and rotates queries and keys, and stores keys and values.
    pub(super) fn store_keys<T: KvElement>(
        &mut self,
        (pairs, rope_kind): (usize, usize),
        kv: &mut KvLayer<T>,
        places: &KvPlaces,
    ) {
        let ModelConfig {
            head_dim,
            norm_epsilon,
            rope_style,
            ..
        } = *self.config;
        let (queries, keys) = (self.config.query_width(), self.config.kv_width());
        let (kernel, weights) = (self.kernel, self.weights);
        let Scratch { qkv, angles, .. } = &mut *self.scratch;
        let angles = &angles[rope_kind];
        let rows = RowsMut::new(qkv, queries + 2 * keys);
        let threads = (kernel, &mut *self.pool);
        kv.store_rows(threads, places, (rows, queries), |row, qkv| {
            let (cos, sin) = angles[row * 2 * pairs..][..2 * pairs].split_at(pairs);
            let heads = |range: Range<usize>, norm: &Option<Vec<f32>>, qkv: &mut [f32]| {
                for head in qkv[range].chunks_exact_mut(head_dim) {
                    if let Some(norm) = norm {
                        rms_norm_in_place(kernel, head, norm, norm_epsilon);
                    }
                    rope(kernel, head, cos, sin, rope_style);
                }
            };
            heads(0..queries, &weights.query_norm, qkv);
            heads(queries..queries + keys, &weights.key_norm, qkv);
        });
    }

    pub(super) fn attend<T: KvElement>(
        &mut self,
        kv: &KvLayer<T>,
        window: Option<usize>,
        chunks: &[AttentionChunk<'_>],
    ) {
        let config = self.config;
        let stride = config.query_width() + 2 * config.kv_width();
        let params = AttentionParams {
            heads: config.heads,
            scale: config.attention_scale,
            window,
        };
        let Scratch { qkv, attended, .. } = &mut *self.scratch;
        attention(
            self.kernel,
            self.pool,
            kv,
            params,
            chunks,
            (qkv, stride),
            attended,
        );
    }

    /// Goes on with these rows only, which come in ascending order.
    pub(super) fn keep_rows(&mut self, rows: impl Iterator<Item = usize>) {
        let (hidden, queries) = (self.config.hidden, self.config.query_width());
        let Scratch {
            stream, attended, ..
        } = &mut *self.scratch;
        self.count = 0;
        for row in rows {
            stream.copy_within(row * hidden..(row + 1) * hidden, self.count * hidden);
            attended.copy_within(row * queries..(row + 1) * queries, self.count * queries);
            self.count += 1;
        }
    }

    /// Adds what attention gave to the stream, through its output matrix.
    pub(super) fn project_attention(&mut self) {
        let config = self.config;
        let queries = config.query_width();
        let output = &self.weights.output;
        if output.matrix.quantised() {
            let Scratch {
                attended, blocks, ..
            } = &mut *self.scratch;
            let kernel = self.kernel;
            let blocks = RowsMut::new(blocks, queries / BLOCK);
            self.pool.for_rows(self.count, blocks, |row, blocks| {
                quantise_row(kernel, &attended[row * queries..][..queries], blocks);
            });
        }
        let Scratch {
            stream,
            branch,
            attended,
            blocks,
            ..
        } = &mut *self.scratch;
        let rows = Rows {
            count: self.count,
            floats: attended,
            stride: queries,
            blocks,
        };
        let post_norm = self.weights.post_attention_norm.as_deref();
        let target = Residual {
            stream,
            branch,
            post_norm,
        };
        add_to_stream(self.kernel, self.pool, config, output, rows, target);
    }

    pub(super) fn feed_forward(&mut self) {
        let (hidden, ffn, kernel, gate) = (
            self.config.hidden,
            self.config.ffn,
            self.kernel,
            self.config.gate,
        );
        self.norm_rows(&self.weights.ffn_norm, wants_blocks(&self.weights.gate_up));
        let Scratch {
            gate_up: both,
            floats,
            blocks,
            ..
        } = &mut *self.scratch;
        let rows = Rows {
            count: self.count,
            floats,
            stride: hidden,
            blocks,
        };
        linear(
            kernel,
            self.pool,
            &side_by_side(&self.weights.gate_up),
            rows,
            (both, 2 * ffn),
            Write::Replace,
        );
        let down = &self.weights.down;
        let outputs = (
            RowsMut::new(both, 2 * ffn),
            RowsMut::new(blocks, ffn / BLOCK),
        );
        self.pool
            .for_rows(self.count, outputs, |_, (both, blocks)| {
                gate_up(kernel, both, gate);
                if down.matrix.quantised() {
                    quantise_row(kernel, &both[..ffn], blocks);
                }
            });
        let Scratch {
            stream,
            branch,
            gate_up: both,
            blocks,
            ..
        } = &mut *self.scratch;
        let rows = Rows {
            count: self.count,
            floats: both,
            stride: 2 * ffn,
            blocks,
        };
        let target = Residual {
            stream,
            branch,
            post_norm: self.weights.post_ffn_norm.as_deref(),
        };
        add_to_stream(kernel, self.pool, self.config, down, rows, target);
    }
}

/// The stream that a branch is added to, after a norm if the model has one.
struct Residual<'a> {
    stream: &'a mut [f32],
    branch: &'a mut [f32],
    post_norm: Option<&'a [f32]>,
}

fn add_to_stream(
    kernel: Kernel,
    pool: &mut Pool,
    config: &ModelConfig,
    projection: &Projection,
    rows: Rows<'_>,
    target: Residual<'_>,
) {
    let hidden = config.hidden;
    let part = Linear {
        matrix: &projection.matrix,
        bias: projection.bias.as_deref(),
        column: 0,
    };
    let Some(norm) = target.post_norm else {
        return linear(
            kernel,
            pool,
            &[part],
            rows,
            (target.stream, hidden),
            Write::Add,
        );
    };
    linear(
        kernel,
        pool,
        &[part],
        rows,
        (target.branch, hidden),
        Write::Replace,
    );
    let both = (
        RowsMut::new(target.stream, hidden),
        RowsMut::new(target.branch, hidden),
    );
    pool.for_rows(rows.count, both, |_, (stream, branch)| {
        rms_norm_in_place(kernel, branch, norm, config.norm_epsilon);
        add(kernel, stream, branch);
    });
}
