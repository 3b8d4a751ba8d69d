//! What the store keeps: sets of files, listing, verifying, removing.

use super::*;

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
