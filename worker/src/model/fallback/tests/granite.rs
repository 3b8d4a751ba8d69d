//! Granite's four factors, which candle lacks and which are folded into the weights: against a forward pass that
//! applies them where the model's definition has them.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope;
use serde_json::json;

use super::small::Small;
use super::*;
use crate::tokenizer::Tokenizer;

const EMBEDDING: f64 = 12.0;
const ATTENTION: f64 = 0.11;
const RESIDUAL: f64 = 0.3;
const LOGITS: f64 = 2.5;
const EPSILON: f32 = 1e-5;

/// The whole sequence again for every token: no cache.
struct Reference<'a> {
    small: &'a Small,
    tokens: Vec<u32>,
}

impl Reference<'_> {
    fn weight(&self, name: &str) -> &Tensor {
        &self.small.tensors[&format!("{name}.weight")]
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        x.matmul(&self.weight(name).t()?)
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        rms_norm(x, self.weight(name), EPSILON)
    }

    fn heads(&self, x: &Tensor, name: &str, heads: usize, rotated: bool) -> Result<Tensor> {
        let length = x.dim(0)?;
        let x = self
            .linear(x, name)?
            .reshape((1, length, heads, HEAD_DIM))?;
        let x = x.transpose(1, 2)?.contiguous()?;
        if !rotated {
            return Ok(x);
        }
        let angles: Vec<f32> = (0..length)
            .flat_map(|position| {
                (0..HEAD_DIM / 2).map(move |pair| {
                    position as f32 / 10_000f32.powf(2.0 * pair as f32 / HEAD_DIM as f32)
                })
            })
            .collect();
        let angles = Tensor::from_vec(angles, (length, HEAD_DIM / 2), &Device::Cpu)?;
        rope(&x, &angles.cos()?, &angles.sin()?)
    }

    fn attention(&self, x: &Tensor, prefix: &str) -> Result<Tensor> {
        let length = x.dim(0)?;
        let q = self.heads(x, &format!("{prefix}.q_proj"), HEADS, true)?;
        let k = self.heads(x, &format!("{prefix}.k_proj"), KV_HEADS, true)?;
        let v = self.heads(x, &format!("{prefix}.v_proj"), KV_HEADS, false)?;
        let group = HEADS / KV_HEADS;
        let shared: Vec<u32> = (0..HEADS).map(|head| (head / group) as u32).collect();
        let shared = Tensor::new(shared, &Device::Cpu)?;
        let (k, v) = (k.index_select(&shared, 1)?, v.index_select(&shared, 1)?);
        let later =
            |(row, column): (usize, usize)| if column > row { f32::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f32> = (0..length)
            .flat_map(|row| (0..length).map(move |column| later((row, column))))
            .collect();
        let mask = Tensor::from_vec(mask, (length, length), &Device::Cpu)?;
        let scores = (q.matmul(&k.t()?.contiguous()?)? * ATTENTION)?.broadcast_add(&mask)?;
        let out = softmax_last_dim(&scores)?.matmul(&v)?;
        let out = out.transpose(1, 2)?.reshape((length, HIDDEN))?;
        self.linear(&out, &format!("{prefix}.o_proj"))
    }

    fn logits(&self) -> Result<Tensor> {
        let tokens = Tensor::new(self.tokens.as_slice(), &Device::Cpu)?;
        let embedding = self.weight("model.embed_tokens");
        let mut x = (embedding.index_select(&tokens, 0)? * EMBEDDING)?;
        for layer in 0..2 {
            let prefix = format!("model.layers.{layer}");
            let normed = self.norm(&x, &format!("{prefix}.input_layernorm"))?;
            x = (x + (self.attention(&normed, &format!("{prefix}.self_attn"))? * RESIDUAL)?)?;
            let normed = self.norm(&x, &format!("{prefix}.post_attention_layernorm"))?;
            let gate = silu(&self.linear(&normed, &format!("{prefix}.mlp.gate_proj"))?)?;
            let up = self.linear(&normed, &format!("{prefix}.mlp.up_proj"))?;
            let down = self.linear(&(gate * up)?, &format!("{prefix}.mlp.down_proj"))?;
            x = (x + (down * RESIDUAL)?)?;
        }
        let last = self
            .norm(&x, "model.norm")?
            .narrow(0, self.tokens.len() - 1, 1)?;
        last.matmul(&embedding.t()?)? / LOGITS
    }
}

#[test]
fn granite_answers_as_its_definition_with_all_factors() {
    let small = Small::usual(
        "granite",
        json!({
            "embedding_multiplier": EMBEDDING, "attention_multiplier": ATTENTION, "residual_multiplier": RESIDUAL,
            "logits_scaling": LOGITS, "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 0,
        }),
    )
    .attention()
    .mlp()
    .norms(&["input_layernorm", "post_attention_layernorm"]);
    let new = || Reference {
        small: &small,
        tokens: Vec::new(),
    };
    let wanted = candle_answers(&Tokenizer::bytes(), new, |reference, tokens, _| {
        let tokens: Vec<u32> = tokens.flatten(0, D::Minus1)?.to_vec1()?;
        reference.tokens.extend(tokens);
        reference.logits()
    });
    assert_same("granite", &engine_answers(small.load().unwrap()), &wanted);
}
