//! What the `config.json` of a family needs before candle can read it, and what of it candle would pass over.
//!
//! Every function completes a configuration in place, or says in a clause why candle would compute the model wrongly.

use candle_core::Result as CandleResult;
use serde_json::{Value, json};

use crate::safetensors::Safetensors;

use super::dense_weights::DenseWeights;
use super::hf_config::HfConfig;

/// The 7B models: one key-value head, attention beside the feed-forward part.
pub fn falcon(config: &mut HfConfig, _: &Safetensors) -> Result<(), String> {
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
pub fn gemma(config: &mut HfConfig, _: &Safetensors) -> Result<(), String> {
    config.remove("hidden_act");
    config.default("hidden_activation", json!("gelu_pytorch_tanh"));
    config.default("max_position_embeddings", json!(8192));
    Ok(())
}

pub fn gemma2(config: &mut HfConfig, model: &Safetensors) -> Result<(), String> {
    gemma(config, model)?;
    let scalar = config.integer("query_pre_attn_scalar");
    if scalar != config.integer("head_dim") {
        return Err(format!(
            "its attention is scaled for {scalar:?} dimensions, and candle scales for those of a head"
        ));
    }
    config.end_at_window();
    Ok(())
}

pub fn granite(config: &mut HfConfig, _: &Safetensors) -> Result<(), String> {
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
pub fn fold_granite(config: &HfConfig, weights: &mut DenseWeights) -> CandleResult<()> {
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

pub fn lfm2(config: &mut HfConfig, model: &Safetensors) -> Result<(), String> {
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

pub fn qwen_experts(config: &mut HfConfig) -> Result<(), String> {
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
