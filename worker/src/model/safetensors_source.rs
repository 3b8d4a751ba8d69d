//! Tensors of a safetensors model, under the GGUF names that the decoder asks for.

use std::borrow::Cow;

use crate::safetensors::Safetensors;

use super::weights::{RawTensor, TensorSource};

/// Where a model's text part begins: plain models, and the two layouts of multimodal ones.
const PREFIXES: [&str; 3] = ["model.", "language_model.model.", "model.language_model."];

/// A safetensors model as a source of tensors.
pub struct SafetensorsSource<'a> {
    model: &'a Safetensors,
    prefix: &'static str,
    gemma: bool,
    tied: bool,
}

impl<'a> SafetensorsSource<'a> {
    /// # Errors
    /// A clause when the model has no embedding where one is expected.
    pub fn new(
        model: &'a Safetensors,
        gemma: bool,
        tied: bool,
    ) -> Result<SafetensorsSource<'a>, String> {
        let prefix = PREFIXES
            .into_iter()
            .find(|prefix| {
                model
                    .tensor(&format!("{prefix}embed_tokens.weight"))
                    .is_some()
            })
            .ok_or("it has no tensor model.embed_tokens.weight")?;
        Ok(SafetensorsSource {
            model,
            prefix,
            gemma,
            tied,
        })
    }

    /// Whether the tensor is one of the decoder's.
    pub fn used(&self, name: &str) -> bool {
        name.starts_with(self.prefix) || self.head().as_deref() == Some(name)
    }

    fn head(&self) -> Option<String> {
        let outer = self.prefix.strip_suffix("model.").unwrap_or("");
        (!self.tied).then(|| format!("{outer}lm_head.weight"))
    }

    fn name(&self, gguf: &str) -> Option<String> {
        match gguf {
            "token_embd.weight" => return Some(format!("{}embed_tokens.weight", self.prefix)),
            "output_norm.weight" => return Some(format!("{}norm.weight", self.prefix)),
            "output.weight" => return self.head(),
            _ => {}
        }
        let (layer, part) = gguf.strip_prefix("blk.")?.split_once('.')?;
        let (part, kind) = part.rsplit_once('.')?;
        let own = match part {
            "attn_norm" => "input_layernorm",
            "attn_q" => "self_attn.q_proj",
            "attn_k" => "self_attn.k_proj",
            "attn_v" => "self_attn.v_proj",
            "attn_qkv" => "self_attn.qkv_proj",
            "attn_output" => "self_attn.o_proj",
            "attn_q_norm" => "self_attn.q_norm",
            "attn_k_norm" => "self_attn.k_norm",
            "post_attention_norm" if self.gemma => "post_attention_layernorm",
            "ffn_norm" if self.gemma => "pre_feedforward_layernorm",
            "ffn_norm" => "post_attention_layernorm",
            "post_ffw_norm" if self.gemma => "post_feedforward_layernorm",
            "ffn_gate" => "mlp.gate_proj",
            "ffn_up" => return self.up(layer, kind),
            "ffn_down" => "mlp.down_proj",
            _ => return None,
        };
        Some(format!("{}layers.{layer}.{own}.{kind}", self.prefix))
    }

    /// Phi 3 keeps gate and up in one matrix.
    fn up(&self, layer: &str, kind: &str) -> Option<String> {
        let name = |own: &str| format!("{}layers.{layer}.mlp.{own}.{kind}", self.prefix);
        Some(name("gate_up_proj"))
            .filter(|fused| self.model.tensor(fused).is_some())
            .or_else(|| Some(name("up_proj")))
    }
}

impl TensorSource for SafetensorsSource<'_> {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        let tensor = self.model.tensor(&self.name(name)?)?;
        let k = tensor.info.shape[0];
        let n = tensor.info.elements() / k;
        Some(RawTensor {
            dtype: tensor.info.dtype,
            n,
            k,
            data: Cow::Borrowed(tensor.data),
        })
    }

    fn release(&self, name: &str) {
        if let Some(name) = self.name(name) {
            self.model.release(&name);
        }
    }
}
