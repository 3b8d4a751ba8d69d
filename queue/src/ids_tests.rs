use super::*;
use crate::request::{Endpoint, Input, Params};

fn request(model: &str, text: &str) -> Request {
    Request {
        endpoint: Endpoint::ChatCompletions,
        model: model.into(),
        input: Input::Prompt {
            text: text.into(),
            raw: false,
        },
        params: Params::default(),
    }
}

#[test]
fn generated_ids_parse_and_sort_by_age() {
    let first = BatchId::generate();
    let second = BatchId::generate();
    assert!(first < second);
    assert_eq!(first.as_str().parse::<BatchId>().unwrap(), first);
}

#[test]
fn hostile_ids_are_refused() {
    for text in [
        "",
        "batch_",
        "batch_../../etc/passwd",
        "file_019a3f00000070008000000000000000",
        "batch_019A3F00000070008000000000000000",
    ] {
        assert!(text.parse::<BatchId>().is_err(), "{text}");
    }
}

#[test]
fn one_model_under_two_names_gives_one_key() {
    let by_alias = ContentHash::of(&request("smollm2-135m", "hi"), None);
    let by_path = ContentHash::of(&request("./a.gguf", "hi"), None);
    assert_eq!(JobKey::new(&by_alias, 0), JobKey::new(&by_path, 0));
}

#[test]
fn key_tells_text_custom_id_and_occurrence_apart() {
    let plain = ContentHash::of(&request("m", "hi"), None);
    let named = ContentHash::of(&request("m", "hi"), Some("a"));
    let other = ContentHash::of(&request("m", "ho"), None);
    assert!(plain != named && plain != other && named != other);
    assert_ne!(JobKey::new(&plain, 0), JobKey::new(&plain, 1));
}

#[test]
fn job_key_form_is_pinned() {
    let content = ContentHash::of(&request("m", "hi"), Some("a"));
    // A change here changes every sampled answer of every stored batch: make it a new version.
    assert_eq!(JobKey::new(&content, 0).to_hex(), PINNED_KEY);
}

const PINNED_KEY: &str = "4776a070389fc903be2e871a0aa7623e9d26ab2dff5cd7c787348477c4618bf5";

#[test]
fn result_ids_depend_on_seed_and_model() {
    let key = JobKey::new(&ContentHash::of(&request("m", "hi"), None), 0);
    let ids = ResultIds::new(&key, 0, Some(&ModelSha([1; 32])));
    assert_ne!(ids, ResultIds::new(&key, 1, Some(&ModelSha([1; 32]))));
    assert_ne!(ids, ResultIds::new(&key, 0, Some(&ModelSha([2; 32]))));
    assert_eq!(ids.chat_completion().len(), "chatcmpl-".len() + 24);
}
