//! A checkpoint as a folder of Hugging Face's kind: safetensors, config.json, tokenizer.json, tokenizer_config.json.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value as Json, json};

use crate::checkpoint::Checkpoint;
use crate::spec::{Family, GEMMA3_LOCAL_BASE, GEMMA3_PATTERN, ModelSpec, RopeScaling};

/// Write the folder's files, the weights in `dtype` and in this many safetensors files.
pub fn write_safetensors(checkpoint: &Checkpoint, dir: &Path, dtype: DType, parts: usize) {
    std::fs::create_dir_all(dir).expect("the test folder can be made");
    let put = |name: &str, json: &Json| {
        let text = serde_json::to_vec_pretty(json).expect("JSON can be written");
        std::fs::write(dir.join(name), text).expect("the test folder can be written");
    };
    put("config.json", &config_json(checkpoint));
    put("tokenizer.json", &checkpoint.vocabulary.tokenizer_json());
    put(
        "tokenizer_config.json",
        &checkpoint.vocabulary.tokenizer_config_json(),
    );
    put(
        "generation_config.json",
        &json!({"eos_token_id": [checkpoint.vocabulary.eos]}),
    );
    let tensors: Vec<(String, Tensor)> = tensors(checkpoint, dtype).into_iter().collect();
    if parts == 1 {
        save(&tensors, &dir.join("model.safetensors"));
        return;
    }
    let mut weight_map = serde_json::Map::new();
    for (part, some) in tensors.chunks(tensors.len().div_ceil(parts)).enumerate() {
        let file = format!("model-{:05}-of-{parts:05}.safetensors", part + 1);
        save(some, &dir.join(&file));
        weight_map.extend(some.iter().map(|(name, _)| (name.clone(), json!(file))));
    }
    put(
        "model.safetensors.index.json",
        &json!({"metadata": {}, "weight_map": weight_map}),
    );
}

fn save(tensors: &[(String, Tensor)], path: &Path) {
    let map: HashMap<String, Tensor> = tensors.iter().cloned().collect();
    candle_core::safetensors::save(&map, path).expect("the test folder can be written");
}

/// The weights as candle tensors under their checkpoint names.
pub fn tensors(
    checkpoint: &Checkpoint,
    dtype: DType,
) -> std::collections::BTreeMap<String, Tensor> {
    checkpoint
        .tensors
        .iter()
        .map(|(name, array)| {
            let tensor = Tensor::from_slice(&array.data, array.shape.as_slice(), &Device::Cpu)
                .and_then(|tensor| tensor.to_dtype(dtype))
                .expect("an array's shape fits its data");
            (name.clone(), tensor)
        })
        .collect()
}

/// `config.json`.
pub fn config_json(checkpoint: &Checkpoint) -> Json {
    let spec = &checkpoint.spec;
    let mut config = json!({
        "architectures": [class(spec.family)], "model_type": model_type(spec.family),
        "vocab_size": checkpoint.vocabulary.len(), "hidden_size": spec.hidden, "intermediate_size": spec.ffn,
        "num_hidden_layers": spec.layers, "num_attention_heads": spec.heads, "num_key_value_heads": spec.kv_heads,
        "rms_norm_eps": spec.rms_eps, "rope_theta": spec.rope_base, "max_position_embeddings": spec.context,
        "tie_word_embeddings": spec.tied, "bos_token_id": checkpoint.vocabulary.bos,
        "eos_token_id": checkpoint.vocabulary.eos, "torch_dtype": "float32", "attention_bias": false,
    });
    let fields = config.as_object_mut().expect("it was made as an object");
    let mut put = |key: &str, value: Json| fields.insert(key.to_string(), value);
    match spec.family {
        Family::Gemma3 => {
            put("hidden_activation", json!("gelu_pytorch_tanh"));
            put("head_dim", json!(spec.head_dim));
            put("rope_local_base_freq", json!(GEMMA3_LOCAL_BASE));
            put("query_pre_attn_scalar", json!(spec.head_dim));
            put("sliding_window", json!(spec.window));
            put("sliding_window_pattern", json!(GEMMA3_PATTERN));
            put("final_logit_softcapping", Json::Null);
            put("attn_logit_softcapping", Json::Null);
        }
        Family::Qwen2 | Family::Qwen3 => {
            put("hidden_act", json!("silu"));
            put("sliding_window", json!(spec.context));
            put("max_window_layers", json!(spec.layers));
            put("use_sliding_window", json!(false));
        }
        Family::Llama | Family::Phi3 => {
            put("hidden_act", json!("silu"));
        }
    }
    if spec.family != Family::Gemma3 && spec.q_width() != spec.hidden
        || spec.family == Family::Qwen3
    {
        put("head_dim", json!(spec.head_dim));
    }
    if spec.rope_dims != spec.head_dim {
        put(
            "partial_rotary_factor",
            json!(spec.rope_dims as f64 / spec.head_dim as f64),
        );
    }
    put("rope_scaling", rope_scaling(spec));
    if let RopeScaling::LongRope {
        original_context, ..
    } = &spec.rope_scaling
    {
        put("original_max_position_embeddings", json!(original_context));
    }
    config
}

fn rope_scaling(spec: &ModelSpec) -> Json {
    match &spec.rope_scaling {
        RopeScaling::None => Json::Null,
        RopeScaling::Llama3 {
            factor,
            low,
            high,
            original_context,
        } => json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": original_context,
        }),
        RopeScaling::LongRope { short, long, .. } => {
            json!({"type": "longrope", "short_factor": short, "long_factor": long})
        }
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
    }
}

fn class(family: Family) -> &'static str {
    match family {
        Family::Llama => "LlamaForCausalLM",
        Family::Qwen2 => "Qwen2ForCausalLM",
        Family::Qwen3 => "Qwen3ForCausalLM",
        Family::Phi3 => "Phi3ForCausalLM",
        Family::Gemma3 => "Gemma3ForCausalLM",
    }
}

fn model_type(family: Family) -> &'static str {
    match family {
        Family::Llama => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
        Family::Phi3 => "phi3",
        Family::Gemma3 => "gemma3_text",
    }
}
