//! What is kept: list, status, export, verify.

use rbee_tests::cluster::PATIENCE;
use rbee_tests::process::Home;
use rbee_tests::{prompts, wait};

fn finished() -> Home {
    let home = Home::new();
    home.write("in.jsonl", prompts::varied(30, 6) + "bad line\n");
    home.rbee(["run", "in.jsonl", "-o", "out.jsonl", "--engine", "stub"])
        .exits(3);
    home
}

#[test]
fn export_gives_the_bytes_of_the_run() {
    let home = finished();
    let exported = home.rbee(["export", "last"]).run();
    assert_eq!(exported.text(), home.read("out.jsonl"));
    home.rbee(["export", "last", "-o", "again.jsonl"]).run();
    assert_eq!(home.read("again.jsonl"), home.read("out.jsonl"));
}

#[test]
fn batches_are_listed_and_found_by_their_id() {
    let home = finished();
    let listed = home.rbee(["list", "--json"]).exits(0);
    let batch: serde_json::Value = serde_json::from_str(listed.text().trim()).unwrap();
    let id = batch["id"].as_str().unwrap();
    assert!(id.starts_with("batch_"), "{id}");
    assert_eq!(batch["status"], "completed");
    let status = home.rbee(["status", id, "--json"]).exits(0).json();
    assert_eq!(status["id"], batch["id"]);
    assert_eq!(status["request_counts"]["total"], 31);
    assert_eq!(status["request_counts"]["failed"], 1);
    assert!(home.rbee(["list"]).exits(0).text().contains(&id[..14]));
    home.rbee(["status", id]).exits(0);
    home.rbee(["export", &id[..id.len() - 2]]).run();
}

#[test]
fn an_unknown_batch_is_a_sentence() {
    let home = finished();
    for command in ["status", "export", "verify"] {
        let ended = home.rbee([command, "batch_nothing"]).run();
        assert!(matches!(ended.code, Some(1) | Some(2)), "{ended}");
        ended.says("batch_nothing");
    }
}

#[test]
fn an_empty_store_has_nothing_to_show_and_says_so() {
    let home = Home::new();
    home.rbee(["list"]).exits(0);
    assert_eq!(home.rbee(["list", "--json"]).exits(0).text(), "");
    assert_ne!(home.rbee(["status"]).run().code, Some(0));
}

#[test]
fn verify_recomputes_and_finds_the_same_bytes() {
    let home = finished();
    home.rbee(["verify", "last", "--sample", "100%"]).exits(0);
    let found = home
        .rbee(["verify", "last", "--sample", "5", "--json"])
        .exits(0);
    assert!(found.json().is_object());
}

#[test]
fn unfinished_batch_exports_what_there_is_and_says_what_is_missing() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(200, 10));
    let arguments = [
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--engine",
        "stub",
        "--slots",
        "2",
        // All of it takes minutes: it goes on while this looks.
        "--stub-token-us",
        "200000",
    ];
    let running = home.rbee(arguments).start();
    let export = wait::until("some results", PATIENCE, || {
        let export = home.rbee(["export", "last"]).run();
        (export.stdout.iter().filter(|byte| **byte == b'\n').count() > 3).then_some(export)
    });
    assert_eq!(export.code, Some(3), "{export}");
    export.says("missing");
    let refused = home.rbee(["export", "last", "-o", "part.jsonl"]).run();
    assert_ne!(refused.code, Some(0), "{refused}");
    assert!(!home.path("part.jsonl").exists());
    running.kill();
}
