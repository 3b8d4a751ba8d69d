//! `tokenizer.json` against the GGUF form of the same vocabulary, and what breaks it.

use std::path::Path;

use serde_json::{Value, json};
use tokenizers::decoders::{
    byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence as Decoders,
};
use tokenizers::normalizers::Replace;
use tokenizers::pre_tokenizers::{byte_level::ByteLevel, digits::Digits, sequence::Sequence};

use super::oracle_tests::spm_oracle;
use super::tests::{model, torture_pieces};
use super::*;
use crate::gguf::Gguf;

fn spec(name: &str) -> VocabSpec {
    VocabSpec::from_gguf(&Gguf::open(&model(name)).unwrap()).unwrap()
}

fn write(dir: &Path, file: &str, value: &Value) {
    std::fs::write(dir.join(file), value.to_string()).unwrap();
}

/// SmolLM2's tokenizer as Hugging Face publishes it.
fn smollm2_json(spec: &VocabSpec) -> tokenizers::Tokenizer {
    let vocab = spec
        .tokens
        .iter()
        .zip(0..)
        .map(|(text, id)| (text.clone(), id));
    let merges = spec
        .merges
        .iter()
        .map(|merge| merge.split_once(' ').unwrap());
    let bpe = tokenizers::models::bpe::BPE::builder()
        .vocab_and_merges(
            vocab.collect::<tokenizers::models::bpe::Vocab>(),
            merges
                .map(|(left, right)| (left.into(), right.into()))
                .collect(),
        )
        .build()
        .unwrap();
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    let stages = vec![
        Digits::new(true).into(),
        ByteLevel::new(false, true, true).into(),
    ];
    tokenizer.with_pre_tokenizer(Some(Sequence::new(stages)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let control = spec
        .tokens
        .iter()
        .zip(&spec.kinds)
        .filter(|(_, kind)| **kind == TokenKind::Control);
    let control = control.map(|(text, _)| tokenizers::AddedToken::from(text.clone(), true));
    tokenizer
        .add_special_tokens(control.collect::<Vec<_>>())
        .unwrap();
    tokenizer
}

fn smollm2_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    smollm2_json(&spec("smollm2-135m.gguf"))
        .save(dir.path().join("tokenizer.json"), false)
        .unwrap();
    write(
        dir.path(),
        "tokenizer_config.json",
        &json!({"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>", "add_bos_token": false}),
    );
    write(
        dir.path(),
        "generation_config.json",
        &json!({"eos_token_id": [2, 0, 4000000000u64]}),
    );
    dir
}

#[test]
fn smollm2_tokenises_alike_from_json_and_gguf() {
    let dir = smollm2_dir();
    let json = Tokenizer::from_json(dir.path()).unwrap();
    let gguf = tests::load("smollm2-135m.gguf");
    assert_eq!(
        (json.bos(), json.eos(), json.stop_tokens()),
        (gguf.bos(), gguf.eos(), gguf.stop_tokens())
    );
    assert_eq!(json.vocab_size(), gguf.vocab_size());
    for id in 0..json.vocab_size() as u32 {
        assert_eq!(json.token_bytes(id), gguf.token_bytes(id), "token {id}");
    }
    for piece in torture_pieces() {
        for parse in [ParseSpecial::Yes, ParseSpecial::No] {
            assert_eq!(
                json.encode(&piece, parse),
                gguf.encode(&piece, parse),
                "{parse:?}: {piece:?}"
            );
        }
    }
    let segment = |text: &str, special| Segment {
        text: text.into(),
        special,
    };
    let prompt = [
        segment("<|im_start|>user\n", true),
        segment("<|im_end|> x", false),
        segment("<|im_end|>\n", true),
    ];
    assert_eq!(json.encode_prompt(&prompt), gguf.encode_prompt(&prompt));
    assert_eq!(
        json.encode_prompt(&prompt)
            .iter()
            .filter(|id| **id == 2)
            .count(),
        1
    );
}

#[test]
fn gemma3_tokenises_alike_from_json_and_gguf() {
    let spec = spec("gemma3-270m.gguf");
    let mut inner = spm_oracle(&spec, true);
    let steps = vec![
        Replace::new("▁", " ").unwrap().into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    inner.with_decoder(Some(Decoders::new(steps)));
    let dir = tempfile::tempdir().unwrap();
    inner
        .save(dir.path().join("tokenizer.json"), false)
        .unwrap();
    let config = json!({"bos_token": "<bos>", "eos_token": "<eos>", "add_bos_token": true, "add_eos_token": false});
    write(dir.path(), "tokenizer_config.json", &config);
    let json = Tokenizer::from_json(dir.path()).unwrap();
    let gguf = tests::load("gemma3-270m.gguf");
    assert_eq!(
        (json.bos(), json.eos(), json.stop_tokens()),
        (gguf.bos(), gguf.eos(), gguf.stop_tokens())
    );
    for id in 0..json.vocab_size() as u32 {
        assert_eq!(json.token_bytes(id), gguf.token_bytes(id), "token {id}");
    }
    for piece in torture_pieces() {
        for parse in [ParseSpecial::Yes, ParseSpecial::No] {
            assert_eq!(
                json.encode(&piece, parse),
                gguf.encode(&piece, parse),
                "{parse:?}: {piece:?}"
            );
        }
        let prompt = [Segment {
            text: piece,
            special: true,
        }];
        assert_eq!(json.encode_prompt(&prompt), gguf.encode_prompt(&prompt));
    }
}

/// A byte-level tokenizer of a few tokens, small enough to break in a thousand ways.
fn small_json() -> Value {
    let mut vocab: serde_json::Map<String, Value> = byte_alphabet::letters()
        .zip(0..)
        .map(|(c, id)| (c.to_string(), json!(id)))
        .collect();
    vocab.insert("ab".into(), json!(256));
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [
            {"id": 257, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 258, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": true, "normalized": false, "special": true},
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [257], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [["a", "b"]]},
    })
}

#[test]
fn bos_comes_from_the_post_processor_and_truncation_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "tokenizer.json", &small_json());
    write(
        dir.path(),
        "config.json",
        &json!({"bos_token_id": 257, "eos_token_id": 258}),
    );
    let tokenizer = Tokenizer::from_json(dir.path()).unwrap();
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.stop_tokens()),
        (Some(257), Some(258), &[258][..])
    );
    let prompt = |text: &str| {
        tokenizer.encode_prompt(&[Segment {
            text: text.into(),
            special: true,
        }])
    };
    assert_eq!(prompt("abababab"), [257, 256, 256, 256, 256]);
    assert_eq!(prompt("<s>ab</s>  ab"), [257, 256, 258, 256]);
    assert_eq!(tokenizer.encode("</s>", ParseSpecial::No).len(), 4);
}

