//! `rbee diff`: which results of two batches differ, from the store, from files and from a server.

use rbee_tests::process::{Ended, Home};
use rbee_tests::prompts;
use rbee_tests::random::Random;
use rbee_tests::server::Server;
use serde_json::{Value as Json, json};

/// Lines whose answers differ with their prompts; some have ids of their own.
fn line(at: usize, word: &str) -> Json {
    match at % 3 {
        0 => json!({"id": format!("own-{at}"), "prompt": format!("{word} {at}"), "max_tokens": 8}),
        _ => json!({"prompt": format!("{word} {at}"), "max_tokens": 8}),
    }
}

fn lines(count: usize) -> Vec<Json> {
    (0..count).map(|at| line(at, "river")).collect()
}

/// Runs a file of prompts; the batch's id.
fn run(home: &Home, name: &str, lines: &[Json], flags: &[&str]) -> String {
    home.write(&format!("{name}.jsonl"), prompts::jsonl(lines));
    let (input, output) = (format!("{name}.jsonl"), format!("{name}.results.jsonl"));
    let fixed = ["run", &input, "-o", &output, "--engine", "stub", "--json"];
    let ended = home.rbee(fixed.iter().chain(flags)).exits(0);
    ended.json()["id"]
        .as_str()
        .expect("a summary names its batch")
        .to_owned()
}

/// The `(change, id)` of each line of `--json`, sorted.
fn changes(ended: &Ended) -> Vec<(String, String)> {
    let mut changes: Vec<_> = ended
        .text()
        .lines()
        .map(|line| {
            let line: Json = serde_json::from_str(line).expect("each line is JSON");
            let text = |name: &str| line[name].as_str().expect("a word").to_owned();
            (text("change"), text("id"))
        })
        .collect();
    changes.sort();
    changes
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = expected
        .iter()
        .map(|(change, id)| ((*change).to_owned(), (*id).to_owned()))
        .collect();
    pairs.sort();
    pairs
}

/// The second file: line 4 and 6 say something else, line 9 is gone, and a new one stands in front.
fn edited() -> Vec<Json> {
    let mut lines = lines(12);
    lines[4] = line(4, "garden");
    lines[6] = line(6, "garden");
    lines.remove(9);
    lines.insert(0, json!({"id": "new", "prompt": "new", "max_tokens": 8}));
    lines
}

#[test]
fn equal_batches_differ_in_nothing() {
    let home = Home::new();
    let one = run(&home, "a", &lines(12), &[]);
    let again = run(&home, "b", &lines(12), &["--fresh"]);
    assert_ne!(one, again);
    for (before, after) in [
        (one.as_str(), again.as_str()),
        ("a.results.jsonl", "last"),
        ("a.results.jsonl", "b.results.jsonl"),
    ] {
        let ended = home.rbee(["diff", before, after]).exits(0);
        assert_eq!(ended.text(), "");
        ended.says("12 same, 0 changed, 0 added, 0 removed");
    }
    let same = home.rbee(["diff", &one, &again, "--only", "same", "--json"]);
    assert_eq!(changes(&same.exits(0)).len(), 12);
}

#[test]
fn changed_added_and_removed_results_are_found_whatever_moved() {
    let home = Home::new();
    let before = run(&home, "a", &lines(12), &[]);
    let after = run(&home, "b", &edited(), &[]);
    let ended = home.rbee(["diff", &before, &after, "--json"]).exits(3);
    // Line 4 has no id and another prompt, and stands at another place: one is gone and one is new.
    let expected = [
        ("added", "new"),
        ("added", "5"),
        ("removed", "4"),
        ("changed", "own-6"),
        ("removed", "own-9"),
    ];
    assert_eq!(changes(&ended), pairs(&expected));
    ended.says("9 same, 1 changed, 2 added, 2 removed");
    let only = home.rbee(["diff", &before, &after, "--json", "--only", "changed"]);
    assert_eq!(changes(&only.exits(3)), pairs(&[("changed", "own-6")]));
    let told = home.rbee(["diff", &before, &after, "--only", "changed"]);
    let told = told.exits(3);
    let text = told.text();
    assert!(text.starts_with("changed own-6: "), "{text}");
    assert!(text.contains("[-") && text.contains("{+"), "{text}");
}

