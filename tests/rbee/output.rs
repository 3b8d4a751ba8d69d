//! What comes out of a run: shapes, files, errors apart, and what happens when the disk is full.

use rbee_tests::process::Home;
use rbee_tests::prompts;
use serde_json::json;

#[test]
fn each_line_is_answered_in_its_own_shape_and_order() {
    let home = Home::new();
    home.write("in.jsonl", prompts::varied(30, 6));
    home.rbee(["run", "in.jsonl", "--engine", "stub"]).exits(0);
    let lines = home.lines("in.results.jsonl");
    assert_eq!(lines.len(), 30);
    for (at, line) in lines.iter().enumerate() {
        if at % 6 == 3 {
            assert_eq!(line["custom_id"], json!(format!("line-{at}")));
            assert_eq!(line["response"]["status_code"], 200);
            assert_eq!(line["response"]["body"]["object"], "chat.completion");
            assert_eq!(line["response"]["body"]["created"], 0);
            assert!(line["error"].is_null());
        } else {
            assert_eq!(line["index"], at);
            assert!(line["text"].is_string(), "{line}");
            assert_eq!(line.get("choices").is_some(), at % 6 == 4, "{line}");
        }
    }
}

#[test]
fn format_forces_one_shape() {
    let home = Home::new();
    home.write("in.jsonl", prompts::varied(12, 6));
    home.rbee([
        "run", "in.jsonl", "-o", "o.jsonl", "--engine", "stub", "--format", "openai",
    ])
    .exits(0);
    assert!(
        home.lines("o.jsonl")
            .iter()
            .all(|line| line["response"]["status_code"] == 200)
    );
    home.rbee([
        "run", "in.jsonl", "-o", "s.jsonl", "--engine", "stub", "--format", "short",
    ])
    .exits(0);
    assert!(
        home.lines("s.jsonl")
            .iter()
            .all(|line| line["text"].is_string())
    );
}

#[test]
fn errors_go_to_their_own_file() {
    let home = Home::new();
    home.write(
        "in.jsonl",
        "{\"prompt\": \"a\"}\nbad\n{\"prompt\": \"b\"}\n",
    );
    let arguments = [
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--errors",
        "bad.jsonl",
        "--engine",
        "stub",
    ];
    home.rbee(arguments).exits(3);
    assert_eq!(home.lines("out.jsonl").len(), 2);
    let errors = home.lines("bad.jsonl");
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0]["error"]["line"], 2);
}

#[test]
fn output_equal_to_input_is_refused_under_every_name() {
    let home = Home::new();
    let input = prompts::short(3, 4);
    home.write("in.jsonl", &input);
    std::os::unix::fs::symlink("in.jsonl", home.path("link.jsonl")).unwrap();
    std::fs::hard_link(home.path("in.jsonl"), home.path("hard.jsonl")).unwrap();
    std::fs::create_dir(home.path("folder")).unwrap();
    for output in [
        "in.jsonl",
        "./in.jsonl",
        "folder/../in.jsonl",
        "link.jsonl",
        "hard.jsonl",
    ] {
        home.rbee(["run", "in.jsonl", "-o", output, "--engine", "stub"])
            .exits(2);
        assert_eq!(home.read("in.jsonl"), input, "{output} was written over");
    }
    home.rbee([
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--errors",
        "in.jsonl",
        "--engine",
        "stub",
    ])
    .exits(2);
    home.rbee([
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--errors",
        "out.jsonl",
        "--engine",
        "stub",
    ])
    .exits(2);
    assert_eq!(home.read("in.jsonl"), input);
}

#[test]
fn an_output_folder_that_is_not_there_is_refused_before_anything_is_computed() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(3, 4));
    let arguments = [
        "run",
        "in.jsonl",
        "-o",
        "no/such/out.jsonl",
        "--engine",
        "stub",
        "--stub-token-us",
        "100000000",
    ];
    let ended = home.rbee(arguments).run();
    assert!(matches!(ended.code, Some(1) | Some(2)), "{ended}");
    ended.says("no/such");
}

#[test]
fn summary_is_json_on_demand() {
    let home = Home::new();
    home.write("in.jsonl", "{\"prompt\": \"a\"}\nbad\n");
    let ended = home
        .rbee([
            "run",
            "in.jsonl",
            "-o",
            "out.jsonl",
            "--engine",
            "stub",
            "--json",
        ])
        .exits(3);
    let summary = ended.json();
    assert_eq!(
        summary["request_counts"],
        json!({"total": 2, "completed": 1, "failed": 1}),
        "{ended}"
    );
}

#[test]
fn result_lines_hold_no_time_unless_asked() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(2, 4));
    home.rbee(["run", "in.jsonl", "-o", "out.jsonl", "--engine", "stub"])
        .exits(0);
    assert!(
        home.lines("out.jsonl")
            .iter()
            .all(|line| line.get("stats").is_none())
    );
    home.rbee([
        "run",
        "in.jsonl",
        "-o",
        "stats.jsonl",
        "--engine",
        "stub",
        "--with-stats",
    ])
    .exits(0);
    assert!(
        home.lines("stats.jsonl")
            .iter()
            .all(|line| line["stats"].is_object())
    );
}

#[test]
fn files_and_folders_are_the_users_own() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    home.write("in.jsonl", prompts::short(2, 4));
    home.rbee(["run", "in.jsonl", "--data-dir", "data", "--engine", "stub"])
        .exits(0);
    let mode = |name: &str| {
        std::fs::metadata(home.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o077
    };
    assert_eq!(mode("data"), 0, "others can look into the data folder");
    assert_eq!(mode("data/rbee.db"), 0, "others can read the prompts");
}
