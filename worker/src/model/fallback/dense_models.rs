//! The safetensors models that run through candle-transformers: which, and how a `config.json` becomes one of them.
//!
//! Each family says what its configuration needs before candle can read it, and refuses what candle would pass over and
//! compute wrongly. Not here are candle's models without tokenizer.json (ChatGLM, CodeGeeX, RWKV), those whose
//! configuration cannot be read from a file (GPT BigCode, MPT), and those that take more than text.

use candle_core::Result as CandleResult;
use candle_nn::VarBuilder;
use serde_json::{Map, Value, json};

use candle_transformers::models::{
    falcon, gemma, gemma2, glm4_new, granite, helium, lfm2, mixtral, olmo, olmo2, phi, qwen2_moe,
    qwen3_moe, stable_lm, starcoder2,
};

use crate::gguf::TensorInfo;
use crate::safetensors::Safetensors;

use super::candle_model::{CandleModel, Cloned, Rebuilt};
use super::dense_weights::DenseWeights;
use super::hf_config::HfConfig;
use super::shape::Shape;

type Boxed = CandleResult<Box<dyn CandleModel>>;

/// One `model_type`.
pub struct DenseFamily {
    pub model_type: &'static str,
    /// The name of the embedding's tensor.
    embedding: &'static str,
    /// Completes the configuration, or says why candle would compute it wrongly.
    prepare: fn(&mut HfConfig, &Safetensors) -> Result<(), String>,
    /// Changes the weights before candle gets them.
    fold: fn(&HfConfig, &mut DenseWeights) -> CandleResult<()>,
    build: fn(HfConfig, VarBuilder<'static>) -> Boxed,
}

const USUAL: DenseFamily = DenseFamily {
    model_type: "",
    embedding: "model.embed_tokens.weight",
    prepare: |_, _| Ok(()),
    fold: |_, _| Ok(()),
    build: |_, _| candle_core::bail!("no model is built from the default"),
};

/// Builds a model whose type has `new(&Config, VarBuilder)` and `forward(&mut self, &Tensor, usize)` and is `Clone`.
macro_rules! cloned {
    ($module:ident :: $model:ident) => {
        |config, weights| {
            let model = $module::$model::new(&config.parse()?, weights)?;
            Ok(Cloned::boxed(model, |model, tokens, start| {
                model.forward(tokens, start)
            }))
        }
    };
}

/// All families.
pub const FAMILIES: [DenseFamily; 15] = [
    DenseFamily {
        model_type: "falcon",
        embedding: "transformer.word_embeddings.weight",
        prepare: prepare_falcon,
        build: |config, weights| {
            let model = falcon::Falcon::load(weights, config.parse()?)?;
            Ok(Cloned::boxed(model, |model, tokens, _| {
                model.forward(tokens)
            }))
        },
        ..USUAL
    },
    DenseFamily {
        model_type: "gemma",
        prepare: prepare_gemma,
        build: |config, weights| {
            let model = gemma::Model::new(false, &config.parse()?, weights)?;
            Ok(Cloned::boxed(model, |model, tokens, start| {
                model.forward(tokens, start)
            }))
        },
        ..USUAL
    },
    DenseFamily {
        model_type: "gemma2",
        prepare: prepare_gemma2,
        build: |config, weights| {
            let model = gemma2::Model::new(false, &config.parse()?, weights)?;
            Ok(Cloned::boxed(model, |model, tokens, start| {
                model.forward(tokens, start)
            }))
        },
        ..USUAL
    },
    DenseFamily {
        model_type: "glm4",
        prepare: |config, _| {
            config.default("partial_rotary_factor", json!(0.5));
            config.remove("eos_token_id");
            config.end_at_window();
            Ok(())
        },
        build: cloned!(glm4_new::ModelForCausalLM),
        ..USUAL
    },
    DenseFamily {
        model_type: "granite",
        prepare: prepare_granite,
        fold: fold_granite,
        build: build_granite,
        ..USUAL
    },
    DenseFamily {
        model_type: "helium",
        prepare: |config, _| {
            config.default("mlp_bias", json!(false));
            let head = config.needed("hidden_size")? / config.needed("num_attention_heads")?.max(1);
            config.default("head_dim", head.into());
            // candle wants one number each and uses neither.
            config.set("bos_token_id", json!(0));
            config.set("eos_token_id", json!(0));
            Ok(())
        },
        build: cloned!(helium::Model),
        ..USUAL
    },
    DenseFamily {
        model_type: "lfm2",
        prepare: prepare_lfm2,
        build: build_lfm2,
        ..USUAL
    },
    DenseFamily {
        model_type: "mixtral",
        prepare: |config, _| {
            config.usual_heads()?;
            config.refuse(&["attention_bias"])?;
            config.end_at_window();
            let context = config.needed("max_position_embeddings")?;
            config.set("sliding_window", context.into());
            Ok(())
        },
        build: cloned!(mixtral::Model),
        ..USUAL
    },
    DenseFamily {
        model_type: "olmo",
        prepare: |config, _| config.usual_heads(),
        build: cloned!(olmo::Model),
        ..USUAL
    },
    DenseFamily {
        model_type: "olmo2",
        prepare: |config, _| config.usual_heads(),
        build: cloned!(olmo2::Model),
        ..USUAL
    },
    DenseFamily {
        model_type: "phi",
        prepare: |config, _| {
            config.usual_heads()?;
            config.refuse(&["qk_layernorm"])?;
            config.default("qk_layernorm", json!(false));
            config.default("partial_rotary_factor", json!(0.5));
            config.default("hidden_act", json!("gelu_new"));
            Ok(())
        },
        build: |config, weights| {
            let model = phi::Model::new(&config.parse()?, weights)?;
            Ok(Cloned::boxed(model, |model, tokens, _| {
                model.forward(tokens)
            }))
        },
        ..USUAL
    },
    DenseFamily {
        model_type: "qwen2_moe",
        prepare: |config, _| {
            config.usual_heads()?;
            prepare_qwen_experts(config)
        },
        build: cloned!(qwen2_moe::Model),
        ..USUAL
    },
    DenseFamily {
        model_type: "qwen3_moe",
        prepare: |config, _| prepare_qwen_experts(config),
        build: cloned!(qwen3_moe::ModelForCausalLM),
        ..USUAL
    },
    DenseFamily {
        model_type: "stablelm",
        prepare: |config, _| {
            config.usual_heads()?;
            config.refuse(&["use_parallel_residual", "qk_layernorm"])?;
            config.default("partial_rotary_factor", json!(0.25));
            Ok(())
        },
        build: |config, weights| {
            let config: stable_lm::Config = config.parse()?;
            Rebuilt::boxed(
                Box::new(move || stable_lm::Model::new(&config, weights.clone())),
                |model, tokens, start| model.forward(tokens, start),
                Box::new(|_| true),
            )
        },
        ..USUAL
    },
    DenseFamily {
        model_type: "starcoder2",
        prepare: |config, _| {
            config.usual_heads()?;
            if !config.flag("tie_word_embeddings") {
                return Err(
                    "its output is not its embedding, which candle's starcoder2 wants".to_owned(),
                );
            }
            config.default("use_bias", json!(true));
            config.default("norm_epsilon", json!(1e-5));
            config.default("hidden_act", json!("gelu_pytorch_tanh"));
            config.end_at_window();
            Ok(())
        },
        build: cloned!(starcoder2::Model),
        ..USUAL
    },
];

impl DenseFamily {
    /// The family of a `model_type`.
    pub fn of(model_type: &str) -> Option<&'static DenseFamily> {
        const ALL: &[DenseFamily] = &FAMILIES;
        ALL.iter().find(|family| family.model_type == model_type)
    }

