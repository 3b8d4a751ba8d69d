//! Safetensors architectures. For the comparison candle gets a configuration that is written out whole.

use candle_core::{DType, Device};
use candle_transformers::models::{
    falcon, gemma, gemma2, glm4_new, helium, lfm2, mixtral, olmo, olmo2, phi, qwen2_moe, qwen3_moe,
    stable_lm, starcoder2,
};
use serde_json::{Value, json};

use super::super::dense_models;
use super::small::{EXPERTS, KV, LAYERS, Small, object};
use super::*;

#[test]
fn falcon_answers_as_candle_does() {
    let mut small = Small::new(
        "falcon",
        "transformer.word_embeddings.weight",
        json!({
            "multi_query": true, "parallel_attn": true, "bias": false, "alibi": false, "new_decoder_architecture": false,
        }),
    );
    for layer in 0..LAYERS {
        let h = format!("transformer.h.{layer}");
        small.add(
            &format!("{h}.self_attention.query_key_value.weight"),
            &[HIDDEN + 2 * HEAD_DIM, HIDDEN],
        );
        small.add(
            &format!("{h}.self_attention.dense.weight"),
            &[HIDDEN, HIDDEN],
        );
        small.add(
            &format!("{h}.mlp.dense_h_to_4h.weight"),
            &[4 * HIDDEN, HIDDEN],
        );
        small.add(
            &format!("{h}.mlp.dense_4h_to_h.weight"),
            &[HIDDEN, 4 * HIDDEN],
        );
        small.add(&format!("{h}.input_layernorm.weight"), &[HIDDEN]);
        small.add(&format!("{h}.input_layernorm.bias"), &[HIDDEN]);
    }
    small.add("transformer.ln_f.weight", &[HIDDEN]);
    small.add("transformer.ln_f.bias", &[HIDDEN]);
    small = small.head();
    let config: falcon::Config = small.whole(json!({
        "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "use_cache": true, "bos_token_id": 1,
        "eos_token_id": 1, "hidden_dropout": 0.0, "attention_dropout": 0.0,
    }));
    small.compare(
        |weights| falcon::Falcon::load(weights, config.clone()),
        |model, tokens, _| model.forward(tokens),
    );
}

