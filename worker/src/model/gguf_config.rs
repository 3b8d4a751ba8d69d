//! The decoder's configuration from a GGUF file's metadata, by llama.cpp's conventions.

use crate::gguf::{Array, BlockType, Gguf, Value};
use crate::kernels::elementwise::{Gate, RopeStyle};

use super::config::{LayerConfig, ModelConfig};
use super::rope::{RopeConfig, RopeScaling};

/// Architectures that the own decoder runs.
pub const ARCHITECTURES: [&str; 5] = ["llama", "qwen2", "qwen3", "gemma3", "phi3"];

/// Gemma 3: one layer in six sees the whole context.
const GEMMA_3_GLOBAL_EVERY: usize = 6;
/// Gemma 3: base of the rotary embedding in the layers with a window.
const GEMMA_3_LOCAL_BASE: f64 = 10_000.0;
/// llama.cpp's default where a file gives no base.
const DEFAULT_BASE: f64 = 10_000.0;

/// Reads metadata under the architecture's prefix.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
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

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

/// The configuration of a file of one of [`ARCHITECTURES`].
///
/// # Errors
/// A clause about the file: what is missing or does not fit.
pub fn read(gguf: &Gguf, context: Option<usize>) -> Result<ModelConfig, String> {
    let architecture = gguf.architecture().map_err(|e| e.to_string())?;
    let keys = Keys { gguf, architecture };
    if let Some(experts) = keys.integer("expert_count").filter(|count| *count > 0) {
        return Err(format!(
            "it is a mixture of {experts} experts, which rbee's decoder does not compute"
        ));
    }
    let hidden = keys.needed("embedding_length")?;
    let heads = keys.needed("attention.head_count")?;
    let head_dim = keys
        .integer("attention.key_length")
        .unwrap_or(hidden / heads.max(1));
    if keys
        .integer("attention.value_length")
        .is_some_and(|v| v != head_dim)
    {
        return Err("its keys and values differ in size".to_owned());
    }
    let layers = keys.needed("block_count")?;
    let gemma = architecture == "gemma3";
    let trained = keys.needed("context_length")?;
    let mut rope = rope_config(&keys, head_dim)?;
    let longrope = longrope(&keys, rope.dims, trained, context)?;
    let context_limit = match longrope {
        Some((scaling, limit)) => {
            rope.scaling = scaling;
            limit
        }
        None => trained,
    };
    let embedding = gguf
        .tensor("token_embd.weight")
        .ok_or("it has no tensor token_embd.weight")?;
    Ok(ModelConfig {
        architecture: architecture.to_owned(),
        vocab: *embedding
            .info
            .shape
            .get(1)
            .ok_or("its token_embd.weight is no matrix")?,
        context: context.map_or(context_limit, |wanted| wanted.min(trained)),
        hidden,
        ffn: keys.needed("feed_forward_length")?,
        heads,
        kv_heads: keys.integer("attention.head_count_kv").unwrap_or(heads),
        head_dim,
        norm_epsilon: keys
            .float("attention.layer_norm_rms_epsilon")
            .ok_or("its metadata lacks attention.layer_norm_rms_epsilon")?
            as f32,
        gate: if gemma { Gate::Gelu } else { Gate::Silu },
        rope_style: if architecture == "llama" {
            RopeStyle::Interleaved
        } else {
            RopeStyle::Halves
        },
        embedding_scale: gemma.then(|| (hidden as f32).sqrt()),
        attention_scale: attention_scale(gemma, layers, hidden, heads, head_dim),
        logit_cap: keys
            .float("final_logit_softcapping")
            .map(|x| x as f32)
            .filter(|x| *x > 0.0),
        norm_weights_lack_one: false,
        layers: layer_configs(&keys, layers, gemma),
        ropes: if gemma {
            vec![rope.clone(), local_rope(rope)]
        } else {
            vec![rope]
        },
    })
}

/// `1 / sqrt(head_dim)`, but for Gemma 3 27B, whose 62 layers scale by the share of a head in the hidden size.
pub fn attention_scale(
    gemma: bool,
    layers: usize,
    hidden: usize,
    heads: usize,
    head_dim: usize,
) -> f32 {
    let size = if gemma && layers == 62 {
        hidden / heads.max(1)
    } else {
        head_dim
    };
    1.0 / (size as f32).sqrt()
}

/// Gemma 3's layers with a window rotate by another base and without scaling.
pub fn local_rope(global: RopeConfig) -> RopeConfig {
    RopeConfig {
        base: GEMMA_3_LOCAL_BASE,
        scaling: RopeScaling::None,
        ..global
    }
}

/// Gemma 3's layers: every `every`th sees all, the others `window` positions and use the second rotary embedding.
pub fn gemma_layers(layers: usize, window: Option<usize>, every: usize) -> Vec<LayerConfig> {
    (1..=layers)
        .map(|layer| {
            if layer.is_multiple_of(every.max(1)) {
                LayerConfig {
                    window: None,
                    rope: 0,
                }
            } else {
                LayerConfig { window, rope: 1 }
            }
        })
        .collect()
}

