//! BERT's encoder over one text: ids of tokens in, a row of numbers for each of them out.
//!
//! Matrices go through the kernels. All other sums are written out here in one order: over 16 lanes and a tree, or
//! ascending where a lane is a key or a dimension. Exponential and error function are the `libm` crate's.

use crate::kernels::Kernel;
use crate::kernels::LANES;
use crate::kernels::matmul::{Linear, Rows, Write, linear};
use crate::kernels::pack::PackedMatrix;
use crate::kernels::pool::Pool;
use crate::kernels::shared::RowsMut;

use super::super::weights::{Projection, Reader, TensorSource, missing, packed};
use super::config::{Activation, BertConfig};

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

struct Layer {
    /// Queries, keys and values.
    qkv: [Projection; 3],
    output: Projection,
    attention_norm: Norm,
    up: Projection,
    down: Projection,
    ffn_norm: Norm,
}

/// A BERT in memory.
pub struct Bert {
    config: BertConfig,
    kernel: Kernel,
    pool: Pool,
    words: PackedMatrix,
    positions: PackedMatrix,
    types: PackedMatrix,
    norm: Norm,
    layers: Vec<Layer>,
}

impl Bert {
    /// # Errors
    /// A clause about the file: a tensor that is missing or has the wrong size or type.
    pub fn load(
        config: BertConfig,
        source: &dyn TensorSource,
        kernel: Kernel,
        pool: Pool,
    ) -> Result<Bert, String> {
        let reader = Reader {
            form: &packed,
            source,
            norm_offset: 0.0,
        };
        let table = |name: &str, rows: usize| {
            let name = format!("embeddings.{name}_embeddings.weight");
            let table = reader.matrix(&name, rows, config.hidden)?;
            table.ok_or_else(|| missing(&name))
        };
        let words = table("word", config.vocab)?;
        let positions = table("position", config.positions)?;
        let types = table("token_type", config.types)?;
        let norm = read_norm(&reader, "embeddings.LayerNorm", config.hidden)?;
        let layers = (0..config.layers).map(|layer| Layer::read(&reader, &config, layer));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Bert {
            config,
            kernel,
            pool,
            words,
            positions,
            types,
            norm,
            layers,
        })
    }

    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The last layer's rows, one a token. `tokens` are of the vocabulary and no more than there are positions.
    pub fn run(&mut self, tokens: &[u32]) -> Vec<f32> {
        let (hidden, ffn) = (self.config.hidden, self.config.ffn);
        let count = tokens.len();
        let mut stream = self.embed(tokens);
        let mut qkv = vec![0.0; count * 3 * hidden];
        let mut context = vec![0.0; count * hidden];
        let mut wide = vec![0.0; count * ffn];
        for layer in &self.layers {
            let parts = [0, 1, 2].map(|part| (&layer.qkv[part], part * hidden));
            let threads = (self.kernel, &mut self.pool);
            multiply(
                threads,
                &parts,
                (&stream, hidden),
                (&mut qkv, 3 * hidden),
                Write::Replace,
            );
            attend(&mut self.pool, &self.config, &qkv, &mut context);
            let threads = (self.kernel, &mut self.pool);
            let output = [(&layer.output, 0)];
            multiply(
                threads,
                &output,
                (&context, hidden),
                (&mut stream, hidden),
                Write::Add,
            );
            self.config
                .norm_rows(&mut self.pool, &layer.attention_norm, &mut stream);
            let threads = (self.kernel, &mut self.pool);
            let up = [(&layer.up, 0)];
            multiply(
                threads,
                &up,
                (&stream, hidden),
                (&mut wide, ffn),
                Write::Replace,
            );
            let activation = self.config.activation;
            let rows = RowsMut::new(&mut wide, ffn);
            self.pool
                .for_rows(count, rows, |_, row: &mut [f32]| activation.apply(row));
            let threads = (self.kernel, &mut self.pool);
            let down = [(&layer.down, 0)];
            multiply(
                threads,
                &down,
                (&wide, ffn),
                (&mut stream, hidden),
                Write::Add,
            );
            self.config
                .norm_rows(&mut self.pool, &layer.ffn_norm, &mut stream);
        }
        stream
    }

    fn embed(&mut self, tokens: &[u32]) -> Vec<f32> {
        let hidden = self.config.hidden;
        let mut stream = vec![0.0; tokens.len() * hidden];
        let (mut position, mut kind) = (vec![0.0; hidden], vec![0.0; hidden]);
        self.types.column(0, &mut kind);
        for (at, (token, row)) in tokens
            .iter()
            .zip(stream.chunks_exact_mut(hidden))
            .enumerate()
        {
            self.words.column(*token as usize, row);
            self.positions.column(at, &mut position);
            for ((x, kind), position) in row.iter_mut().zip(&kind).zip(&position) {
                *x = *x + kind + position;
            }
        }
        self.config
            .norm_rows(&mut self.pool, &self.norm, &mut stream);
        stream
    }
}

