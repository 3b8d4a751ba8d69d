//! The GGUF architectures that run through candle-transformers, and what of their files its code takes into account.
//!
//! candle reads past metadata that it does not know. Where that would give wrong numbers the file is refused here. Not
//! here are: `qwen3moe`, whose expert kernels candle has for CUDA only; `gemma` and `gemma2`, which candle's reader
//! takes for Gemma 3; and the models whose files carry neither architecture nor tokenizer.

use std::collections::HashSet;
use std::sync::Arc;

use candle_core::quantized::gguf_file::Value as CandleValue;
use candle_core::{DType, Device, Result as CandleResult};
use candle_transformers::models::{quantized_glm4, quantized_lfm2, quantized_llama, quantized_phi};

use crate::gguf::{BlockType, Gguf, TensorInfo, Value};

use super::candle_model::{CandleModel, Cloned, Rebuilt};
use super::gguf_content::Showcase;
use super::shape::Shape;

/// Architectures that run through candle, for messages.
pub const ARCHITECTURES: [&str; 4] = ["glm4", "lfm2", "llama with experts", "phi2"];

/// Rotary tables of candle's llama and phi2 end here, whatever the file says.
const TABLE_POSITIONS: usize = 4096;
/// phi2's rotary base is a constant in candle.
const PHI_2_BASE: f64 = 10_000.0;
/// Attention masks that an LFM2 model may have collected before it is made anew.
const LFM_2_MASK_BYTES: usize = 64 << 20;

/// One architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufFamily {
    /// Mixtral and its kin, whose files say `llama`.
    LlamaExperts,
    Phi2,
    Glm4,
    Lfm2,
}

/// Reads metadata under the architecture's prefix.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'static str,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.gguf.get(&format!("{}.{key}", self.architecture))
    }

    fn integer(&self, key: &str) -> Option<usize> {
        self.get(key)
            .and_then(Value::as_u64)
            .and_then(|x| usize::try_from(x).ok())
    }

    fn needed(&self, key: &str) -> Result<usize, String> {
        self.integer(key)
            .ok_or_else(|| format!("its metadata lacks the number {}.{key}", self.architecture))
    }

    fn float(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(Value::as_f64)
    }

    /// The most key-value heads of a layer: one number, or one a layer.
    fn kv_heads(&self, heads: usize) -> Result<usize, String> {
        let key = "attention.head_count_kv";
        match self.get(key) {
            None => Ok(heads),
            Some(Value::Array(array)) => array
                .to_i64s()
                .and_then(|counts| usize::try_from(counts.into_iter().max()?).ok())
                .ok_or_else(|| format!("its {}.{key} holds no counts", self.architecture)),
            Some(_) => self.needed(key),
        }
    }
}

impl GgufFamily {
    /// The family of a file; `None` when candle is not its engine.
    pub fn of(gguf: &Gguf) -> Option<GgufFamily> {
        let experts = || gguf.get("llama.expert_count").and_then(Value::as_u64);
        match gguf.architecture().ok()? {
            "llama" if experts().is_some_and(|count| count > 1) => Some(GgufFamily::LlamaExperts),
            "phi2" => Some(GgufFamily::Phi2),
            "glm4" => Some(GgufFamily::Glm4),
            "lfm2" => Some(GgufFamily::Lfm2),
            _ => None,
        }
    }

