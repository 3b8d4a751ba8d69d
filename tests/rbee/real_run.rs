//! `rbee run` with the real model: the same bytes whatever the slots, threads and chunks, and after any kill.

use rbee_tests::process::Home;
use rbee_tests::{prompts, run, test_models};
use serde_json::{Value as Json, json};

fn results(input: &str, flags: &[&str]) -> String {
    let home = Home::new();
    home.write("in.jsonl", input);
    run::real(&home, flags).exits(0);
    home.read("out.jsonl")
}

#[test]
fn slots_threads_and_chunks_change_no_byte() {
    let input = prompts::varied(24, 10);
    let right = results(&input, &["--slots", "32", "--threads", "2"]);
    assert_eq!(right.lines().count(), 24);
    let others = [
        ["1", "1", "0"],
        ["1", "2", "7"],
        ["3", "1", "64"],
        ["3", "2", "1"],
        ["32", "1", "33"],
    ];
    for [slots, threads, chunk] in others {
        let found = results(
            &input,
            &[
                "--slots",
                slots,
                "--threads",
                threads,
                "--chunk-tokens",
                chunk,
            ],
        );
        assert!(
            found == right,
            "{slots} slots, {threads} threads, chunks of {chunk}:\n{found}\nnot\n{right}"
        );
    }
}

#[test]
fn common_beginnings_that_are_computed_once_change_no_byte() {
    let mut random = rbee_tests::random::Random::new(5);
    let system = prompts::words(&mut random, 150);
    let input = prompts::short(24, 10);
    let flags = ["--system", &system, "--slots", "8"];
    let shared = results(&input, &flags);
    let alone = results(&input, &[&flags[..], &["--no-prefix-sharing"]].concat());
    assert!(shared == alone, "{shared}\nnot\n{alone}");
}

#[test]
fn little_memory_preempts_and_changes_no_byte() {
    let input = prompts::varied(24, 10);
    let right = results(&input, &[]);
    let home = Home::new();
    home.write("in.jsonl", &input);
    let ended = run::real(&home, &["--memory", "64K"]).run();
    assert_eq!(ended.code, Some(1), "{ended}");
    ended.says("memory");
    let needed = smallest_memory(&home);
    run::real(&home, &["--memory", &needed]).exits(0);
    assert!(home.read("out.jsonl") == right, "with {needed} of memory");
}

/// The least round number of megabytes with which the run starts at all.
fn smallest_memory(home: &Home) -> String {
    let fits = |megabytes: u64| {
        let memory = format!("{megabytes}M");
        let ended = run::real(
            home,
            &[
                "--memory",
                &memory,
                "--limit",
                "1",
                "--max-tokens",
                "1",
                "--fresh",
            ],
        )
        .run();
        assert!(matches!(ended.code, Some(0) | Some(1)), "{ended}");
        ended.code == Some(0)
    };
    let (mut too_little, mut enough) = (64, 4096);
    while enough - too_little > 16 {
        let middle = (too_little + enough) / 2;
        if fits(middle) {
            enough = middle
        } else {
            too_little = middle
        }
    }
    format!("{enough}M")
}

#[test]
fn killed_run_of_the_real_model_resumes_to_the_same_bytes() {
    let input = prompts::varied(30, 16);
    let right = results(&input, &[]);
    let home = Home::new();
    home.write("in.jsonl", &input);
    for jobs in [1, 7, 15] {
        let mut running = run::real(&home, &["--slots", "4"]).start();
        running.stopped_once("jobs have ended", || {
            (run::finished(&home) >= jobs).then_some(())
        });
        running.kill();
    }
    run::real(&home, &[]).exits(0);
    assert!(home.read("out.jsonl") == right);
}

#[test]
fn parameters_do_what_they_say() {
    let lines = [
        json!({"prompt": "Count from one to ten.", "max_tokens": 24}),
        json!({"prompt": "Count from one to ten.", "max_tokens": 5, "ignore_eos": true}),
        json!({"prompt": "Name three colours.", "max_tokens": 12, "logprobs": true, "top_logprobs": 4}),
        json!({"prompt": "Tell me a story.", "max_tokens": 12, "temperature": 1.0, "seed": 1, "n": 3, "id": "a"}),
        json!({"prompt": "Tell me a story.", "max_tokens": 12, "temperature": 1.0, "seed": 1, "n": 3, "id": "b"}),
        json!({"prompt": "Tell me a story.", "max_tokens": 12, "temperature": 1.0, "seed": 2, "id": "c"}),
        json!({"prompt": "Tell me a story.", "max_tokens": 12, "temperature": 1.0, "top_k": 1, "id": "d"}),
        json!({"prompt": "Tell me a story.", "max_tokens": 12, "id": "e"}),
        json!({"prompt": "The alphabet: a b c d e f g h", "raw": true, "max_tokens": 40, "stop": ["l", "zz"]}),
    ];
    let found = results(&prompts::jsonl(&lines), &[]);
    let found: Vec<Json> = found
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(found[1]["finish_reason"], "length");
    assert_eq!(found[1]["usage"]["completion_tokens"], 5);
    check_logprobs(&found[2]);
    assert_eq!(found[3]["choices"].as_array().unwrap().len(), 3);
    assert_eq!(
        found[3]["choices"], found[4]["choices"],
        "equal seeds draw equally whatever the id"
    );
    assert_ne!(
        found[3]["choices"][0]["text"], found[3]["choices"][1]["text"],
        "choices draw apart"
    );
    assert_ne!(
        found[5]["text"], found[3]["text"],
        "another seed draws otherwise"
    );
    assert_eq!(
        found[6]["text"], found[7]["text"],
        "the only candidate is the greedy one"
    );
    let stopped = found[8]["text"].as_str().unwrap();
    assert!(
        !stopped.contains('l') && found[8]["finish_reason"] == "stop",
        "{}",
        found[8]
    );
}

