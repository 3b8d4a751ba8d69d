//! OpenAI's API, driven by the official Python client (the scripts beside this file) and by what strangers send.

mod document;
mod validating;

use rbee_tests::cluster::{Cluster, PATIENCE, TOKEN, ends_well};
use rbee_tests::process::{Home, Rbee};
use rbee_tests::python::{passes, script};
use rbee_tests::server::{Server, command};
use rbee_tests::{test_models, wait};
use serde_json::{Value as Json, json};

/// The digest of the model that the catalog's default alias names.
const MODEL_SHA: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
/// A token takes so long that answers can be watched.
const WATCHABLE: [&str; 4] = ["--stub-token-us", "1000", "--slots", "4"];
/// A token takes so long that no endless job ends while a test runs.
const ENDLESS: [&str; 4] = ["--stub-token-us", "500000", "--slots", "2"];

/// A server with the stub engine, which takes the token of the tests.
fn stub(home: &Home, arguments: &[&str]) -> Server {
    Server::started(command(home, arguments).env("RBEE_API_TOKEN", TOKEN))
}

/// A server that computes with the real model under its alias, which nobody could fetch here.
fn real(home: &Home) -> Server {
    let blobs = home.path("data/models/blobs");
    std::fs::create_dir_all(&blobs).expect("the home can be written");
    std::fs::copy(test_models::smollm2(), blobs.join(MODEL_SHA)).expect("the model can be copied");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"];
    let rest = ["--slots", "4", "--threads", "2", "--lease-ms", "20000"];
    let command = home.rbee(serve.iter().chain(&rest));
    Server::started(command.env("RBEE_API_TOKEN", TOKEN))
}

/// A command of rbee's own that speaks to the server.
fn rbee(server: &Server, home: &Home, arguments: &[&str]) -> Rbee {
    server.rbee(home, arguments).env("RBEE_API_TOKEN", TOKEN)
}

#[test]
fn official_client_chats_with_a_real_model() {
    let home = Home::new();
    let server = real(&home);
    let passed = passes(&home, "openai/chat.py", &server.url, &[]);
    // The same request as a line of a file has the same text.
    let answer = passed.json();
    let body = json!({
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": "Name a colour."}],
        "max_tokens": 12,
        "temperature": 0,
    });
    let line =
        json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body});
    home.write("in.jsonl", line.to_string());
    let model = test_models::smollm2();
    let model = model.to_str().expect("the path is a text");
    let run = ["run", "in.jsonl", "-o", "out.jsonl", "--model", model];
    let mut body = body;
    body.as_object_mut().expect("it is one").remove("model");
    let line =
        json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body});
    home.write("in.jsonl", line.to_string());
    home.rbee(run).exits(0);
    let run = home.lines("out.jsonl").remove(0);
    assert_eq!(run["response"]["body"]["choices"], answer["choices"]);
    ends_well(server.process);
}

#[test]
fn official_client_runs_batches_of_a_real_model_to_their_ends() {
    let home = Home::new();
    let server = real(&home);
    let passed = passes(&home, "openai/batches.py", &server.url, &["id"]);
    // rbee's own commands know the batch too.
    let id = passed.text().trim().to_owned();
    let status = rbee(&server, &home, &["status", &id, "--json"])
        .exits(0)
        .json();
    assert_eq!(status["status"], "completed");
    let exported = rbee(&server, &home, &["export", &id]).exits(0);
    assert_eq!(exported.text().lines().count(), 6);
    ends_well(server.process);
}

#[test]
fn official_client_gets_its_typed_exceptions() {
    let home = Home::new();
    let server = stub(&home, &[]);
    passes(&home, "openai/errors.py", &server.url, &[]);
    ends_well(server.process);
}

#[test]
fn official_client_sends_several_prompts_and_others_see_figures_and_schedules() {
    let home = Home::new();
    let server = stub(&home, &[]);
    passes(&home, "openai/prompts.py", &server.url, &[]);
    ends_well(server.process);
}

#[test]
fn official_client_keeps_files() {
    let home = Home::new();
    let server = stub(&home, &[]);
    passes(&home, "openai/files.py", &server.url, &[]);
    ends_well(server.process);
}

#[test]
fn owners_of_tokens_do_not_see_each_others_files() {
    let home = Home::new();
    let server = stub(&home, &[]);
    passes(&home, "openai/isolation.py", &server.url, &[]);
    ends_well(server.process);
}

#[test]
fn official_client_meets_the_same_in_a_cluster() {
    let mut cluster = Cluster::new();
    let serve = cluster.serve(&["--data-dir", "serve", "--engine", "stub"]);
    let flags = [
        "--data-dir",
        "one",
        "--engine",
        "stub",
        "--heartbeat-ms",
        "100",
    ];
    let flags: Vec<&str> = flags.iter().chain(&WATCHABLE).copied().collect();
    let worker = cluster.worker("one", &flags);
    passes(&cluster.home, "openai/files.py", &serve.url, &[]);
    passes(&cluster.home, "openai/batches.py", &serve.url, &[]);
    passes(&cluster.home, "openai/errors.py", &serve.url, &[]);
    ends_well(worker);
    ends_well(serve.process);
}

#[test]
fn request_whose_client_leaves_is_cancelled() {
    let home = Home::new();
    let server = stub(&home, &ENDLESS);
    for kind in ["stream", "whole"] {
        let asking = script(&home, "openai/leave.py", &server.url, &[kind]).start();
        until_running(&server, &home, |running| running > 0);
        if kind == "whole" {
            asking.kill();
        } else {
            let left = asking.wait();
            assert_eq!(left.code, Some(0), "{left}");
        }
        until_running(&server, &home, |running| running == 0);
    }
    ends_well(server.process);
}

/// Waits until the server's own node runs so many jobs.
fn until_running(server: &Server, home: &Home, enough: impl Fn(u64) -> bool) {
    wait::until("jobs on the node", PATIENCE, || {
        let nodes = rbee(server, home, &["nodes", "--json"]).run();
        let node: Json = serde_json::from_str(nodes.text().lines().next()?).ok()?;
        enough(node["report"]["running"].as_u64()?).then_some(())
    });
}

#[test]
fn full_queue_is_told_to_come_back_later() {
    let home = Home::new();
    let slow: Vec<&str> = ["--max-jobs", "20"].into_iter().chain(ENDLESS).collect();
    let server = stub(&home, &slow);
    passes(&home, "openai/full.py", &server.url, &[]);
    ends_well(server.process);
}

#[test]
fn batch_of_a_killed_server_goes_on() {
    let home = Home::new();
    let server = stub(&home, &WATCHABLE);
    let made = passes(&home, "openai/survives.py", &server.url, &["make"]);
    let id = made.text().trim().to_owned();
    server.process.kill();
    let server = stub(&home, &WATCHABLE);
    passes(&home, "openai/survives.py", &server.url, &["end", &id]);
    ends_well(server.process);
}

#[test]
fn prompts_and_tokens_are_in_no_log() {
    let home = Home::new();
    let debug = command(&home, &[]).env("RBEE_LOG", "debug");
    let server = Server::started(debug.env("RBEE_API_TOKEN", TOKEN));
    passes(&home, "openai/canaries.py", &server.url, &[]);
    server.process.terminate();
    let ended = server.process.wait();
    for secret in ["canary-prompt", "canary-file", "canary-note", TOKEN] {
        assert!(
            !ended.stderr.contains(secret),
            "{secret} is in the log: {ended}"
        );
    }
}
