//! The one decoder: a batched forward pass over the packed weights and the KV blocks.
//!
//! One step computes rows of many sequences together; a row is one token. Every operation works row by row or (row,
//! column) by (row, column), so that a row's numbers do not depend on the others.

mod layer;

use crate::engine::step::{BLOCK_TOKENS, BlockId, SeqChunk, StepError, StepModel};
use crate::kernels::Kernel;
use crate::kernels::activations::{ActivationBlock, BLOCK, quantise_row};
use crate::kernels::attention::AttentionChunk;
use crate::kernels::elementwise::rms_norm;
use crate::kernels::kv::{KvElement, KvLayer, KvPlaces, KvShape};
use crate::kernels::math;
use crate::kernels::matmul::{Linear, Rows, Write, linear};
use crate::kernels::pool::Pool;
use crate::kernels::shared::RowsMut;

use super::config::ModelConfig;
use super::rope::RopeTable;
use super::weights::Weights;
use layer::LayerPass;

/// A loaded model with its KV memory.
pub struct Decoder<T> {
    config: ModelConfig,
    weights: Weights,
    kernel: Kernel,
    pool: Pool,
    ropes: Vec<RopeTable>,
    kv: Vec<KvLayer<T>>,
    kv_blocks: usize,
    scratch: Scratch,
}

/// Buffers of a step, grown to the largest one and kept.
#[derive(Default)]
struct Scratch {
    /// The residual stream, `hidden` a row.
    stream: Vec<f32>,
    /// Queries, keys, values.
    qkv: Vec<f32>,
    /// What attention gives.
    attended: Vec<f32>,
    /// Gate and up.
    gate_up: Vec<f32>,
    /// A matrix's result where it is not added to the stream at once.
    branch: Vec<f32>,
    /// Input rows of the next matrix, for float weights.
    floats: Vec<f32>,
    /// Input rows of the next matrix, for quantised weights.
    blocks: Vec<ActivationBlock>,
    /// Cosines and sines, for each kind of layer.
    angles: Vec<Vec<f32>>,
}

/// Where one row's token stands.
#[derive(Clone, Copy)]
pub(super) struct RowPlace {
    pub(super) token: u32,
    pub(super) position: usize,
    block: BlockId,
}

impl RowPlace {
    /// Its place among all positions of all blocks.
    pub(super) fn slot(&self) -> u32 {
        self.block.0 * BLOCK_TOKENS as u32 + (self.position % BLOCK_TOKENS) as u32
    }
}

