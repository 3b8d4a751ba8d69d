//! `POST /v1/infer`: one request, answered while the client waits.
//!
//! The body is a short line (`prompt` or `messages` with parameters) with `model`, `node` and `stream` beside it. It
//! becomes one interactive job.

use super::auth::Caller;
use super::error::ApiError;
use super::interactive::{self, CancelWhenLeft, Question};
use super::jobs::{JobNews, JobWatcher};
use super::sse;
use super::submit::unresolved;
use super::types::{ErrorBody, ErrorWords, JobView, event};
use super::{Resolved, Server};
use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use rbee_queue::jsonl::{LineOptions, parse_line};
use rbee_queue::{JobError, JobState, ModelSha};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The largest body.
const MAX_BODY: usize = 16 << 20;
/// What ends a stream that is whole.
const DONE: &str = "[DONE]";

/// What stands beside the request.
#[derive(Debug, Default, Deserialize)]
struct Beside {
    model: Option<String>,
    /// The digest of a model that the client resolved.
    model_sha256: Option<ModelSha>,
    node: Option<String>,
    stream: Option<bool>,
}

/// A body as it was read.
struct Read {
    beside: Beside,
    line: String,
    options: LineOptions,
}

/// Answers one request.
pub async fn infer(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let plain = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.starts_with("application/json"));
    let body = to_bytes(request.into_body(), MAX_BODY)
        .await
        .map_err(|_| ApiError::too_large(format!("the body has more than {MAX_BODY} bytes")))?;
    let read = read(&body, &server.usual_model)?;
    let streamed = read.beside.stream.unwrap_or(!plain);
    server.check_room(&caller, 1).await?;
    if let Some(name) = &read.beside.node {
        server.check_node(name).await?;
    }
    let model = match read.beside.model_sha256 {
        Some(sha256) => Resolved {
            sha256,
            revision: None,
        },
        None => (server.models.resolve(&read.options.model).await).map_err(unresolved)?,
    };
    let question = Question {
        lines: vec![read.line],
        options: read.options,
        model,
        node: read.beside.node,
    };
    let asked = interactive::begin(&server, question).await?;
    let (batch, leaving) = (asked.batch, asked.leaving);
    let mut watchers = asked.watchers;
    let only = || ApiError::internal("a request of one job had none");
    let watcher = watchers.pop().ok_or_else(only)?;
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

impl Server {
    /// Whether there is, or lately was, a node of this name: whoever asks one question does not wait for one that never was.
    async fn check_node(&self, name: &str) -> Result<(), ApiError> {
        let nodes = self.batches.store().node_list().await?;
        match nodes.iter().any(|node| node.report.name == name) {
            true => Ok(()),
            false => {
                let shown: String = name.chars().take(80).collect();
                let message = format!("there is no node {shown}: `rbee nodes` lists them");
                Err(ApiError::not_found(message).about("node"))
            }
        }
    }
}

fn read(body: &[u8], usual_model: &str) -> Result<Read, ApiError> {
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
    Ok(Read {
        beside,
        line,
        options,
    })
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
