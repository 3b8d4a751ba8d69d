//! The decoder's configuration from a safetensors model's `config.json`, by Hugging Face's conventions.

use serde_json::{Map, Value};

use crate::kernels::elementwise::{Gate, RopeStyle};

use super::config::{LayerConfig, ModelConfig};
use super::gguf_config::{attention_scale, gemma_layers, yarn, yarn_magnitude};
use super::rope::{RopeConfig, RopeScaling};

/// Values of `model_type` that the own decoder runs.
pub const MODEL_TYPES: [&str; 7] = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma3_text",
    "gemma3",
    "phi3",
];

const DEFAULT_BASE: f64 = 10_000.0;
const GEMMA_3_BASE: f64 = 1_000_000.0;
const GEMMA_3_LOCAL_BASE: f64 = 10_000.0;
const GEMMA_3_GLOBAL_EVERY: usize = 6;

/// The part of a configuration that describes the text model, which multimodal models keep in `text_config`.
pub fn text_part(config: &Map<String, Value>) -> &Map<String, Value> {
    config
        .get("text_config")
        .and_then(Value::as_object)
        .unwrap_or(config)
}

/// `model_type` of the whole model.
pub fn model_type(config: &Map<String, Value>) -> Option<&str> {
    config.get("model_type").and_then(Value::as_str)
}

struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    fn integer(&self, key: &str) -> Option<usize> {
        self.0
            .get(key)
            .and_then(Value::as_u64)
            .and_then(|x| usize::try_from(x).ok())
    }

    fn needed(&self, key: &str) -> Result<usize, String> {
        self.integer(key)
            .ok_or_else(|| format!("its config.json lacks the number {key}"))
    }

    fn float(&self, key: &str) -> Option<f64> {
        self.0.get(key).and_then(Value::as_f64)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.0.get(key).and_then(Value::as_bool)
    }

    fn floats(&self, key: &str) -> Option<Vec<f32>> {
        let list = self.0.get(key)?.as_array()?;
        list.iter().map(|x| x.as_f64().map(|x| x as f32)).collect()
    }
}

/// The configuration of a model of one of [`MODEL_TYPES`].
///
/// # Errors
/// A clause about the model: what is missing or does not fit.
pub fn read(config: &Map<String, Value>, context: Option<usize>) -> Result<ModelConfig, String> {
    let keys = Keys(text_part(config));
    let kind = model_type(config).ok_or("its config.json lacks model_type")?;
    let architecture = if kind.starts_with("gemma3") {
        "gemma3"
    } else {
        kind
    };
    let gemma = architecture == "gemma3";
    let hidden = keys.needed("hidden_size")?;
    let heads = keys.needed("num_attention_heads")?;
    let head_dim = keys.integer("head_dim").unwrap_or(hidden / heads.max(1));
    let layers = keys.needed("num_hidden_layers")?;
    let trained = keys.needed("max_position_embeddings")?;
    let (global, limit) = global_rope(&keys, head_dim, trained, context, gemma)?;
    let local = gemma.then(|| local_rope(&keys, &global));
    let scale = match keys.float("query_pre_attn_scalar").filter(|_| gemma) {
        Some(scalar) => 1.0 / (scalar as f32).sqrt(),
        None => attention_scale(gemma, layers, hidden, heads, head_dim),
    };
    Ok(ModelConfig {
        architecture: architecture.to_owned(),
        vocab: keys.needed("vocab_size")?,
        context: context.map_or(limit, |wanted| wanted.min(trained)),
        hidden,
        ffn: keys.needed("intermediate_size")?,
        heads,
        kv_heads: keys.integer("num_key_value_heads").unwrap_or(heads),
        head_dim,
        norm_epsilon: keys
            .float("rms_norm_eps")
            .ok_or("its config.json lacks rms_norm_eps")? as f32,
        gate: gate(&keys)?,
        rope_style: RopeStyle::Halves,
        embedding_scale: gemma.then(|| (hidden as f32).sqrt()),
        attention_scale: scale,
        logit_cap: keys.float("final_logit_softcapping").map(|x| x as f32),
        norm_weights_lack_one: gemma,
        layers: layer_configs(&keys, layers.min(1 << 16), gemma),
        ropes: [global].into_iter().chain(local).collect(),
    })
}

fn gate(keys: &Keys<'_>) -> Result<Gate, String> {
    let name = ["hidden_activation", "hidden_act"]
        .iter()
        .find_map(|key| keys.0.get(*key)?.as_str());
    match name {
        Some("silu") => Ok(Gate::Silu),
        Some("gelu_pytorch_tanh") => Ok(Gate::Gelu),
        other => Err(format!(
            "its activation is {other:?}, which rbee does not know"
        )),
    }
}

fn layer_configs(keys: &Keys<'_>, layers: usize, gemma: bool) -> Vec<LayerConfig> {
    let window = keys
        .integer("sliding_window")
        .filter(|window| *window > 0 && keys.flag("use_sliding_window") != Some(false));
    let types = keys.0.get("layer_types").and_then(Value::as_array);
    if let Some(types) = types.filter(|types| types.len() == layers) {
        let local = |kind: &Value| kind.as_str() == Some("sliding_attention");
        return types
            .iter()
            .map(|kind| LayerConfig {
                window: window.filter(|_| local(kind)),
                rope: usize::from(gemma && local(kind)),
            })
            .collect();
    }
    if gemma {
        let every = keys
            .integer("sliding_window_pattern")
            .unwrap_or(GEMMA_3_GLOBAL_EVERY);
        return gemma_layers(layers, window, every);
    }
    // Qwen's windows begin above `max_window_layers`.
    let first = keys.integer("max_window_layers").unwrap_or(0);
    (0..layers)
        .map(|layer| LayerConfig {
            window: window.filter(|_| layer >= first),
            rope: 0,
        })
        .collect()
}

