//! Who may read what: tokens, gates, names that lead elsewhere.

use super::*;

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