    /// What files call it.
    pub fn architecture(self) -> &'static str {
        match self {
            GgufFamily::LlamaExperts => "llama",
            GgufFamily::Phi2 => "phi2",
            GgufFamily::Glm4 => "glm4",
            GgufFamily::Lfm2 => "lfm2",
        }
    }

    /// The model's sizes.
    ///
    /// # Errors
    /// A clause about what the file lacks, or has and candle would pass over.
    pub fn shape(self, gguf: &Gguf) -> Result<Shape, String> {
        let keys = Keys {
            gguf,
            architecture: self.architecture(),
        };
        let hidden = keys.needed("embedding_length")?;
        let heads = keys.needed("attention.head_count")?;
        let usual_head = hidden / heads.max(1);
        let head_dim = keys.integer("attention.key_length").unwrap_or(usual_head);
        let embedding = gguf
            .tensor("token_embd.weight")
            .ok_or("it has no tensor token_embd.weight")?;
        let [columns, vocab] = embedding.info.shape[..] else {
            return Err("its token_embd.weight is no matrix".to_owned());
        };
        let mut shape = Shape {
            layers: keys.needed("block_count")?,
            hidden,
            ffn: keys.needed("feed_forward_length")?,
            heads,
            kv_heads: keys.kv_heads(heads)?,
            head_dim,
            experts: keys.integer("expert_count").unwrap_or(0),
            vocab,
            context: keys.needed("context_length")?,
        };
        if columns != hidden {
            return Err(format!(
                "its token_embd.weight has rows of {columns}, not of {hidden}"
            ));
        }
        if self != GgufFamily::Glm4 && head_dim != usual_head {
            return Err(format!(
                "its heads are {head_dim} wide, and candle knows only {usual_head} here"
            ));
        }
        plain_rope(&keys)?;
        self.check(&keys, &mut shape)?;
        shape.validate()?;
        Ok(shape)
    }

    fn check(self, keys: &Keys<'_>, shape: &mut Shape) -> Result<(), String> {
        let rotated = keys.integer("rope.dimension_count");
        match self {
            GgufFamily::LlamaExperts => {
                shape.context = shape.context.min(TABLE_POSITIONS);
                let used = keys.needed("expert_used_count")?;
                if !(1..=shape.experts).contains(&used) {
                    return Err(format!("it uses {used} of {} experts", shape.experts));
                }
                even_rotation(rotated.unwrap_or(shape.head_dim), shape)
            }
            GgufFamily::Phi2 => {
                shape.context = shape.context.min(TABLE_POSITIONS);
                if shape.kv_heads != shape.heads {
                    return Err(
                        "its heads share keys, which candle's phi2 does not know".to_owned()
                    );
                }
                if keys
                    .float("rope.freq_base")
                    .is_some_and(|base| base != PHI_2_BASE)
                {
                    return Err(format!("its rotary base is not {PHI_2_BASE}"));
                }
                even_rotation(keys.needed("rope.dimension_count")?, shape)
            }
            GgufFamily::Glm4 => {
                if rotated.is_some_and(|dims| dims != shape.head_dim / 2) {
                    return Err(
                        "its heads are not rotated by half, as candle's glm4 does".to_owned()
                    );
                }
                even_rotation(shape.head_dim / 2, shape)
            }
            GgufFamily::Lfm2 => {
                let taps = keys.needed("shortconv.l_cache")?;
                if !(1..=shape.hidden).contains(&taps) {
                    return Err(format!("its convolutions have {taps} taps"));
                }
                even_rotation(shape.head_dim, shape)
            }
        }
    }

    /// Bytes that candle needs for a tensor.
    pub fn loaded_bytes(gguf: &Gguf, info: &TensorInfo) -> u64 {
        let dense = info.elements() as u64 * 4;
        let tied = gguf.tensor("output.weight").is_none();
        match info.name.as_str() {
            "token_embd.weight" if tied => dense + matrix_bytes(info),
            "token_embd.weight" => dense,
            _ if info.shape.len() == 1 => dense,
            _ => matrix_bytes(info),
        }
    }

    /// Loads the weights onto a device. `context` bounds the tables of positions.
    ///
    /// # Errors
    /// What candle says.
    pub fn load(
        self,
        gguf: &Arc<Gguf>,
        context: usize,
        device: &Device,
    ) -> CandleResult<Box<dyn CandleModel>> {
        let (content, mut bytes) = self
            .showcase(gguf, context)
            .map_err(candle_core::Error::msg)?
            .finish();
        match self {
            GgufFamily::LlamaExperts => {
                let model = quantized_llama::ModelWeights::from_gguf(content, &mut bytes, device)?;
                Ok(Cloned::boxed(model, |model, tokens, start| {
                    model.forward(tokens, start)
                }))
            }
            GgufFamily::Phi2 => {
                let model = quantized_phi::ModelWeights::from_gguf(content, &mut bytes, device)?;
                Ok(Cloned::boxed(model, |model, tokens, start| {
                    model.forward(tokens, start)
                }))
            }
            GgufFamily::Glm4 => {
                let model = quantized_glm4::ModelWeights::from_gguf(
                    content,
                    &mut bytes,
                    device,
                    DType::F32,
                )?;
                Ok(Cloned::boxed(model, |model, tokens, start| {
                    model.forward(tokens, start)
                }))
            }
            GgufFamily::Lfm2 => {
                drop((content, bytes));
                lfm2(Arc::clone(gguf), context, device.clone())
            }
        }
    }

    fn showcase(self, gguf: &Gguf, context: usize) -> Result<Showcase<'_>, String> {
        let architecture = self.architecture();
        let shape = self.shape(gguf)?;
        let mut showcase = Showcase::new(gguf, architecture);
        let mut set = |key: &str, value: CandleValue| {
            showcase.set(&format!("{architecture}.{key}"), value);
        };
        let number = |number: usize| CandleValue::U32(u32::try_from(number).unwrap_or(u32::MAX));
        set("context_length", number(context));
        let keys = Keys { gguf, architecture };
        if keys.get("attention.head_count_kv").is_none() {
            set("attention.head_count_kv", number(shape.kv_heads));
        }
        if keys.get("rope.dimension_count").is_none() {
            set("rope.dimension_count", number(shape.head_dim));
        }
        if self == GgufFamily::Glm4 {
            set("attention.key_length", number(shape.head_dim));
            let base = keys.float("rope.freq_base").unwrap_or(10_000.0);
            set("rope.freq_base", CandleValue::F32(base as f32));
        }
        for layer in 0..shape.layers {
            match self {
                GgufFamily::LlamaExperts => {
                    for part in ["gate", "up", "down"] {
                        let merged = format!("blk.{layer}.ffn_{part}_exps.weight");
                        showcase.add_slices(gguf, &merged, |expert| {
                            format!("blk.{layer}.ffn_{part}.{expert}.weight")
                        })?;
                    }
                }
                GgufFamily::Phi2 => {
                    for kind in ["weight", "bias"] {
                        let parts =
                            ["q", "k", "v"].map(|part| format!("blk.{layer}.attn_{part}.{kind}"));
                        showcase.add_joined(
                            gguf,
                            &format!("blk.{layer}.attn_qkv.{kind}"),
                            &parts,
                        )?;
                    }
                }
                GgufFamily::Glm4 | GgufFamily::Lfm2 => {}
            }
        }
        Ok(showcase)
    }
}