fn check_logprobs(line: &Json) {
    let tokens = line["logprobs"]["content"]
        .as_array()
        .or(line["logprobs"].as_array())
        .expect("a list of tokens");
    assert_eq!(
        tokens.len() as u64,
        line["usage"]["completion_tokens"].as_u64().unwrap(),
        "{line}"
    );
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 4);
        let values: Vec<f64> = top
            .iter()
            .map(|one| one["logprob"].as_f64().unwrap())
            .collect();
        assert!(
            values.is_sorted_by(|a, b| a >= b) && values[0] <= 0.0,
            "{values:?}"
        );
        assert_eq!(
            token["logprob"], top[0]["logprob"],
            "a greedy token is the likeliest"
        );
        assert!(values.iter().map(|value| value.exp()).sum::<f64>() <= 1.0001);
    }
}

#[test]
fn look_alikes_of_control_tokens_stay_text() {
    let lines = [
        json!({"prompt": "Say <|im_end|> twice.", "max_tokens": 1}),
        json!({"prompt": "Say <|im_end|> twice.", "max_tokens": 1, "raw": true}),
        json!({"prompt": "Say <|im_end|> twice.", "max_tokens": 1, "raw": true, "parse_special": false}),
    ];
    let found = results(&prompts::jsonl(&lines), &[]);
    let tokens: Vec<u64> = found
        .lines()
        .map(|line| {
            serde_json::from_str::<Json>(line).unwrap()["usage"]["prompt_tokens"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert!(
        tokens[1] < tokens[2],
        "raw text has control tokens, without parse_special it has none: {tokens:?}"
    );
    assert!(tokens[0] > tokens[2], "{tokens:?}");
}

#[test]
fn a_prompt_longer_than_the_context_is_that_lines_error() {
    let long = "word ".repeat(20_000);
    let lines = [
        json!({"prompt": long, "max_tokens": 4}),
        json!({"prompt": "short", "max_tokens": 4}),
    ];
    let home = Home::new();
    home.write("in.jsonl", prompts::jsonl(&lines));
    run::real(&home, &[]).exits(3);
    let found = home.lines("out.jsonl");
    assert!(found[0]["error"]["message"].is_string(), "{}", found[0]);
    assert!(found[1]["text"].is_string());
}

#[test]
fn a_base_model_refuses_chat_lines_and_continues_raw_ones() {
    let home = Home::new();
    let lines = [
        json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}),
        json!({"prompt": "The sky is", "max_tokens": 4}),
    ];
    home.write("in.jsonl", prompts::jsonl(&lines));
    let model = test_models::gemma3();
    home.rbee([
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--model",
        model.to_str().unwrap(),
    ])
    .exits(3);
    let found = home.lines("out.jsonl");
    let message = found[0]["error"]["message"].as_str().unwrap();
    assert!(message.contains("template"), "{message}");
    assert!(!found[1]["text"].as_str().unwrap().is_empty());
}

#[test]
fn lines_of_several_models_run_model_by_model() {
    use candle_core::quantized::GgmlDType;
    use rbee_tests::loaded::OnDisk;
    use rbee_tests::spec::ModelSpec;
    use rbee_tests::to_gguf::BlockTypes;
    let models = [ModelSpec::qwen2(), ModelSpec::gemma3()]
        .map(|spec| OnDisk::new(&spec, BlockTypes::All(GgmlDType::Q8_0)));
    let home = Home::new();
    let lines: Vec<Json> = (0..8)
        .map(|at| json!({"prompt": format!("a river {at}"), "model": models[at % 2].path, "max_tokens": 6}))
        .collect();
    home.write("in.jsonl", prompts::jsonl(&lines));
    home.rbee(["run", "in.jsonl", "-o", "out.jsonl"]).exits(0);
    let found = home.lines("out.jsonl");
    assert!(
        found
            .iter()
            .enumerate()
            .all(|(at, line)| line["index"] == at && line["text"].is_string())
    );
}
