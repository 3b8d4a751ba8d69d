//! What a decoder is made of, whatever file it came from.

use crate::kernels::elementwise::{Gate, RopeStyle};

use super::rope::RopeConfig;

/// Everything that one decoder implementation needs to know about a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The file's name for it, such as `llama`.
    pub architecture: String,
    pub vocab: usize,
    /// Positions that the model was made for.
    pub context: usize,
    pub hidden: usize,
    pub ffn: usize,
    pub heads: usize,
    pub kv_heads: usize,
    /// Dimensions of a query, key or value head.
    pub head_dim: usize,
    pub norm_epsilon: f32,
    pub gate: Gate,
    pub rope_style: RopeStyle,
    /// What embeddings are multiplied with.
    pub embedding_scale: Option<f32>,
    /// What attention scores are multiplied with.
    pub attention_scale: f32,
    /// Logits become `cap * tanh(logits / cap)`.
    pub logit_cap: Option<f32>,
    /// Norm weights are stored without the 1 that is added to them (Gemma's safetensors).
    pub norm_weights_lack_one: bool,
    /// The kinds of rotary embedding that layers choose from.
    pub ropes: Vec<RopeConfig>,
    /// One entry a layer.
    pub layers: Vec<LayerConfig>,
}

/// What differs between the layers of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerConfig {
    /// A token sees itself and at most `window - 1` positions before it.
    pub window: Option<usize>,
    /// Index into [`ModelConfig::ropes`].
    pub rope: usize,
}

/// Limits on what a file may claim, far above every real model; sizes within them cannot overflow.
mod limit {
    pub const LAYERS: usize = 1024;
    pub const WIDTH: usize = 1 << 20;
    pub const VOCAB: usize = 1 << 24;
    pub const CONTEXT: usize = 1 << 24;
    pub const HEADS: usize = 4096;
    pub const HEAD_DIM: usize = 1024;
}

impl ModelConfig {
    /// Values of all query heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Values of all key heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Checks that the numbers make a decoder.
    ///
    /// # Errors
    /// A clause that names what does not fit.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name: &str, value: usize, most: usize| {
            if (1..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!("its {name} is {value}, not 1 to {most}"))
            }
        };
        within("number of layers", self.layers.len(), limit::LAYERS)?;
        within("hidden size", self.hidden, limit::WIDTH)?;
        within("feed-forward size", self.ffn, limit::WIDTH)?;
        within("vocabulary", self.vocab, limit::VOCAB)?;
        within("context length", self.context, limit::CONTEXT)?;
        within("number of heads", self.heads, limit::HEADS)?;
        within("number of key-value heads", self.kv_heads, limit::HEADS)?;
        within("head size", self.head_dim, limit::HEAD_DIM)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!(
                "its {} heads do not share {} key-value heads evenly",
                self.heads, self.kv_heads
            ));
        }
        let finite = [
            Some(self.norm_epsilon),
            Some(self.attention_scale),
            self.embedding_scale,
            self.logit_cap,
        ];
        if finite
            .into_iter()
            .flatten()
            .any(|x| !x.is_finite() || x < 0.0)
        {
            return Err("one of its scales or its epsilon is negative or not finite".to_owned());
        }
        if self
            .layers
            .iter()
            .any(|layer| layer.rope >= self.ropes.len() || layer.window == Some(0))
        {
            return Err("a layer has an empty window or an unknown rotary embedding".to_owned());
        }
        self.ropes
            .iter()
            .try_for_each(|rope| rope.validate(self.head_dim))
    }
}
