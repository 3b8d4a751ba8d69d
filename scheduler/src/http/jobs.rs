//! One job: `GET /v1/batches/{id}/jobs/{index}`, and `…/events`, its text as it grows.
//!
//! The events of a job are the job, then its text from the first token on or from behind `Last-Event-ID`, each token
//! once and in order, whoever computes them, and the job as it ended.

use super::Server;
use super::auth::Caller;
use super::error::ApiError;
use super::sse;
use super::types::{JobView, ResetEvent, TextPiece, event};
use crate::live::{Facts, LiveJob, NoPlace, Piece, Place};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use futures_util::stream;
use rbee_queue::batches::PageRenderer;
use rbee_queue::jsonl::Rendering;
use rbee_queue::store::StoredJob;
use rbee_queue::{Batch, JobIndex, JobRef, StoreError};
use std::sync::Arc;
use tokio::sync::watch;

impl From<NoPlace> for ApiError {
    fn from(error: NoPlace) -> ApiError {
        ApiError::bad("invalid_event_id", format!("Last-Event-ID: {error}")).about("Last-Event-ID")
    }
}

/// `GET /v1/batches/{id}/jobs/{index}`.
pub async fn show(
    State(server): State<Server>,
    caller: Caller,
    Path((id, index)): Path<(String, u64)>,
) -> Result<Json<JobView>, ApiError> {
    let batch = server.batch(&caller, &id).await?;
    let job = stored(&server, &batch, index).await?;
    let node = match &job.node {
        None => None,
        Some(holder) => {
            let nodes = server.batches.store().node_list().await?;
            let node = nodes.into_iter().find(|node| node.instance == *holder);
            node.map(|node| node.report.name)
        }
    };
    let facts = Facts {
        job: Some(Arc::new(job)),
        node,
        ..Facts::default()
    };
    let view = view(&batch, &facts, true);
    view.map(Json).ok_or_else(|| no_job(&batch, index))
}

async fn stored(server: &Server, batch: &Batch, index: u64) -> Result<StoredJob, ApiError> {
    let job = JobRef {
        batch: batch.no,
        index: JobIndex(index),
    };
    let found = match index < batch.counts.total {
        true => server.batches.store().job_get(&[job]).await?,
        false => Vec::new(),
    };
    let found = found.into_iter().next().flatten();
    found.ok_or_else(|| no_job(batch, index))
}

fn no_job(batch: &Batch, index: u64) -> ApiError {
    let (id, total) = (&batch.id, batch.counts.total);
    ApiError::not_found(format!(
        "{id} has no job {index}: it has {total}, counted from 0"
    ))
}

/// A job as clients see it; with its result line if that is wanted.
fn view(batch: &Batch, facts: &Facts, with_result: bool) -> Option<JobView> {
    let job = facts.job.as_ref()?;
    let result = job.result.as_ref().filter(|_| with_result);
    let line = result.and_then(|_| {
        let renderer = PageRenderer::new(batch.clone(), Rendering::default());
        serde_json::from_str(&renderer.render(job)?.line).ok()
    });
    Some(JobView {
        batch: batch.id.clone(),
        index: job.index.0,
        line_number: job.line_number,
        state: job.state,
        attempt: job.attempt.0,
        node: facts.node.clone(),
        waiting: facts.waiting.clone(),
        result: line,
        stats: result.and_then(|result| result.stats.clone()),
    })
}

/// `GET /v1/batches/{id}/jobs/{index}/events`.
pub async fn events(
    State(server): State<Server>,
    caller: Caller,
    Path((id, index)): Path<(String, u64)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let place: Option<Place> = sse::last_event_id(&headers).map(str::parse).transpose()?;
    let batch = server.batch(&caller, &id).await?;
    if index >= batch.counts.total {
        return Err(no_job(&batch, index));
    }
    let live = server.live_jobs.follow(&batch, JobIndex(index))?;
    let watcher = JobWatcher::new(server.clone(), batch, live, place.unwrap_or_default());
    let events = stream::unfold(watcher, |mut watcher| async move {
        let news = watcher.next().await?;
        Some((news.into_iter().map(JobNews::into_event).collect(), watcher))
    });
    sse::respond(&server, events)
}