/// candle's LFM2 cannot be cloned. It forgets its keys at position 0, and its convolutions with any prompt of two
/// tokens or more; but it keeps the attention mask of every prompt length it has met. So it is read again before a
/// prompt of a single token, and when the masks have become too many.
fn lfm2(gguf: Arc<Gguf>, context: usize, device: Device) -> CandleResult<Box<dyn CandleModel>> {
    let mut mask_bytes = 0;
    let mut lengths = HashSet::new();
    let due = move |prompt: usize| {
        let more = if lengths.contains(&prompt) {
            0
        } else {
            prompt * prompt
        };
        let full = mask_bytes > 0 && mask_bytes + more > LFM_2_MASK_BYTES;
        let due = full || prompt == 1;
        if due {
            lengths.clear();
            mask_bytes = 0;
        }
        if prompt > 1 && lengths.insert(prompt) {
            mask_bytes += prompt * prompt;
        }
        due
    };
    let build = move || {
        let (content, mut bytes) = GgufFamily::Lfm2
            .showcase(&gguf, context)
            .map_err(candle_core::Error::msg)?
            .finish();
        let model = quantized_lfm2::ModelWeights::from_gguf(content, &mut bytes, &device)?;
        gguf.check_unchanged().map_err(candle_core::Error::msg)?;
        Ok(model)
    };
    Rebuilt::boxed(
        Box::new(build),
        |model, tokens, start| model.forward(tokens, start),
        Box::new(due),
    )
}

fn even_rotation(dims: usize, shape: &Shape) -> Result<(), String> {
    if dims >= 2 && dims.is_multiple_of(2) && dims <= shape.head_dim {
        Ok(())
    } else {
        Err(format!(
            "it rotates {dims} of the {} dimensions of a head",
            shape.head_dim
        ))
    }
}

/// candle knows plain rotary embeddings only.
fn plain_rope(keys: &Keys<'_>) -> Result<(), String> {
    let kind = keys.get("rope.scaling.type").and_then(Value::as_str);
    let scaled = kind.is_some_and(|kind| kind != "none")
        || keys
            .float("rope.scaling.factor")
            .is_some_and(|factor| factor > 1.0)
        || keys
            .float("rope.scale_linear")
            .is_some_and(|factor| factor > 1.0)
        || keys.get("rope.dimension_sections").is_some()
        || keys.gguf.tensor("rope_freqs.weight").is_some();
    if scaled {
        return Err("its rotary embedding is scaled, which candle does not know here".to_owned());
    }
    Ok(())
}

/// A matrix as candle's `QMatMul` holds it: floats as f32; some block types also as packed tiles beside the original,
/// which are made at first use.
fn matrix_bytes(info: &TensorInfo) -> u64 {
    let columns = info.shape[0];
    let rows = info.elements() / columns;
    let stored = info.byte_len() as u64;
    match info.dtype {
        BlockType::F32 | BlockType::F16 | BlockType::BF16 => info.elements() as u64 * 4,
        BlockType::Q4K | BlockType::Q6K | BlockType::Q8_0
            if columns.is_multiple_of(256) && rows.is_multiple_of(16) =>
        {
            stored * 5 / 2
        }
        _ => stored,
    }
}
