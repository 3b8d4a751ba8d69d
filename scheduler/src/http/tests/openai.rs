//! OpenAI's routes over real HTTP; the tests answer the jobs.

use super::*;
use rbee_queue::BatchId;

async fn upload(site: &Site, text: &str) -> String {
    let form = Form::new()
        .text("purpose", "batch")
        .part("file", Part::text(text.to_owned()).file_name("in.jsonl"));
    let request = site.request(Method::POST, "/v1/files").multipart(form);
    let file: Value = request.send().await.unwrap().json().await.unwrap();
    file["id"].as_str().unwrap().to_owned()
}

async fn create(site: &Site, body: &Value) -> Response {
    let request = site.request(Method::POST, "/v1/batches").json(body);
    request.send().await.unwrap()
}

/// The batch once its file was read.
async fn read(site: &Site, batch: BatchView) -> BatchView {
    assert_eq!(batch.status.as_str(), "validating");
    assert_eq!(batch.request_counts.total, 0);
    crate::testing::until("the file that is read", async || {
        let shown = site.get(&format!("/v1/batches/{}", batch.id)).await;
        let now: BatchView = shown.json().await.unwrap();
        (now.status.as_str() != "validating").then_some(now)
    })
    .await
}

fn lines(count: usize) -> String {
    let line = |at| {
        let body = json!({"messages": [{"role": "user", "content": format!("number {at}")}]});
        let line =
            json!({"custom_id": format!("c{at}"), "url": "/v1/chat/completions", "body": body});
        format!("{line}\n")
    };
    (0..count).map(line).collect()
}

#[tokio::test]
async fn batch_of_a_file_is_the_batch_that_commands_see() {
    let site = site().await;
    let file = upload(&site, &(lines(2) + "no json\n")).await;
    let asked = json!({
        "input_file_id": file,
        "endpoint": "/v1/chat/completions",
        "completion_window": "90m",
        "metadata": {"b": "2", "a": "1"},
    });
    let response = create(&site, &asked).await;
    assert_eq!(response.status(), StatusCode::OK);
    let batch = read(&site, response.json().await.unwrap()).await;
    assert_eq!(batch.input_file_id.as_ref().unwrap().as_str(), file);
    assert_eq!(batch.expires_at, Some(batch.created_at + 5_400));
    assert_eq!(batch.name.as_deref(), Some("in.jsonl"));
    assert_eq!(batch.output_file_id, None);
    let notes: Vec<&String> = batch.metadata.as_ref().unwrap().keys().collect();
    assert_eq!(notes, ["b", "a"]);
    site.answer(&batch, 0..2).await;
    let shown = site.get(&format!("/v1/batches/{}", batch.id)).await;
    let done: BatchView = shown.json().await.unwrap();
    assert_eq!(done.status.as_str(), "completed");
    assert_eq!(done.completed_at, done.finalizing_at);
    for (id, count) in [(done.output_file_id, 2), (done.error_file_id, 1)] {
        let id = id.unwrap();
        let shown = site.get(&format!("/v1/files/{id}")).await;
        let file: Value = shown.json().await.unwrap();
        let content = site.get(&format!("/v1/files/{id}/content")).await;
        let content = content.text().await.unwrap();
        assert_eq!(file["bytes"], content.len());
        assert_eq!(content.lines().count(), count);
    }
}

#[tokio::test]
async fn unknown_input_is_not_found_and_makes_nothing() {
    let site = site().await;
    let asked = json!({
        "input_file_id": "file_0123456789abcdef0123456789abcdef",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    });
    let (status, code, _) = error(create(&site, &asked).await).await;
    assert_eq!(
        (status, code.as_str()),
        (StatusCode::NOT_FOUND, "not_found")
    );
    let listed = site.batches.store().batch_list(None, None, 9).await;
    assert_eq!(listed.unwrap(), []);
}

