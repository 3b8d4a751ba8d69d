use super::*;
use crate::node::bench::{Bench, MODEL, PATIENCE, bench, gated, stub_shelf};
use rbee_queue::TokenId;
use rbee_queue::store::{NewToken, TokenAdded};
use rbee_queue::token::{Quota, Role};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TOKEN: &str = "a token of a test";

/// A node with its face.
struct Shown {
    bench: Bench,
    at: std::net::SocketAddr,
    _dir: tempfile::TempDir,
}

async fn shown(shelf: Arc<dyn ModelShelf>) -> Shown {
    let bench = bench(1, shelf).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let blob = dir.path().join("blob");
    std::fs::write(&blob, "0123456789").unwrap();
    let face = Face {
        node: bench.node.clone(),
        shelf: Arc::new(OneBlob(blob)),
        access: Access::new(at, Some(TOKEN))
            .unwrap()
            .with_tokens_of(Arc::clone(bench.batches.store())),
        today: || "2024-07-26".to_owned(),
    };
    tokio::spawn(serve(listener, face));
    Shown {
        bench,
        at,
        _dir: dir,
    }
}

struct OneBlob(std::path::PathBuf);

#[async_trait::async_trait]
impl ModelShelf for OneBlob {
    async fn fetch(
        &self,
        _: &rbee_queue::queue::LoadWish,
        _: &crate::node::Share,
    ) -> Result<(), rbee_queue::JobError> {
        unreachable!("the face loads nothing")
    }

    fn load(
        &self,
        _: &rbee_queue::queue::LoadWish,
        _: Option<u64>,
        _: tokio::sync::mpsc::Sender<crate::engine::EngineEvent>,
    ) -> Result<crate::node::Hosted, rbee_queue::JobError> {
        unreachable!("the face loads nothing")
    }

    fn blob(&self, sha256: &rbee_queue::ModelSha) -> Option<crate::model_files::Blob> {
        (*sha256 == MODEL).then(|| crate::model_files::Blob::File(self.0.clone()))
    }
}

impl Shown {
    /// Sends a request with the token; gives status and everything that came, as text.
    async fn ask(&self, request: &str, body: &str) -> (u16, String) {
        self.send(&format!("{request}\r\nAuthorization: Bearer {TOKEN}"), body)
            .await
    }