fn layer_configs(keys: &Keys<'_>, layers: usize, gemma: bool) -> Vec<LayerConfig> {
    // A claim of absurdly many layers is refused by `validate`; it must not cost memory before.
    let layers = layers.min(1 << 16);
    let window = keys
        .integer("attention.sliding_window")
        .filter(|window| *window > 0);
    if gemma {
        let every = keys
            .integer("attention.sliding_window_pattern")
            .unwrap_or(GEMMA_3_GLOBAL_EVERY);
        return gemma_layers(layers, window, every);
    }
    vec![LayerConfig { window, rope: 0 }; layers]
}

fn rope_config(keys: &Keys<'_>, head_dim: usize) -> Result<RopeConfig, String> {
    let dims = keys.integer("rope.dimension_count").unwrap_or(head_dim);
    let base = keys.float("rope.freq_base").unwrap_or(DEFAULT_BASE);
    let factor = keys
        .float("rope.scaling.factor")
        .or_else(|| keys.float("rope.scale_linear"));
    let attention_factor = keys.float("rope.scaling.attn_factor").unwrap_or(1.0);
    if let Some(factors) = rope_factors(keys.gguf, "rope_freqs.weight", dims)? {
        return Ok(RopeConfig {
            dims,
            base,
            scaling: RopeScaling::Factors(factors),
            magnitude: attention_factor,
        });
    }
    let (scaling, magnitude) = match (keys.text("rope.scaling.type"), factor) {
        (Some("yarn"), Some(factor)) if factor > 1.0 => {
            let original = keys
                .integer("rope.scaling.original_context_length")
                .ok_or("its YaRN scaling lacks original_context_length")?;
            (
                yarn(factor, original),
                yarn_magnitude(factor) * attention_factor,
            )
        }
        (Some("none"), _) | (_, None) => (RopeScaling::None, attention_factor),
        (Some("longrope"), _) => (RopeScaling::None, attention_factor),
        (Some("linear") | None, Some(factor)) if factor > 0.0 => {
            (RopeScaling::Linear(factor), attention_factor)
        }
        (kind, factor) => {
            return Err(format!(
                "its rotary embedding is scaled by {kind:?} with factor {factor:?}, which rbee does not know"
            ));
        }
    };
    Ok(RopeConfig {
        dims,
        base,
        scaling,
        magnitude,
    })
}

/// YaRN with the paper's bounds of the ramp.
pub fn yarn(factor: f64, original_context: usize) -> RopeScaling {
    RopeScaling::Yarn {
        factor,
        original_context: original_context as f64,
        beta_fast: 32.0,
        beta_slow: 1.0,
    }
}

/// YaRN's attention temperature, as a factor on cosines and sines.
pub fn yarn_magnitude(factor: f64) -> f64 {
    0.1 * libm::log(factor) + 1.0
}

/// Phi 3's long-context files have two sets of factors: the short ones up to the original context, which is then the
/// context unless a longer one is asked for, the long ones beyond. One set serves a whole run, so that a job's bytes
/// do not depend on its length class.
fn longrope(
    keys: &Keys<'_>,
    dims: usize,
    trained: usize,
    wanted: Option<usize>,
) -> Result<Option<(RopeScaling, usize)>, String> {
    let long = rope_factors(keys.gguf, "rope_factors_long.weight", dims)?;
    let short = rope_factors(keys.gguf, "rope_factors_short.weight", dims)?;
    let (Some(long), Some(short)) = (long, short) else {
        return Ok(None);
    };
    let original = keys
        .integer("rope.scaling.original_context_length")
        .unwrap_or(trained);
    Ok(Some(if wanted.is_some_and(|wanted| wanted > original) {
        (RopeScaling::Factors(long), trained)
    } else {
        (RopeScaling::Factors(short), original.min(trained))
    }))
}

fn rope_factors(gguf: &Gguf, name: &str, dims: usize) -> Result<Option<Vec<f32>>, String> {
    let Some(tensor) = gguf.tensor(name) else {
        return Ok(None);
    };
    if tensor.info.dtype != BlockType::F32 || tensor.info.elements() != dims / 2 {
        return Err(format!(
            "its tensor {name} does not hold {} factors in f32",
            dims / 2
        ));
    }
    let factors: Vec<f32> = tensor
        .data
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    if factors.iter().any(|f| !f.is_finite() || *f <= 0.0) {
        return Err(format!(
            "its tensor {name} holds a factor that is not a positive number"
        ));
    }
    Ok(Some(factors))
}

/// The number of tokens that a file's tokenizer has, to be held against the embedding.
pub fn vocabulary(gguf: &Gguf) -> Option<usize> {
    gguf.get("tokenizer.ggml.tokens")
        .and_then(Value::as_array)
        .map(Array::len)
}