#[test]
fn a_line_that_changed_in_its_place_is_a_change() {
    let home = Home::new();
    let before = run(&home, "a", &lines(12), &[]);
    let mut lines = lines(12);
    lines[4] = line(4, "garden");
    let after = run(&home, "b", &lines, &[]);
    for sides in [
        [before.as_str(), after.as_str()],
        ["a.results.jsonl", "b.results.jsonl"],
        [before.as_str(), "b.results.jsonl"],
    ] {
        let ended = home.rbee(["diff", sides[0], sides[1], "--json"]).exits(3);
        assert_eq!(changes(&ended), pairs(&[("changed", "4")]));
    }
}

#[test]
fn files_of_both_shapes_are_compared() {
    let home = Home::new();
    let before = run(&home, "a", &lines(6), &[]);
    let openai = [
        "export",
        &before,
        "--format",
        "openai",
        "-o",
        "openai.jsonl",
    ];
    home.rbee(openai).exits(0);
    home.rbee(["diff", "openai.jsonl", &before]).exits(0);
    home.rbee(["diff", "openai.jsonl", "a.results.jsonl"])
        .exits(0);
    let from_stdin = home
        .rbee(["diff", "-", "a.results.jsonl"])
        .input(home.read("openai.jsonl"));
    from_stdin.exits(0);
}

#[test]
fn a_server_is_asked_for_both_batches() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let before = server.submit(&home, &prompts::jsonl(&lines(12)), &[]);
    let after = server.submit(&home, &prompts::jsonl(&edited()), &[]);
    for id in [&before, &after] {
        server.until(&home, id, "completed");
    }
    let ended = server.rbee(&home, ["diff", &before, &after, "--json"]);
    let found = changes(&ended.exits(3));
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found.contains(&("changed".to_owned(), "own-6".to_owned())));
    let unknown = server.rbee(&home, ["diff", &before, "batch_nothing"]).run();
    assert_eq!(unknown.code, Some(2), "{unknown}");
}

#[test]
fn what_cannot_be_compared_is_a_sentence() {
    let home = Home::new();
    home.write("prompts.jsonl", "{\"prompt\":\"p\"}\n");
    home.write("twice.jsonl", "{\"id\":\"a\",\"text\":\"1\"}\n".repeat(2));
    home.write("empty.jsonl", "");
    for (sides, words) in [
        (
            ["prompts.jsonl", "empty.jsonl"],
            "line 1 of prompts.jsonl is no result",
        ),
        (
            ["twice.jsonl", "empty.jsonl"],
            "two results with the id \"a\"",
        ),
        (
            ["absent.jsonl", "empty.jsonl"],
            "there is no file absent.jsonl",
        ),
        (["nothing", "empty.jsonl"], "nothing"),
    ] {
        let ended = home.rbee(["diff", sides[0], sides[1]]).run();
        assert_eq!(ended.code, Some(2), "{ended}");
        ended.says(words);
    }
}

#[test]
fn a_million_lines_in_any_order_take_bounded_memory() {
    let count = rbee_tests::workload::size(1_000_000, 60_000);
    let home = Home::new();
    let mut order: Vec<usize> = (0..count).collect();
    let text = "word ".repeat(100);
    let file = |order: &[usize]| -> String {
        let line =
            |at: &usize| format!("{{\"id\":\"id-{at}\",\"index\":{at},\"text\":\"{text}{at}\"}}\n");
        order.iter().map(line).collect()
    };
    home.write("a.jsonl", file(&order));
    Random::new(5).shuffle(&mut order);
    home.write("b.jsonl", file(&order));
    let ended = home.rbee(["diff", "a.jsonl", "b.jsonl"]).exits(0);
    ended.says(&format!("{count} same"));
    let peak = ended.peak_bytes;
    assert!(peak < 300 << 20, "{} MB", peak >> 20);
}