    /// The completed configuration, and the model's sizes.
    ///
    /// # Errors
    /// A clause about what the configuration lacks, or has and candle would pass over.
    pub fn read(&self, model: &Safetensors) -> Result<(HfConfig, Shape), String> {
        let mut config = HfConfig::new(&model.config)?;
        // Hugging Face's default is true; files of tied models leave the output matrix out.
        let tied = model.tensor("lm_head.weight").is_none() || config.flag("tie_word_embeddings");
        config.set("tie_word_embeddings", tied.into());
        if self.model_type != "falcon" {
            config.default("hidden_act", json!("silu"));
        }
        (self.prepare)(&mut config, model)?;
        let shape = self.shape(&config, model)?;
        shape.validate()?;
        Ok((config, shape))
    }

    fn shape(&self, config: &HfConfig, model: &Safetensors) -> Result<Shape, String> {
        let hidden = config.needed("hidden_size")?;
        let heads = config.needed("num_attention_heads")?;
        let experts = ["num_local_experts", "num_experts"]
            .iter()
            .find_map(|key| config.integer(key));
        let embedding = model
            .tensor(self.embedding)
            .ok_or_else(|| format!("it has no tensor {}", self.embedding))?;
        let shape = Shape {
            layers: config.needed("num_hidden_layers")?,
            hidden,
            ffn: config.needed("intermediate_size")?,
            heads,
            kv_heads: config.needed("num_key_value_heads")?,
            head_dim: config.integer("head_dim").unwrap_or(hidden / heads.max(1)),
            experts: experts.unwrap_or(0),
            vocab: config.needed("vocab_size")?,
            context: config.needed("max_position_embeddings")?,
        };
        if embedding.info.shape != [shape.hidden, shape.vocab] {
            return Err(format!(
                "its tensor {} does not have {} rows of {}",
                self.embedding, shape.vocab, shape.hidden
            ));
        }
        if let Some(used) = config
            .integer("num_experts_per_tok")
            .filter(|_| shape.experts > 0)
            && !(1..=shape.experts).contains(&used)
        {
            return Err(format!("it uses {used} of {} experts", shape.experts));
        }
        Ok(shape)
    }

