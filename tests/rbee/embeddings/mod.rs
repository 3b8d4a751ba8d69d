//! Embeddings of a real model: against vectors that were computed without rbee, through every door.
//!
//! `reference.json` has texts with their tokens and vectors, computed in f64 by numpy from the same files: BERT's encoder,
//! the mean over tokens, length 1.

use std::path::Path;

use rbee_tests::cluster::{Cluster, TOKEN, ends_well};
use rbee_tests::process::Home;
use rbee_tests::prompts;
use rbee_tests::python::passes;
use rbee_tests::server::Server;
use rbee_tests::test_models;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

/// How far a number may be from the reference.
const TOLERANCE: f64 = 1e-4;
/// The name that the catalog has for the model.
const ALIAS: &str = "all-minilm-l6-v2";

fn reference() -> Vec<Json> {
    serde_json::from_str(include_str!("reference.json")).expect("the reference is JSON")
}

/// Puts the model into a data directory as if it had been pulled.
fn keep_model(home: &Home, data: &str) {
    let blobs = home.path(data).join("models/blobs");
    std::fs::create_dir_all(&blobs).expect("the home can be written");
    let dir = test_models::minilm();
    let keep = |file: &Path| {
        let bytes = std::fs::read(file).expect("the test model can be read");
        let digest = hex::encode(Sha256::digest(&bytes));
        std::fs::write(blobs.join(digest), bytes).expect("the home can be written");
    };
    for entry in std::fs::read_dir(&dir).expect("the test model is a folder") {
        let path = entry.expect("its files can be listed").path();
        if path.is_file() {
            keep(&path);
        }
    }
    keep(&dir.join("1_Pooling/config.json"));
}

fn line(id: &str, body: &Json) -> Json {
    json!({"custom_id": id, "method": "POST", "url": "/v1/embeddings", "body": body})
}

/// One line a text, one with all of them, and one for each error that is the job's own.
fn prompts_of(reference: &[Json]) -> String {
    let texts: Vec<&Json> = reference.iter().map(|entry| &entry["text"]).collect();
    let tokens: Vec<&Json> = reference.iter().map(|entry| &entry["tokens"]).collect();
    let mut lines: Vec<Json> = (texts.iter().enumerate())
        .map(|(at, text)| line(&format!("text-{at}"), &json!({"input": text})))
        .collect();
    lines.push(line(
        "all",
        &json!({"input": texts, "encoding_format": "base64"}),
    ));
    lines.push(line("tokens", &json!({"input": tokens})));
    lines.push(line("cut", &json!({"input": "a", "dimensions": 7})));
    lines.push(line("long", &json!({"input": "word ".repeat(400)})));
    lines.push(line("stranger", &json!({"input": [1, 99_999]})));
    let chat = json!({"messages": [{"role": "user", "content": "Hello"}]});
    lines.push(
        json!({"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": chat}),
    );
    prompts::jsonl(&lines)
}

/// Whether numbers are those of the reference.
fn agree(vector: &Json, reference: &Json) {
    let (vector, wanted) = (vector.as_array(), reference["embedding"].as_array());
    let (vector, wanted) = (vector.expect("numbers"), wanted.expect("numbers"));
    assert_eq!(vector.len(), wanted.len());
    for (ours, theirs) in vector.iter().zip(wanted) {
        let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
        assert!(
            (ours - theirs).abs() < TOLERANCE,
            "{ours} is not {theirs}: {}",
            reference["text"]
        );
    }
}

