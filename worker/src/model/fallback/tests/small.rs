//! Small safetensors models: a configuration as Hugging Face has it, and random tensors.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde_json::{Map, Value, json};

use super::super::load_safetensors;
use super::*;
use crate::model::LoadError;
use crate::safetensors::Safetensors;
use crate::tokenizer::Tokenizer;

pub const LAYERS: usize = 2;
pub const EXPERTS: usize = 4;
pub const KV: usize = KV_HEADS * HEAD_DIM;

/// A model before it is written: its configuration as Hugging Face has it, and its tensors.
pub struct Small {
    pub config: Map<String, Value>,
    pub tensors: HashMap<String, Tensor>,
    /// Whether norms lie around 1; Gemma's lie around 0.
    about_one: bool,
}

impl Small {
    /// What all have, with the embedding of that name.
    pub fn new(model_type: &str, embedding: &str, more: Value) -> Small {
        let config = json!({
            "model_type": model_type, "vocab_size": VOCAB, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "max_position_embeddings": CONTEXT,
        });
        let mut small = Small {
            config: object(config),
            tensors: HashMap::new(),
            about_one: !model_type.starts_with("gemma"),
        };
        small.config.extend(object(more));
        small.add(embedding, &[VOCAB, HIDDEN]);
        small
    }

    /// With gate, up and down, keys shared by heads, RMS norms, `model.` before all names.
    pub fn usual(model_type: &str, more: Value) -> Small {
        let mut small = Small::new(
            model_type,
            "model.embed_tokens.weight",
            json!({
                "intermediate_size": FFN, "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
                "hidden_act": "silu",
            }),
        );
        small.config.extend(object(more));
        small.add("model.norm.weight", &[HIDDEN]);
        small
    }

    pub fn add(&mut self, name: &str, shape: &[usize]) {
        let about_one = self.about_one && name.ends_with("weight");
        self.tensors
            .insert(name.into(), weights(name, shape, about_one));
    }

    pub fn head(mut self) -> Small {
        self.add("lm_head.weight", &[VOCAB, HIDDEN]);
        self
    }

    /// Adds tensors to every layer.
    pub fn layers(mut self, tensors: &[(&str, &[usize])]) -> Small {
        for layer in 0..LAYERS {
            for (name, shape) in tensors {
                self.add(&format!("model.layers.{layer}.{name}"), shape);
            }
        }
        self
    }

    pub fn attention(self) -> Small {
        self.layers(&[
            ("self_attn.q_proj.weight", &[HIDDEN, HIDDEN]),
            ("self_attn.k_proj.weight", &[KV, HIDDEN]),
            ("self_attn.v_proj.weight", &[KV, HIDDEN]),
            ("self_attn.o_proj.weight", &[HIDDEN, HIDDEN]),
        ])
    }

    pub fn qkv_biases(self) -> Small {
        self.layers(&[
            ("self_attn.q_proj.bias", &[HIDDEN]),
            ("self_attn.k_proj.bias", &[KV]),
            ("self_attn.v_proj.bias", &[KV]),
        ])
    }

    pub fn mlp(self) -> Small {
        self.layers(&[
            ("mlp.gate_proj.weight", &[FFN, HIDDEN]),
            ("mlp.up_proj.weight", &[FFN, HIDDEN]),
            ("mlp.down_proj.weight", &[HIDDEN, FFN]),
        ])
    }

    pub fn norms(self, names: &[&str]) -> Small {
        let names: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
        let tensors: Vec<(&str, &[usize])> = names
            .iter()
            .map(|name| (name.as_str(), &[HIDDEN][..]))
            .collect();
        self.layers(&tensors)
    }

    pub fn two_norms(self) -> Small {
        self.norms(&["input_layernorm", "post_attention_layernorm"])
    }

    pub fn experts(mut self, prefix: &str, names: [&str; 3], width: usize) -> Small {
        for expert in 0..EXPERTS {
            let [gate, up, down] =
                names.map(|name| format!("{prefix}.experts.{expert}.{name}.weight"));
            self = self.layers(&[
                (&gate, &[width, HIDDEN]),
                (&up, &[width, HIDDEN]),
                (&down, &[HIDDEN, width]),
            ]);
        }
        let router = format!("{prefix}.gate.weight");
        self.layers(&[(&router, &[EXPERTS, HIDDEN])])
    }

    pub fn write(&self, dir: &Path) {
        std::fs::write(
            dir.join("config.json"),
            serde_json::to_vec(&self.config).unwrap(),
        )
        .unwrap();
        candle_core::safetensors::save(&self.tensors, dir.join("model.safetensors")).unwrap();
    }

    pub fn load(&self) -> Result<LoadedModel, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        self.write(dir.path());
        load_safetensors(
            &Safetensors::open(dir.path()).unwrap(),
            byte_text(),
            &options(),
        )
    }

    pub fn refusal(&self) -> String {
        match self.load() {
            Ok(_) => panic!("it was loaded"),
            Err(error) => error.to_string(),
        }
    }

    /// The configuration with these keys, as candle's type.
    pub fn whole<T: serde::de::DeserializeOwned>(&self, more: Value) -> T {
        let mut config = self.config.clone();
        config.extend(object(more));
        serde_json::from_value(Value::Object(config)).unwrap()
    }

    pub fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_tensors(self.tensors.clone(), DType::F32, &Device::Cpu)
    }

    pub fn compare<M>(
        &self,
        new: impl Fn(VarBuilder<'static>) -> candle_core::Result<M>,
        forward: fn(&mut M, &Tensor, usize) -> candle_core::Result<Tensor>,
    ) {
        let name = self.config["model_type"].as_str().unwrap();
        let loaded = self.load().unwrap();
        assert!(loaded.sequential && !loaded.reproducible);
        assert_eq!(loaded.numerics, format!("candle-0.11.1-{name}"));
        let wanted = candle_answers(
            &Tokenizer::bytes(),
            || new(self.builder()).unwrap(),
            forward,
        );
        assert_same(name, &engine_answers(loaded), &wanted);
    }
}

pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("no object: {other}"),
    }
}