    /// Bytes of the weights in f32. Folded ones are no longer tied.
    pub fn weight_bytes(&self, config: &HfConfig, model: &Safetensors) -> u64 {
        let bytes = |info: &TensorInfo| info.elements() as u64 * 4;
        let all: u64 = model.tensors().map(bytes).sum();
        let untied = self.model_type == "granite" && config.flag("tie_word_embeddings");
        let embedding = model.tensor(self.embedding).filter(|_| untied);
        all + embedding.map_or(0, |tensor| bytes(tensor.info))
    }

    /// Loads the weights. `context` bounds the tables of positions.
    ///
    /// # Errors
    /// What candle says.
    pub fn load(&self, mut config: HfConfig, model: &Safetensors, context: usize) -> Boxed {
        config.set("max_position_embeddings", context.into());
        let mut weights = DenseWeights::read(model)?;
        if config.flag("tie_word_embeddings") {
            weights.tie(self.embedding);
        }
        (self.fold)(&config, &mut weights)?;
        (self.build)(config, weights.builder())
    }
}

/// The 7B models: one key-value head, attention beside the feed-forward part.
fn prepare_falcon(config: &mut HfConfig, _: &Safetensors) -> Result<(), String> {
    const CONTEXT: usize = 2048;
    config.usual_heads()?;
    config.refuse(&["alibi", "new_decoder_architecture"])?;
    config.default("multi_query", json!(true));
    config.default("parallel_attn", json!(true));
    if !config.flag("multi_query") {
        return Err(
            "its heads have keys of their own, which candle's falcon does not know".to_owned(),
        );
    }
    let base = config.float("rope_theta");
    let act = config.text("activation").unwrap_or("gelu");
    if base != Some(10_000.0) || act != "gelu" {
        return Err(format!(
            "its rotary base is {base:?} and its activation `{act}`; candle knows 10000 and `gelu`"
        ));
    }
    let ffn = 4 * config.needed("hidden_size")?.min(1 << 20);
    if config
        .integer("ffn_hidden_size")
        .is_some_and(|own| own != ffn)
    {
        return Err("its feed-forward size is not four times its hidden size".to_owned());
    }
    config.remove("n_head_kv");
    config.set("num_key_value_heads", json!(1));
    config.set("intermediate_size", ffn.into());
    config.default("max_position_embeddings", CONTEXT.into());
    for (key, unused) in [
        ("alibi", json!(false)),
        ("new_decoder_architecture", json!(false)),
        ("bias", json!(false)),
        ("layer_norm_epsilon", json!(1e-5)),
        ("initializer_range", json!(0.02)),
        ("hidden_dropout", json!(0.0)),
        ("attention_dropout", json!(0.0)),
        ("bos_token_id", json!(0)),
        ("eos_token_id", json!(0)),
    ] {
        config.default(key, unused);
    }
    Ok(())
}

