//! `POST /v1/infer`: one request, answered while the client waits.
//!
//! The body is a short line (`prompt` or `messages` with parameters) with `model`, `node` and `stream` beside it. It
//! becomes a hidden batch of one interactive job, so that it is placed, fenced and stored like any other; the text is
//! asked for before the job is placed. A client that goes away cancels it.

use super::error::ApiError;
use super::jobs::{JobNews, JobWatcher};
use super::sse;
use super::submit::unresolved;
use super::types::{ErrorBody, ErrorWords, JobView, event};
use super::{Resolved, Server};
use crate::live::Place;
use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use rbee_queue::batch::INTERACTIVE_OWNER;
use rbee_queue::batches::{Submission, Submitted};
use rbee_queue::jsonl::{LineOptions, parse_line};
use rbee_queue::{
    Batch, BatchModel, BatchNo, BatchSpec, JobError, JobIndex, JobState, ModelNo, ModelSha,
    Priority,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::io::Cursor;
use std::time::Duration;

/// The largest body.
const MAX_BODY: usize = 16 << 20;
/// How long a placement waits for the subscription to the job's text.
const READY_PATIENCE: Duration = Duration::from_secs(1);
/// What ends a stream that is whole.
const DONE: &str = "[DONE]";
/// The one job.
const ONLY: JobIndex = JobIndex(0);

/// What stands beside the request.
#[derive(Debug, Default, Deserialize)]
struct Beside {
    model: Option<String>,
    /// The digest of a model that the client resolved.
    model_sha256: Option<ModelSha>,
    node: Option<String>,
    stream: Option<bool>,
}

/// A request that can be made a batch.
struct Asked {
    beside: Beside,
    line: String,
    options: LineOptions,
}

/// Answers one request.
pub async fn infer(State(server): State<Server>, request: Request) -> Result<Response, ApiError> {
    let plain = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.starts_with("application/json"));
    let body = to_bytes(request.into_body(), MAX_BODY)
        .await
        .map_err(|_| ApiError::too_large(format!("the body has more than {MAX_BODY} bytes")))?;
    let asked = read(&body, &server.usual_model)?;
    let streamed = asked.beside.stream.unwrap_or(!plain);
    let (batch, watcher, leaving) = begin(&server, asked).await?;
    if !streamed {
        return answer(watcher, leaving).await;
    }
    let started = json!({
        "batch": batch.id,
        "model": batch.models.first().map(|model| &model.requested),
        "node": batch.pinned_node,
    });
    let answering = Answering {
        greeting: Some(sse::event("started", &started)),
        watcher,
        leaving,
    };
    sse::respond(&server, stream::unfold(answering, Answering::step))
}

fn read(body: &[u8], usual_model: &str) -> Result<Asked, ApiError> {
    let bad = |message: String| ApiError::bad("invalid_json", message).about("body");
    let mut line: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
    let mut beside = Map::new();
    for name in ["model", "model_sha256", "node", "stream"] {
        if let Some(value) = line.remove(name) {
            beside.insert(name.to_owned(), value);
        }
    }
    let beside: Beside = serde_json::from_value(Value::Object(beside))
        .map_err(|error| ApiError::bad("wrong_type", error.to_string()).about("body"))?;
    let options = LineOptions::new(beside.model.as_deref().unwrap_or(usual_model));
    let line = Value::Object(line).to_string();
    if let Err(error) = parse_line(line.as_bytes(), &options).request {
        let error = JobError::from(error);
        return Err(ApiError::bad(
            "invalid_request",
            format!("{}: {}", error.code, error.message),
        )
        .about("body"));
    }
    Ok(Asked {
        beside,
        line,
        options,
    })
}

