//! GGUF architectures. candle reads the same file with its own reader for the comparison.

use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::{quantized_glm4, quantized_lfm2, quantized_llama, quantized_phi};

use super::*;
use crate::gguf::write::GgufWriter;
use crate::gguf::{Array, BlockType, Value};
use crate::model::load_gguf;
use crate::tokenizer::Tokenizer;

/// The bytes, an end and one merge.
const VOCAB: usize = 258;

/// GPT-2's stand-in for a byte.
fn byte_char(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !printable(*other)).count() as u32;
    char::from_u32(256 + before).unwrap()
}

/// A file with a vocabulary and what all architectures have.
pub fn writer(architecture: &str, layers: usize) -> GgufWriter {
    let mut file = GgufWriter::new(architecture);
    let mut tokens: Vec<String> = (0..=255u8)
        .map(|byte| byte_char(byte).to_string())
        .collect();
    tokens.extend(["<|end|>".to_owned(), "he".to_owned()]);
    let mut kinds = vec![1; 256];
    kinds.extend([3, 1]);
    file.set("tokenizer.ggml.model", Value::String("gpt2".into()));
    file.set("tokenizer.ggml.pre", Value::String("gpt-2".into()));
    file.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    file.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
    file.set(
        "tokenizer.ggml.merges",
        Value::Array(Array::String(vec!["h e".into()])),
    );
    file.set("tokenizer.ggml.eos_token_id", Value::U32(256));
    for (key, number) in [
        ("block_count", layers),
        ("embedding_length", HIDDEN),
        ("feed_forward_length", FFN),
        ("context_length", CONTEXT),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
    ] {
        file.set(&format!("{architecture}.{key}"), Value::U32(number as u32));
    }
    for key in [
        "attention.layer_norm_rms_epsilon",
        "attention.layer_norm_epsilon",
    ] {
        file.set(&format!("{architecture}.{key}"), Value::F32(1e-5));
    }
    add(&mut file, "token_embd.weight", &[VOCAB, HIDDEN]);
    add(&mut file, "output_norm.weight", &[HIDDEN]);
    file
}

/// Adds a tensor, rows first: matrices in `Q8_0` where they fit, all else in f32.
pub fn add(file: &mut GgufWriter, name: &str, shape: &[usize]) {
    let tensor = weights(name, shape, name.ends_with("norm.weight"));
    put(file, name, &tensor);
}

fn put(file: &mut GgufWriter, name: &str, tensor: &Tensor) {
    let mut shape = tensor.dims().to_vec();
    shape.reverse();
    if shape.len() > 1 && shape[0].is_multiple_of(32) {
        let bytes = QTensor::quantize(tensor, GgmlDType::Q8_0)
            .unwrap()
            .data()
            .unwrap()
            .into_owned();
        file.tensor(name, BlockType::Q8_0, &shape, bytes);
    } else {
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        file.tensor_f32(name, &shape, &values);
    }
}

fn add_attention(file: &mut GgufWriter, layer: usize) {
    let kv = KV_HEADS * HEAD_DIM;
    for (part, rows) in [("q", HIDDEN), ("k", kv), ("v", kv), ("output", HIDDEN)] {
        add(
            file,
            &format!("blk.{layer}.attn_{part}.weight"),
            &[rows, HIDDEN],
        );
    }
}

fn add_norms(file: &mut GgufWriter, layer: usize, norms: &[(&str, usize)]) {
    for (norm, width) in norms {
        add(file, &format!("blk.{layer}.{norm}.weight"), &[*width]);
    }
}

