//! What goes into a run: shapes of lines, bad lines, duplicates, stdin, limits.

use rbee_tests::process::{Ended, Home};
use rbee_tests::prompts;
use serde_json::{Value as Json, json};

fn run(home: &Home, arguments: &[&str]) -> Ended {
    let fixed = [
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--engine",
        "stub",
        "--max-tokens",
        "4",
    ];
    home.rbee(fixed.iter().chain(arguments)).run()
}

/// The results of these input bytes, and the exit code.
fn results(input: impl AsRef<[u8]>) -> (Vec<Json>, Option<i32>) {
    let home = Home::new();
    home.write("in.jsonl", input);
    let ended = run(&home, &[]);
    assert!(matches!(ended.code, Some(0) | Some(3)), "{ended}");
    (home.lines("out.jsonl"), ended.code)
}

#[test]
fn bad_lines_get_an_error_with_their_number_and_the_others_run() {
    let bad = [
        "not json at all",
        r#"{"prompt": 5}"#,
        r#"{"prompt": "x", "max_tokens": "many"}"#,
        r#"{"prompt": "x", "temperature": NaN}"#,
        r#"{"prompt": "x", "max_tokens": 9223372036854775808}"#,
        r#"{"prompt": "x", "n": 1000000}"#,
        r#"{"custom_id": "c", "method": "POST", "url": "/v1/nothing", "body": {}}"#,
        r#"{"messages": "hello"}"#,
        r#"{"messages": []}"#,
        r#"{"nothing": "to answer"}"#,
        "[1, 2, 3]",
        "\"text\"",
    ];
    let good = r#"{"prompt": "fine"}"#;
    let mut input = String::from("\n");
    for line in bad {
        input.push_str(&format!("{line}\n{good}\n\n"));
    }
    let (lines, code) = results(&input);
    assert_eq!(code, Some(3));
    assert_eq!(lines.len(), 2 * bad.len());
    for (at, line) in lines.iter().enumerate() {
        let failed = at % 2 == 0;
        assert_eq!(line["error"].is_object(), failed, "line {at}: {line}");
        if failed {
            // Three physical lines for each, after a blank one.
            assert_eq!(line["error"]["line"], json!(2 + 3 * (at / 2)), "{line}");
            assert!(
                line["error"]["message"]
                    .as_str()
                    .is_some_and(|text| text.len() > 10),
                "{line}"
            );
        } else {
            assert!(line["text"].is_string(), "{line}");
        }
    }
}

#[test]
fn hostile_lines_get_a_verdict_and_the_next_line_runs() {
    let home = Home::new();
    let good = b"\n{\"prompt\": \"fine\"}\n";
    let mut input = Vec::new();
    input.extend(vec![b'x'; 20 << 20]);
    input.extend(good);
    input.extend(b"[".repeat(100_000));
    input.extend(good);
    input.extend(b"{\"prompt\": \"\xff\xfe\"}");
    input.extend(good);
    input.extend(b"{\"prompt\": \"a\\u0000b\"}");
    input.extend(good);
    input.extend(b"{\"prompt\": \"\\ud800 alone\"}");
    input.extend(good);
    home.write("in.jsonl", input);
    let ended = run(&home, &[]);
    assert_eq!(ended.code, Some(3), "{ended}");
    let lines = home.lines("out.jsonl");
    assert_eq!(lines.len(), 10);
    for good in lines.iter().skip(1).step_by(2) {
        assert!(good["text"].is_string(), "{good}");
    }
    for bad in [0, 2, 4, 8] {
        assert!(lines[bad]["error"].is_object(), "{}", lines[bad]);
    }
    assert!(
        ended.peak_bytes < 512 << 20,
        "{} bytes for a file of 20 MB",
        ended.peak_bytes
    );
}

#[test]
fn bom_crlf_and_a_missing_last_newline_are_fine() {
    let (lines, code) = results("\u{feff}{\"prompt\": \"a\"}\r\n\r\n{\"prompt\": \"b\"}");
    assert_eq!((lines.len(), code), (2, Some(0)));
    assert_eq!(lines[0]["index"], 0);
    assert_eq!(lines[1]["index"], 1);
}

