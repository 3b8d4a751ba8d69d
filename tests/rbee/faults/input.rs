//! Input of any size and quality.

use rbee_tests::process::Home;
use rbee_tests::workload::size;

#[test]
fn faults_a_large_file_with_bad_lines_is_answered_in_bounded_memory() {
    let lines: usize = size(1_000_000, 20_000);
    const MEMORY: u64 = 256 << 20;
    let home = Home::new();
    let mut input = String::new();
    for at in 0..lines {
        match at % 100 {
            50 => input.push_str("{\"prompt\": \"torn\n"),
            _ => input.push_str(&format!(
                "{{\"prompt\": \"question {at}\", \"max_tokens\": 2}}\n"
            )),
        }
    }
    home.write("in.jsonl", &input);
    drop(input);
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
    assert!(
        ended.peak_bytes < MEMORY,
        "{} bytes of memory",
        ended.peak_bytes
    );
    let counts = &ended.json()["request_counts"];
    assert_eq!(counts["failed"], lines / 100);
    assert_eq!(counts["completed"], lines - lines / 100);
    let mut failed = 0;
    for (at, line) in home.read("out.jsonl").lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["index"], at);
        if at % 100 == 50 {
            failed += 1;
            assert_eq!(line["error"]["line"], at + 1, "{line}");
        }
    }
    assert_eq!(failed, lines / 100);
}
