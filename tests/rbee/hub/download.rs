//! One download: cut, resumed, damaged, refused.

use super::*;

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
