//! The API over real HTTP, on SQLite and the queue in memory.

use super::types::{BatchView, Frame, KnownModel, PART_INPUT, PART_SPEC, SubmitSpec, Submitted};
use super::*;
use crate::webhook::{Secret, Webhooks};
use crate::{Coordinator, CoordinatorOptions, ValidationSettings};
use rbee_queue::batch::Priority;
use rbee_queue::jsonl::LineOptions;
use rbee_queue::record::{Choice, Completed, FinishReason, JobStats, ResultRecord};
use rbee_queue::store::{Finish, Place, PlaceOutcome};
use rbee_queue::{
    BatchModel, BatchSpec, JobIndex, JobRef, MemoryQueue, ModelNo, NodeInstance, SqliteStore, Usage,
};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;

mod bodies;
mod document;
mod doors;
mod follow;
mod openai;
mod submit;

/// Jobs that wait at most.
pub(super) const MAX_JOBS: u64 = 20_000;
pub(super) const TOKEN: &str = "a-token-that-is-long-enough";

/// A server with everything that it stands on.
pub(super) struct Site {
    pub batches: Batches,
    pub dir: tempfile::TempDir,
    address: SocketAddr,
    http: reqwest::Client,
    stop: CancellationToken,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Resolves every name but those with `absent` in them; keeps files in a directory.
struct TestModels(PathBuf);

#[async_trait]
impl Models for TestModels {
    async fn resolve(&self, name: &str) -> Result<Resolved, ResolveError> {
        if name.contains("absent") {
            return Err(ResolveError {
                message: format!("there is no model {name}"),
                transient: name.contains("now"),
            });
        }
        Ok(Resolved {
            sha256: ModelSha(Sha256::digest(name).into()),
            revision: None,
        })
    }

    fn names(&self) -> Vec<NamedModel> {
        let named = |name: &str, here| NamedModel {
            name: name.to_owned(),
            sha256: ModelSha(Sha256::digest(name).into()),
            here,
        };
        vec![
            named("m", false),
            named("here", true),
            named("hf:a/b::c.gguf", false),
        ]
    }

    fn blob(&self, sha256: &ModelSha) -> Option<ModelBlob> {
        let path = self.0.join(sha256.to_hex());
        path.is_file().then_some(ModelBlob::File(path))
    }

    fn uploads(&self) -> std::io::Result<PathBuf> {
        Ok(self.0.clone())
    }

    fn keep(&self, sha256: &ModelSha, file: tempfile::NamedTempFile) -> std::io::Result<()> {
        file.persist(self.0.join(sha256.to_hex()))
            .map(drop)
            .map_err(|error| error.error)
    }
}

pub(super) async fn site() -> Site {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let batches = Batches::embedded(Arc::new(store), Arc::new(MemoryQueue::new()), &path);
    let models = dir.path().join("models");
    let spool = dir.path().join("spool");
    std::fs::create_dir(&models).unwrap();
    std::fs::create_dir(&spool).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // It reads files and does no more: the tests answer jobs themselves.
    let secret = Secret::read("a secret of the tests").unwrap();
    let options = CoordinatorOptions {
        skip_owner: Some("local".to_owned()),
        webhooks: Some(Webhooks::new(secret, false)),
        validation: Some(ValidationSettings {
            models: Arc::new(TestModels(models.clone())),
            spool: spool.clone(),
            max_jobs: MAX_JOBS,
        }),
        ..CoordinatorOptions::default()
    };
    let (reader, coordinator) = Coordinator::new(batches.clone(), options);
    tokio::spawn(reader.read_announced());
    let parts = ApiParts {
        batches: batches.clone(),
        models: Arc::new(TestModels(models)),
        auth: Auth::new(address, Some(TOKEN)).unwrap(),
        spool,
        coordinator,
        usual_model: "m".to_owned(),
        today: || "2026-01-02".to_owned(),
        logs: Arc::new(|lines| format!("the last {lines} lines\n")),
        max_jobs: MAX_JOBS,
        own_node: None,
    };
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, parts, stop.clone()));
    Site {
        batches,
        dir,
        address,
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        stop,
    }
}

pub(super) fn spec() -> SubmitSpec {
    SubmitSpec {
        spec: BatchSpec::new(LineOptions::new("m")),
        name: Some("prompts.jsonl".into()),
        priority: Priority::Batch,
        key: None,
        new: false,
        on_done: None,
        node: None,
        models: Vec::new(),
        takes_over: None,
    }
}

pub(super) fn prompts(count: usize) -> String {
    (0..count)
        .map(|at| format!("{{\"prompt\": \"number {at}\"}}\n"))
        .collect()
}