#[test]
fn duplicate_ids_refuse_the_batch_and_are_listed_with_their_lines() {
    let home = Home::new();
    let line = |id: &str| json!({"id": id, "prompt": "x"});
    let mut lines: Vec<Json> = (0..20).map(|at| line(&format!("id-{at}"))).collect();
    lines[7] = line("id-3");
    lines[15] = line("id-12");
    home.write("in.jsonl", prompts::jsonl(&lines));
    let ended = run(&home, &[]);
    assert_eq!(ended.code, Some(2), "{ended}");
    for words in ["id-3", "id-12", "4", "8", "13", "16"] {
        ended.says(words);
    }
    assert!(!home.path("out.jsonl").exists());
}

#[test]
fn an_id_equal_to_another_lines_index_is_a_duplicate() {
    let home = Home::new();
    home.write(
        "in.jsonl",
        "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n{\"id\": \"0\", \"prompt\": \"c\"}\n",
    );
    assert_eq!(run(&home, &[]).code, Some(2));
}

#[test]
fn equal_lines_without_ids_are_all_answered() {
    let (lines, code) = results("{\"prompt\": \"same\"}\n".repeat(5));
    assert_eq!((lines.len(), code), (5, Some(0)));
}

#[test]
fn plain_text_is_refused_with_a_hint_and_taken_with_the_flag() {
    let home = Home::new();
    home.write("in.jsonl", "What is a river?\nWhat is a lake?\n");
    let ended = run(&home, &[]);
    assert_eq!(ended.code, Some(2), "{ended}");
    ended.says("--format text");
    let ended = run(&home, &["--format", "text"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(home.lines("out.jsonl").len(), 2);
}

#[test]
fn an_empty_file_is_refused() {
    for input in ["", "\n\n  \n"] {
        let home = Home::new();
        home.write("in.jsonl", input);
        let ended = run(&home, &[]);
        assert_eq!(ended.code, Some(2), "{ended}");
        ended.says("in.jsonl");
    }
}

#[test]
fn a_missing_file_is_refused_by_name() {
    let home = Home::new();
    let ended = home
        .rbee(["run", "nowhere.jsonl", "--engine", "stub"])
        .exits(2);
    ended.says("nowhere.jsonl");
}

#[test]
fn stdin_in_stdout_out() {
    let home = Home::new();
    let input = prompts::short(10, 6);
    home.write("in.jsonl", &input);
    home.rbee(["run", "in.jsonl", "-o", "out.jsonl", "--engine", "stub"])
        .exits(0);
    let piped = home
        .rbee(["run", "-", "--engine", "stub", "--fresh"])
        .input(input)
        .exits(0);
    assert_eq!(piped.text(), home.read("out.jsonl"));
}

#[test]
fn limit_takes_the_first_lines_only() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(10, 6));
    assert_eq!(run(&home, &[]).code, Some(0));
    let all = home.read("out.jsonl");
    assert_eq!(run(&home, &["--limit", "3"]).code, Some(0));
    let some = home.read("out.jsonl");
    assert_eq!(some.lines().count(), 3);
    assert!(all.starts_with(&some));
}

#[test]
fn template_system_and_set_change_the_request() {
    let home = Home::new();
    home.write(
        "in.jsonl",
        "{\"body\": \"a river\", \"lang\": \"French\", \"prompt\": \"x\"}\n",
    );
    assert_eq!(run(&home, &[]).code, Some(0));
    let plain = home.lines("out.jsonl");
    let flags: [&[&str]; 3] = [
        &["--template", "Translate into {{lang}}: {{body}}"],
        &["--system", "Answer in rhyme."],
        &["--set", "stop=[\"q\"]"],
    ];
    for flags in flags {
        let ended = run(&home, flags);
        assert_eq!(ended.code, Some(0), "{flags:?}: {ended}");
        let count = home
            .rbee(["list", "--json"])
            .exits(0)
            .text()
            .lines()
            .count();
        assert!(count > 1, "{flags:?} gave the same batch");
    }
    assert!(plain[0]["text"].is_string());
    let ended = run(&home, &["--template", "{{missing}}"]);
    assert_eq!(ended.code, Some(3), "{ended}");
}

#[test]
fn other_fields_come_back_as_metadata() {
    let (lines, _) = results("{\"prompt\": \"a\", \"topic\": \"rivers\", \"rank\": 3}\n");
    assert_eq!(lines[0]["metadata"], json!({"topic": "rivers", "rank": 3}));
}
