//! Several pulls of one store at a time.

use super::*;

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
                "hub::together::child_process_pulls_for_the_test_of_two_processes",
            ])
            .env("TEST_HUB_ENDPOINT", hub.endpoint())
            .env("TEST_HUB_STORE", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let children = [child(), child()];
    // Both have asked for the listing, one of them has the lock and its request is held.
    rbee_tests::wait::until("both processes to come", Duration::from_secs(180), || {
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