#[test]
fn vectors_of_a_batch_are_those_of_the_reference_whatever_runs_beside_them() {
    let reference = reference();
    let model = test_models::minilm();
    let model = model.to_str().expect("the path is a text");
    // Each in a home of its own, where nothing is known yet.
    let run = |flags: &[&str]| {
        let home = Home::new();
        home.write("in.jsonl", prompts_of(&reference));
        let run = ["run", "in.jsonl", "-o", "out.jsonl", "--model", model];
        home.rbee(run.iter().chain(flags)).exits(3);
        home
    };
    let home = run(&["--slots", "1", "--threads", "1"]);
    let other = run(&["--slots", "7", "--threads", "3"]);
    assert_eq!(other.read("out.jsonl"), home.read("out.jsonl"));
    let lines = home.lines("out.jsonl");
    let body = |at: usize| &lines[at]["response"]["body"];
    let mut tokens = 0;
    for (at, entry) in reference.iter().enumerate() {
        assert_eq!(body(at)["object"], "list");
        agree(&body(at)["data"][0]["embedding"], entry);
        let counted = entry["tokens"]
            .as_array()
            .map(Vec::len)
            .expect("tokens are a list");
        assert_eq!(
            body(at)["usage"],
            json!({"prompt_tokens": counted, "total_tokens": counted})
        );
        tokens += counted;
    }
    let (all, by_tokens) = (body(reference.len()), body(reference.len() + 1));
    assert_eq!(all["usage"]["total_tokens"], tokens);
    for at in 0..reference.len() {
        assert_eq!(by_tokens["data"][at]["index"], at);
        // Tokens give what their text gives, and base64 the same numbers.
        assert_eq!(
            by_tokens["data"][at]["embedding"],
            body(at)["data"][0]["embedding"]
        );
        assert_eq!(
            decoded(&all["data"][at]["embedding"]),
            numbers(&by_tokens["data"][at]["embedding"])
        );
    }
    let codes: Vec<&Json> = lines[reference.len() + 2..]
        .iter()
        .map(|line| &line["error"]["code"])
        .collect();
    assert_eq!(
        codes,
        [
            "invalid_parameter",
            "context_length_exceeded",
            "invalid_value",
            "unsupported_endpoint"
        ]
    );
}

/// The numbers that base64 stands for.
fn decoded(text: &Json) -> Vec<f32> {
    let text = text.as_str().expect("base64 is a text");
    let vector = rbee_queue::embedding::Embedding::from_base64(text);
    vector.expect("it is base64 of numbers").0
}

fn numbers(list: &Json) -> Vec<f32> {
    let list = list.as_array().expect("numbers are a list");
    list.iter()
        .map(|x| x.as_f64().expect("a number") as f32)
        .collect()
}

#[test]
fn model_of_chats_gives_no_embeddings() {
    let home = Home::new();
    home.write("in.jsonl", line("a", &json!({"input": "a"})).to_string());
    let model = test_models::smollm2();
    let model = model.to_str().expect("the path is a text");
    home.rbee(["run", "in.jsonl", "-o", "out.jsonl", "--model", model])
        .exits(3);
    let error = &home.lines("out.jsonl")[0]["error"];
    assert_eq!(error["code"], "unsupported_endpoint");
    // Nor does a model of embeddings answer.
    let model = test_models::minilm();
    let model = model.to_str().expect("the path is a text");
    home.rbee(["infer", "--prompt", "Hello", "--model", model])
        .exits(1)
        .says("gives embeddings");
}

#[test]
fn official_client_gets_embeddings_and_batches_of_them() {
    let home = Home::new();
    keep_model(&home, "data");
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        "data",
        "--threads",
        "2",
    ];
    let server = Server::started(home.rbee(serve).env("RBEE_API_TOKEN", TOKEN));
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("rbee/embeddings/reference.json");
    let reference = reference.to_str().expect("the path is a text");
    passes(
        &home,
        "embeddings/client.py",
        &server.url,
        &[ALIAS, reference],
    );
    ends_well(server.process);
}

#[test]
fn node_of_a_cluster_gets_the_model_by_its_digest() {
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&["--data-dir", "serve"]);
    let worker = cluster.worker("one", &["--data-dir", "one", "--threads", "2"]);
    let reference = reference();
    let model = test_models::minilm();
    let model = model.to_str().expect("the path is a text");
    let id = cluster.submit(&prompts_of(&reference), &["--model", model]);
    cluster.until_finished(&id, 11);
    let exported = cluster.rbee(["export", &id]).run();
    let run = ["run", "in.jsonl", "-o", "out.jsonl", "--model", model];
    cluster.home.rbee(run).exits(3);
    assert_eq!(exported.text(), cluster.home.read("out.jsonl"));
    ends_well(worker);
    ends_well(serve.process);
}
