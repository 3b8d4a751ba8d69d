//! What is fuzzed: each function takes any bytes and must come back, without a panic, soon, in little memory.
//!
//! Shared by the cargo-fuzz programs beside this file and by the test `fuzz`, which replays the corpus and seeded
//! mutations of it on every run of the tests.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rbee_queue::ids::{ContentHash, JobIndex, JobKey, ModelSha};
use rbee_queue::jsonl::{Answer, LineOptions, Renderer, Rendering, Shape, parse_line};
use rbee_queue::record::{Completed, ResultRecord};
use rbee_worker::chat_template::{ChatInput, ChatTemplate};
use rbee_worker::engine::grammar::Grammars;
use rbee_worker::engine::prepare::{Limits, constrain, prepare};
use rbee_worker::engine::stub::{self, StubOptions};
use rbee_worker::engine::{EngineJob, Priority, TextFace};
use rbee_worker::gguf::Gguf;
use rbee_worker::safetensors::Safetensors;
use rbee_worker::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

/// A target and its name, which is that of its corpus too.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("gguf", gguf),
    ("safetensors", safetensors),
    ("tokenizer", tokenizer),
    ("template", template),
    ("jsonl", jsonl),
    ("schema", schema),
    ("body", body),
];

/// A model file: header, tokenizer, template.
pub fn gguf(data: &[u8]) {
    let dir = folder(&[("model.gguf", data)]);
    if let Ok(file) = Gguf::open(&dir.path().join("model.gguf")) {
        let _ = file.architecture();
        let tensors: Vec<_> = file.tensors().map(|info| info.name.clone()).collect();
        let bytes: usize = tensors
            .iter()
            .filter_map(|name| file.tensor(name))
            .map(|tensor| tensor.data.len())
            .sum();
        assert!(bytes <= data.len(), "tensors lie within their file");
        if let Ok(tokenizer) = Tokenizer::from_gguf(&file) {
            let _ = tokenizer.encode_prompt(&[]);
            let _ = ChatTemplate::from_gguf(&file, &tokenizer);
        }
    }
}

/// A weights file beside a sound configuration.
pub fn safetensors(data: &[u8]) {
    let config = br#"{"model_type":"llama"}"#;
    let dir = folder(&[("model.safetensors", data), ("config.json", config)]);
    if let Ok(model) = Safetensors::open(dir.path()) {
        assert!(
            model.tensor_bytes() <= data.len() as u64,
            "tensors lie within their file"
        );
    }
}

/// A `tokenizer.json`.
pub fn tokenizer(data: &[u8]) {
    let dir = folder(&[("tokenizer.json", data)]);
    if let Ok(tokenizer) = Tokenizer::from_json(dir.path()) {
        let segment = rbee_worker::tokenizer::Segment {
            text: "Hello, wörld <s>".to_owned(),
            special: false,
        };
        let _ = tokenizer.encode_prompt(&[segment]);
    }
}

/// A chat template, rendered with a short chat.
pub fn template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(template) = ChatTemplate::new(source, &text_face().tokenizer) else {
        return;
    };
    let message = |role: &str, content: &str| {
        Map::from_iter([
            ("role".to_owned(), Value::from(role)),
            ("content".to_owned(), Value::from(content)),
        ])
    };
    let messages = [message("system", "Be kind."), message("user", "Hello")];
    let _ = template.render(&ChatInput {
        messages: &messages,
        tools: None,
        kwargs: &Map::new(),
        date: "2024-07-26",
        add_generation_prompt: true,
    });
}

/// Lines of a file of prompts: each is read, and its answer rendered.
pub fn jsonl(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        one_line(line);
    }
}

/// A schema, as a chat's `response_format` has it.
pub fn schema(data: &[u8]) {
    let Ok(schema) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    let body = json!({"messages": [{"role": "user", "content": "a"}], "response_format": format});
    let line = json!({"url": "/v1/chat/completions", "body": body});
    one_line(line.to_string().as_bytes());
}

/// The body of a request to each of the routes that compute.
pub fn body(data: &[u8]) {
    for url in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] {
        let mut line = format!(r#"{{"url": "{url}", "body": "#).into_bytes();
        line.extend_from_slice(data);
        line.push(b'}');
        one_line(&line);
    }
}

/// Reads a line, makes tokens of it, and renders an answer to it.
fn one_line(line: &[u8]) {
    let options = LineOptions::new("m");
    let parsed = parse_line(line, &options);
    let key = JobKey::new(&parsed.content(line), 0);
    if let Ok(request) = &parsed.request {
        let text = serde_json::to_string(request).expect("a request is JSON");
        let back = serde_json::from_str::<rbee_queue::Request>(&text).expect("it reads back");
        assert_eq!(ContentHash::of(&back, None), ContentHash::of(request, None));
        let limits = Limits {
            context_len: 2048,
            kv_positions: 4096,
            vocab_size: text_face().tokenizer.vocab_size(),
        };
        let job = EngineJob {
            id: 0,
            request: back,
            job_key: key,
            batch_seed: 0,
            template_date: "2024-07-26".to_owned(),
            priority: Priority::Batch,
            stream: false,
        };
        if let Ok(mut prepared) = prepare(text_face(), limits, job) {
            static GRAMMARS: OnceLock<Grammars> = OnceLock::new();
            let tokenizer = || Arc::clone(&text_face().tokenizer);
            let grammars = GRAMMARS.get_or_init(|| Grammars::new(tokenizer()));
            let _ = constrain(grammars, text_face(), limits, &mut prepared);
        }
    }
    let record = match parsed.request {
        Ok(_) => ResultRecord::completed(Completed::default()),
        Err(error) => ResultRecord::failed(error.code, error.message),
    };
    let text = String::from_utf8_lossy(line);
    let renderer = Renderer::new(options, 0, Shape::Short, Rendering::default());
    let rendered = renderer.render(&Answer {
        index: JobIndex(0),
        number: 1,
        text: &text,
        key,
        model: Some(ModelSha([0; 32])),
        numerics: None,
        record: &record,
        stats: None,
        finished_at_s: 0,
    });
    let line = serde_json::from_str::<Value>(&rendered.line);
    assert!(line.is_ok(), "a result line is JSON");
}

/// The stub engine's tokenizer and template.
fn text_face() -> &'static TextFace {
    static FACE: OnceLock<TextFace> = OnceLock::new();
    FACE.get_or_init(|| {
        let (_, face) = stub::load(&StubOptions::default());
        face
    })
}

/// A folder with these files, gone afterwards.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder can be made");
    for (name, bytes) in files {
        let path: &Path = name.as_ref();
        std::fs::write(dir.path().join(path), bytes).expect("a file can be written");
    }
    dir
}
