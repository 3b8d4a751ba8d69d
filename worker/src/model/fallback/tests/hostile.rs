//! Files that lie: each is an error with a sentence, none a panic and none a model.

use super::gguf::{add, lfm2, on_disk, writer};
use super::*;
use crate::gguf::Value;
use crate::gguf::write::GgufWriter;
use crate::model::load_gguf;

fn refusal(file: &GgufWriter) -> String {
    let (_dir, path) = on_disk(file);
    match load_gguf(&[path], &options()) {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn absurd_metadata_is_refused() {
    for (key, number, said) in [
        ("block_count", u32::MAX, "number of layers"),
        ("attention.head_count", 0, "number of heads"),
        ("context_length", 0, "context length"),
        ("shortconv.l_cache", u32::MAX, "taps"),
        ("feed_forward_length", u32::MAX, "feed-forward size"),
        ("embedding_length", 65, "rows of 64, not of 65"),
    ] {
        let mut file = lfm2();
        file.set(&format!("lfm2.{key}"), Value::U32(number));
        let error = refusal(&file);
        assert!(error.contains(said), "{key}: {error}");
    }
}

#[test]
fn missing_tensor_is_named() {
    let mut file = writer("glm4", 1);
    add(&mut file, "blk.0.attn_norm.weight", &[HIDDEN]);
    let error = refusal(&file);
    assert!(
        error.contains("candle says") && error.contains("blk.0."),
        "{error}"
    );
}

#[test]
fn tensors_that_do_not_fit_each_other_are_found_at_loading() {
    let mut file = lfm2();
    file.set("lfm2.attention.head_count", Value::U32(8));
    let error = refusal(&file);
    assert!(error.contains("do not fit"), "{error}");
}

#[test]
fn scaled_rotary_embedding_is_refused() {
    let mut file = lfm2();
    file.set("lfm2.rope.scaling.type", Value::String("yarn".into()));
    assert!(refusal(&file).contains("rotary embedding is scaled"));
}

#[test]
fn unknown_architecture_is_refused_with_what_runs() {
    let error = refusal(&writer("mamba", 1));
    for name in ["`mamba`", "gemma3", "phi2", "lfm2", "llama with experts"] {
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn model_larger_than_the_memory_is_refused() {
    let (_dir, path) = on_disk(&lfm2());
    let options = LoadOptions {
        memory: Some(1 << 20),
        ..options()
    };
    let Err(error) = load_gguf(&[path], &options) else {
        panic!("it was loaded");
    };
    assert!(
        error.to_string().contains("too large for the memory"),
        "{error}"
    );
}
