//! `POST /v1/chat/completions` and `POST /v1/completions`: one request, answered while its client waits.
//!
//! The body is read as the body of a line of OpenAI's batch files is, and becomes one interactive job, or one a prompt. A stream begins with
//! its first text, so that what is wrong with a request has its own status; a model that loads for long begins it earlier.

use super::super::Server;
use super::super::auth::Caller;
use super::super::error::ApiError;
use super::super::interactive::{self, Asked, CancelWhenLeft, Question};
use super::super::jobs::{JobNews, JobWatcher};
use super::super::sse;
use super::super::types::JobView;
use super::body::{read_object, wrong_type};
use super::chunks::{Chunks, Head, Wholes};
use super::prompts;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, SelectAll};
use rbee_queue::ids::ResultIds;
use rbee_queue::jsonl::{LineOptions, parse_line};
use rbee_queue::{Endpoint, JobError, JobKey, JobState, whole_number};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How long a stream waits for its first text before it begins.
const FIRST_TEXT_PATIENCE: Duration = Duration::from_secs(10);
/// Microseconds of a second.
const US_A_SECOND: i64 = 1_000_000;

/// `POST /v1/chat/completions`.
pub async fn chat_completions(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    answer(server, caller, request, Endpoint::ChatCompletions).await
}

/// `POST /v1/completions`.
pub async fn completions(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    answer(server, caller, request, Endpoint::Completions).await
}

/// How an answer is streamed.
#[derive(Clone, Copy, Default)]
struct Streamed {
    include_usage: bool,
}

/// A body as it was read.
struct Wanted {
    /// A line for each prompt.
    lines: Vec<String>,
    options: LineOptions,
    key: JobKey,
    logprobs: bool,
    tools: bool,
    /// Answers to each prompt.
    choices: u32,
    /// `None`: the whole answer at once.
    streamed: Option<Streamed>,
}

/// Reads the body of a request as that of a line, and answers it.
pub async fn answer(
    server: Server,
    caller: Caller,
    request: Request,
    endpoint: Endpoint,
) -> Result<Response, ApiError> {
    let body = read_object(request.into_body()).await?;
    check_seed(&body)?;
    let wanted = read(body, endpoint, &server.usual_model)?;
    let prompts = wanted.lines.len() as u32;
    server.check_room(&caller, prompts.into()).await?;
    let model = server.models.resolve(&wanted.options.model).await;
    let model = model.map_err(|error| match error.transient {
        true => ApiError::unavailable(error.message),
        false => ApiError::no_model(error.message),
    })?;
    let ids = ResultIds::new(&wanted.key, 0, Some(&model.sha256));
    let name = wanted.options.model.clone();
    let question = Question {
        lines: wanted.lines,
        options: wanted.options,
        model,
        node: None,
    };
    let asked = interactive::begin(&server, question).await?;
    let created = asked.batch.created_at_us.div_euclid(US_A_SECOND);
    let Some(streamed) = wanted.streamed else {
        return whole(asked, created).await;
    };
    let head = match endpoint {
        Endpoint::Completions => Head {
            id: ids.completion(),
            chat: false,
            created,
            model: name,
        },
        _ => Head {
            id: ids.chat_completion(),
            chat: true,
            created,
            model: name,
        },
    };
    let wholes = Wholes {
        logprobs: wanted.logprobs,
        tools: wanted.tools,
    };
    let chunks = Chunks::new(
        head,
        wanted.choices * prompts,
        wholes,
        streamed.include_usage,
    );
    stream_answer(&server, asked, chunks, wanted.choices).await
}

fn read(
    mut body: Map<String, Value>,
    endpoint: Endpoint,
    usual_model: &str,
) -> Result<Wanted, ApiError> {
    let streamed = match endpoint {
        Endpoint::Embeddings => None,
        _ => take_streamed(&mut body)?,
    };
    let model = match body.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        None | Some(Value::Null) => usual_model.to_owned(),
        Some(_) => return Err(wrong_type("model", "the name of a model")),
    };
    let options = LineOptions::new(model);
    let mut lines = Vec::new();
    let mut first = None;
    for body in prompts::split(body, endpoint)? {
        let line = json!({"method": "POST", "url": endpoint.url(), "body": body}).to_string();
        let parsed = parse_line(line.as_bytes(), &options);
        let key = JobKey::new(&parsed.content(line.as_bytes()), 0);
        let params = parsed.request?.params;
        first.get_or_insert((key, params));
        lines.push(line);
    }
    let (key, params) = first.ok_or_else(|| wrong_type("prompt", "a text"))?;
    Ok(Wanted {
        lines,
        options,
        key,
        logprobs: params.logprobs,
        tools: params.tools.is_some(),
        choices: params.n,
        streamed,
    })
}

/// Takes `stream` and `stream_options` out of a body.
/// Seeds are of 64 bits with a sign there; lines of files may have larger ones.
fn check_seed(body: &Map<String, Value>) -> Result<(), ApiError> {
    let seed = body.get("seed").and_then(whole_number::whole);
    match seed.filter(|seed| i64::try_from(*seed).is_err()) {
        None => Ok(()),
        Some(seed) => {
            let message = format!("seed is {seed}, it must be at most {}", i64::MAX);
            Err(ApiError::bad("out_of_range", message).about("seed"))
        }
    }
}

