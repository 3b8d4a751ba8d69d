//! One layer over the rows of a step.

use candle_core::quantized::QMatMul;
use candle_core::{D, Device, Module, Result, Tensor};
use candle_nn::ops::rms_norm;
use candle_nn::rotary_emb;

use super::super::config::{LayerConfig, ModelConfig};
use super::super::weights::{LayerWeights, Projection};
use super::Step;
use super::attention::{self, Heads, LayerKv};
use crate::kernels::elementwise::{Gate, RopeStyle};

/// A matrix and what is added to its results.
pub struct Linear {
    matrix: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    pub fn new(projection: Projection<QMatMul>, device: &Device) -> Result<Linear> {
        let bias = projection.bias.map(|bias| Tensor::new(bias, device));
        Ok(Linear {
            matrix: projection.matrix,
            bias: bias.transpose()?,
        })
    }
}

impl Module for Linear {
    fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let product = self.matrix.forward(rows)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

/// The results of several matrices side by side.
fn side_by_side(matrices: &[Linear], rows: &Tensor) -> Result<Tensor> {
    let parts: Vec<Tensor> = matrices
        .iter()
        .map(|matrix| matrix.forward(rows))
        .collect::<Result<_>>()?;
    match &parts[..] {
        [only] => Ok(only.clone()),
        _ => Tensor::cat(&parts, 1),
    }
}

/// The weights of one layer on the device.
pub struct Layer {
    attention_norm: Tensor,
    qkv: Vec<Linear>,
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    output: Linear,
    post_attention_norm: Option<Tensor>,
    ffn_norm: Tensor,
    gate_up: Vec<Linear>,
    down: Linear,
    post_ffn_norm: Option<Tensor>,
}

impl Layer {
    pub fn new(weights: LayerWeights<QMatMul>, device: &Device) -> Result<Layer> {
        let vector = |values: Vec<f32>| Tensor::new(values, device);
        let maybe = |values: Option<Vec<f32>>| values.map(vector).transpose();
        let linear = |projection| Linear::new(projection, device);
        let linears = |projections: Vec<Projection<QMatMul>>| {
            projections.into_iter().map(linear).collect::<Result<_>>()
        };
        Ok(Layer {
            attention_norm: vector(weights.attention_norm)?,
            qkv: linears(weights.qkv)?,
            query_norm: maybe(weights.query_norm)?,
            key_norm: maybe(weights.key_norm)?,
            output: linear(weights.output)?,
            post_attention_norm: maybe(weights.post_attention_norm)?,
            ffn_norm: vector(weights.ffn_norm)?,
            gate_up: linears(weights.gate_up)?,
            down: linear(weights.down)?,
            post_ffn_norm: maybe(weights.post_ffn_norm)?,
        })
    }

    /// The stream behind this layer. `stream` is `[rows, hidden]`.
    pub fn forward(
        &self,
        config: &ModelConfig,
        kind: LayerConfig,
        (stream, step): (&Tensor, &Step),
        kv: &LayerKv,
    ) -> Result<Tensor> {
        let epsilon = config.norm_epsilon;
        let normed = rms_norm(stream, &self.attention_norm, epsilon)?;
        let qkv = side_by_side(&self.qkv, &normed)?;
        let (queries, keys) = (config.query_width(), config.kv_width());
        let angles = &step.angles[kind.rope];
        let heads = |first: usize, count: usize, norm: &Option<Tensor>| {
            let shape = (qkv.dim(0)?, count, config.head_dim);
            let part = qkv.narrow(1, first, count * config.head_dim)?;
            let mut heads = part.contiguous()?.reshape(shape)?;
            if let Some(norm) = norm {
                heads = rms_norm(&heads, norm, epsilon)?;
            }
            rotated(&heads, angles, config.rope_style)
        };
        let query = heads(0, config.heads, &self.query_norm)?;
        let key = heads(queries, config.kv_heads, &self.key_norm)?;
        let value = qkv.narrow(1, queries + keys, keys)?.contiguous()?;
        kv.store(&step.slots, &key.reshape(value.shape())?, &value)?;
        let shape = Heads {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            scale: f64::from(config.attention_scale),
        };
        let attended = attention::attend(shape, kind.window, &step.groups, &query, kv)?;
        let branch = self.output.forward(&attended)?;
        let stream = added(stream, branch, &self.post_attention_norm, epsilon)?;
        let branch = self.feed_forward(config, &stream)?;
        added(&stream, branch, &self.post_ffn_norm, epsilon)
    }

    fn feed_forward(&self, config: &ModelConfig, stream: &Tensor) -> Result<Tensor> {
        let normed = rms_norm(stream, &self.ffn_norm, config.norm_epsilon)?;
        let both = side_by_side(&self.gate_up, &normed)?;
        let half = |first: usize| both.narrow(1, first, config.ffn)?.contiguous();
        let gate = match config.gate {
            Gate::Silu => half(0)?.silu()?,
            Gate::Gelu => half(0)?.gelu()?,
        };
        self.down.forward(&(gate * half(config.ffn)?)?)
    }
}

/// The stream and a branch, which some models normalise first.
fn added(stream: &Tensor, branch: Tensor, norm: &Option<Tensor>, epsilon: f32) -> Result<Tensor> {
    match norm {
        Some(norm) => stream + rms_norm(&branch, norm, epsilon)?,
        None => stream + branch,
    }
}

/// Rotates the first dimensions of every head. `heads` is `[rows, heads, head_dim]`.
fn rotated(heads: &Tensor, (cos, sin): &(Tensor, Tensor), style: RopeStyle) -> Result<Tensor> {
    let dims = 2 * cos.dim(1)?;
    let rest = heads.dim(2)? - dims;
    // candle rotates `[batch, heads, positions, dims]`.
    let turned = heads.transpose(0, 1)?.unsqueeze(0)?;
    let turning = turned.narrow(D::Minus1, 0, dims)?.contiguous()?;
    let turning = match style {
        RopeStyle::Interleaved => rotary_emb::rope_i(&turning, cos, sin)?,
        RopeStyle::Halves => rotary_emb::rope(&turning, cos, sin)?,
    };
    let whole = match rest {
        0 => turning,
        _ => Tensor::cat(&[turning, turned.narrow(D::Minus1, dims, rest)?], D::Minus1)?,
    };
    whole.squeeze(0)?.transpose(0, 1)?.contiguous()
}
