//! Tools: shown by the model's template, called in a form, told in OpenAI's.

use rbee_tests::cluster::{TOKEN, ends_well};
use rbee_tests::process::Home;
use rbee_tests::python::passes;
use rbee_tests::server::{Server, command};
use rbee_tests::test_models;
use serde_json::{Value as Json, json};

fn tools() -> Json {
    json!([
        {"type": "function", "function": {"name": "weather", "description": "The weather of a city", "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Bern", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": false,
        }}},
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}, "additionalProperties": false}}},
    ])
}

fn run(lines: &[Json], engine: &[&str]) -> (Option<i32>, Vec<Json>) {
    let home = Home::new();
    home.write("in.jsonl", rbee_tests::prompts::jsonl(lines));
    let fixed = ["run", "in.jsonl", "-o", "out.jsonl"];
    let ended = home.rbee(fixed.iter().chain(engine)).run();
    (ended.code, home.lines("out.jsonl"))
}

#[test]
fn calls_that_must_be_made_are_made_in_both_kinds_of_lines() {
    let named = json!({"type": "function", "function": {"name": "now"}});
    let messages = json!([{"role": "user", "content": "hello"}]);
    let chat = json!({"messages": messages, "tools": tools(), "tool_choice": "required", "temperature": 0});
    let lines = [
        json!({"prompt": "what?", "tools": tools(), "tool_choice": "required", "id": "a"}),
        json!({"prompt": "what?", "tools": tools(), "tool_choice": named, "id": "b"}),
        json!({"prompt": "what?", "tools": tools(), "id": "c", "max_tokens": 9}),
        json!({"prompt": "what?", "tools": tools(), "tool_choice": "none", "id": "d", "max_tokens": 9}),
        json!({"prompt": "what?", "id": "e", "max_tokens": 9}),
        json!({"custom_id": "f", "method": "POST", "url": "/v1/chat/completions", "body": chat}),
    ];
    let (code, out) = run(&lines, &["--engine", "stub"]);
    assert_eq!(code, Some(0), "{out:?}");
    let is_weather = |call: &Json| {
        assert_eq!(
            (&call["type"], &call["function"]["name"]),
            (&json!("function"), &json!("weather"))
        );
        let arguments = call["function"]["arguments"].as_str().expect("a text");
        let arguments: Json = serde_json::from_str(arguments).expect("JSON");
        assert!(
            arguments["city"].is_string() && arguments["days"].is_u64(),
            "{arguments}"
        );
    };
    for result in [&out[0], &out[1]] {
        assert_eq!(
            (&result["finish_reason"], &result["text"]),
            (&json!("tool_calls"), &json!(""))
        );
        let call = &result["tool_calls"][0];
        assert!(
            call["id"]
                .as_str()
                .is_some_and(|id| id.starts_with("call_")),
            "{call}"
        );
        if call["function"]["name"] == "weather" {
            is_weather(call);
        }
    }
    assert_eq!(
        out[1]["tool_calls"][0]["function"],
        json!({"name": "now", "arguments": "{}"})
    );
    // What may call and does not is a text; what may not call is not shown any tools.
    assert!(
        out[2].get("tool_calls").is_none() && !out[2]["text"].as_str().expect("a text").is_empty()
    );
    assert_eq!(out[3]["text"], out[4]["text"]);
    assert_ne!(out[2]["text"], out[4]["text"]);
    let choice = &out[5]["response"]["body"]["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Json::Null)
    );
    assert!(
        choice["message"]["tool_calls"]
            .as_array()
            .is_some_and(|calls| calls.len() == 1)
    );
}

#[test]
fn model_whose_template_shows_no_tools_says_so() {
    let model = test_models::smollm2();
    let lines = [
        json!({"prompt": "what?", "tools": tools()}),
        json!({"prompt": "what?", "tools": tools(), "tool_choice": "none", "max_tokens": 4}),
    ];
    let (code, out) = run(&lines, &["--model", model.to_str().expect("a text")]);
    assert_eq!(code, Some(3));
    assert_eq!(out[0]["error"]["code"], "tools_not_supported", "{}", out[0]);
    assert!(out[1]["error"].is_null(), "{}", out[1]);
}

#[test]
fn official_client_calls_tools() {
    let home = Home::new();
    let server = Server::started(command(&home, &[]).env("RBEE_API_TOKEN", TOKEN));
    passes(&home, "structured/tools.py", &server.url, &[]);
    ends_well(server.process);
}
