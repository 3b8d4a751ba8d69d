//! A small made-up BERT against candle's own, and what must not change a vector.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert;
use serde_json::{Value, json};

use super::*;
use crate::model::device::ComputeDevice;
use crate::model::memory::KvType;

const VOCAB: usize = 24;
const HIDDEN: usize = 48;
const FFN: usize = 80;
const POSITIONS: usize = 40;
const LAYERS: usize = 3;

fn config() -> Value {
    json!({
        "model_type": "bert", "hidden_size": HIDDEN, "num_attention_heads": 4, "num_hidden_layers": LAYERS,
        "intermediate_size": FFN, "max_position_embeddings": POSITIONS, "vocab_size": VOCAB, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.0, "initializer_range": 0.02,
        "pad_token_id": 0,
    })
}

fn tensors() -> HashMap<String, Tensor> {
    let mut shapes = vec![
        (
            "embeddings.word_embeddings.weight".to_owned(),
            vec![VOCAB, HIDDEN],
        ),
        (
            "embeddings.position_embeddings.weight".to_owned(),
            vec![POSITIONS, HIDDEN],
        ),
        (
            "embeddings.token_type_embeddings.weight".to_owned(),
            vec![2, HIDDEN],
        ),
        ("embeddings.LayerNorm.weight".to_owned(), vec![HIDDEN]),
        ("embeddings.LayerNorm.bias".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (part, rows, columns) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("attention.output.LayerNorm", HIDDEN, 0),
            ("intermediate.dense", FFN, HIDDEN),
            ("output.dense", HIDDEN, FFN),
            ("output.LayerNorm", HIDDEN, 0),
        ] {
            let name = format!("encoder.layer.{layer}.{part}");
            let weight = if columns == 0 {
                vec![rows]
            } else {
                vec![rows, columns]
            };
            shapes.push((format!("{name}.weight"), weight));
            shapes.push((format!("{name}.bias"), vec![rows]));
        }
    }
    let mut state = 7u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let made = shapes.into_iter().map(|(name, shape)| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next() * 0.4).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu);
        (name, tensor.expect("the shape has so many values"))
    });
    made.collect()
}

fn write(dir: &Path, config: &Value, pooling: &str) {
    let words: serde_json::Map<String, Value> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        .into_iter()
        .map(str::to_owned)
        .chain((b'a'..=b't').map(|letter| char::from(letter).to_string()))
        .enumerate()
        .map(|(id, word)| (word, json!(id)))
        .collect();
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": null, "added_tokens": [special(2, "[CLS]"), special(3, "[SEP]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": words},
    });
    let modules =
        json!([{"type": "a.Transformer"}, {"type": "a.Pooling"}, {"type": "a.Normalize"}]);
    std::fs::create_dir_all(dir.join("1_Pooling")).unwrap();
    for (name, value) in [
        ("config.json", config),
        ("tokenizer.json", &tokenizer),
        ("modules.json", &modules),
        ("1_Pooling/config.json", &json!({pooling: true})),
    ] {
        std::fs::write(dir.join(name), value.to_string()).unwrap();
    }
    candle_core::safetensors::save(&tensors(), dir.join("model.safetensors")).unwrap();
}

fn options(threads: usize, kernel: Option<Kernel>) -> LoadOptions {
    LoadOptions {
        device: ComputeDevice::Cpu,
        over_tensors: false,
        threads,
        slots: 1,
        memory: None,
        beside_others: false,
        kv: KvType::F16,
        context: None,
        kernel,
    }
}

fn embed(model: &mut Embedder, text: &str) -> Vec<f32> {
    let tokens = model.tokens(&EmbedText::Text(text.to_owned())).unwrap();
    model.vector(&tokens).unwrap()
}

/// Candle's rows for these tokens.
fn oracle(tokens: &[u32]) -> Vec<Vec<f32>> {
    let config: bert::Config = serde_json::from_value(config()).unwrap();
    let vars = VarBuilder::from_tensors(tensors(), DType::F32, &Device::Cpu);
    let model = bert::BertModel::load(vars, &config).unwrap();
    let ids = Tensor::new(tokens, &Device::Cpu)
        .unwrap()
        .unsqueeze(0)
        .unwrap();
    let rows = model
        .forward(&ids, &ids.zeros_like().unwrap(), None)
        .unwrap();
    rows.squeeze(0).unwrap().to_vec2().unwrap()
}

const TEXT: &str = "a b c, t s r; a é [SEP] zzz q";

