//! `rbee infer`: one answer on the terminal, as it comes.

use rbee_tests::cluster::PATIENCE;
use rbee_tests::process::Home;
use rbee_tests::{test_models, wait};
use serde_json::json;

const PROMPT: &str = "Write a short poem about the sea.";

#[test]
fn answer_of_infer_is_that_of_run() {
    let home = Home::new();
    let model = test_models::smollm2();
    let model = model.to_str().unwrap();
    let inferred = home
        .rbee([
            "infer",
            "--model",
            model,
            "--prompt",
            PROMPT,
            "--max-tokens",
            "20",
        ])
        .exits(0);
    home.write(
        "in.jsonl",
        json!({"prompt": PROMPT, "max_tokens": 20}).to_string(),
    );
    home.rbee(["run", "in.jsonl", "-o", "out.jsonl", "--model", model])
        .exits(0);
    let run = home.lines("out.jsonl").remove(0);
    assert_eq!(
        inferred.text().trim_end(),
        run["text"].as_str().unwrap().trim_end()
    );
}

#[test]
fn text_comes_before_the_end() {
    let home = Home::new();
    let model = test_models::smollm2();
    let arguments = [
        "infer",
        "--model",
        model.to_str().unwrap(),
        "--prompt",
        PROMPT,
        "--max-tokens",
        "400",
    ];
    let mut running = home.rbee(arguments).start();
    wait::until("the first text", PATIENCE, || {
        (!running.stdout().is_empty()).then_some(())
    });
    assert!(
        !running.has_ended(),
        "the text came all at once: {}",
        running.stdout()
    );
    running.interrupt();
    assert_eq!(running.wait().code, Some(130));
}

#[test]
fn prompt_comes_from_stdin_and_answer_as_json() {
    let home = Home::new();
    let model = test_models::smollm2();
    let model = model.to_str().unwrap();
    let piped = home
        .rbee([
            "infer",
            "--model",
            model,
            "--prompt",
            "-",
            "--max-tokens",
            "5",
            "--json",
        ])
        .input(PROMPT)
        .exits(0);
    let direct = home
        .rbee([
            "infer",
            "--model",
            model,
            "--prompt",
            PROMPT,
            "--max-tokens",
            "5",
            "--json",
        ])
        .exits(0);
    assert_eq!(piped.json()["text"], direct.json()["text"]);
    assert!(piped.json()["text"].is_string(), "{piped}");
}