fn take_streamed(body: &mut Map<String, Value>) -> Result<Option<Streamed>, ApiError> {
    let streamed = match body.remove("stream") {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(_) => return Err(wrong_type("stream", "true or false")),
    };
    let mut options = Streamed::default();
    match body.remove("stream_options") {
        None | Some(Value::Null) => {}
        Some(Value::Object(given)) => match given.get("include_usage") {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(Value::Bool(true)) => options.include_usage = true,
            Some(_) => {
                return Err(wrong_type("stream_options.include_usage", "true or false"));
            }
        },
        Some(_) => return Err(wrong_type("stream_options", "an object")),
    }
    Ok(streamed.then_some(options))
}

/// The whole answer at once.
async fn whole(asked: Asked, created: i64) -> Result<Response, ApiError> {
    let Asked {
        watchers,
        mut leaving,
        ..
    } = asked;
    let (jobs, mut bodies) = (watchers.len(), Vec::new());
    for mut watcher in watchers {
        let ended = end_of(&mut watcher).await?;
        if bodies.len() + 1 == jobs {
            leaving.ended();
        }
        bodies.push(body_of(ended, created)?);
    }
    Ok(Json(prompts::merge(bodies)).into_response())
}

/// A job at its end.
async fn end_of(watcher: &mut JobWatcher) -> Result<JobView, ApiError> {
    while let Some(news) = watcher.next().await {
        for news in news {
            match news {
                JobNews::End(view) => return Ok(*view),
                JobNews::Gone => return Err(purged()),
                _ => {}
            }
        }
    }
    Err(ApiError::internal("the request ended without an answer"))
}

fn purged() -> ApiError {
    ApiError::unavailable("the request was purged before it had an answer")
}

/// The answer that a job's result line holds, with the time at which it was asked for.
fn body_of(view: JobView, created: i64) -> Result<Value, ApiError> {
    let mut line = view.result.unwrap_or_default();
    if view.state == JobState::Succeeded {
        let mut body = line["response"]["body"].take();
        // Vectors have no such time.
        if let Some(known) = body.get_mut("created") {
            *known = created.into();
        }
        return Ok(body);
    }
    let word = |name: &str| line["error"][name].as_str().unwrap_or_default().to_owned();
    Err(ApiError::of_job(JobError::new(
        word("code"),
        word("message"),
    )))
}

async fn stream_answer(
    server: &Server,
    asked: Asked,
    chunks: Chunks,
    choices: u32,
) -> Result<Response, ApiError> {
    let jobs = asked.watchers.into_iter().enumerate();
    let mut streaming = Streaming {
        bodies: vec![None; jobs.len()],
        news: stream::select_all(jobs.map(|(job, watcher)| news_of(job, watcher))),
        leaving: asked.leaving,
        chunks,
        choices,
        over: false,
    };
    let mut events = Vec::new();
    let first = async {
        while events.is_empty() {
            match streaming.more().await? {
                Some(more) => events = more,
                None => break,
            }
        }
        Ok::<(), ApiError>(())
    };
    if let Ok(begun) = tokio::time::timeout(FIRST_TEXT_PATIENCE, first).await {
        begun?;
    }
    let rest = stream::unfold(streaming, |mut streaming| async move {
        match streaming.more().await {
            Ok(more) => Some((more?, streaming)),
            // The status is said already: the error is the last event.
            Err(error) => {
                streaming.over = true;
                Some((vec![Chunks::error(&error)], streaming))
            }
        }
    });
    let first = stream::iter([events]);
    sse::respond(server, first.chain(rest))
}

/// What is new of a job, with its number.
fn news_of(job: usize, watcher: JobWatcher) -> BoxStream<'static, (usize, Vec<JobNews>)> {
    stream::unfold(watcher, move |mut watcher| async move {
        let news = watcher.next().await?;
        Some(((job, news), watcher))
    })
    .boxed()
}

/// An answer that is streamed as it is computed.
struct Streaming {
    news: SelectAll<BoxStream<'static, (usize, Vec<JobNews>)>>,
    leaving: CancelWhenLeft,
    chunks: Chunks,
    /// Choices of each job.
    choices: u32,
    /// The answers of the jobs that have ended.
    bodies: Vec<Option<Value>>,
    over: bool,
}

impl Streaming {
    /// The next events, which may be none; `None` after the last.
    async fn more(&mut self) -> Result<Option<Vec<Event>>, ApiError> {
        if self.over {
            return Ok(None);
        }
        let Some((job, news)) = self.news.next().await else {
            return Ok(None);
        };
        let mut events = Vec::new();
        for news in news {
            match news {
                JobNews::Text(mut piece, _) => {
                    piece.choice += job as u32 * self.choices;
                    self.chunks.text(&piece, &mut events);
                }
                JobNews::Reset(_) => {
                    let choices = self.choices as usize;
                    self.chunks.begins_anew(job * choices..(job + 1) * choices);
                }
                JobNews::Job(_) => {}
                JobNews::End(view) => self.end(job, *view, &mut events)?,
                JobNews::Gone => {
                    self.leaving.ended();
                    self.over = true;
                    return Err(purged());
                }
            }
        }
        Ok(Some(events))
    }

    /// A job has ended; with the last one the answer is whole.
    fn end(&mut self, job: usize, view: JobView, events: &mut Vec<Event>) -> Result<(), ApiError> {
        let unfinished = self.bodies.iter().filter(|body| body.is_none()).count();
        if unfinished == 1 {
            self.leaving.ended();
            self.over = true;
        }
        self.bodies[job] = Some(body_of(view, 0)?);
        if self.over {
            let bodies = self.bodies.iter_mut().filter_map(Option::take).collect();
            self.chunks.end(&prompts::merge(bodies), events);
        }
        Ok(())
    }
}
