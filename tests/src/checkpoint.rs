//! Random weights for a model's shape, under the names and in the layout of Hugging Face's checkpoints.

use std::collections::BTreeMap;

use crate::random::Random;
use crate::spec::{Family, ModelSpec};
use crate::vocabulary::Vocabulary;

/// A row-major array; one dimension for norms and biases, `[outputs, inputs]` for matrices.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// A model's weights and vocabulary, before any file format.
#[derive(Clone)]
pub struct Checkpoint {
    pub spec: ModelSpec,
    pub vocabulary: Vocabulary,
    pub tensors: BTreeMap<String, Array>,
}

/// Deviation of the logits of a random model: large enough that few positions are near-ties.
const LOGIT_DEVIATION: f32 = 3.0;

impl Checkpoint {
    /// The weights follow from the shape and its seed alone.
    pub fn random(spec: &ModelSpec) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            spec: spec.clone(),
            vocabulary: Vocabulary::new(spec.vocabulary),
            tensors: BTreeMap::new(),
        };
        checkpoint.fill();
        checkpoint
    }

    fn fill(&mut self) {
        let spec = self.spec.clone();
        let vocabulary = self.vocabulary.len();
        let deviation = LOGIT_DEVIATION / (spec.hidden as f32).sqrt();
        self.add(
            "model.embed_tokens.weight",
            &[vocabulary, spec.hidden],
            deviation,
        );
        if !spec.tied {
            self.add("lm_head.weight", &[vocabulary, spec.hidden], deviation);
        }
        self.norm("model.norm.weight", spec.hidden);
        for layer in 0..spec.layers {
            let prefix = format!("model.layers.{layer}");
            self.attention(&format!("{prefix}.self_attn"));
            self.feed_forward(&format!("{prefix}.mlp"));
            self.norm(&format!("{prefix}.input_layernorm.weight"), spec.hidden);
            self.norm(
                &format!("{prefix}.post_attention_layernorm.weight"),
                spec.hidden,
            );
            if spec.family == Family::Gemma3 {
                self.norm(
                    &format!("{prefix}.pre_feedforward_layernorm.weight"),
                    spec.hidden,
                );
                self.norm(
                    &format!("{prefix}.post_feedforward_layernorm.weight"),
                    spec.hidden,
                );
            }
        }
    }

    fn attention(&mut self, prefix: &str) {
        let spec = self.spec.clone();
        let (q, kv) = (spec.q_width(), spec.kv_width());
        if spec.family == Family::Phi3 {
            self.matrix(
                &format!("{prefix}.qkv_proj.weight"),
                q + 2 * kv,
                spec.hidden,
            );
        } else {
            self.matrix(&format!("{prefix}.q_proj.weight"), q, spec.hidden);
            self.matrix(&format!("{prefix}.k_proj.weight"), kv, spec.hidden);
            self.matrix(&format!("{prefix}.v_proj.weight"), kv, spec.hidden);
        }
        self.matrix(&format!("{prefix}.o_proj.weight"), spec.hidden, q);
        if spec.family == Family::Qwen2 {
            self.add(&format!("{prefix}.q_proj.bias"), &[q], 0.5);
            self.add(&format!("{prefix}.k_proj.bias"), &[kv], 0.5);
            self.add(&format!("{prefix}.v_proj.bias"), &[kv], 0.5);
        }
        if matches!(spec.family, Family::Qwen3 | Family::Gemma3) {
            self.norm(&format!("{prefix}.q_norm.weight"), spec.head_dim);
            self.norm(&format!("{prefix}.k_norm.weight"), spec.head_dim);
        }
    }

    fn feed_forward(&mut self, prefix: &str) {
        let (hidden, ffn) = (self.spec.hidden, self.spec.ffn);
        if self.spec.family == Family::Phi3 {
            self.matrix(&format!("{prefix}.gate_up_proj.weight"), 2 * ffn, hidden);
        } else {
            self.matrix(&format!("{prefix}.gate_proj.weight"), ffn, hidden);
            self.matrix(&format!("{prefix}.up_proj.weight"), ffn, hidden);
        }
        self.matrix(&format!("{prefix}.down_proj.weight"), hidden, ffn);
    }

    /// A projection that keeps the size of its input and makes attention look at some positions more than at others.
    fn matrix(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.add(name, &[outputs, inputs], 1.3 / (inputs as f32).sqrt());
    }

    /// Norm weights lie around 1; Gemma's checkpoints store what is added to 1.
    fn norm(&mut self, name: &str, width: usize) {
        let middle = if self.spec.family == Family::Gemma3 {
            0.0
        } else {
            1.0
        };
        self.add(name, &[width], 0.2);
        let array = self.tensors.get_mut(name).expect("it was added just now");
        for weight in &mut array.data {
            *weight += middle;
        }
    }

    fn add(&mut self, name: &str, shape: &[usize], deviation: f32) {
        let count = shape.iter().product();
        let data = Random::named(self.spec.seed, name).normals(count, deviation);
        let array = Array {
            shape: shape.to_vec(),
            data,
        };
        self.tensors.insert(name.to_string(), array);
    }
}