    async fn send(&self, request: &str, body: &str) -> (u16, String) {
        let (method_path, headers) = request.split_once("\r\n").unwrap_or((request, ""));
        let headers = match headers {
            "" => String::new(),
            headers => format!("{headers}\r\n"),
        };
        let text = format!(
            "{method_path} HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.at,
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(self.at).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }
}

/// What the events of a stream say, without their frame.
fn events(answer: &str) -> Vec<String> {
    let lines = answer
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    lines.map(str::to_owned).collect()
}

fn parsed(events: &[String]) -> Vec<Value> {
    let json = events.iter().filter(|event| *event != "[DONE]");
    json.map(|event| serde_json::from_str(event).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_open_and_all_else_wants_the_token() {
    let shown = shown(stub_shelf()).await;
    shown.bench.loaded().await;
    let (status, answer) = shown.send("GET /health", "").await;
    assert_eq!(status, 200);
    assert!(answer.contains("\"status\":\"healthy\""), "{answer}");
    assert!(answer.contains("\"model_loaded\":true"), "{answer}");
    for path in [
        "/metrics",
        "/v1/loading/progress",
        "/v1/models/blobs/x",
        "/x",
    ] {
        let (status, _) = shown.send(&format!("GET {path}"), "").await;
        assert_eq!(status, 401, "{path}");
    }
    let (status, metrics) = shown.ask("GET /metrics", "").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("rbee_node_models_resident 1"), "{metrics}");
    assert!(metrics.contains("# EOF"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_store_open_what_their_roles_are_for() {
    let shown = shown(stub_shelf()).await;
    let store = shown.bench.batches.store();
    for role in [Role::Node, Role::Read, Role::Submit] {
        let token = NewToken {
            id: TokenId::generate(),
            name: role.to_string(),
            role,
            owner: "ann".into(),
            digest: Sha256::digest(role.as_str()).into(),
            quota: Quota::default(),
            lives: None,
        };
        let added = store.token_add(token).await.unwrap();
        assert!(matches!(added, TokenAdded::Added(_)));
    }
    let blob = format!("GET /v1/models/blobs/{}", MODEL.to_hex());
    for (token, request, expected) in [
        ("node", &*blob, 200),
        ("node", "GET /metrics", 403),
        ("node", "POST /v1/inference", 403),
        ("read", &*blob, 200),
        ("read", "GET /metrics", 200),
        ("read", "POST /v1/inference", 403),
        ("submit", "POST /v1/inference", 400),
        ("nobody", &*blob, 401),
    ] {
        let request = format!("{request}\r\nAuthorization: Bearer {token}");
        let (status, answer) = shown.send(&request, "nonsense").await;
        assert_eq!(status, expected, "{token}, {request}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn question_is_answered_token_by_token() {
    let shown = shown(stub_shelf()).await;
    let body = r#"{"prompt": "Why?", "max_tokens": 5, "ignore_eos": true}"#;
    let (status, answer) = shown.ask("POST /v1/inference", body).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("BACKEND_UNAVAILABLE"), "{answer}");
    shown.bench.loaded().await;
    let request = "POST /v1/inference\r\nX-Correlation-Id: mine";
    let (status, answer) = shown.ask(request, body).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("x-correlation-id: mine"), "{answer}");
    let events = events(&answer);
    assert_eq!(events.last().unwrap(), "[DONE]");
    let told = parsed(&events);
    assert_eq!(told[0]["event"], "started");
    let end = told.last().unwrap();
    assert_eq!(
        (&end["event"], &end["stop_reason"]),
        (&"end".into(), &"MAX_TOKENS".into())
    );
    assert_eq!(end["tokens_out"], 5);
    let text: String = told
        .iter()
        .filter(|event| event["event"] == "token")
        .map(|event| event["t"].as_str().unwrap())
        .collect();
    assert_eq!(text.len(), 5, "a token of the stub is a letter: {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_questions_are_refused_with_their_codes() {
    let shown = shown(stub_shelf()).await;
    shown.bench.loaded().await;
    for (body, expected, code) in [
        ("nonsense", 400, "INVALID_REQUEST"),
        (
            r#"{"prompt": "x", "temperature": 9}"#,
            400,
            "INVALID_REQUEST",
        ),
        (r#"{"prompt": "x", "n": 3}"#, 400, "INVALID_REQUEST"),
        (
            r#"{"prompt": "x", "model": "other"}"#,
            404,
            "MODEL_NOT_FOUND",
        ),
    ] {
        let (status, answer) = shown.ask("POST /v1/inference", body).await;
        assert_eq!(status, expected, "{body}");
        assert!(answer.contains(code), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn question_that_nobody_waits_for_leaves_the_engine() {
    let (open, shelf) = gated();
    let shown = shown(shelf).await;
    shown.bench.loaded().await;
    let running = |jobs: usize| {
        move |status: &crate::node::NodeStatus| {
            status.engine.is_some_and(|engine| engine.jobs == jobs)
        }
    };
    let body = r#"{"prompt": "x", "max_tokens": 30000, "ignore_eos": true}"#;
    let asking = async {
        let _ = shown.ask("POST /v1/inference", body).await;
    };
    tokio::select! {
        () = asking => panic!("it does not end by itself"),
        _ = shown.bench.until(running(1)) => {}
    }
    drop(open);
    shown.bench.until(running(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_ends_when_the_model_is_there() {
    let shown = shown(stub_shelf()).await;
    shown.bench.loaded().await;
    let (status, answer) = shown.ask("GET /v1/loading/progress", "").await;
    assert_eq!(status, 200);
    let events = events(&answer);
    assert_eq!(parsed(&events).last().unwrap()["event"], "ready");
    assert_eq!(events.last().unwrap(), "[DONE]");
}

#[tokio::test(flavor = "multi_thread")]
async fn model_file_is_sent_whole_or_from_where_a_download_stopped() {
    let shown = shown(stub_shelf()).await;
    let path = format!("GET /v1/models/blobs/{}", MODEL.to_hex());
    let (status, answer) = shown.ask(&path, "").await;
    assert!(
        status == 200 && answer.ends_with("\r\n\r\n0123456789"),
        "{answer}"
    );
    let (status, answer) = shown.ask(&format!("{path}\r\nRange: bytes=7-"), "").await;
    assert!(status == 206 && answer.ends_with("\r\n\r\n789"), "{answer}");
    assert!(answer.contains("content-range: bytes 7-9/10"), "{answer}");
    let other = format!("GET /v1/models/blobs/{}", "0".repeat(64));
    assert_eq!(shown.ask(&other, "").await.0, 404);
    assert_eq!(
        shown.ask("GET /v1/models/blobs/..%2f..%2fetc", "").await.0,
        400
    );
}