/// Early files name the wrong GELU in `hidden_act`; without `hidden_activation` the right one is meant.
fn prepare_gemma(config: &mut HfConfig, _: &Safetensors) -> Result<(), String> {
    config.remove("hidden_act");
    config.default("hidden_activation", json!("gelu_pytorch_tanh"));
    config.default("max_position_embeddings", json!(8192));
    Ok(())
}

fn prepare_gemma2(config: &mut HfConfig, model: &Safetensors) -> Result<(), String> {
    prepare_gemma(config, model)?;
    let scalar = config.integer("query_pre_attn_scalar");
    if scalar != config.integer("head_dim") {
        return Err(format!(
            "its attention is scaled for {scalar:?} dimensions, and candle scales for those of a head"
        ));
    }
    config.end_at_window();
    Ok(())
}

fn prepare_granite(config: &mut HfConfig, _: &Safetensors) -> Result<(), String> {
    config.usual_heads()?;
    config.refuse(&["attention_bias", "mlp_bias"])?;
    for key in ["bos_token_id", "eos_token_id"] {
        config.remove(key);
    }
    for key in GRANITE_FACTORS {
        let factor = config.float(key).unwrap_or(1.0);
        if !(factor.is_finite() && factor > 0.0) {
            return Err(format!("its {key} is {factor}"));
        }
    }
    match config.text("hidden_act") {
        Some("silu") => Ok(()),
        other => Err(format!(
            "its activation is {other:?}, and candle knows silu"
        )),
    }
}

const GRANITE_FACTORS: [&str; 4] = [
    "embedding_multiplier",
    "attention_multiplier",
    "residual_multiplier",
    "logits_scaling",
];

/// candle's granite lacks the four factors of Granite 3. All of them are linear, so they go into the weights.
fn fold_granite(config: &HfConfig, weights: &mut DenseWeights) -> CandleResult<()> {
    let factor = |key: &str| config.float(key).unwrap_or(1.0);
    let sizes = (
        config.integer("hidden_size"),
        config.integer("num_attention_heads"),
    );
    if let (Some(hidden), Some(heads), Some(wanted)) =
        (sizes.0, sizes.1, config.float("attention_multiplier"))
    {
        // candle divides the scores by this root.
        let own = libm::sqrt((hidden / heads.max(1)) as f64);
        weights.scale(".self_attn.q_proj.weight", wanted * own)?;
    }
    weights.scale(".embed_tokens.weight", factor("embedding_multiplier"))?;
    weights.scale("lm_head.weight", 1.0 / factor("logits_scaling"))?;
    weights.scale(".self_attn.o_proj.weight", factor("residual_multiplier"))?;
    weights.scale(".mlp.down_proj.weight", factor("residual_multiplier"))
}