#[test]
fn vectors_are_those_of_candles_bert() {
    for pooling in [
        "pooling_mode_mean_tokens",
        "pooling_mode_cls_token",
        "pooling_mode_max_tokens",
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &config(), pooling);
        let mut model = load_dir(dir.path(), &options(2, None)).unwrap().model;
        let tokens = model.tokens(&EmbedText::Text(TEXT.to_owned())).unwrap();
        assert_eq!((tokens[0], tokens.last()), (2, Some(&3)));
        let inner = &tokens[1..tokens.len() - 1];
        assert!(
            !inner.contains(&3),
            "written special tokens are text: {tokens:?}"
        );
        let rows = oracle(&tokens);
        let mut wanted = vec![0.0f64; HIDDEN];
        for (dim, wanted) in wanted.iter_mut().enumerate() {
            let column = rows.iter().map(|row| f64::from(row[dim]));
            *wanted = match pooling {
                "pooling_mode_cls_token" => f64::from(rows[0][dim]),
                "pooling_mode_max_tokens" => column.fold(f64::NEG_INFINITY, f64::max),
                _ => column.sum::<f64>() / rows.len() as f64,
            };
        }
        let length = wanted.iter().map(|x| x * x).sum::<f64>().sqrt();
        let vector = model.vector(&tokens).unwrap();
        for (ours, theirs) in vector.iter().zip(&wanted) {
            assert!(
                (f64::from(*ours) - theirs / length).abs() < 1e-5,
                "{pooling}: {ours} {theirs}"
            );
        }
    }
}

#[test]
fn threads_instruction_sets_and_earlier_texts_change_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &config(), "pooling_mode_mean_tokens");
    let mut first = load_dir(dir.path(), &options(1, Some(Kernel::Scalar))).unwrap();
    let wanted = embed(&mut first.model, TEXT);
    for kernel in Kernel::available() {
        for threads in [1, 3] {
            let mut other = load_dir(dir.path(), &options(threads, Some(*kernel))).unwrap();
            assert_eq!(other.numerics, first.numerics);
            embed(&mut other.model, "t s");
            assert_eq!(embed(&mut other.model, TEXT), wanted, "{kernel} {threads}");
        }
    }
}

#[test]
fn texts_that_the_model_cannot_take_are_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &config(), "pooling_mode_mean_tokens");
    std::fs::write(
        dir.path().join("sentence_bert_config.json"),
        r#"{"max_seq_length": 6}"#,
    )
    .unwrap();
    let model = load_dir(dir.path(), &options(1, None)).unwrap().model;
    let code = |text: EmbedText| model.tokens(&text).unwrap_err().code;
    assert!(model.tokens(&EmbedText::Text("a b c d".to_owned())).is_ok());
    assert_eq!(
        code(EmbedText::Text("a b c d e".to_owned())),
        "context_length_exceeded"
    );
    assert_eq!(
        code(EmbedText::Tokens(vec![2; 7])),
        "context_length_exceeded"
    );
    assert_eq!(code(EmbedText::Tokens(vec![VOCAB as u32])), "invalid_value");
}

#[test]
fn folders_that_are_no_such_model_are_refused_in_words() {
    let refused = |change: &dyn Fn(&mut Value), pooling: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config();
        change(&mut config);
        write(dir.path(), &config, pooling);
        match load_dir(dir.path(), &options(1, None)) {
            Ok(_) => panic!("it was loaded"),
            Err(error) => error.to_string(),
        }
    };
    let set =
        |name: &'static str, value: Value| move |config: &mut Value| config[name] = value.clone();
    let mean = "pooling_mode_mean_tokens";
    for (name, value, word) in [
        ("hidden_size", json!(0), "hidden_size"),
        ("hidden_size", json!(64), "LayerNorm"),
        ("num_attention_heads", json!(5), "no multiple"),
        ("num_hidden_layers", json!(4), "no tensor"),
        ("vocab_size", json!(1u64 << 60), "vocab_size"),
        ("hidden_act", json!("sine"), "sine"),
        (
            "position_embedding_type",
            json!("relative_key"),
            "relative_key",
        ),
    ] {
        let error = refused(&set(name, value), mean);
        assert!(
            error.contains(word) || error.contains("embeddings"),
            "{error}"
        );
    }
    let error = refused(&|_| {}, "pooling_mode_weightedmean_tokens");
    assert!(error.contains("pooling"), "{error}");
}
