//! The safetensors models that run through candle-transformers: which, and how a `config.json` becomes one of them.
//!
//! Each family says what its configuration needs before candle can read it, and refuses what candle would pass over and
//! compute wrongly. Not here are candle's models without tokenizer.json (ChatGLM, CodeGeeX, RWKV), those whose
//! configuration cannot be read from a file (GPT BigCode, MPT), and those that take more than text.

use candle_core::Device;
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
use super::dense_configs;
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
        prepare: dense_configs::falcon,
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
        prepare: dense_configs::gemma,
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
        prepare: dense_configs::gemma2,
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
        prepare: dense_configs::granite,
        fold: dense_configs::fold_granite,
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
        prepare: dense_configs::lfm2,
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
            dense_configs::qwen_experts(config)
        },
        build: cloned!(qwen2_moe::Model),
        ..USUAL
    },
    DenseFamily {
        model_type: "qwen3_moe",
        prepare: |config, _| dense_configs::qwen_experts(config),
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
    pub fn load(
        &self,
        mut config: HfConfig,
        (model, device): (&Safetensors, &Device),
        context: usize,
    ) -> Boxed {
        config.set("max_position_embeddings", context.into());
        let mut weights = DenseWeights::read(model, device)?;
        if config.flag("tie_word_embeddings") {
            weights.tie(self.embedding);
        }
        (self.fold)(&config, &mut weights)?;
        (self.build)(config, weights.builder())
    }
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

/// All values of `model_type` that run here, for messages.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.model_type)
}

/// The `model_type` of a configuration.
pub fn model_type(config: &Map<String, Value>) -> Option<&str> {
    config.get("model_type").and_then(Value::as_str)
}