#[test]
fn gemma_answers_as_candle_does() {
    let small = Small::usual("gemma", json!({"hidden_act": "gelu", "head_dim": HEAD_DIM}))
        .attention()
        .mlp()
        .two_norms();
    let config: gemma::Config = small.whole(json!({
        "attention_bias": false, "hidden_act": null, "hidden_activation": "gelu_pytorch_tanh",
    }));
    small.compare(
        |weights| gemma::Model::new(false, &config, weights),
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn gemma2_answers_as_candle_does() {
    let small = Small::usual("gemma2", json!({
        "head_dim": HEAD_DIM, "query_pre_attn_scalar": HEAD_DIM, "sliding_window": 96,
        "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0, "hidden_activation": "gelu_pytorch_tanh",
    }))
    .attention()
    .mlp()
    .two_norms()
    .norms(&["pre_feedforward_layernorm", "post_feedforward_layernorm"]);
    let config: gemma2::Config = small.whole(json!({"attention_bias": false}));
    small.compare(
        |weights| gemma2::Model::new(false, &config, weights),
        |model, tokens, start| model.forward(tokens, start),
    );
    assert_eq!(small.load().unwrap().model.context_len(), 96);
}

#[test]
fn glm4_answers_as_candle_does() {
    let small = Small::usual(
        "glm4",
        json!({"head_dim": HEAD_DIM, "attention_bias": true, "eos_token_id": [1, 2]}),
    )
    .head()
    .attention()
    .qkv_biases()
    .layers(&[
        ("mlp.gate_up_proj.weight", &[2 * FFN, HIDDEN]),
        ("mlp.down_proj.weight", &[HIDDEN, FFN]),
    ])
    .two_norms()
    .norms(&["post_self_attn_layernorm", "post_mlp_layernorm"]);
    let config: glm4_new::Config = small.whole(json!({
        "partial_rotary_factor": 0.5, "tie_word_embeddings": false, "eos_token_id": null,
    }));
    small.compare(
        |weights| glm4_new::ModelForCausalLM::new(&config, weights),
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn helium_answers_as_candle_does() {
    let small = Small::usual(
        "helium",
        json!({"head_dim": HEAD_DIM, "bos_token_id": 1, "eos_token_id": [2, 3]}),
    )
    .attention()
    .mlp()
    .two_norms();
    let config: helium::Config = small.whole(json!({
        "attention_bias": false, "mlp_bias": false, "eos_token_id": 2, "tie_word_embeddings": true,
    }));
    small.compare(
        |weights| helium::Model::new(&config, weights),
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn lfm2_answers_as_candle_does() {
    let mut small = Small::new(
        "lfm2",
        "model.embed_tokens.weight",
        json!({
            "num_key_value_heads": KV_HEADS, "intermediate_size": 12345, "block_ff_dim": 12345, "conv_L_cache": 3,
            "norm_eps": 1e-5, "rope_theta": 1000000.0, "full_attn_idxs": [1],
        }),
    );
    small.add("model.embedding_norm.weight", &[HIDDEN]);
    small = small.norms(&["operator_norm", "ffn_norm"]).layers(&[
        ("feed_forward.w1.weight", &[FFN, HIDDEN]),
        ("feed_forward.w3.weight", &[FFN, HIDDEN]),
        ("feed_forward.w2.weight", &[HIDDEN, FFN]),
    ]);
    small.add("model.layers.0.conv.in_proj.weight", &[3 * HIDDEN, HIDDEN]);
    small.add("model.layers.0.conv.out_proj.weight", &[HIDDEN, HIDDEN]);
    small.add("model.layers.0.conv.conv.weight", &[HIDDEN, 1, 3]);
    for (part, rows) in [
        ("q_proj", HIDDEN),
        ("k_proj", KV),
        ("v_proj", KV),
        ("out_proj", HIDDEN),
    ] {
        small.add(
            &format!("model.layers.1.self_attn.{part}.weight"),
            &[rows, HIDDEN],
        );
    }
    for norm in ["q_layernorm", "k_layernorm"] {
        small.add(
            &format!("model.layers.1.self_attn.{norm}.weight"),
            &[HEAD_DIM],
        );
    }
    let config = lfm2::Config {
        vocab_size: VOCAB,
        hidden_size: HIDDEN,
        intermediate_size: FFN,
        num_hidden_layers: LAYERS,
        num_attention_heads: HEADS,
        num_key_value_heads: KV_HEADS,
        norm_eps: 1e-5,
        rope_theta: 1e6,
        max_position_embeddings: CONTEXT,
        conv_l_cache: 3,
        conv_bias: false,
        layer_types: vec![lfm2::LayerType::Conv, lfm2::LayerType::FullAttention],
        tie_embedding: true,
        bos_token_id: None,
        eos_token_id: None,
        use_flash_attn: false,
    };
    small.compare(
        |weights| {
            let cache = lfm2::Cache::new(true, DType::F32, &config, &Device::Cpu)?;
            Ok((lfm2::Model::new(&config, weights)?, cache))
        },
        |(model, cache), tokens, start| model.forward(tokens, start, cache),
    );
}

#[test]
fn mixtral_answers_as_candle_does() {
    let small = Small::usual("mixtral", json!({
        "sliding_window": null, "num_experts_per_tok": 2, "num_local_experts": EXPERTS, "tie_word_embeddings": false,
    }))
    .head()
    .attention()
    .experts("block_sparse_moe", ["w1", "w3", "w2"], FFN)
    .two_norms();
    let config: mixtral::Config =
        small.whole(json!({"sliding_window": CONTEXT, "use_flash_attn": false}));
    small.compare(
        |weights| mixtral::Model::new(&config, weights),
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn olmo_answers_as_candle_does() {
    let small = Small::usual("olmo", json!({"clip_qkv": 2.0, "attention_bias": false}))
        .attention()
        .mlp();
    let config: olmo::Config = small.whole(json!({"tie_word_embeddings": true}));
    small.compare(
        |weights| olmo::Model::new(&config, weights),
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn olmo2_answers_as_candle_does() {
    let small = Small::usual(
        "olmo2",
        json!({"attention_bias": false, "tie_word_embeddings": false}),
    )
    .head()
    .attention()
    .layers(&[
        ("self_attn.q_norm.weight", &[HIDDEN]),
        ("self_attn.k_norm.weight", &[KV]),
    ])
    .mlp()
    .norms(&["post_attention_layernorm", "post_feedforward_layernorm"]);
    let config: olmo2::Config = small.whole(json!({}));
    small.compare(
        |weights| olmo2::Model::new(&config, weights),
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn phi_answers_as_candle_does() {
    let mut small = Small::new("phi", "model.embed_tokens.weight", json!({
        "intermediate_size": FFN, "num_key_value_heads": KV_HEADS, "layer_norm_eps": 1e-5,
        "partial_rotary_factor": 0.5, "tie_word_embeddings": false, "hidden_act": "gelu_new", "rope_scaling": null,
    }))
    .head()
    .attention()
    .qkv_biases();
    // Linear layers keep the names of `attention` but for the output.
    for layer in 0..LAYERS {
        let prefix = format!("model.layers.{layer}");
        small
            .tensors
            .remove(&format!("{prefix}.self_attn.o_proj.weight"));
        for (part, rows, columns) in [
            ("self_attn.dense", HIDDEN, HIDDEN),
            ("mlp.fc1", FFN, HIDDEN),
            ("mlp.fc2", HIDDEN, FFN),
        ] {
            small.add(&format!("{prefix}.{part}.weight"), &[rows, columns]);
            small.add(&format!("{prefix}.{part}.bias"), &[rows]);
        }
        small.add(&format!("{prefix}.input_layernorm.weight"), &[HIDDEN]);
        small.add(&format!("{prefix}.input_layernorm.bias"), &[HIDDEN]);
    }
    small.add("model.final_layernorm.weight", &[HIDDEN]);
    small.add("model.final_layernorm.bias", &[HIDDEN]);
    small.add("lm_head.bias", &[VOCAB]);
    let config: phi::Config = small.whole(json!({"rope_theta": 10000.0, "qk_layernorm": false}));
    small.compare(
        |weights| phi::Model::new(&config, weights),
        |model, tokens, _| model.forward(tokens),
    );
}

#[test]
fn qwen2_moe_answers_as_candle_does() {
    let small = Small::usual("qwen2_moe", json!({
        "moe_intermediate_size": 48, "shared_expert_intermediate_size": FFN, "num_experts": EXPERTS,
        "num_experts_per_tok": 2, "sliding_window": 16, "use_sliding_window": false, "tie_word_embeddings": false,
    }))
    .head()
    .attention()
    .qkv_biases()
    .experts("mlp", ["gate_proj", "up_proj", "down_proj"], 48)
    .layers(&[
        ("mlp.shared_expert.gate_proj.weight", &[FFN, HIDDEN]),
        ("mlp.shared_expert.up_proj.weight", &[FFN, HIDDEN]),
        ("mlp.shared_expert.down_proj.weight", &[HIDDEN, FFN]),
        ("mlp.shared_expert_gate.weight", &[1, HIDDEN]),
    ])
    .two_norms();
    // The window of 16 is switched off: candle would use it all the same.
    let config: qwen2_moe::Config = small.whole(json!({
        "sliding_window": CONTEXT, "max_window_layers": LAYERS, "decoder_sparse_step": 1, "norm_topk_prob": false,
    }));
    small.compare(
        |weights| qwen2_moe::Model::new(&config, weights),
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn qwen3_moe_answers_as_candle_does() {
    let small = Small::usual("qwen3_moe", json!({
        "head_dim": HEAD_DIM, "moe_intermediate_size": 48, "num_experts": EXPERTS, "num_experts_per_tok": 2,
        "norm_topk_prob": true, "sliding_window": null, "use_sliding_window": false, "tie_word_embeddings": false,
        "mlp_only_layers": [],
    }))
    .head()
    .attention()
    .layers(&[("self_attn.q_norm.weight", &[HEAD_DIM]), ("self_attn.k_norm.weight", &[HEAD_DIM])])
    .experts("mlp", ["gate_proj", "up_proj", "down_proj"], 48)
    .two_norms();
    let config: qwen3_moe::Config = small.whole(json!({
        "attention_bias": false, "max_window_layers": LAYERS, "decoder_sparse_step": 1,
    }));
    small.compare(
        |weights| qwen3_moe::ModelForCausalLM::new(&config, weights),
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn stablelm_answers_as_candle_does() {
    let small = Small::usual("stablelm", json!({
        "layer_norm_eps": 1e-5, "use_qkv_bias": true, "partial_rotary_factor": 0.5, "use_cache": false,
        "tie_word_embeddings": false,
    }))
    .head()
    .attention()
    .qkv_biases()
    .mlp()
    .two_norms()
    .layers(&[("input_layernorm.bias", &[HIDDEN]), ("post_attention_layernorm.bias", &[HIDDEN])]);
    let mut small = small;
    small.add("model.norm.bias", &[HIDDEN]);
    let config: stable_lm::Config =
        small.whole(json!({"use_cache": true, "use_flash_attn": false}));
    small.compare(
        |weights| stable_lm::Model::new(&config, weights),
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn starcoder2_answers_as_candle_does() {
    let mut small = Small::usual("starcoder2", json!({
        "norm_epsilon": 1e-5, "hidden_act": "gelu_pytorch_tanh", "sliding_window": 4096, "use_bias": true,
    }))
    .attention()
    .qkv_biases()
    .two_norms()
    .layers(&[
        ("self_attn.o_proj.bias", &[HIDDEN]),
        ("mlp.c_fc.weight", &[FFN, HIDDEN]),
        ("mlp.c_fc.bias", &[FFN]),
        ("mlp.c_proj.weight", &[HIDDEN, FFN]),
        ("mlp.c_proj.bias", &[HIDDEN]),
        ("input_layernorm.bias", &[HIDDEN]),
        ("post_attention_layernorm.bias", &[HIDDEN]),
    ]);
    small.add("model.norm.bias", &[HIDDEN]);
    let config: starcoder2::Config = small.whole(json!({}));
    small.compare(
        |weights| starcoder2::Model::new(&config, weights),
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn configuration_that_candle_would_pass_over_is_refused() {
    let olmo = |more: Value| {
        let mut small = Small::usual("olmo", json!({})).attention().mlp();
        small.config.extend(object(more));
        small.refusal()
    };
    for (more, said) in [
        (
            json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
            "scaled by `linear`",
        ),
        (
            json!({"rope_parameters": {"rope_type": "yarn"}}),
            "scaled by `yarn`",
        ),
        (json!({"head_dim": 32}), "32 wide"),
        (
            json!({"num_hidden_layers": 4_000_000_000_u32}),
            "number of layers",
        ),
        (json!({"num_attention_heads": 0}), "number of heads"),
        (json!({"num_hidden_layers": 3}), "candle says"),
        (json!({"vocab_size": 300}), "300 rows"),
        (json!({"hidden_act": "quick_gelu"}), "candle says"),
    ] {
        let error = olmo(more.clone());
        assert!(error.contains(said), "{more}: {error}");
    }
}

#[test]
fn every_family_is_known_by_its_model_type() {
    let types: Vec<&str> = dense_models::model_types().collect();
    assert!(types.is_sorted());
    for model_type in types {
        assert!(dense_models::DenseFamily::of(model_type).is_some());
    }
}
