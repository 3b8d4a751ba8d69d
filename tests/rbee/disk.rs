//! A full disk, under the results, the store or both: a sentence, no torn file, and a run that goes on when there is room.

use std::path::Path;

use rbee_tests::process::{Home, binary};
use rbee_tests::prompts;
use rbee_tests::small_disk::SmallDisk;

fn right(input: &str) -> String {
    let home = Home::new();
    home.write("in.jsonl", input);
    home.rbee(["run", "in.jsonl", "-o", "out.jsonl", "--engine", "stub"])
        .exits(0);
    home.read("out.jsonl")
}

/// Where mounting is refused, a limit on the length of files stands in for the full disk.
fn limited(home: &Home, blocks: u32, arguments: &str) -> rbee_tests::process::Ended {
    let script = format!(
        "trap '' XFSZ; ulimit -f {blocks}; exec '{}' {arguments}",
        binary().display()
    );
    home.command(Path::new("bash"), ["-c", &script]).run()
}

#[test]
fn full_disk_under_the_results_leaves_no_torn_file_and_loses_nothing() {
    let input = prompts::short(3000, 40);
    let right = right(&input);
    let home = Home::new();
    home.write("in.jsonl", &input);
    let small = home.path("small");
    let disk = SmallDisk::mount(&small, "128k");
    let arguments = [
        "run",
        "in.jsonl",
        "-o",
        "small/out.jsonl",
        "--engine",
        "stub",
    ];
    if disk.is_none() {
        std::fs::create_dir_all(&small).unwrap();
        home.rbee(["run", "in.jsonl", "-o", "other.jsonl", "--engine", "stub"])
            .exits(0);
    }
    let ended = match &disk {
        Some(_) => home.rbee(arguments).run(),
        None => limited(&home, 64, &arguments.join(" ")),
    };
    assert_eq!(ended.code, Some(1), "{ended}");
    ended.says("out.jsonl");
    assert!(!small.join("out.jsonl").exists(), "a torn file");
    assert_eq!(
        std::fs::read_dir(&small).unwrap().count(),
        0,
        "a temporary file is left"
    );
    if let Some(disk) = &disk {
        disk.grow("64m");
    }
    // Nothing is computed again: a token would take a second.
    home.rbee(arguments.into_iter().chain(["--stub-token-us", "1000000"]))
        .exits(0);
    assert_eq!(home.read("small/out.jsonl"), right);
}

#[test]
fn full_disk_under_the_store_is_one_sentence_and_the_run_goes_on_when_there_is_room() {
    let input = prompts::short(3000, 40);
    let right = right(&input);
    let home = Home::new();
    home.write("in.jsonl", &input);
    let small = home.path("small");
    let disk = SmallDisk::mount(&small, "1m");
    let arguments = [
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--data-dir",
        "small",
        "--engine",
        "stub",
    ];
    let ended = match &disk {
        Some(_) => home.rbee(arguments).run(),
        None => limited(&home, 512, &arguments.join(" ")),
    };
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(
        ended.stderr.len() > 10 && !ended.stderr.contains("panicked"),
        "{ended}"
    );
    assert!(!home.path("out.jsonl").exists());
    if let Some(disk) = &disk {
        disk.grow("64m");
    }
    home.rbee(arguments).exits(0);
    assert_eq!(home.read("out.jsonl"), right);
}
