//! `rbee run` of lines whose answers have a form.

use rbee_tests::process::Home;
use rbee_tests::run;
use serde_json::{Value as Json, json};

fn lines(home: &Home, lines: &[Json]) {
    home.write("in.jsonl", rbee_tests::prompts::jsonl(lines));
}

/// The form of an answer that any model completes within a few tokens.
fn verdict() -> Json {
    json!({"type": "json_schema", "json_schema": {"name": "verdict", "schema": {
        "type": "object",
        "properties": {"verdict": {"enum": ["good", "bad"]}, "stars": {"type": "integer", "minimum": 1, "maximum": 5}},
        "required": ["verdict", "stars"],
        "additionalProperties": false,
    }}})
}

fn has_verdict(text: &Json) {
    let value: Json = serde_json::from_str(text.as_str().expect("a text")).expect("JSON");
    assert!(
        value["verdict"] == "good" || value["verdict"] == "bad",
        "{value}"
    );
    assert!(
        (1..=5).contains(&value["stars"].as_i64().expect("a number")),
        "{value}"
    );
    assert_eq!(value.as_object().expect("an object").len(), 2);
}

#[test]
fn lines_of_all_kinds_are_answered_in_their_form_and_bad_forms_are_their_own_error() {
    let home = Home::new();
    let body = |rest: Json| {
        let mut body = json!({"max_tokens": 60, "temperature": 0});
        let members = rest.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(members);
        body
    };
    let asked = json!([{"role": "user", "content": "The soup was cold. Rate it."}]);
    let regex = json!({"type": "regex", "regex": "(yes|no), [a-z]{2,12}\\."});
    let grammar = json!({"type": "grammar", "grammar": "start: N (\"+\" N)+\nN: /[1-9][0-9]?/"});
    let impossible = json!({"type": "json_schema", "json_schema": {"schema": {"type": "integer", "minimum": 9, "maximum": 3}}});
    let unknown = json!({"type": "json_schema", "json_schema": {"schema": {"type": "array", "uniqueItems": true}}});
    lines(
        &home,
        &[
            json!({"prompt": "The soup was cold. Rate it.", "response_format": verdict(), "max_tokens": 60}),
            json!({"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": body(json!({"messages": asked, "response_format": verdict()}))}),
            json!({"custom_id": "text", "method": "POST", "url": "/v1/completions", "body": body(json!({"prompt": "Rating: ", "response_format": verdict()}))}),
            json!({"prompt": "Is water wet?", "response_format": regex, "max_tokens": 30}),
            json!({"prompt": "Write a sum.", "response_format": grammar, "max_tokens": 12}),
            json!({"prompt": "Give me JSON.", "response_format": {"type": "json_object"}, "max_tokens": 200}),
            json!({"prompt": "a", "response_format": impossible, "id": "impossible"}),
            json!({"prompt": "a", "response_format": unknown, "id": "unknown"}),
            json!({"prompt": "a", "response_format": {"type": "regex", "regex": "("}, "id": "regex"}),
            json!({"prompt": "Say hello.", "max_tokens": 5, "id": "free"}),
        ],
    );
    run::real(&home, &[]).exits(3);
    let out = home.lines("out.jsonl");
    has_verdict(&out[0]["text"]);
    assert_eq!(out[0]["finish_reason"], "stop");
    has_verdict(&out[1]["response"]["body"]["choices"][0]["message"]["content"]);
    has_verdict(&out[2]["response"]["body"]["choices"][0]["text"]);
    let text = out[3]["text"].as_str().expect("a text");
    assert!(
        text.starts_with("yes, ") || text.starts_with("no, "),
        "{text}"
    );
    assert!(
        text.ends_with('.') && out[3]["finish_reason"] == "stop",
        "{text}"
    );
    let sum = out[4]["text"].as_str().expect("a text");
    assert!(
        sum.bytes()
            .all(|byte| byte == b'+' || byte.is_ascii_digit()),
        "{sum}"
    );
    if out[5]["finish_reason"] == "stop" {
        let value: Json =
            serde_json::from_str(out[5]["text"].as_str().expect("a text")).expect("JSON");
        assert!(value.is_object(), "{value}");
    }
    for (line, code, word) in [
        (&out[6], "impossible_response_format", "minimum"),
        (&out[7], "invalid_response_format", "uniqueItems"),
        (&out[8], "invalid_response_format", "regex"),
    ] {
        println!("{}", line["error"]);
        assert_eq!(line["error"]["code"], code, "{line}");
        let message = line["error"]["message"].as_str().expect("a text");
        assert!(message.contains(word), "{message}");
    }
    assert!(out[9]["error"].is_null() && !out[9]["text"].as_str().expect("a text").is_empty());
}

#[test]
fn retries_for_a_form_give_what_a_larger_budget_gives() {
    let answer = |flags: &[&str]| {
        let home = Home::new();
        lines(
            &home,
            &[json!({"prompt": "Rate the soup.", "response_format": verdict()})],
        );
        run::real(&home, flags).exits(0);
        home.lines("out.jsonl").remove(0)
    };
    let cut = answer(&["--max-tokens", "4"]);
    assert_eq!(cut["finish_reason"], "length");
    let retried = answer(&["--max-tokens", "4", "--schema-retries", "5"]);
    assert_eq!(retried["finish_reason"], "stop");
    has_verdict(&retried["text"]);
    assert_eq!(retried["text"], answer(&["--max-tokens", "128"])["text"]);
    let set = format!("response_format={}", verdict());
    let home = Home::new();
    home.write("in.jsonl", r#"{"prompt": "Rate the soup."}"#);
    run::real(&home, &["--set", &set, "--max-tokens", "128"]).exits(0);
    assert_eq!(home.lines("out.jsonl")[0]["text"], retried["text"]);
}

#[test]
fn killed_run_with_forms_resumes_to_the_same_bytes() {
    let input: Vec<Json> = (0..24)
        .map(|at| {
            let mut line = json!({"prompt": format!("Rate soup number {at}."), "max_tokens": 40, "temperature": 0.9});
            if at % 3 > 0 {
                line["response_format"] = verdict();
            }
            line
        })
        .collect();
    let right = {
        let home = Home::new();
        lines(&home, &input);
        run::real(&home, &[]).exits(0);
        home.read("out.jsonl")
    };
    let home = Home::new();
    lines(&home, &input);
    let mut running = run::real(&home, &["--slots", "4"]).start();
    running.stopped_once("some results are there", || {
        (run::finished(&home) >= 4).then_some(())
    });
    running.kill();
    run::real(&home, &["--slots", "3", "--chunk-tokens", "5"]).exits(0);
    assert_eq!(home.read("out.jsonl"), right);
}