#[tokio::test]
async fn upload_that_is_refused_leaves_nothing() {
    let site = site().await;
    let form = Form::new()
        .part("file", Part::text("x").file_name("in.jsonl"))
        .text("purpose", "vision");
    let request = site.request(Method::POST, "/v1/files").multipart(form);
    let (status, code, _) = error(request.send().await.unwrap()).await;
    assert_eq!(
        (status, code.as_str()),
        (StatusCode::BAD_REQUEST, "invalid_value")
    );
    let listed: Value = site.get("/v1/files").await.json().await.unwrap();
    assert_eq!(listed["data"], json!([]));
}

#[tokio::test]
async fn refusals_of_extractors_have_the_form_of_all_errors() {
    let site = site().await;
    for (method, path, status) in [
        (
            Method::GET,
            "/v1/batches?limit=many",
            StatusCode::BAD_REQUEST,
        ),
        (
            Method::GET,
            "/v1/batches/last/jobs/x",
            StatusCode::BAD_REQUEST,
        ),
        (Method::PATCH, "/v1/models", StatusCode::METHOD_NOT_ALLOWED),
        (
            Method::GET,
            "/v1/chat/completions",
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (Method::POST, "/nowhere", StatusCode::NOT_FOUND),
    ] {
        let response = site.request(method, path).send().await.unwrap();
        let (found, code, message) = error(response).await;
        assert_eq!(found, status, "{path}");
        assert!(!code.is_empty() && !message.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn models_are_listed_that_are_there_and_found_by_names_with_slashes() {
    let site = site().await;
    let listed: Value = site.get("/v1/models").await.json().await.unwrap();
    let names: Vec<&Value> = (listed["data"].as_array().unwrap().iter())
        .map(|model| &model["id"])
        .collect();
    assert_eq!(names, ["m", "here"]);
    for path in ["hf:a/b::c.gguf", "hf%3Aa%2Fb%3A%3Ac.gguf"] {
        let model: Value = site
            .get(&format!("/v1/models/{path}"))
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(model["id"], "hf:a/b::c.gguf");
    }
    let (status, code, _) = error(site.get("/v1/models/absent").await).await;
    assert_eq!(
        (status, code.as_str()),
        (StatusCode::NOT_FOUND, "model_not_found")
    );
}

#[tokio::test]
async fn more_jobs_than_may_wait_are_told_to_come_back() {
    let site = site().await;
    let most = usize::try_from(MAX_JOBS).unwrap();
    site.submitted(prompts(most)).await;
    for path in [
        "/v1/batches",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/infer",
    ] {
        let response = site.post(path).await;
        let wait = response.headers()["retry-after"]
            .to_str()
            .unwrap()
            .to_owned();
        let (status, code, _) = error(response).await;
        assert_eq!(
            (status, code.as_str()),
            (StatusCode::TOO_MANY_REQUESTS, "queue_full")
        );
        assert!(wait.parse::<u32>().unwrap() > 0);
    }
    assert_eq!(site.get("/v1/batches").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn model_that_leads_nowhere_is_a_batch_that_failed() {
    let site = site().await;
    let line = json!({"custom_id": "a", "url": "/v1/chat/completions",
                      "body": {"model": "absent", "messages": [{"role": "user", "content": "x"}]}});
    let file = upload(&site, &format!("{line}\n")).await;
    let asked = json!({
        "input_file_id": file,
        "endpoint": "/v1/chat/completions",
        "completion_window": "1h",
    });
    let made = create(&site, &asked).await;
    let batch = read(&site, made.json().await.unwrap()).await;
    assert_eq!(batch.status.as_str(), "failed");
    assert_eq!(batch.errors.unwrap().data[0].code, "model_not_found");
    let found = site.batches.store().batch_get(&batch.id).await.unwrap();
    let id: BatchId = found.unwrap().id;
    let gone = site.request(Method::DELETE, &format!("/v1/batches/{id}"));
    assert_eq!(gone.send().await.unwrap().status(), StatusCode::OK);
}