/// Mixtral's kind; with `merged`, the experts of a layer lie in one tensor as newer files have it.
fn mixtral(merged: bool) -> GgufWriter {
    const EXPERTS: usize = 4;
    let mut file = writer("llama", 2);
    file.set("llama.rope.dimension_count", Value::U32(HEAD_DIM as u32));
    file.set("llama.expert_count", Value::U32(EXPERTS as u32));
    file.set("llama.expert_used_count", Value::U32(2));
    for layer in 0..2 {
        add_attention(&mut file, layer);
        add_norms(
            &mut file,
            layer,
            &[("attn_norm", HIDDEN), ("ffn_norm", HIDDEN)],
        );
        add(
            &mut file,
            &format!("blk.{layer}.ffn_gate_inp.weight"),
            &[EXPERTS, HIDDEN],
        );
        for (part, rows, columns) in [
            ("gate", FFN, HIDDEN),
            ("up", FFN, HIDDEN),
            ("down", HIDDEN, FFN),
        ] {
            let experts: Vec<Tensor> = (0..EXPERTS)
                .map(|expert| {
                    weights(
                        &format!("blk.{layer}.ffn_{part}.{expert}.weight"),
                        &[rows, columns],
                        false,
                    )
                })
                .collect();
            if merged {
                let all = Tensor::stack(&experts, 0).unwrap();
                put(
                    &mut file,
                    &format!("blk.{layer}.ffn_{part}_exps.weight"),
                    &all,
                );
            } else {
                for (expert, tensor) in experts.iter().enumerate() {
                    put(
                        &mut file,
                        &format!("blk.{layer}.ffn_{part}.{expert}.weight"),
                        tensor,
                    );
                }
            }
        }
    }
    file
}

/// Phi 2; with `split`, queries, keys and values have a tensor each as newer files have it.
fn phi2(split: bool) -> GgufWriter {
    let mut file = writer("phi2", 2);
    file.set("phi2.attention.head_count_kv", Value::U32(HEADS as u32));
    file.set("phi2.rope.dimension_count", Value::U32(8));
    add(&mut file, "output_norm.bias", &[HIDDEN]);
    add(&mut file, "output.weight", &[VOCAB, HIDDEN]);
    add(&mut file, "output.bias", &[VOCAB]);
    for layer in 0..2 {
        let blk = format!("blk.{layer}");
        add_norms(&mut file, layer, &[("attn_norm", HIDDEN)]);
        add(&mut file, &format!("{blk}.attn_norm.bias"), &[HIDDEN]);
        for (kind, shape) in [("weight", vec![HIDDEN, HIDDEN]), ("bias", vec![HIDDEN])] {
            let part = |part: &str| weights(&format!("{blk}.attn_{part}.{kind}"), &shape, false);
            let parts = [part("q"), part("k"), part("v")];
            if split {
                for (name, tensor) in ["q", "k", "v"].iter().zip(&parts) {
                    put(&mut file, &format!("{blk}.attn_{name}.{kind}"), tensor);
                }
            } else {
                let all = Tensor::cat(&parts, 0).unwrap();
                put(&mut file, &format!("{blk}.attn_qkv.{kind}"), &all);
            }
        }
        for (part, rows, columns) in [
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_up", FFN, HIDDEN),
            ("ffn_down", HIDDEN, FFN),
        ] {
            add(&mut file, &format!("{blk}.{part}.weight"), &[rows, columns]);
            add(&mut file, &format!("{blk}.{part}.bias"), &[rows]);
        }
    }
    file
}

fn glm4() -> GgufWriter {
    let mut file = writer("glm4", 2);
    file.set("glm4.attention.key_length", Value::U32(HEAD_DIM as u32));
    file.set("glm4.rope.freq_base", Value::F32(10_000.0));
    for layer in 0..2 {
        add_attention(&mut file, layer);
        let norms = [
            "attn_norm",
            "ffn_norm",
            "post_ffw_norm",
            "post_attention_norm",
        ];
        add_norms(&mut file, layer, &norms.map(|norm| (norm, HIDDEN)));
        add(
            &mut file,
            &format!("blk.{layer}.ffn_up.weight"),
            &[2 * FFN, HIDDEN],
        );
        add(
            &mut file,
            &format!("blk.{layer}.ffn_down.weight"),
            &[HIDDEN, FFN],
        );
    }
    file
}

