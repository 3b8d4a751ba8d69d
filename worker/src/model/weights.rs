//! A decoder's weights: which tensors it has, under which names, and that their sizes fit.
//!
//! In what form a matrix is kept is up to who computes with it.

use std::borrow::Cow;
use std::sync::Mutex;

use half::{bf16, f16};

use crate::gguf::BlockType;
use crate::kernels::pack::PackedMatrix;
use crate::kernels::pool::Pool;

use super::config::ModelConfig;

/// A tensor as a model file holds it.
pub struct RawTensor<'a> {
    pub dtype: BlockType,
    /// Output columns (1 for a vector).
    pub n: usize,
    /// Inputs: the contiguous dimension.
    pub k: usize,
    pub data: Cow<'a, [u8]>,
}

/// Where tensors come from, under their GGUF names.
pub trait TensorSource: Sync {
    /// The tensor of that name.
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>>;
    /// Says that the tensor's bytes are not needed again.
    fn release(&self, name: &str);
}

/// One of the matrices of a layer.
pub struct Projection<M = PackedMatrix> {
    pub matrix: M,
    pub bias: Option<Vec<f32>>,
}

/// The weights of one layer.
pub struct LayerWeights<M = PackedMatrix> {
    pub attention_norm: Vec<f32>,
    /// Queries, keys and values, in one matrix or three; their columns in this order.
    pub qkv: Vec<Projection<M>>,
    pub query_norm: Option<Vec<f32>>,
    pub key_norm: Option<Vec<f32>>,
    pub output: Projection<M>,
    pub post_attention_norm: Option<Vec<f32>>,
    pub ffn_norm: Vec<f32>,
    /// Gate and up, in one matrix or two.
    pub gate_up: Vec<Projection<M>>,
    pub down: Projection<M>,
    pub post_ffn_norm: Option<Vec<f32>>,
}

/// All weights of a decoder.
pub struct Weights<M = PackedMatrix> {
    pub embedding: M,
    /// `None` if the embedding is the output head too.
    pub head: Option<Projection<M>>,
    pub output_norm: Vec<f32>,
    pub layers: Vec<LayerWeights<M>>,
}

/// Brings a matrix of a file into the form that is computed with.
///
/// # Errors
/// A clause that says why it cannot.
pub type Form<'f, M> = dyn Fn(&RawTensor<'_>) -> Result<M, String> + Sync + 'f;

/// The form that the kernels compute with.
pub(super) fn packed(raw: &RawTensor<'_>) -> Result<PackedMatrix, String> {
    Ok(PackedMatrix::pack(raw.dtype, raw.n, raw.k, &raw.data))
}

/// Reads tensors and checks their sizes.
pub(super) struct Reader<'a, M> {
    pub(super) source: &'a dyn TensorSource,
    /// Brings a matrix into the form that is computed with.
    pub(super) form: &'a Form<'a, M>,
    /// Added to the weights of norms.
    pub(super) norm_offset: f32,
}