/// Something new of a job.
pub enum JobNews {
    /// Its state.
    Job(Box<JobView>),
    /// Its text begins anew.
    Reset(ResetEvent),
    /// More text, and the place behind it.
    Text(TextPiece, String),
    /// It ended.
    End(Box<JobView>),
    /// It is not there any more.
    Gone,
}

impl JobNews {
    /// As it goes out.
    pub fn into_event(self) -> Event {
        match self {
            JobNews::Job(view) => sse::event(event::JOB, &view),
            JobNews::Reset(reset) => sse::event(event::RESET, &reset),
            JobNews::Text(piece, id) => sse::event(event::TEXT, &piece).id(id),
            JobNews::End(view) => sse::event(event::END, &view),
            JobNews::Gone => sse::trouble("not_found", "the batch was purged"),
        }
    }
}

/// A piece as it goes out.
pub fn text_piece(piece: &Piece, index: Option<u64>) -> TextPiece {
    TextPiece {
        index,
        attempt: piece.attempt.0,
        choice: piece.choice,
        first_token: piece.first_token,
        tokens: piece.tokens,
        text: piece.text.clone(),
    }
}

/// One client's place in a job.
pub struct JobWatcher {
    server: Server,
    batch: Batch,
    live: Arc<LiveJob>,
    changed: watch::Receiver<u64>,
    place: Place,
    told: Option<JobView>,
    over: bool,
}

impl JobWatcher {
    /// A client that goes on at a place.
    pub fn new(server: Server, batch: Batch, live: Arc<LiveJob>, place: Place) -> JobWatcher {
        JobWatcher {
            server,
            batch,
            changed: live.changed(),
            live,
            place,
            told: None,
            over: false,
        }
    }

    /// What is new; waits for it. `None` after the end.
    pub async fn next(&mut self) -> Option<Vec<JobNews>> {
        if self.over {
            return None;
        }
        loop {
            self.changed.borrow_and_update();
            let news = self.news().await;
            if !news.is_empty() {
                return Some(news);
            }
            let changed = self.changed.changed().await;
            changed.expect("the live job is held, and with it the sender");
        }
    }

    async fn news(&mut self) -> Vec<JobNews> {
        let (text, facts) = self.live.read(&mut self.place);
        if facts.gone {
            self.over = true;
            return vec![JobNews::Gone];
        }
        let mut news = Vec::new();
        if let Some(view) = view(&self.batch, &facts, false)
            && self.told.as_ref() != Some(&view)
            && !facts.is_over()
        {
            self.told = Some(view.clone());
            news.push(JobNews::Job(Box::new(view)));
        }
        if let Some(attempt) = text.reset {
            news.push(JobNews::Reset(ResetEvent {
                index: None,
                attempt: attempt.0,
            }));
        }
        let pieces = text.pieces.into_iter();
        news.extend(pieces.map(|piece| JobNews::Text(text_piece(&piece, None), piece.id)));
        if facts.is_over() {
            match self.end(&facts).await {
                Ok(end) => {
                    self.over = true;
                    news.push(end);
                }
                // With the next change, or when the client comes again.
                Err(error) => tracing::debug!(%error, "a job's end cannot be told now"),
            }
        }
        news
    }

    /// The end, with the numerics that the batch has now.
    async fn end(&self, facts: &Facts) -> Result<JobNews, StoreError> {
        let store = self.server.batches.store();
        let batch = store.batch_get(&self.batch.id).await?;
        let view = batch.and_then(|batch| view(&batch, facts, true));
        Ok(view.map_or(JobNews::Gone, |view| JobNews::End(Box::new(view))))
    }
}