/// The object that holds the scaling: `rope_scaling`, or in newer files `rope_parameters`, there for Gemma by layer
/// type.
fn scaling_of<'a>(keys: &Keys<'a>, layer_type: &str) -> Option<Keys<'a>> {
    let object = ["rope_scaling", "rope_parameters"]
        .iter()
        .find_map(|key| keys.0.get(*key)?.as_object())?;
    Some(Keys(
        object
            .get(layer_type)
            .and_then(Value::as_object)
            .unwrap_or(object),
    ))
}

fn global_rope(
    keys: &Keys<'_>,
    head_dim: usize,
    trained: usize,
    context: Option<usize>,
    gemma: bool,
) -> Result<(RopeConfig, usize), String> {
    let scaling = scaling_of(keys, "full_attention");
    let in_scaling = |key: &str| scaling.as_ref().and_then(|scaling| scaling.float(key));
    let default = if gemma { GEMMA_3_BASE } else { DEFAULT_BASE };
    let base = keys
        .float("rope_theta")
        .or_else(|| in_scaling("rope_theta"))
        .unwrap_or(default);
    let share = keys
        .float("partial_rotary_factor")
        .or_else(|| in_scaling("partial_rotary_factor"))
        .unwrap_or(1.0);
    let dims = (head_dim as f64 * share) as usize;
    let plain = RopeConfig {
        dims,
        base,
        scaling: RopeScaling::None,
        magnitude: 1.0,
    };
    let Some(scaling) = scaling else {
        return Ok((plain, trained));
    };
    let kind = ["rope_type", "type"]
        .iter()
        .find_map(|key| scaling.0.get(*key)?.as_str());
    let factor = scaling.float("factor").filter(|factor| *factor > 0.0);
    match (kind, factor) {
        (None | Some("default"), _) => Ok((plain, trained)),
        (Some("linear"), Some(factor)) => Ok((
            RopeConfig {
                scaling: RopeScaling::Linear(factor),
                ..plain
            },
            trained,
        )),
        (Some("llama3"), Some(factor)) => {
            let factors = llama_3_factors(&scaling, &plain, factor)?;
            Ok((
                RopeConfig {
                    scaling: RopeScaling::Factors(factors),
                    ..plain
                },
                trained,
            ))
        }
        (Some("yarn"), Some(factor)) => {
            let original = scaling
                .integer("original_max_position_embeddings")
                .unwrap_or(trained);
            let magnitude = scaling
                .float("attention_factor")
                .unwrap_or_else(|| yarn_magnitude(factor));
            Ok((
                RopeConfig {
                    scaling: yarn(factor, original),
                    magnitude,
                    ..plain
                },
                trained,
            ))
        }
        (Some("longrope" | "su"), _) => longrope(keys, &scaling, plain, trained, context),
        (kind, factor) => Err(format!(
            "its rotary embedding is scaled by {kind:?} with factor {factor:?}, which rbee does not know"
        )),
    }
}

/// Llama 3.1: wavelengths above a bound are stretched by the factor, those below another are kept.
fn llama_3_factors(
    scaling: &Keys<'_>,
    plain: &RopeConfig,
    factor: f64,
) -> Result<Vec<f32>, String> {
    let get = |key: &str| {
        scaling
            .float(key)
            .ok_or_else(|| format!("its llama3 rope scaling lacks {key}"))
    };
    let (low, high) = (get("low_freq_factor")?, get("high_freq_factor")?);
    let original = get("original_max_position_embeddings")?;
    let stretch = |frequency: f64| {
        let turns = original * frequency / std::f64::consts::TAU;
        let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - kept) / factor + kept)) as f32
    };
    Ok(plain.frequencies().into_iter().map(stretch).collect())
}

/// Phi 3: see the GGUF side for why the context is the original one unless a longer one is asked for.
fn longrope(
    keys: &Keys<'_>,
    scaling: &Keys<'_>,
    plain: RopeConfig,
    trained: usize,
    context: Option<usize>,
) -> Result<(RopeConfig, usize), String> {
    let original = keys
        .integer("original_max_position_embeddings")
        .or_else(|| scaling.integer("original_max_position_embeddings"))
        .unwrap_or(trained);
    let long = context.is_some_and(|context| context > original);
    let key = if long { "long_factor" } else { "short_factor" };
    let factors = scaling
        .floats(key)
        .ok_or_else(|| format!("its rope scaling lacks {key}"))?;
    let ratio = trained as f64 / original.max(1) as f64;
    let magnitude = match scaling.float("attention_factor") {
        Some(factor) => factor,
        None if ratio <= 1.0 => 1.0,
        None => libm::sqrt(1.0 + libm::log(ratio) / libm::log(original as f64)),
    };
    let limit = if long { trained } else { original.min(trained) };
    Ok((
        RopeConfig {
            scaling: RopeScaling::Factors(factors),
            magnitude,
            ..plain
        },
        limit,
    ))
}

fn local_rope(keys: &Keys<'_>, global: &RopeConfig) -> RopeConfig {
    let base = keys
        .float("rope_local_base_freq")
        .or_else(|| scaling_of(keys, "sliding_attention")?.float("rope_theta"))
        .unwrap_or(GEMMA_3_LOCAL_BASE);
    RopeConfig {
        base,
        scaling: RopeScaling::None,
        ..global.clone()
    }
}