/// The rows of a step.
///
/// # Errors
/// A token, a position or a block that there is not.
pub(super) fn places(
    config: &ModelConfig,
    kv_blocks: usize,
    step: &[SeqChunk<'_>],
) -> Result<Vec<RowPlace>, StepError> {
    let mut rows = Vec::new();
    for chunk in step {
        if chunk.end() > chunk.blocks.len() * BLOCK_TOKENS || chunk.end() > config.context {
            return Err(StepError {
                message: format!("position {} has no KV block", chunk.end()),
            });
        }
        for (i, token) in chunk.tokens.iter().enumerate() {
            let position = chunk.start + i;
            let block = chunk.blocks[position / BLOCK_TOKENS];
            if *token as usize >= config.vocab || block.0 as usize >= kv_blocks {
                return Err(StepError {
                    message: format!("token {token} or block {} is out of range", block.0),
                });
            }
            rows.push(RowPlace {
                token: *token,
                position,
                block,
            });
        }
    }
    Ok(rows)
}

impl<T: KvElement> Decoder<T> {
    /// A decoder with room for `kv_blocks` blocks.
    pub fn new(
        config: ModelConfig,
        weights: Weights,
        kernel: Kernel,
        pool: Pool,
        kv_blocks: usize,
    ) -> Decoder<T> {
        let shape = KvShape {
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        };
        let kv = config
            .layers
            .iter()
            .map(|_| KvLayer::new(shape, kv_blocks))
            .collect();
        let ropes = config.ropes.iter().map(RopeTable::new).collect();
        Decoder {
            config,
            weights,
            kernel,
            pool,
            ropes,
            kv,
            kv_blocks,
            scratch: Scratch::default(),
        }
    }

    fn prepare(&mut self, rows: &[RowPlace]) {
        let config = &self.config;
        let scratch = &mut self.scratch;
        let count = rows.len();
        let qkv = config.query_width() + 2 * config.kv_width();
        let widest = config.hidden.max(config.query_width()).max(config.ffn);
        grow(&mut scratch.stream, count * config.hidden);
        grow(&mut scratch.qkv, count * qkv);
        grow(&mut scratch.attended, count * config.query_width());
        grow(&mut scratch.gate_up, count * 2 * config.ffn);
        grow(&mut scratch.branch, count * config.hidden);
        grow(&mut scratch.floats, count * widest);
        grow(&mut scratch.blocks, count * widest.div_ceil(BLOCK));
        scratch.angles.resize_with(self.ropes.len(), Vec::new);
        for (table, angles) in self.ropes.iter().zip(&mut scratch.angles) {
            let width = 2 * table.pairs();
            grow(angles, count * width);
            self.pool
                .for_rows(count, RowsMut::new(angles, width), |row, out| {
                    table.angles(rows[row].position, out)
                });
        }
        let (embedding, scale) = (&self.weights.embedding, config.embedding_scale);
        self.pool.for_rows(
            count,
            RowsMut::new(&mut scratch.stream, config.hidden),
            |row, out| {
                embedding.column(rows[row].token as usize, out);
                if let Some(scale) = scale {
                    out.iter_mut().for_each(|x| *x *= scale);
                }
            },
        );
    }

    fn layer(&mut self, layer: usize, step: &Step<'_>) {
        let mut pass = LayerPass {
            config: &self.config,
            weights: &self.weights.layers[layer],
            kernel: self.kernel,
            pool: &mut self.pool,
            scratch: &mut self.scratch,
            count: step.rows,
        };
        let kind = self.config.layers[layer];
        let pairs = self.ropes[kind.rope].pairs();
        pass.queries_keys_values();
        pass.store_keys((pairs, kind.rope), &mut self.kv[layer], &step.places);
        if layer + 1 < self.config.layers.len() {
            pass.attend(&self.kv[layer], kind.window, &step.chunks);
        } else {
            // From here on only rows whose logits are wanted count.
            pass.attend(&self.kv[layer], kind.window, &step.wanted);
            pass.keep_rows(step.wanted.iter().map(|chunk| chunk.row));
        }
        pass.project_attention();
        pass.feed_forward();
    }

    /// Logits of the first `count` rows.
    fn head(&mut self, count: usize, logits: &mut Vec<f32>) {
        let Scratch {
            stream,
            floats,
            blocks,
            ..
        } = &mut self.scratch;
        let (hidden, vocab) = (self.config.hidden, self.config.vocab);
        let norm = &self.weights.output_norm;
        let (kernel, epsilon) = (self.kernel, self.config.norm_epsilon);
        let projection = self.weights.head.as_ref();
        let matrix = projection.map_or(&self.weights.embedding, |head| &head.matrix);
        let bias = projection.and_then(|head| head.bias.as_deref());
        let outputs = (
            RowsMut::new(floats, hidden),
            RowsMut::new(blocks, hidden / BLOCK),
        );
        self.pool.for_rows(count, outputs, |row, (floats, blocks)| {
            rms_norm(
                kernel,
                &stream[row * hidden..][..hidden],
                norm,
                epsilon,
                floats,
            );
            if matrix.quantised() {
                quantise_row(kernel, floats, blocks);
            }
        });
        // Every value is written below.
        logits.resize(count * vocab, 0.0);
        let rows = Rows {
            count,
            floats,
            stride: hidden,
            blocks,
        };
        let part = Linear {
            matrix,
            bias,
            column: 0,
        };
        linear(
            kernel,
            &mut self.pool,
            &[part],
            rows,
            (logits, vocab),
            Write::Replace,
        );
        if let Some(cap) = self.config.logit_cap {
            self.pool
                .for_rows(count, RowsMut::new(logits, vocab), |_, row| {
                    for x in row {
                        // tanh(y) = 1 - 2 / (e^2y + 1)
                        *x = cap * (1.0 - 2.0 / (math::exp(2.0 * (*x / cap)) + 1.0));
                    }
                });
        }
    }
}

/// What the layers need to know of a step.
struct Step<'a> {
    rows: usize,
    places: KvPlaces,
    chunks: Vec<AttentionChunk<'a>>,
    /// The last token of each chunk whose logits are wanted.
    wanted: Vec<AttentionChunk<'a>>,
}

fn grow<V: Clone + Default>(buffer: &mut Vec<V>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, V::default());
    }
}

impl<T: KvElement> StepModel for Decoder<T> {
    fn vocab_size(&self) -> usize {
        self.config.vocab
    }

    fn context_len(&self) -> usize {
        self.config.context.min(self.kv_blocks * BLOCK_TOKENS)
    }

    fn kv_blocks(&self) -> usize {
        self.kv_blocks
    }

    fn share_out(&mut self, units: usize, work: &(dyn Fn(usize) + Sync)) {
        self.pool.run(units, work);
    }

    fn forward(&mut self, step: &[SeqChunk<'_>], logits: &mut Vec<f32>) -> Result<(), StepError> {
        let rows = places(&self.config, self.kv_blocks, step)?;
        let kv_places = rows
            .iter()
            .map(|row| (row.block, row.position % BLOCK_TOKENS))
            .collect();
        let places = KvPlaces::new(kv_places).ok_or_else(|| StepError {
            message: "two tokens have the same place in the KV".to_owned(),
        })?;
        self.prepare(&rows);
        let mut chunks = Vec::with_capacity(step.len());
        let mut wanted = Vec::new();
        let mut row = 0;
        for chunk in step {
            let len = chunk.tokens.len();
            chunks.push(AttentionChunk {
                row,
                len,
                start: chunk.start,
                blocks: chunk.blocks,
            });
            row += len;
            if chunk.logits {
                wanted.push(AttentionChunk {
                    row: row - 1,
                    len: 1,
                    start: chunk.end() - 1,
                    blocks: chunk.blocks,
                });
            }
        }
        let pass = Step {
            rows: rows.len(),
            places,
            chunks,
            wanted,
        };
        for layer in 0..self.config.layers.len() {
            self.layer(layer, &pass);
        }
        self.head(pass.wanted.len(), logits);
        Ok(())
    }
}