#[test]
fn broken_files_are_errors_that_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let error = |dir: &Path| {
        Tokenizer::from_json(dir)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert!(error(dir.path()).contains("tokenizer.json"));
    let mut word_piece = small_json();
    word_piece["decoder"] = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    write(dir.path(), "tokenizer.json", &word_piece);
    assert!(error(dir.path()).contains("WordPiece"));
    write(dir.path(), "tokenizer.json", &small_json());
    std::fs::write(dir.path().join("tokenizer_config.json"), "{").unwrap();
    assert!(error(dir.path()).contains("tokenizer_config.json"));
}

#[test]
fn mutated_tokenizer_files_neither_panic_nor_hang() {
    let whole = small_json().to_string().into_bytes();
    let dir = tempfile::tempdir().unwrap();
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes.truncate(at + 1),
                2 => drop(bytes.drain(at..(at + 1 + random(30)).min(bytes.len()))),
                _ => bytes.insert(at, b"0-\"}]9e"[random(7)]),
            }
            if bytes.is_empty() {
                break;
            }
        }
        std::fs::write(dir.path().join("tokenizer.json"), &bytes).unwrap();
        let started = std::time::Instant::now();
        if let Ok(tokenizer) = Tokenizer::from_json(dir.path()) {
            tokenizer.encode("hello <s> abab", ParseSpecial::Yes);
        }
        assert!(started.elapsed().as_secs() < 60);
    }
}

#[test]
fn ten_megabytes_without_a_space_are_tokenised_from_json_too() {
    let dir = smollm2_dir();
    let tokenizer = Tokenizer::from_json(dir.path()).unwrap();
    for (unit, length) in [
        ("a", 10_000_000),
        (" ", 1_000_000),
        ("<|im_end|>", 1_000_000),
    ] {
        let text = unit.repeat(length / unit.len());
        let started = std::time::Instant::now();
        let tokens = tokenizer.encode(&text, ParseSpecial::No);
        let bytes: usize = tokens
            .iter()
            .map(|id| tokenizer.token_bytes(*id).len())
            .sum();
        assert_eq!(bytes, text.len());
        assert!(
            started.elapsed().as_secs() < 300,
            "{unit:?} took {:?}",
            started.elapsed()
        );
    }
}