/// Makes the batch, and watches it from before its placement on.
async fn begin(
    server: &Server,
    asked: Asked,
) -> Result<(Batch, JobWatcher, CancelWhenLeft), ApiError> {
    let Asked {
        beside,
        line,
        options,
    } = asked;
    let resolved = match beside.model_sha256 {
        Some(sha256) => Resolved {
            sha256,
            revision: None,
        },
        None => server
            .models
            .resolve(&options.model)
            .await
            .map_err(unresolved)?,
    };
    let model = BatchModel {
        no: ModelNo(0),
        requested: options.model.clone(),
        sha256: Some(resolved.sha256),
        revision: resolved.revision,
        numerics: None,
    };
    let submission = Submission {
        owner: INTERACTIVE_OWNER.to_owned(),
        name: None,
        key: None,
        priority: Priority::Interactive,
        pinned_node: beside.node,
        on_done: None,
        spec: BatchSpec {
            template_date: (server.today)(),
            ..BatchSpec::new(options)
        },
        models: vec![model],
        digest: None,
    };
    let made = server.batches.submit(Cursor::new(line), submission).await?;
    let (batch, lock) = match made {
        Submitted::New(batch, lock) => (*batch, lock),
        Submitted::Existing(_) => {
            return Err(ApiError::internal("a batch without a key existed"));
        }
    };
    let leaving = CancelWhenLeft {
        server: server.clone(),
        batch: Some(batch.no),
    };
    let live = server.live_jobs.follow(&batch, ONLY)?;
    let mut ready = live.changed();
    let subscribed = tokio::time::timeout(READY_PATIENCE, async {
        // It fails only with the job's task.
        let _ = ready.wait_for(|changes| *changes > 0).await;
    });
    let (expected, _) = tokio::join!(server.live_jobs.expect(&batch, ONLY), subscribed);
    if let Err(error) = expected {
        // The text then comes with a snapshot.
        tracing::debug!(%error, "nodes were not told of a job beforehand");
    }
    // From here on the batch is the coordinator's.
    drop(lock);
    server.coordinator.wake();
    let watcher = JobWatcher::new(server.clone(), batch.clone(), live, Place::default());
    Ok((batch, watcher, leaving))
}

/// Cancels a batch when its client goes away before it has ended.
struct CancelWhenLeft {
    server: Server,
    batch: Option<BatchNo>,
}

impl CancelWhenLeft {
    fn ended(&mut self) {
        self.batch = None;
    }
}

impl Drop for CancelWhenLeft {
    fn drop(&mut self) {
        let Some(batch) = self.batch else {
            return;
        };
        let server = self.server.clone();
        tokio::spawn(async move {
            match server.batches.store().batch_cancel(batch).await {
                Ok(_) => server.coordinator.wake(),
                Err(error) => tracing::warn!(%error, "a request whose client left goes on"),
            }
        });
    }
}

/// A request that is answered as it is computed.
struct Answering {
    greeting: Option<Event>,
    watcher: JobWatcher,
    leaving: CancelWhenLeft,
}

impl Answering {
    async fn step(mut self) -> Option<(Vec<Event>, Answering)> {
        if let Some(greeting) = self.greeting.take() {
            return Some((vec![greeting], self));
        }
        let news = self.watcher.next().await?;
        let mut events = Vec::new();
        for news in news {
            match news {
                JobNews::End(view) => {
                    self.leaving.ended();
                    events.push(sse::event(event::RESULT, &view.result));
                    events.push(Event::default().data(DONE));
                }
                JobNews::Gone => {
                    self.leaving.ended();
                    events.push(sse::trouble("not_found", "the request was purged"));
                    events.push(Event::default().data(DONE));
                }
                other => events.push(other.into_event()),
            }
        }
        Some((events, self))
    }
}

/// The whole answer at once.
async fn answer(
    mut watcher: JobWatcher,
    mut leaving: CancelWhenLeft,
) -> Result<Response, ApiError> {
    while let Some(news) = watcher.next().await {
        for news in news {
            match news {
                JobNews::End(view) => {
                    leaving.ended();
                    return Ok(told(*view));
                }
                JobNews::Gone => {
                    leaving.ended();
                    return Err(ApiError::not_found("the request was purged"));
                }
                _ => {}
            }
        }
    }
    Err(ApiError::internal("the request ended without an answer"))
}

fn told(view: JobView) -> Response {
    let line = view.result.unwrap_or_default();
    if view.state == JobState::Succeeded {
        return Json(line).into_response();
    }
    let word = |name: &str| line["error"][name].as_str().unwrap_or_default().to_owned();
    let error = JobError::new(word("code"), word("message"));
    let (status, kind) = match error.is_circumstance() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "server_error"),
        false => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error"),
    };
    let body = ErrorBody {
        error: ErrorWords {
            message: error.message,
            kind: kind.to_owned(),
            param: None,
            code: Some(error.code),
        },
    };
    (status, Json(body)).into_response()
}
