//! What a BERT's `config.json` says, checked.

use serde_json::{Map, Value};

/// Bounds on what a file may ask for; far above any published model.
const MAX_HIDDEN: usize = 16_384;
const MAX_FFN: usize = 65_536;
const MAX_LAYERS: usize = 256;
const MAX_POSITIONS: usize = 1 << 17;
const MAX_VOCAB: usize = 1 << 22;
const MAX_TYPES: usize = 64;

/// The function between the two matrices of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x / 2 * (1 + erf(x / sqrt 2)).
    Gelu,
    /// Its tanh form.
    GeluTanh,
    Relu,
}

/// The shape of a BERT.
#[derive(Debug, Clone, PartialEq)]
pub struct BertConfig {
    pub hidden: usize,
    pub heads: usize,
    pub layers: usize,
    pub ffn: usize,
    pub positions: usize,
    pub vocab: usize,
    /// Kinds of segments; all tokens here are of the first.
    pub types: usize,
    pub epsilon: f32,
    pub activation: Activation,
}

impl BertConfig {
    /// # Errors
    /// A clause about the file.
    pub fn read(config: &Map<String, Value>) -> Result<BertConfig, String> {
        let size = |name: &str, most: usize| match config.get(name).and_then(Value::as_u64) {
            Some(size) if (1..=most as u64).contains(&size) => Ok(size as usize),
            Some(size) => Err(format!("its {name} is {size}; 1 to {most} are possible")),
            None => Err(format!("its config.json has no {name}")),
        };
        match config
            .get("position_embedding_type")
            .and_then(Value::as_str)
        {
            None | Some("absolute") => {}
            Some(other) => {
                return Err(format!(
                    "its positions are `{other}`; rbee knows absolute ones"
                ));
            }
        }
        let act = config.get("hidden_act").and_then(Value::as_str);
        let epsilon = config.get("layer_norm_eps").and_then(Value::as_f64);
        let read = BertConfig {
            hidden: size("hidden_size", MAX_HIDDEN)?,
            heads: size("num_attention_heads", MAX_HIDDEN)?,
            layers: size("num_hidden_layers", MAX_LAYERS)?,
            ffn: size("intermediate_size", MAX_FFN)?,
            positions: size("max_position_embeddings", MAX_POSITIONS)?,
            vocab: size("vocab_size", MAX_VOCAB)?,
            types: size("type_vocab_size", MAX_TYPES)?,
            epsilon: epsilon.unwrap_or(1e-12) as f32,
            activation: match act.unwrap_or("gelu") {
                "gelu" => Activation::Gelu,
                "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
                "relu" => Activation::Relu,
                other => {
                    return Err(format!(
                        "its hidden_act is `{other}`, which rbee does not know"
                    ));
                }
            },
        };
        if !read.hidden.is_multiple_of(read.heads) {
            return Err(format!(
                "its hidden size {} is no multiple of its {} heads",
                read.hidden, read.heads
            ));
        }
        Ok(read)
    }

    /// Numbers that are in memory for each token while a text is computed.
    pub fn floats_of_token(&self) -> usize {
        // The stream, queries, keys and values, keys by dimension, what attention gives, and the feed-forward part.
        6 * self.hidden + self.ffn
    }
}
