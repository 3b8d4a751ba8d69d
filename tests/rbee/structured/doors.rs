//! Answers with a form through every door of a server and of a node, on the stub engine.

use rbee_test_services::process::free_port;
use rbee_tests::cluster::{Cluster, TOKEN, ends_well};
use rbee_tests::http::{self, Answer};
use rbee_tests::process::Home;
use rbee_tests::server::{Server, command};
use serde_json::{Value as Json, json};

/// A form that the stub, which never ends a text, completes.
fn form() -> Json {
    json!({"type": "json_schema", "json_schema": {"name": "short", "strict": true, "schema": {
        "type": "object",
        "properties": {"kind": {"enum": ["cat", "dog"]}, "name": {"type": "string", "maxLength": 5}},
        "required": ["kind", "name"],
        "additionalProperties": false,
    }}})
}

fn has_form(text: &str) {
    let value: Json = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(value["kind"] == "cat" || value["kind"] == "dog", "{value}");
    assert!(
        value["name"].as_str().is_some_and(|name| name.len() <= 5),
        "{value}"
    );
}

fn post(url: &str, path: &str, body: &Json) -> Answer {
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    let head = format!(
        "POST {path}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nAccept: application/json"
    );
    http::send(
        port.expect("a URL ends in its port"),
        &head,
        &body.to_string(),
    )
}

#[test]
fn every_route_of_a_server_keeps_to_the_form() {
    let home = Home::new();
    let server = Server::started(command(&home, &[]).env("RBEE_API_TOKEN", TOKEN));
    let messages = json!([{"role": "user", "content": "hello"}]);
    let chat = post(
        &server.url,
        "/v1/chat/completions",
        &json!({"messages": messages, "response_format": form(), "temperature": 0}),
    );
    assert_eq!(chat.status, 200, "{}", chat.text);
    let chat = chat.json();
    let text = chat["choices"][0]["message"]["content"]
        .as_str()
        .expect("a text");
    has_form(text);
    assert_eq!(chat["choices"][0]["finish_reason"], "stop");
    let streamed = post(
        &server.url,
        "/v1/chat/completions",
        &json!({"messages": messages, "response_format": form(), "temperature": 0, "stream": true}),
    );
    let deltas = streamed.told();
    let joined: String = deltas
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(joined, text);
    let continued = post(
        &server.url,
        "/v1/completions",
        &json!({"prompt": "so", "response_format": form()}),
    );
    has_form(
        continued.json()["choices"][0]["text"]
            .as_str()
            .expect("a text"),
    );
    let inferred = post(
        &server.url,
        "/v1/infer",
        &json!({"prompt": "so", "response_format": form()}),
    );
    has_form(inferred.json()["text"].as_str().expect("a text"));
    let object = post(
        &server.url,
        "/v1/chat/completions",
        &json!({"messages": messages, "response_format": {"type": "regex", "regex": "[0-9]{3}"}}),
    );
    let digits = object.json()["choices"][0]["message"]["content"].clone();
    assert!(
        digits.as_str().is_some_and(|digits| digits.len() == 3),
        "{digits}"
    );
    for (bad, code) in [
        (json!({"type": "xml"}), "invalid_value"),
        (
            json!({"type": "regex", "regex": "("}),
            "invalid_response_format",
        ),
        (
            json!({"type": "json_schema", "json_schema": {"schema": false}}),
            "impossible_response_format",
        ),
        (
            json!({"type": "regex", "regex": "a".repeat(300_000)}),
            "response_format_too_large",
        ),
    ] {
        let refused = post(
            &server.url,
            "/v1/chat/completions",
            &json!({"messages": messages, "response_format": bad}),
        );
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert_eq!(refused.json()["error"]["code"], code, "{}", refused.text);
    }
    ends_well(server.process);
}

#[test]
fn batch_with_forms_through_a_cluster_has_the_bytes_of_one_run_here() {
    let prompts: Vec<Json> = (0..40)
        .map(|at| match at % 3 {
            // Equal ones are computed once.
            0 => json!({"prompt": format!("say {}", at % 4), "response_format": form()}),
            1 => json!({"prompt": format!("tell {at}"), "temperature": 0.8, "response_format": form()}),
            _ => json!({"prompt": format!("free {at}"), "max_tokens": 9}),
        })
        .collect();
    let prompts = rbee_tests::prompts::jsonl(&prompts);
    let right = rbee_tests::server::run_alone(&prompts);
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&["--data-dir", "serve", "--engine", "stub"]);
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let worker = cluster.worker(
        "one",
        &[
            "--data-dir",
            "one",
            "--engine",
            "stub",
            "--heartbeat-ms",
            "100",
            "--listen",
            &listen,
        ],
    );
    let id = cluster.submit(&prompts, &[]);
    cluster.until_done(&id);
    assert_eq!(cluster.export(&id), right);
    cluster.check_rows(&id);
    // The node's own face.
    let answer = post(
        &listen,
        "/v1/inference",
        &json!({"prompt": "so", "response_format": form()}),
    );
    let text: String = answer
        .told()
        .iter()
        .filter_map(|event| event["t"].as_str())
        .collect();
    has_form(&text);
    ends_well(worker);
    ends_well(serve.process);
}
