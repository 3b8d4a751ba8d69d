//! The hub's client and the model store, held against a server that behaves like the hub and fails like a network.

mod access;
mod download;
mod kept;
mod sources;
mod together;

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