impl<M> Reader<'_, M> {
    fn raw(&self, name: &str, n: usize, k: usize) -> Result<Option<RawTensor<'_>>, String> {
        let Some(tensor) = self.source.tensor(name) else {
            return Ok(None);
        };
        if (tensor.n, tensor.k) != (n, k) {
            return Err(format!(
                "its tensor {name} is {} x {}, not {n} x {k}",
                tensor.n, tensor.k
            ));
        }
        if tensor.dtype == BlockType::Q8K {
            return Err(format!(
                "its tensor {name} is Q8_K, which is no type for weights"
            ));
        }
        Ok(Some(tensor))
    }

    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, String> {
        let Some(tensor) = self.raw(name, 1, len)? else {
            return Ok(None);
        };
        let values = match tensor.dtype {
            BlockType::F32 => floats(&tensor.data, f32::from_le_bytes),
            BlockType::F16 => floats(&tensor.data, |b| f16::from_le_bytes(b).to_f32()),
            BlockType::BF16 => floats(&tensor.data, |b| bf16::from_le_bytes(b).to_f32()),
            other => {
                return Err(format!(
                    "its tensor {name} is a vector of type {other:?}, not f32, f16 or bf16"
                ));
            }
        };
        self.source.release(name);
        Ok(Some(values))
    }

    fn norm(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, String> {
        let mut weights = self.vector(name, len)?;
        if self.norm_offset != 0.0 {
            weights
                .iter_mut()
                .flatten()
                .for_each(|x| *x += self.norm_offset);
        }
        Ok(weights)
    }

    fn needed_norm(&self, name: &str, len: usize) -> Result<Vec<f32>, String> {
        self.norm(name, len)?.ok_or_else(|| missing(name))
    }

    pub(super) fn matrix(&self, name: &str, n: usize, k: usize) -> Result<Option<M>, String> {
        let Some(tensor) = self.raw(name, n, k)? else {
            return Ok(None);
        };
        let formed = (self.form)(&tensor).map_err(|why| format!("its tensor {name}: {why}"))?;
        drop(tensor);
        self.source.release(name);
        Ok(Some(formed))
    }

    fn projection(&self, name: &str, n: usize, k: usize) -> Result<Option<Projection<M>>, String> {
        let Some(matrix) = self.matrix(&format!("{name}.weight"), n, k)? else {
            return Ok(None);
        };
        Ok(Some(Projection {
            matrix,
            bias: self.vector(&format!("{name}.bias"), n)?,
        }))
    }

    pub(super) fn needed(&self, name: &str, n: usize, k: usize) -> Result<Projection<M>, String> {
        self.projection(name, n, k)?
            .ok_or_else(|| missing(&format!("{name}.weight")))
    }

    fn layer(&self, config: &ModelConfig, layer: usize) -> Result<LayerWeights<M>, String> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (hidden, ffn) = (config.hidden, config.ffn);
        let (queries, keys) = (config.query_width(), config.kv_width());
        let qkv = match self.projection(&name("attn_qkv"), queries + 2 * keys, hidden)? {
            Some(fused) => vec![fused],
            None => vec![
                self.needed(&name("attn_q"), queries, hidden)?,
                self.needed(&name("attn_k"), keys, hidden)?,
                self.needed(&name("attn_v"), keys, hidden)?,
            ],
        };
        let gate_up = match self.projection(&name("ffn_gate"), ffn, hidden)? {
            Some(gate) => vec![gate, self.needed(&name("ffn_up"), ffn, hidden)?],
            None => vec![self.needed(&name("ffn_up"), 2 * ffn, hidden)?],
        };
        Ok(LayerWeights {
            attention_norm: self.needed_norm(&name("attn_norm.weight"), hidden)?,
            qkv,
            query_norm: self.norm(&name("attn_q_norm.weight"), config.head_dim)?,
            key_norm: self.norm(&name("attn_k_norm.weight"), config.head_dim)?,
            output: self.needed(&name("attn_output"), hidden, queries)?,
            post_attention_norm: self.norm(&name("post_attention_norm.weight"), hidden)?,
            ffn_norm: self.needed_norm(&name("ffn_norm.weight"), hidden)?,
            gate_up,
            down: self.needed(&name("ffn_down"), hidden, ffn)?,
            post_ffn_norm: self.norm(&name("post_ffw_norm.weight"), hidden)?,
        })
    }
}

pub(super) fn missing(name: &str) -> String {
    format!("it has no tensor {name}")
}

fn floats<const BYTES: usize>(data: &[u8], value: impl Fn([u8; BYTES]) -> f32) -> Vec<f32> {
    data.as_chunks::<BYTES>()
        .0
        .iter()
        .map(|b| value(*b))
        .collect()
}

impl Weights {
    /// Reads and packs all weights for the kernels.
    ///
    /// # Errors
    /// As [`Weights::load_as`].
    pub fn load(
        config: &ModelConfig,
        source: &dyn TensorSource,
        pool: &mut Pool,
    ) -> Result<Weights, String> {
        Weights::load_as(config, source, pool, &packed)
    }
}

impl<M: Send> Weights<M> {
    /// Reads all weights, layers side by side on the pool's threads.
    ///
    /// # Errors
    /// A clause about the file: a tensor that is missing or has the wrong size or type.
    pub fn load_as(
        config: &ModelConfig,
        source: &dyn TensorSource,
        pool: &mut Pool,
        form: &Form<'_, M>,
    ) -> Result<Weights<M>, String> {
        let norm_offset = if config.norm_weights_lack_one {
            1.0
        } else {
            0.0
        };
        let reader = Reader {
            source,
            form,
            norm_offset,
        };
        let slots: Vec<_> = config.layers.iter().map(|_| Mutex::new(None)).collect();
        pool.run(slots.len(), |layer| {
            let loaded = reader.layer(config, layer);
            *slots[layer]
                .lock()
                .expect("each slot is filled by one thread") = Some(loaded);
        });
        let layers = slots
            .into_iter()
            .map(|slot| {
                slot.into_inner()
                    .expect("the pool passes panics on")
                    .expect("the pool fills every slot")
            })
            .collect::<Result<Vec<_>, String>>()?;
        let embedding = reader
            .matrix("token_embd.weight", config.vocab, config.hidden)?
            .ok_or_else(|| missing("token_embd.weight"))?;
        Ok(Weights {
            embedding,
            head: reader.projection("output", config.vocab, config.hidden)?,
            output_norm: reader.needed_norm("output_norm.weight", config.hidden)?,
            layers,
        })
    }
}
