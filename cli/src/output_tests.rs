use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

/// An empty directory of this test's own, gone when it ends.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn write(target: &Target, lines: &[&str]) {
    let mut sink = target.open().unwrap();
    for line in lines {
        sink.line(line).unwrap();
    }
    sink.finish().unwrap();
}

#[test]
fn results_lie_beside_the_prompts() {
    let cases = [
        ("prompts.jsonl", "prompts.results.jsonl"),
        ("a/b.c/questions.txt", "a/b.c/questions.results.jsonl"),
        ("/x/plain", "/x/plain.results.jsonl"),
    ];
    for (input, output) in cases {
        assert_eq!(default_results_path(Path::new(input)), Path::new(output));
    }
}

#[test]
fn file_appears_whole_and_nothing_else_is_left() {
    let dir = Dir::new();
    let path = dir.path("out.jsonl");
    std::fs::write(&path, "old\n").unwrap();
    let target = Target::new(&path).unwrap();
    let mut sink = target.open().unwrap();
    sink.line("one").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old\n");
    sink.line("two").unwrap();
    sink.finish().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    assert_eq!(dir.names(), ["out.jsonl"]);
}

#[test]
fn abandoned_write_leaves_the_old_file() {
    let dir = Dir::new();
    let path = dir.path("out.jsonl");
    std::fs::write(&path, "old\n").unwrap();
    let mut sink = Target::new(&path).unwrap().open().unwrap();
    sink.line("half").unwrap();
    drop(sink);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old\n");
    assert_eq!(dir.names(), ["out.jsonl"]);
}

#[test]
fn what_a_killed_process_left_is_used_again() {
    let dir = Dir::new();
    let path = dir.path("out.jsonl");
    std::fs::write(
        dir.path(".out.jsonl.rbee-part"),
        "half a line that is longer than the new file",
    )
    .unwrap();
    write(&Target::new(&path).unwrap(), &["new"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
    assert_eq!(dir.names(), ["out.jsonl"]);
}

#[test]
fn second_writer_of_the_same_file_is_refused() {
    let dir = Dir::new();
    let target = Target::new(&dir.path("out.jsonl")).unwrap();
    let _first = target.open().unwrap();
    let error = target.open().err().unwrap().to_string();
    assert!(error.contains("another rbee is writing"), "{error}");
}

#[test]
fn link_stays_and_its_file_is_replaced() {
    let dir = Dir::new();
    std::fs::write(dir.path("real"), "old\n").unwrap();
    symlink(dir.path("real"), dir.path("link")).unwrap();
    write(&Target::new(&dir.path("link")).unwrap(), &["new"]);
    assert!(
        std::fs::symlink_metadata(dir.path("link"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(std::fs::read_to_string(dir.path("real")).unwrap(), "new\n");
}

#[test]
fn private_file_stays_private() {
    let dir = Dir::new();
    let path = dir.path("out.jsonl");
    std::fs::write(&path, "old\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    write(&Target::new(&path).unwrap(), &["new"]);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn device_is_written_and_not_replaced() {
    let target = Target::new(Path::new("/dev/null")).unwrap();
    assert_eq!(target, Target::Stream("/dev/null".into()));
    write(&target, &["gone"]);
    assert!(
        std::fs::metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device()
    );
}

#[test]
fn same_file_is_recognised_under_every_name() {
    let dir = Dir::new();
    let path = dir.path("prompts.jsonl");
    std::fs::write(&path, "x\n").unwrap();
    std::fs::hard_link(&path, dir.path("hard")).unwrap();
    symlink(&path, dir.path("soft")).unwrap();
    for name in ["prompts.jsonl", "hard", "soft", "./prompts.jsonl"] {
        assert!(
            Target::new(&dir.path(name)).unwrap().is_same_as(&path),
            "{name}"
        );
    }
    assert!(!Target::new(&dir.path("other")).unwrap().is_same_as(&path));
    assert!(
        Target::new(&dir.path("new"))
            .unwrap()
            .is_same_as(&dir.path("./new"))
    );
}

#[test]
fn directory_is_refused() {
    assert!(matches!(
        Target::new(&std::env::temp_dir()),
        Err(Failure::Usage(_))
    ));
}
