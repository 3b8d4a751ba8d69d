//! Five hundred schemas: each compiles or is refused by name, and what the real model answers is valid.

use rbee_queue::ResponseFormat;
use rbee_tests::process::Home;
use rbee_tests::schemas::{self, Schema};
use rbee_tests::test_models;
use rbee_worker::engine::grammar::{Grammars, INVALID_RESPONSE_FORMAT, Stops};
use rbee_worker::tokenizer::Tokenizer;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every so many-th schema is answered by the real model; no divisor of the variants of a family.
const STRIDE: usize = 11;
/// Tokens of an answer.
const MAX_TOKENS: u32 = 200;

#[test]
fn five_hundred_schemas_compile_or_are_refused_by_name() {
    let all = schemas::all();
    assert_eq!(all.len(), 500);
    let grammars = Grammars::new(Arc::new(Tokenizer::bytes()));
    let stops = Arc::new(Stops {
        tokens: vec![256],
        last_resort: false,
        vocabulary: 257,
    });
    let mut refusals = BTreeMap::new();
    for schema in &all {
        let format = ResponseFormat::JsonSchema(schema.schema.clone());
        let made = grammars.constraints(&format, &stops, 1);
        if let Err(error) = made {
            assert_eq!(
                error.code, INVALID_RESPONSE_FORMAT,
                "{}: {}",
                schema.name, error.message
            );
            assert!(
                schemas::refused(schema.family),
                "{}: {}",
                schema.name,
                error.message
            );
            *refusals.entry(error.message).or_insert(0) += 1;
        }
    }
    println!("{refusals:#?}");
    let named = |word: &str| {
        refusals
            .keys()
            .any(|message: &String| message.contains(word))
    };
    for word in ["uniqueItems", "if", "dependentRequired", "contains"] {
        assert!(
            named(word),
            "no schema was refused for {word}: {refusals:#?}"
        );
    }
}

/// A line that asks for something of this schema.
fn line(schema: &Schema, temperature: f64) -> Json {
    json!({
        "id": schema.name,
        "prompt": format!("Write JSON with an example of: {}.", schema.family),
        "max_tokens": MAX_TOKENS,
        "temperature": temperature,
        "response_format": {"type": "json_schema", "json_schema": {"name": "example", "strict": true, "schema": schema.schema}},
    })
}

/// Runs the lines with the real model; the results as they were written.
fn run(lines: &str, flags: &[&str]) -> String {
    let home = Home::new();
    let model = test_models::smollm2();
    home.write("in.jsonl", lines);
    let fixed = [
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--model",
        model.to_str().expect("a text"),
    ];
    let ended = home.rbee(fixed.iter().chain(flags)).run();
    assert!(matches!(ended.code, Some(0 | 3)), "{ended}");
    home.read("out.jsonl")
}

#[test]
fn every_answer_that_stops_is_valid() {
    let chosen: Vec<Schema> = schemas::all().into_iter().step_by(STRIDE).collect();
    let mut lines: Vec<Json> = Vec::new();
    for (at, schema) in chosen.iter().enumerate() {
        lines.push(line(schema, if at % 2 == 0 { 0.0 } else { 0.8 }));
        // Every third has a free mate.
        if at % 3 == 0 {
            lines.push(json!({"prompt": format!("Say something about {}.", schema.family), "max_tokens": 40, "id": format!("free {at}")}));
        }
    }
    let results = run(&rbee_tests::prompts::jsonl(&lines), &["--slots", "16"]);
    let results: Vec<Json> = results
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let mut ends = BTreeMap::new();
    for result in &results {
        let Some(schema) = chosen
            .iter()
            .find(|schema| result["id"] == schema.name.as_str())
        else {
            assert!(result["error"].is_null(), "{result}");
            continue;
        };
        if let Some(code) = result["error"]["code"].as_str() {
            assert_eq!(code, INVALID_RESPONSE_FORMAT, "{result}");
            assert!(schemas::refused(schema.family), "{result}");
            *ends.entry("refused").or_insert(0) += 1;
            continue;
        }
        let reason = result["finish_reason"].as_str().expect("a word");
        *ends
            .entry(if reason == "stop" { "stop" } else { "length" })
            .or_insert(0) += 1;
        if reason == "stop" {
            is_valid(schema, result["text"].as_str().expect("a text"));
        }
    }
    println!("{ends:?}");
    assert!(
        ends["stop"] > 3 * ends.get("length").unwrap_or(&0),
        "{ends:?}"
    );
    // The same bytes alone: a sample, since one after another takes its time.
    let sample: Vec<Json> = lines.iter().step_by(8).cloned().collect();
    let alone = run(&rbee_tests::prompts::jsonl(&sample), &["--slots", "1"]);
    for (line, alone) in sample.iter().zip(alone.lines()) {
        let alone: Json = serde_json::from_str(alone).expect("JSON");
        let together = results
            .iter()
            .find(|result| result["id"] == line["id"])
            .expect("it was there");
        assert_eq!(
            (&alone["text"], &alone["usage"]),
            (&together["text"], &together["usage"])
        );
    }
}

fn is_valid(schema: &Schema, text: &str) {
    let value: Json = serde_json::from_str(text)
        .unwrap_or_else(|error| panic!("{}: {error}: {text}", schema.name));
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema.schema)
        .unwrap_or_else(|error| panic!("{}: {error}", schema.name));
    if let Err(error) = validator.validate(&value) {
        panic!("{}: {error}: {text}", schema.name);
    }
}