impl Layer {
    fn read(
        reader: &Reader<'_, PackedMatrix>,
        config: &BertConfig,
        layer: usize,
    ) -> Result<Layer, String> {
        let (hidden, ffn) = (config.hidden, config.ffn);
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let square = |part: &str| reader.needed(&name(part), hidden, hidden);
        Ok(Layer {
            qkv: [
                square("attention.self.query")?,
                square("attention.self.key")?,
                square("attention.self.value")?,
            ],
            output: square("attention.output.dense")?,
            attention_norm: read_norm(reader, &name("attention.output.LayerNorm"), hidden)?,
            up: reader.needed(&name("intermediate.dense"), ffn, hidden)?,
            down: reader.needed(&name("output.dense"), hidden, ffn)?,
            ffn_norm: read_norm(reader, &name("output.LayerNorm"), hidden)?,
        })
    }
}

fn read_norm(reader: &Reader<'_, PackedMatrix>, name: &str, hidden: usize) -> Result<Norm, String> {
    let part = |kind: &str| {
        let name = format!("{name}.{kind}");
        reader.vector(&name, hidden)?.ok_or_else(|| missing(&name))
    };
    Ok(Norm {
        weight: part("weight")?,
        bias: part("bias")?,
    })
}

/// Rows times matrices whose columns begin at the given places of an output row.
fn multiply(
    (kernel, pool): (Kernel, &mut Pool),
    parts: &[(&Projection, usize)],
    (floats, stride): (&[f32], usize),
    out: (&mut [f32], usize),
    write: Write,
) {
    let parts: Vec<Linear<'_>> = parts
        .iter()
        .map(|(projection, column)| Linear {
            matrix: &projection.matrix,
            bias: projection.bias.as_deref(),
            column: *column,
        })
        .collect();
    let rows = Rows {
        count: floats.len() / stride,
        floats,
        stride,
        blocks: &[],
    };
    linear(kernel, pool, &parts, rows, out, write);
}

/// Every token looks at all tokens of the text.
fn attend(pool: &mut Pool, config: &BertConfig, qkv: &[f32], context: &mut [f32]) {
    let hidden = config.hidden;
    let head_dim = hidden / config.heads;
    let count = qkv.len() / (3 * hidden);
    let scale = 1.0 / (head_dim as f32).sqrt();
    // By dimension, so that keys are lanes.
    let mut keys = vec![0.0; hidden * count];
    for (at, row) in qkv.chunks_exact(3 * hidden).enumerate() {
        for (dim, key) in row[hidden..2 * hidden].iter().enumerate() {
            keys[dim * count + at] = *key;
        }
    }
    pool.for_rows(
        count,
        RowsMut::new(context, hidden),
        |row, out: &mut [f32]| {
            let queries = &qkv[row * 3 * hidden..][..hidden];
            let mut scores = vec![0.0f32; count];
            for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
                let first = head * head_dim;
                scores.fill(0.0);
                for dim in first..first + head_dim {
                    let query = queries[dim] * scale;
                    for (score, key) in scores.iter_mut().zip(&keys[dim * count..][..count]) {
                        *score += query * key;
                    }
                }
                let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                for score in &mut scores {
                    *score = libm::expf(*score - greatest);
                }
                let whole = sum(&scores, |x| x);
                out.fill(0.0);
                for (at, weight) in scores.iter().enumerate() {
                    let values = &qkv[at * 3 * hidden + 2 * hidden + first..][..head_dim];
                    for (out, value) in out.iter_mut().zip(values) {
                        *out += weight * value;
                    }
                }
                for out in out {
                    *out /= whole;
                }
            }
        },
    );
}

impl BertConfig {
    /// Brings each row to mean 0 and variance 1, then scales and shifts it.
    fn norm_rows(&self, pool: &mut Pool, norm: &Norm, stream: &mut [f32]) {
        let count = stream.len() / self.hidden;
        pool.for_rows(
            count,
            RowsMut::new(stream, self.hidden),
            |_, row: &mut [f32]| {
                let len = row.len() as f32;
                let mean = sum(row, |x| x) / len;
                let variance = sum(row, |x| (x - mean) * (x - mean)) / len;
                let scale = 1.0 / (variance + self.epsilon).sqrt();
                for ((x, weight), bias) in row.iter_mut().zip(&norm.weight).zip(&norm.bias) {
                    *x = (*x - mean) * scale * weight + bias;
                }
            },
        );
    }
}

impl Activation {
    fn apply(self, row: &mut [f32]) {
        for x in row {
            *x = match self {
                Activation::Gelu => {
                    0.5 * *x * (1.0 + libm::erff(*x * std::f32::consts::FRAC_1_SQRT_2))
                }
                Activation::GeluTanh => {
                    let cubic = 0.797_884_6 * (*x + 0.044_715 * *x * *x * *x);
                    0.5 * *x * (1.0 + libm::tanhf(cubic))
                }
                Activation::Relu => x.max(0.0),
            };
        }
    }
}

/// The sum over 16 lanes, then over a fixed tree of them.
pub(super) fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for chunk in row.chunks(LANES) {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(*x);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}