fn build_granite(config: HfConfig, weights: VarBuilder<'static>) -> Boxed {
    let config: granite::GraniteConfig = config.parse()?;
    let config = config.into_config(false);
    let cache = granite::Cache::new(true, weights.dtype(), &config, weights.device())?;
    let model = granite::Granite::load(weights, &config)?;
    Ok(Cloned::boxed(
        (model, cache),
        |(model, cache), tokens, start| model.forward(tokens, start, cache),
    ))
}

fn prepare_lfm2(config: &mut HfConfig, model: &Safetensors) -> Result<(), String> {
    config.usual_heads()?;
    config.refuse(&["conv_bias"])?;
    let layers = config.needed("num_hidden_layers")?;
    if let Some(Value::Array(attention)) = config.remove("full_attn_idxs")
        && !config.says("layer_types")
    {
        let kind = |layer: usize| {
            let full = attention.contains(&json!(layer));
            json!(if full { "full_attention" } else { "conv" })
        };
        config.set("layer_types", (0..layers.min(1024)).map(kind).collect());
    }
    let tied = config.flag("tie_word_embeddings");
    config.set("tie_embedding", tied.into());
    config.default("norm_eps", json!(1e-5));
    for key in ["bos_token_id", "eos_token_id"] {
        config.remove(key);
    }
    // candle computes the feed-forward size by a formula that fits one of the sizes only; the weights tell it.
    let gate = model
        .tensor("model.layers.0.feed_forward.w1.weight")
        .ok_or("it has no tensor model.layers.0.feed_forward.w1.weight")?;
    let ffn = gate.info.elements() / gate.info.shape[0];
    let hidden = config.needed("hidden_size")?.max(1);
    let multiplier = (ffn as f32 + 0.5) / (hidden as f32 * 4.0);
    config.set("block_ffn_dim_multiplier", multiplier.into());
    config.set("block_multiple_of", json!(1));
    config.set("intermediate_size", ffn.into());
    let taps = config
        .remove("conv_L_cache")
        .unwrap_or_else(|| config.integer("conv_l_cache").unwrap_or(3).into());
    if !taps
        .as_u64()
        .is_some_and(|taps| (1..=hidden as u64).contains(&taps))
    {
        return Err(format!("its convolutions have {taps} taps"));
    }
    config.set("conv_l_cache", taps);
    Ok(())
}

fn build_lfm2(config: HfConfig, weights: VarBuilder<'static>) -> Boxed {
    let config: lfm2::Lfm2Config = config.parse()?;
    let config = config.into_config(false);
    let cache = lfm2::Cache::new(true, weights.dtype(), &config, weights.device())?;
    let model = lfm2::Model::new(&config, weights)?;
    Ok(Cloned::boxed(
        (model, cache),
        |(model, cache), tokens, start| model.forward(tokens, start, cache),
    ))
}

fn prepare_qwen_experts(config: &mut HfConfig) -> Result<(), String> {
    config.refuse(&["mlp_only_layers"])?;
    if config.flag("use_sliding_window") {
        config.end_at_window();
    }
    let context = config.needed("max_position_embeddings")?;
    let layers = config.needed("num_hidden_layers")?;
    // With the context ended at the window, there is none.
    config.set("use_sliding_window", json!(false));
    config.set("sliding_window", context.into());
    config.set("max_window_layers", layers.into());
    config.default("decoder_sparse_step", json!(1));
    config.default("norm_topk_prob", json!(false));
    if config.integer("decoder_sparse_step") == Some(0) {
        return Err("its decoder_sparse_step is 0".to_owned());
    }
    Ok(())
}

/// All values of `model_type` that run here, for messages.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.model_type)
}

/// The `model_type` of a configuration.
pub fn model_type(config: &Map<String, Value>) -> Option<&str> {
    config.get("model_type").and_then(Value::as_str)
}
