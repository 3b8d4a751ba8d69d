//! `rbee rerun`: the bytes of a fresh run, with nothing computed that is known.

use rbee_tests::cluster::Cluster;
use rbee_tests::process::Home;
use rbee_tests::run::finished;
use rbee_tests::server::{Server, run_alone};
use rbee_tests::{prompts, test_models, wait};
use serde_json::{Value as Json, json};
use std::time::Duration;

const STUB: [&str; 2] = ["--engine", "stub"];
const PATIENCE: Duration = Duration::from_secs(180);

fn line(at: usize, word: &str) -> Json {
    match at % 3 {
        0 => json!({"id": format!("own-{at}"), "prompt": format!("{word} {at}"), "max_tokens": 8}),
        1 => json!({"prompt": format!("{word} {at}"), "max_tokens": 8, "temperature": 0.8}),
        _ => {
            json!({"prompt": format!("{word} {at}"), "max_tokens": 8, "n": 2, "temperature": 0.5, "logprobs": true})
        }
    }
}

fn first() -> Vec<Json> {
    (0..30).map(|at| line(at, "river")).collect()
}

/// Two lines say something else, one is gone, one is new, and all behind it moved.
fn second() -> Vec<Json> {
    let mut lines = first();
    lines[4] = line(4, "garden");
    lines[20] = line(20, "garden");
    lines.remove(9);
    lines.insert(2, json!({"prompt": "new", "max_tokens": 8}));
    lines
}

fn run(home: &Home, name: &str, text: &str) -> Json {
    home.write(&format!("{name}.jsonl"), text);
    let input = format!("{name}.jsonl");
    let output = format!("{name}.out");
    let command = ["run", &input, "-o", &output, "--json", "--seed", "5"];
    let ended = home.rbee(command.iter().chain(&STUB)).run();
    assert!(matches!(ended.code, Some(0 | 3)), "{ended}");
    ended.json()
}

#[test]
fn only_what_changed_or_is_new_is_computed() {
    let home = Home::new();
    let old = run(&home, "a", &prompts::jsonl(&first()));
    let old = old["id"].as_str().expect("an id");
    home.write("b.jsonl", prompts::jsonl(&second()));
    let again = home.rbee(["rerun", old, "b.jsonl", "-o", "b.out", "--json"]);
    let again = again.exits(0).json();
    assert_eq!(again["run"]["taken_over"], 27, "{again}");
    assert_eq!(again["run"]["computed"], 3, "{again}");
    assert_ne!(again["id"], old);
    let fresh = Home::new();
    let right = run(&fresh, "b", &prompts::jsonl(&second()));
    assert_eq!(home.read("b.out"), fresh.read("b.out"));
    assert_eq!(again["usage"], right["usage"]);
    assert_eq!(again["request_counts"], right["request_counts"]);
    // The same rerun again finds that all is done.
    let done = home.rbee(["rerun", old, "b.jsonl", "-o", "c.out", "--json"]);
    let done = done.exits(0).json();
    assert_eq!(
        (&done["id"], &done["run"]["computed"]),
        (&again["id"], &json!(0))
    );
    assert_eq!(home.read("c.out"), home.read("b.out"));
    home.rbee(["verify", "last", "--sample", "100%"]).exits(0);
}