/// A layer with attention between two with convolutions.
pub fn lfm2() -> GgufWriter {
    const TAPS: usize = 3;
    let mut file = writer("lfm2", 3);
    let kv = Array::I32(vec![0, KV_HEADS as i32, 0]);
    file.set("lfm2.attention.head_count_kv", Value::Array(kv));
    file.set("lfm2.shortconv.l_cache", Value::U32(TAPS as u32));
    for layer in 0..3 {
        add_norms(
            &mut file,
            layer,
            &[("attn_norm", HIDDEN), ("ffn_norm", HIDDEN)],
        );
        if layer == 1 {
            add_attention(&mut file, layer);
            add_norms(
                &mut file,
                layer,
                &[("attn_q_norm", HEAD_DIM), ("attn_k_norm", HEAD_DIM)],
            );
        } else {
            add(
                &mut file,
                &format!("blk.{layer}.shortconv.in_proj.weight"),
                &[3 * HIDDEN, HIDDEN],
            );
            add(
                &mut file,
                &format!("blk.{layer}.shortconv.out_proj.weight"),
                &[HIDDEN, HIDDEN],
            );
            add(
                &mut file,
                &format!("blk.{layer}.shortconv.conv.weight"),
                &[HIDDEN, TAPS],
            );
        }
        for (part, rows, columns) in [
            ("gate", FFN, HIDDEN),
            ("up", FFN, HIDDEN),
            ("down", HIDDEN, FFN),
        ] {
            add(
                &mut file,
                &format!("blk.{layer}.ffn_{part}.weight"),
                &[rows, columns],
            );
        }
    }
    file
}

/// A file in a folder that goes at the end.
pub fn on_disk(file: &GgufWriter) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, file.to_bytes()).unwrap();
    (dir, path)
}

fn content(path: &Path) -> (gguf_file::Content, File) {
    let mut file = File::open(path).unwrap();
    (gguf_file::Content::read(&mut file).unwrap(), file)
}

fn tokenizer(path: &Path) -> Tokenizer {
    Tokenizer::from_gguf(&crate::gguf::Gguf::open(path).unwrap()).unwrap()
}

/// Our answers to `file` and candle's to `plain`, the same model as candle's own reader wants it.
fn compare<M>(
    name: &str,
    file: &GgufWriter,
    plain: &GgufWriter,
    new: fn(gguf_file::Content, &mut File) -> candle_core::Result<M>,
    forward: fn(&mut M, &Tensor, usize) -> candle_core::Result<Tensor>,
) {
    let (_dir, path) = on_disk(file);
    let (_plain_dir, plain) = on_disk(plain);
    let loaded = load_gguf(&[path], &options()).unwrap();
    assert!(loaded.sequential && !loaded.reproducible);
    assert_eq!(
        loaded.numerics,
        format!("candle-0.11.1-{}", loaded.architecture)
    );
    let wanted = candle_answers(
        &tokenizer(&plain),
        || {
            let (content, mut file) = content(&plain);
            new(content, &mut file).unwrap()
        },
        forward,
    );
    assert_same(name, &engine_answers(loaded), &wanted);
}

#[test]
fn llama_with_experts_answers_as_candle_does() {
    for merged in [false, true] {
        compare(
            "mixtral",
            &mixtral(merged),
            &mixtral(false),
            |content, file| quantized_llama::ModelWeights::from_gguf(content, file, &Device::Cpu),
            |model, tokens, start| model.forward(tokens, start),
        );
    }
}

#[test]
fn phi2_answers_as_candle_does() {
    for split in [false, true] {
        compare(
            "phi2",
            &phi2(split),
            &phi2(false),
            |content, file| quantized_phi::ModelWeights::from_gguf(content, file, &Device::Cpu),
            |model, tokens, start| model.forward(tokens, start),
        );
    }
}

#[test]
fn glm4_answers_as_candle_does() {
    compare(
        "glm4",
        &glm4(),
        &glm4(),
        |content, file| {
            quantized_glm4::ModelWeights::from_gguf(content, file, &Device::Cpu, DType::F32)
        },
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn lfm2_answers_as_candle_does_after_prompts_of_one_token_too() {
    compare(
        "lfm2",
        &lfm2(),
        &lfm2(),
        |content, file| quantized_lfm2::ModelWeights::from_gguf(content, file, &Device::Cpu),
        |model, tokens, start| model.forward(tokens, start),
    );
}

#[test]
fn split_file_answers_as_the_whole_one() {
    let file = glm4();
    let (_dir, whole) = on_disk(&file);
    let dir = tempfile::tempdir().unwrap();
    let parts: Vec<PathBuf> = file
        .to_split(3)
        .into_iter()
        .enumerate()
        .map(|(number, bytes)| {
            let path = dir
                .path()
                .join(format!("model-{:05}-of-00003.gguf", number + 1));
            std::fs::write(&path, bytes).unwrap();
            path
        })
        .collect();
    let split = engine_answers(load_gguf(&parts, &options()).unwrap());
    let whole = engine_answers(load_gguf(&[whole], &options()).unwrap());
    assert_eq!(split, whole);
}
