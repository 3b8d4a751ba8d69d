//! `rbee plan` against what a run of the same file then takes.

use rbee_tests::process::Home;
use rbee_tests::server::Server;
use rbee_tests::{prompts, test_models};
use serde_json::{Value as Json, json};

const STUB: [&str; 2] = ["--engine", "stub"];

fn plan(home: &Home, flags: &[&str]) -> Json {
    let fixed = ["plan", "in.jsonl", "--json"];
    home.rbee(fixed.iter().chain(flags)).exits(0).json()
}

/// The summary of a run of the same file.
fn run(home: &Home, flags: &[&str]) -> Json {
    let fixed = ["run", "in.jsonl", "-o", "out.jsonl", "--json"];
    let ended = home.rbee(fixed.iter().chain(flags)).run();
    assert!(matches!(ended.code, Some(0 | 3)), "{ended}");
    ended.json()
}

#[test]
fn tokens_are_those_that_the_run_counts() {
    let home = Home::new();
    // Answers that go on to the end, so that the upper bound is what there is.
    let lines: Vec<Json> = (0..40)
        .map(|at| {
            json!({"prompt": format!("{at} of them"), "max_tokens": 3 + at % 5, "ignore_eos": true,
                         "temperature": 0.5, "n": 1 + at % 2})
        })
        .collect();
    home.write("in.jsonl", prompts::jsonl(&lines));
    let planned = plan(&home, &STUB);
    let model = &planned["models"][0];
    let usage = &run(&home, &STUB)["usage"];
    assert_eq!(model["prompt_tokens"], usage["input_tokens"]);
    assert_eq!(model["output_tokens_at_most"], usage["output_tokens"]);
    assert_eq!((&model["jobs"], &planned["jobs"]), (&json!(40), &json!(40)));
    assert_eq!(model["memory"]["fits"], true);
    assert!(planned["seconds"]["low"].is_f64(), "{planned}");
    // Afterwards both stand beside each other.
    let status = home.rbee(["status", "--json"]).exits(0).json();
    assert_eq!(status["planned"]["models"], planned["models"]);
    let words = home.rbee(["status"]).exits(0);
    assert!(words.text().contains("planned"), "{words}");
}

#[test]
fn lines_that_would_fail_are_named() {
    let home = Home::new();
    let long = json!({"prompt": "x".repeat(40_000)});
    let embedding = json!({"url": "/v1/embeddings", "body": {"prompt": "a"}});
    let good = json!({"prompt": "a"});
    let lines = prompts::jsonl([&good, &long, &good, &embedding]);
    home.write("in.jsonl", format!("{lines}\nno json\n"));
    let planned = plan(&home, &STUB);
    let model = &planned["models"][0];
    assert_eq!(planned["bad_lines"]["first_lines"], json!([4, 6]));
    assert_eq!(model["over_context"]["first_lines"], json!([2]));
    assert_eq!(model["equal_jobs"], 1);
    assert_eq!(model["to_compute"]["jobs"], 1);
    let failed = &run(&home, &STUB)["request_counts"]["failed"];
    assert_eq!(*failed, 3);
    // Nothing of a plan is kept.
    let listed = home.rbee(["list", "--json"]).exits(0);
    assert_eq!(listed.text().lines().count(), 1, "{listed}");
}

#[test]
fn common_beginnings_and_equal_jobs_are_work_once() {
    let home = Home::new();
    let mut lines: Vec<Json> = (0..10)
        .map(|at| json!({"prompt": format!("{}{at}", "The same beginning. ".repeat(20))}))
        .collect();
    lines.push(lines[3].clone());
    lines.push(json!({"prompt": lines[4]["prompt"], "id": "another name"}));
    lines.push(json!({"prompt": lines[4]["prompt"], "temperature": 0.5}));
    home.write("in.jsonl", prompts::jsonl(&lines));
    let planned = plan(&home, &[STUB[0], STUB[1], "--no-measure"]);
    let model = &planned["models"][0];
    assert_eq!(model["equal_jobs"], 2);
    let number = |value: &Json| value.as_u64().expect("a number");
    let (all, once) = (
        number(&model["prompt_tokens"]),
        number(&model["to_compute"]["prompt_tokens"]),
    );
    assert!(once * 4 < all, "{once} of {all}");
    assert_eq!(planned["seconds"], Json::Null);
}

#[test]
fn the_real_tokenizer_and_template_count() {
    let home = Home::new();
    let path = test_models::smollm2();
    let model = ["--model", path.to_str().expect("a path of text")];
    home.write("in.jsonl", prompts::varied(12, 4));
    let planned = plan(&home, &model);
    let summary = run(&home, &model);
    assert_eq!(
        planned["models"][0]["prompt_tokens"],
        summary["usage"]["input_tokens"]
    );
    let (low, high) = (&planned["seconds"]["low"], &planned["seconds"]["high"]);
    assert!(low.as_f64() <= high.as_f64(), "{planned}");
    assert!(planned["models"][0]["speed"]["prompt_tokens_per_s"].as_f64() > Some(1.0));
    let words = home.rbee(["plan", "in.jsonl", "--no-measure"].iter().chain(&model));
    let words = words.exits(0);
    assert!(words.text().contains("fits here"), "{words}");
}

#[test]
fn what_does_not_fit_is_said_and_still_counted() {
    let home = Home::new();
    let path = test_models::smollm2();
    home.write("in.jsonl", prompts::short(5, 4));
    let planned = plan(
        &home,
        &[
            "--model",
            path.to_str().expect("a path of text"),
            "--memory",
            "20M",
        ],
    );
    let model = &planned["models"][0];
    assert_eq!(model["memory"]["fits"], false, "{planned}");
    assert!(model["prompt_tokens"].as_u64() > Some(0));
    assert_eq!(planned["seconds"], Json::Null);
}

#[test]
fn nodes_of_a_server_say_what_they_would_do_and_how_fast_they_are() {
    let home = Home::new();
    let server = Server::start(&home, &["--stub-token-us", "5000", "--slots", "4"]);
    // It listens before its node is there.
    server.until_running(&home, 0);
    home.write("in.jsonl", prompts::short(50, 8));
    let ask = || {
        let command = ["plan", "in.jsonl", "--json", "--engine", "stub"];
        server.rbee(&home, command).exits(0).json()
    };
    let before = ask();
    let node = &before["nodes"][0];
    assert_eq!(node["name"], "local");
    assert_eq!(node["models"][0]["part"], "loads", "{before}");
    assert_eq!(before["seconds"], Json::Null);
    let id = server.submit(&home, &prompts::short(200, 8), &[]);
    server.until(&home, &id, "completed");
    let after = rbee_tests::wait::until(
        "a node that says how fast it is",
        rbee_tests::server::QUICK,
        || Some(ask()).filter(|plan| plan["seconds"] != Json::Null),
    );
    assert_eq!(after["nodes"][0]["models"][0]["part"], "runs", "{after}");
    let id = server.submit(&home, &prompts::short(50, 8), &[]);
    let status = server.status(&home, &id);
    assert_eq!(status["planned"]["jobs"], 50, "{status}");
}