#[test]
fn without_a_file_the_lines_are_those_of_the_batch() {
    let home = Home::new();
    let text = format!("\n{}\n\nno json\n{}\n", line(0, "a"), line(1, "b"));
    let old = run(&home, "a", &text);
    let again = home.rbee(["rerun", "last", "-o", "again.out", "--json"]);
    let ended = again.run();
    assert_eq!(ended.code, Some(3), "{ended}");
    let again = ended.json();
    assert_ne!(again["id"], old["id"]);
    assert_eq!(
        (&again["run"]["taken_over"], &again["run"]["computed"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(home.read("again.out"), home.read("a.out"));
    let named = again["name"].as_str().expect("a name");
    assert_eq!(named, "a.jsonl");
}

#[test]
fn jobs_without_an_answer_are_computed() {
    let home = Home::new();
    home.write("a.jsonl", prompts::short(40, 8));
    // Stopped in the middle: some have an answer and some have none.
    let slow = ["run", "a.jsonl", "--stub-token-us", "60000", "--slots", "2"];
    let mut running = home.rbee(slow.iter().chain(&STUB)).start();
    wait::until("some answers", PATIENCE, || {
        (running.has_ended() || finished(&home) >= 10).then_some(())
    });
    running.kill();
    let kept = finished(&home);
    let again = home.rbee(["rerun", "last", "a.jsonl", "-o", "again.out", "--json"]);
    let again = again.exits(0).json();
    assert_eq!(again["run"]["taken_over"], kept);
    assert_eq!(home.read("again.out"), run_alone(&prompts::short(40, 8)));
}

#[test]
fn one_model_under_two_names_is_one_model() {
    let home = Home::new();
    let path = test_models::smollm2();
    let other = home.path("other-name.gguf");
    std::os::unix::fs::symlink(&path, &other).expect("a link can be made");
    let names = [path.display().to_string(), other.display().to_string()];
    let lines: Vec<Json> = (0..6)
        .map(|at| json!({"prompt": format!("say {at}"), "max_tokens": 4, "model": names[at % 2]}))
        .collect();
    home.write("a.jsonl", prompts::jsonl(&lines));
    let command = ["run", "a.jsonl", "-o", "a.out", "--model", &names[0]];
    home.rbee(command).exits(0);
    let again = home.rbee(["rerun", "last", "a.jsonl", "-o", "b.out", "--json"]);
    let again = again.exits(0).json();
    assert_eq!(again["run"]["taken_over"], 6, "{again}");
    assert_eq!(home.read("a.out"), home.read("b.out"));
}

#[test]
fn a_server_reruns_too() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let old = server.submit(&home, &prompts::jsonl(&first()), &["--seed", "5"]);
    server.until(&home, &old, "completed");
    let before = server.status(&home, &old)["usage"]["output_tokens"].clone();
    home.write("b.jsonl", prompts::jsonl(&second()));
    let submitted = server.rbee(&home, ["rerun", &old, "b.jsonl"]).exits(0);
    let new = submitted.text().trim().to_owned();
    assert_ne!(new, old);
    server.until(&home, &new, "completed");
    assert_ne!(before, Json::Null);
    let fresh = Home::new();
    run(&fresh, "b", &prompts::jsonl(&second()));
    assert_eq!(server.export(&home, &new), fresh.read("b.out"));
    // Of all results but three the time is that of the taking over: before anything was computed.
    let same = server.rbee(&home, ["rerun", &old, "b.jsonl"]).exits(0);
    assert_eq!(same.text().trim(), new);
    let lines = server.rbee(&home, ["rerun", &old]).exits(0);
    let third = lines.text().trim().to_owned();
    server.until(&home, &third, "completed");
    assert_eq!(server.export(&home, &third), server.export(&home, &old));
    let file = server.rbee(&home, ["rerun", &old, "-o", "x"]).run();
    assert_eq!(file.code, Some(2), "{file}");
}

#[test]
fn a_cluster_takes_answers_over() {
    let mut cluster = Cluster::new();
    let _serve = cluster.serve(&STUB);
    let worker = cluster.worker("one", &STUB);
    cluster.home.write("a.jsonl", prompts::jsonl(&first()));
    cluster.home.write("b.jsonl", prompts::jsonl(&second()));
    let submitted = cluster.rbee(["submit", "a.jsonl", "--seed", "5"]).exits(0);
    let old = submitted.text().trim().to_owned();
    let counts = |id: &str| {
        let status = cluster.rbee(["status", id, "--json"]).exits(0).json();
        status["request_counts"]["completed"].as_u64().unwrap_or(0)
    };
    wait::until("the first batch", PATIENCE, || {
        (counts(&old) == 30).then_some(())
    });
    worker.kill();
    // Nobody computes: what has an answer now was taken over.
    let submitted = cluster.rbee(["rerun", &old, "b.jsonl"]).exits(0);
    let new = submitted.text().trim().to_owned();
    wait::until("what is known", PATIENCE, || {
        (counts(&new) >= 20).then_some(())
    });
    let _worker = cluster.worker("two", &STUB);
    wait::until("the rest", PATIENCE, || (counts(&new) == 30).then_some(()));
    let fresh = Home::new();
    run(&fresh, "b", &prompts::jsonl(&second()));
    assert_eq!(
        cluster.rbee(["export", &new]).exits(0).text(),
        fresh.read("b.out")
    );
}

#[test]
fn the_real_model_gives_the_bytes_of_a_fresh_run() {
    let model = test_models::smollm2();
    let model = ["--model", model.to_str().expect("a path of text")];
    let home = Home::new();
    let all = prompts::varied(12, 6);
    let part: String = all
        .lines()
        .skip(3)
        .map(|line| format!("{line}\n"))
        .collect();
    home.write("part.jsonl", part);
    home.write("all.jsonl", &all);
    home.rbee(["run", "part.jsonl"].iter().chain(&model))
        .exits(0);
    let again = home.rbee(["rerun", "last", "all.jsonl", "-o", "again.out", "--json"]);
    let again = again.exits(0).json();
    assert_eq!(
        (&again["run"]["taken_over"], &again["run"]["computed"]),
        (&json!(9), &json!(3))
    );
    home.rbee(["run", "all.jsonl", "-o", "all.out"].iter().chain(&model))
        .exits(0);
    assert_eq!(home.read("again.out"), home.read("all.out"));
}