impl Site {
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("http://{}{path}", self.address))
            .bearer_auth(TOKEN)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub async fn post(&self, path: &str) -> Response {
        self.request(Method::POST, path).send().await.unwrap()
    }

    pub async fn submit(&self, spec: &SubmitSpec, input: impl Into<reqwest::Body>) -> Response {
        let form = Form::new()
            .part(PART_SPEC, Part::text(serde_json::to_string(spec).unwrap()))
            .part(PART_INPUT, Part::stream(input));
        let request = self.request(Method::POST, "/v1/batches").multipart(form);
        request.send().await.unwrap()
    }

    pub async fn submitted(&self, input: String) -> BatchView {
        let response = self.submit(&spec(), input).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        response.json::<Submitted>().await.unwrap().batch
    }

    /// Answers jobs as a deterministic engine would.
    pub async fn answer(&self, batch: &BatchView, indexes: impl IntoIterator<Item = u64>) {
        let stored = self.batches.store().batch_get(&batch.id).await.unwrap();
        let no = stored.unwrap().no;
        let node = NodeInstance::generate();
        let jobs: Vec<JobRef> = indexes
            .into_iter()
            .map(|index| JobRef {
                batch: no,
                index: JobIndex(index),
            })
            .collect();
        let place = |job: &JobRef| Place {
            job: *job,
            node: node.clone(),
            numerics: Some("x".into()),
        };
        let places = jobs.iter().map(place).collect();
        let placed = self.batches.store().place_many(places).await.unwrap();
        let finish = |(job, outcome): (&JobRef, PlaceOutcome)| {
            let PlaceOutcome::Placed(attempt) = outcome else {
                panic!("{job} is not placed: {outcome:?}");
            };
            Finish {
                job: *job,
                attempt,
                record: answered(&format!("answer {}", job.index)),
                stats: JobStats::default(),
            }
        };
        let finishes = jobs.iter().zip(placed).map(finish).collect();
        self.batches.finish(&node, finishes).await.unwrap();
    }
}

fn answered(text: &str) -> ResultRecord {
    ResultRecord::completed(Completed {
        choices: vec![Choice {
            index: 0,
            text: text.into(),
            finish_reason: FinishReason::Stop,
            logprobs: None,
        }],
        usage: Usage::default(),
        ..Completed::default()
    })
}

pub(super) async fn error(response: Response) -> (StatusCode, String, String) {
    let status = response.status();
    let body: Value = response.json().await.unwrap();
    let word = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    (status, word("code"), word("message"))
}

