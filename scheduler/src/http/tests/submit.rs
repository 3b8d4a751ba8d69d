//! Submitting: what becomes a batch, and what leaves nothing.

use super::*;
use axum::body::Bytes;
use futures_util::stream;
use std::time::Instant;

/// How long the server may take to clean up.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn prompts_become_a_batch_that_an_equal_submit_finds() {
    let site = site().await;
    let batch = site.submitted(prompts(5)).await;
    assert_eq!(batch.request_counts.total, 5);
    assert_eq!(batch.name.as_deref(), Some("prompts.jsonl"));
    let again = site.submit(&spec(), prompts(5)).await;
    assert_eq!(again.status(), StatusCode::OK);
    let again: Submitted = again.json().await.unwrap();
    assert!(again.existing);
    assert_eq!(again.batch.id, batch.id);
    let new = SubmitSpec {
        new: true,
        ..spec()
    };
    let other: Submitted = site.submit(&new, prompts(5)).await.json().await.unwrap();
    assert_ne!(other.batch.id, batch.id);
    let seeded = SubmitSpec {
        spec: BatchSpec {
            seed: 1,
            ..spec().spec
        },
        ..spec()
    };
    let other: Submitted = site.submit(&seeded, prompts(5)).await.json().await.unwrap();
    assert!(!other.existing);
}

#[tokio::test]
async fn a_key_of_the_user_names_one_batch_whatever_is_in_it() {
    let site = site().await;
    let keyed = SubmitSpec {
        key: Some("nightly".into()),
        ..spec()
    };
    let first: Submitted = site.submit(&keyed, prompts(1)).await.json().await.unwrap();
    let second: Submitted = site.submit(&keyed, prompts(2)).await.json().await.unwrap();
    assert_eq!(first.batch.id, second.batch.id);
}

#[tokio::test]
async fn input_that_is_no_list_of_jobs_is_refused_in_words() {
    let site = site().await;
    for (input, words) in [
        ("just text\n".repeat(20), "--format text"),
        (String::new(), "no line"),
        (
            "{\"id\": \"x\", \"prompt\": \"a\"}\n{\"id\": \"x\", \"prompt\": \"b\"}\n".into(),
            "lines 1, 2",
        ),
    ] {
        let (status, _, message) = error(site.submit(&spec(), input).await).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(message.contains(words), "{message}");
    }
    nothing_is_left(&site).await;
}

#[tokio::test]
async fn wrong_specs_are_refused_in_words() {
    let site = site().await;
    let mut wrong = spec();
    wrong.spec.options.template = Some("{{a".into());
    let no_url = SubmitSpec {
        on_done: Some("ftp://x".into()),
        ..spec()
    };
    let private = SubmitSpec {
        on_done: Some("http://127.0.0.1:9/".into()),
        ..spec()
    };
    // More than the connection holds by itself: the client must have been able to send it all to hear why.
    let input = prompts(500_000);
    for spec in [wrong, no_url, private] {
        let (status, code, _) = error(site.submit(&spec, input.clone()).await).await;
        assert_eq!((status.as_u16(), code.as_str()), (400, "invalid_spec"));
    }
    let form = Form::new().part(PART_INPUT, Part::text(prompts(1)));
    let request = site.request(Method::POST, "/v1/batches").multipart(form);
    let refused = error(request.send().await.unwrap()).await;
    assert_eq!(refused.1, "missing_part");
    nothing_is_left(&site).await;
}

#[tokio::test]
async fn models_are_resolved_once_and_those_of_the_client_are_believed() {
    let site = site().await;
    let known = ModelSha([7; 32]);
    let mut spec = spec();
    spec.models = vec![KnownModel {
        requested: "./mine.gguf".into(),
        sha256: known,
    }];
    spec.spec.options.model = "./mine.gguf".into();
    let input = "{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"model\": \"absent\"}\n";
    let made: Submitted = site.submit(&spec, input).await.json().await.unwrap();
    assert_eq!(made.batch.models[0].sha256, Some(known));
    assert_eq!(made.batch.models[1].sha256, None);
    assert!(made.warnings[0].contains("1 line with the model absent"));
    spec.spec.options.model = "absent".into();
    let refused = error(site.submit(&spec, prompts(1)).await).await;
    assert_eq!(refused.1, "model_not_found");
    spec.spec.options.model = "absent-now".into();
    let refused = error(site.submit(&spec, prompts(1)).await).await;
    assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_leaves_nothing() {
    let site = site().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(piece), receiver))
    });
    let form = Form::new()
        .part(
            PART_SPEC,
            Part::text(serde_json::to_string(&spec()).unwrap()),
        )
        .part(PART_INPUT, Part::stream(reqwest::Body::wrap_stream(body)));
    let request = site.request(Method::POST, "/v1/batches").multipart(form);
    let sending = tokio::spawn(request.send());
    for _ in 0..20 {
        sender.send(prompts(1_000).into()).await.unwrap();
    }
    sending.abort();
    drop(sender);
    assert!(sending.await.unwrap_err().is_cancelled());
    nothing_is_left(&site).await;
}

/// Waits until there is neither a batch nor a hidden one nor a file.
async fn nothing_is_left(site: &Site) {
    let since = Instant::now();
    loop {
        let store = site.batches.store();
        let shown = store.batch_list(None, None, 10).await.unwrap().len();
        let hidden = store.batch_hidden().await.unwrap().len();
        let files = std::fs::read_dir(site.dir.path().join("spool")).unwrap();
        let files = files.count();
        if (shown, hidden, files) == (0, 0, 0) {
            return;
        }
        assert!(
            since.elapsed() < PATIENCE,
            "{shown} batches, {hidden} hidden ones, {files} files are left"
        );
        tokio::task::yield_now().await;
    }
}