#[tokio::test]
async fn without_the_token_only_health_answers() {
    let site = site().await;
    let bare = |path: &str| {
        site.http
            .get(format!("http://{}{path}", site.address))
            .send()
    };
    assert_eq!(bare("/health").await.unwrap().status(), StatusCode::OK);
    let probed = bare("/health?ready=true").await.unwrap();
    assert_eq!(probed.status(), StatusCode::OK);
    for path in [
        "/ready",
        "/",
        "/login",
        "/v1/tokens",
        "/v1/batches",
        "/v1/nodes",
        "/v1/schedules",
        "/v1/schedules/calendar",
        "/metrics",
        "/nothing",
        "//health",
    ] {
        let response = bare(path).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    let wrong = site
        .http
        .get(format!("http://{}/v1/batches", site.address))
        .bearer_auth("wrong");
    let (status, code, message) = error(wrong.send().await.unwrap()).await;
    assert_eq!((status.as_u16(), code.as_str()), (401, "invalid_token"));
    assert!(message.contains("RBEE_API_TOKEN"), "{message}");
    let forged = site.request(Method::GET, "/v1/batches");
    let forged = forged.header("host", "evil.example").send().await.unwrap();
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn unknown_routes_and_batches_are_sentences_with_the_requests_id() {
    let site = site().await;
    let response = site
        .request(Method::GET, "/v1/batches/batch_nothing")
        .header("x-correlation-id", "abc")
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["x-correlation-id"], "abc");
    let (status, code, message) = error(response).await;
    assert_eq!((status.as_u16(), code.as_str()), (404, "not_found"));
    assert!(message.contains("batch_nothing"), "{message}");
    let response = site.get("/v1/nothing").await;
    assert!(response.headers().contains_key("x-correlation-id"));
    assert_eq!(error(response).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn batches_are_listed_in_pages_and_found_by_the_beginning_of_their_ids() {
    let site = site().await;
    let mut made = Vec::new();
    for count in 1..=3 {
        made.push(site.submitted(prompts(count)).await);
    }
    let page: Value = site.get("/v1/batches?limit=2").await.json().await.unwrap();
    assert_eq!(page["has_more"], true);
    assert_eq!(page["data"][0]["id"], made[2].id.as_str());
    let after = page["last_id"].as_str().unwrap();
    let path = format!("/v1/batches?limit=2&after={after}");
    let rest: Value = site.get(&path).await.json().await.unwrap();
    assert_eq!(rest["data"].as_array().unwrap().len(), 1);
    assert_eq!(rest["has_more"], false);
    let last: Value = site.get("/v1/batches/last").await.json().await.unwrap();
    assert_eq!(last["id"], made[2].id.as_str());
    assert_eq!(last["request_counts"]["total"], 3);
    let id = made[0].id.as_str();
    let short: Value = (site
        .get(&format!("/v1/batches/{}", &id[..id.len() - 1]))
        .await)
        .json()
        .await
        .unwrap();
    assert_eq!(short["id"], id);
}

#[tokio::test]
async fn a_batch_is_paused_resumed_cancelled_and_purged() {
    let site = site().await;
    let batch = site.submitted(prompts(3)).await;
    let path = |verb: &str| format!("/v1/batches/{}{verb}", batch.id);
    let paused: BatchView = site.post(&path("/pause")).await.json().await.unwrap();
    assert!(paused.paused_reason.is_some());
    let resumed: BatchView = site.post(&path("/resume")).await.json().await.unwrap();
    assert_eq!(resumed.paused_reason, None);
    let refused = site
        .request(Method::DELETE, &path(""))
        .send()
        .await
        .unwrap();
    assert_eq!(error(refused).await.0, StatusCode::CONFLICT);
    let cancelled: BatchView = site.post(&path("/cancel")).await.json().await.unwrap();
    assert_eq!(cancelled.status.as_str(), "cancelled");
    assert_eq!(cancelled.request_counts.failed, 3);
    let refused = site.post(&path("/pause")).await;
    assert_eq!(error(refused).await.1, "wrong_state");
    let detail: Value = (site.get(&path("?detail=true")).await)
        .json()
        .await
        .unwrap();
    assert_eq!(detail["errors"][0]["code"], "cancelled");
    assert_eq!(detail["errors"][0]["jobs"], 3);
    let retried: Value = site.post(&path("/retry")).await.json().await.unwrap();
    assert_eq!(retried["retried"], 3);
    site.post(&path("/cancel")).await;
    let gone = site
        .request(Method::DELETE, &path(""))
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), StatusCode::OK);
    assert_eq!(site.get(&path("")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn model_files_are_kept_only_if_they_are_what_their_name_says() {
    let site = site().await;
    let content = vec![7u8; 300_000];
    let sha = ModelSha(Sha256::digest(&content).into());
    let path = format!("/v1/models/blobs/{sha}");
    assert_eq!(site.get(&path).await.status(), StatusCode::NOT_FOUND);
    let wrong = site
        .request(Method::PUT, &path)
        .body("other")
        .send()
        .await
        .unwrap();
    assert_eq!(error(wrong).await.1, "wrong_content");
    assert_eq!(
        std::fs::read_dir(site.dir.path().join("models"))
            .unwrap()
            .count(),
        0
    );
    let put = site.request(Method::PUT, &path).body(content.clone());
    assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    let head = site.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "300000");
    assert_eq!(site.get(&path).await.bytes().await.unwrap(), content);
    let rest = site
        .request(Method::GET, &path)
        .header("range", "bytes=299990-");
    let rest = rest.send().await.unwrap();
    assert_eq!(rest.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(
        rest.headers()["content-range"],
        "bytes 299990-299999/300000"
    );
    assert_eq!(rest.bytes().await.unwrap().len(), 10);
    let strange = site.get("/v1/models/blobs/..%2f..%2fetc%2fpasswd").await;
    assert_eq!(error(strange).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn jobs_are_given_as_they_are_kept() {
    let site = site().await;
    let batch = site.submitted(prompts(3)).await;
    let path = |at: &str| format!("/v1/batches/{}/jobs?at={at}", batch.id);
    let kept: types::KeptJobs = site.get(&path("2,0,9")).await.json().await.unwrap();
    let lines: Vec<&str> = kept.jobs.iter().map(|job| job.line.as_str()).collect();
    assert_eq!(
        lines,
        [r#"{"prompt": "number 2"}"#, r#"{"prompt": "number 0"}"#]
    );
    assert!(kept.jobs.iter().all(|job| job.record.is_none()));
    assert_eq!((kept.spec.seed, kept.models.len()), (0, 1));
    for wrong in ["", "x", "1,,2", "-1"] {
        let refused = error(site.get(&path(wrong)).await).await;
        assert_eq!(refused.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let many = vec!["0"; 101].join(",");
    assert_eq!(
        site.get(&path(&many)).await.status(),
        StatusCode::BAD_REQUEST
    );
    let log = site.get("/v1/logs?lines=7").await.text().await.unwrap();
    assert_eq!(log, "the last 7 lines\n");
}

#[tokio::test]
async fn batches_of_runs_are_shown_and_left_alone() {
    let site = site().await;
    let mut submission = crate::testing::submission("local");
    submission.models = vec![BatchModel {
        no: ModelNo(0),
        requested: "a".into(),
        sha256: None,
        revision: None,
        numerics: None,
    }];
    let input = std::io::Cursor::new(prompts(1));
    let made = site.batches.submit(input, submission).await.unwrap();
    let rbee_queue::batches::Submitted::New(batch, lock) = made else {
        panic!("{made:?}");
    };
    let path = |verb: &str| format!("/v1/batches/{}{verb}", batch.id);
    assert_eq!(site.get(&path("")).await.status(), StatusCode::OK);
    for verb in ["/cancel", "/pause", "/resume", "/retry"] {
        let refused = error(site.post(&path(verb)).await).await;
        assert_eq!(refused.1, "not_this_servers", "{verb}");
    }
    let purge = || site.request(Method::DELETE, &path("")).send();
    assert_eq!(error(purge().await.unwrap()).await.1, "batch_is_run");
    drop(lock);
    assert_eq!(purge().await.unwrap().status(), StatusCode::OK);
}
