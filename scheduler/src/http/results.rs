//! `GET /v1/batches/{id}/results`: result lines in input order, as fast as the client takes them.
//!
//! Pages are read one ahead, rendered beside the network, and sent through a channel of two: what the client does not
//! take is not read. With `Accept: application/vnd.rbee.results` they come in frames (see [`Frame`]), which say what is
//! missing and how the stream ends; else as plain lines.

use super::Server;
use super::auth::Caller;
use super::error::ApiError;
use super::types::{Count, FRAMED, Frame, NDJSON};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use rbee_queue::batches::PageRenderer;
use rbee_queue::jsonl::{Rendering, Shape};
use rbee_queue::store::{ResultsPage, StoredJob};
use rbee_queue::{Batch, BatchStatus, JobIndex, JobRef, StoreError};
use serde::Deserialize;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Jobs of one page.
const PAGE_JOBS: usize = 2_000;
/// Pages that are rendered at once, ahead of the client.
const PAGES_AHEAD: usize = 2;
/// How often a gap is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A stream that waits says so now and then, so that both ends notice when the other is gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// Missing lines that a frame names.
const MISSING_NAMED: usize = 10;

/// What of the results is wanted, and how.
#[derive(Debug, Default, Deserialize)]
pub struct ResultsQuery {
    format: Option<Format>,
    #[serde(default)]
    with_stats: bool,
    #[serde(default)]
    with_keys: bool,
    #[serde(default)]
    errors: Errors,
    #[serde(default)]
    from: Count,
    #[serde(default)]
    follow: bool,
}

/// One form for all lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    OpenAi,
    Short,
}

impl From<Format> for Shape {
    fn from(format: Format) -> Shape {
        match format {
            Format::OpenAi => Shape::OpenAi,
            Format::Short => Shape::Short,
        }
    }
}

/// What becomes of failed lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Errors {
    /// They stand in their places.
    #[default]
    Include,
    /// They are left out.
    Omit,
    /// They are all there is.
    Only,
}

/// Streams the results.
pub async fn results(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ResultsQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let batch = server.batch(&caller, &id).await?;
    let permit = Arc::clone(&server.streams)
        .try_acquire_owned()
        .map_err(|_| ApiError::too_many("the server has too many open streams"))?;
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let framed = accepted.is_some_and(|accepted| accepted.contains(FRAMED));
    let writer = Writer {
        errors: query.errors,
        framed,
    };
    let rendering = Rendering {
        shape: query.format.map(Shape::from),
        with_stats: query.with_stats,
        with_keys: query.with_keys,
    };
    let walk = Walk {
        server,
        rendering,
        renderer: Arc::new(PageRenderer::new(batch.clone(), rendering)),
        next: Some(JobIndex(query.from.0)),
        follow: query.follow,
        waited: None,
        batch,
        _permit: permit,
    };
    let body = Body::from_stream(lines(walk, Arc::new(writer)));
    let kind = if framed { FRAMED } else { NDJSON };
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// One half of a batch's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The answers.
    Answers,
    /// The errors.
    Errors,
}

/// The lines of one half of a batch's results in OpenAI's form.
pub fn half(
    server: Server,
    batch: Batch,
    half: Half,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = io::Result<Bytes>> {
    let writer = Writer {
        errors: match half {
            Half::Answers => Errors::Omit,
            Half::Errors => Errors::Only,
        },
        framed: false,
    };
    let rendering = Rendering {
        shape: Some(Shape::OpenAi),
        with_stats: false,
        with_keys: false,
    };
    let walk = Walk {
        server,
        rendering,
        renderer: Arc::new(PageRenderer::new(batch.clone(), rendering)),
        next: Some(JobIndex(0)),
        follow: false,
        waited: None,
        batch,
        _permit: permit,
    };
    lines(walk, Arc::new(writer))
}

fn lines(walk: Walk, writer: Arc<Writer>) -> impl Stream<Item = io::Result<Bytes>> {
    let end = Arc::clone(&writer);
    let pages = stream::try_unfold(walk, Walk::step);
    let rendered = pages
        .map(move |part| {
            let writer = Arc::clone(&writer);
            async move {
                let part = part.map_err(io::Error::other)?;
                tokio::task::spawn_blocking(move || writer.write(&part))
                    .await
                    .map_err(io::Error::other)
            }
        })
        .buffered(PAGES_AHEAD);
    let last = stream::once(async move { Ok(end.end()) });
    rendered
        .chain(last)
        .filter(|bytes| {
            let empty = bytes.as_ref().is_ok_and(Bytes::is_empty);
            async move { !empty }
        })
        // After an error there is no end: a broken stream must not look whole.
        .scan(false, |broken, item| {
            let stop = *broken;
            *broken = item.is_err();
            async move { (!stop).then_some(item) }
        })
}

/// A walk over a batch in input order.
struct Walk {
    server: Server,
    batch: Batch,
    rendering: Rendering,
    renderer: Arc<PageRenderer>,
    next: Option<JobIndex>,
    follow: bool,
    /// The last sign of life while it waits at a gap.
    waited: Option<Instant>,
    _permit: OwnedSemaphorePermit,
}

/// A part of the walk: some jobs, and where it goes on.
struct Part {
    renderer: Arc<PageRenderer>,
    jobs: Vec<StoredJob>,
    next: u64,
}

impl Walk {
    async fn step(mut self) -> Result<Option<(Part, Walk)>, StoreError> {
        let Some(from) = self.next else {
            return Ok(None);
        };
        if self.follow && !self.see_lines().await? {
            let part = self.sign_of_life(from);
            return Ok(Some((part, self)));
        }
        if self.waited.is_some() && !self.wait(from).await? {
            self.waited = Some(Instant::now());
            let part = self.sign_of_life(from);
            return Ok(Some((part, self)));
        }
        self.waited = None;
        // Whatever was finished when the batch was, is on the page that is read afterwards.
        let terminal = !self.follow || self.is_terminal().await?;
        let store = self.server.batches.store();
        let mut page = store.results_page(self.batch.no, from, PAGE_JOBS).await?;
        if !terminal {
            self.hold_back(&mut page);
        }
        self.next = page.next;
        let next = page
            .next
            .map_or(from.0 + page.jobs.len() as u64, |next| next.0);
        self.see_numerics().await?;
        let part = Part {
            renderer: Arc::clone(&self.renderer),
            jobs: page.jobs,
            next,
        };
        Ok(Some((part, self)))
    }

    /// A part without a job.
    fn sign_of_life(&self, from: JobIndex) -> Part {
        Part {
            renderer: Arc::clone(&self.renderer),
            jobs: Vec::new(),
            next: from.0,
        }
    }

    /// Waits until it is known which lines an announced batch has. False: it is time for a sign of life.
    async fn see_lines(&mut self) -> Result<bool, StoreError> {
        let since = Instant::now();
        while self.batch.status == BatchStatus::Validating {
            if since.elapsed() > SIGN_OF_LIFE {
                return Ok(false);
            }
            self.pause().await?;
            let batch = (self.server.batches.store().batch_get(&self.batch.id)).await?;
            self.see(batch.ok_or(StoreError::NoSuchBatch)?);
        }
        Ok(true)
    }

    fn see(&mut self, batch: Batch) {
        self.renderer = Arc::new(PageRenderer::new(batch.clone(), self.rendering));
        self.batch = batch;
    }

    async fn pause(&self) -> Result<(), StoreError> {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => Ok(()),
            () = self.server.stop.cancelled() => Err(StoreError::Busy {
                place: "a server that stops".to_owned(),
            }),
        }
    }

    /// Lines show the numerics that the first placement pinned: it may have come after this walk began.
    async fn see_numerics(&mut self) -> Result<(), StoreError> {
        if (self.batch.models.iter()).all(|model| model.numerics.is_some()) {
            return Ok(());
        }
        let batch = self
            .server
            .batches
            .store()
            .batch_get(&self.batch.id)
            .await?;
        let batch = batch.ok_or(StoreError::NoSuchBatch)?;
        if batch.models != self.batch.models {
            self.see(batch);
        }
        Ok(())
    }

    /// Cuts a page at its first gap, where the walk then waits.
    fn hold_back(&mut self, page: &mut ResultsPage) {
        let gap = page.jobs.iter().position(|job| job.result.is_none());
        if let Some(gap) = gap {
            page.next = Some(page.jobs[gap].index);
            page.jobs.truncate(gap);
            self.waited = Some(Instant::now());
        }
    }

    /// Waits until the job has a result or the batch is done. False: it is time for a sign of life.
    async fn wait(&self, index: JobIndex) -> Result<bool, StoreError> {
        let since = self.waited.unwrap_or_else(Instant::now);
        let job = JobRef {
            batch: self.batch.no,
            index,
        };
        loop {
            let found = self.server.batches.store().job_get(&[job]).await?;
            let Some(Some(found)) = found.into_iter().next() else {
                return Err(StoreError::NoSuchBatch);
            };
            if found.result.is_some() || self.is_terminal().await? {
                return Ok(true);
            }
            if since.elapsed() > SIGN_OF_LIFE {
                return Ok(false);
            }
            self.pause().await?;
        }
    }

    async fn is_terminal(&self) -> Result<bool, StoreError> {
        let batch = self
            .server
            .batches
            .store()
            .batch_get(&self.batch.id)
            .await?;
        Ok(batch.is_none_or(|batch| batch.status.is_terminal()))
    }
}

/// Turns parts into bytes.
struct Writer {
    errors: Errors,
    framed: bool,
}

impl Writer {
    fn write(&self, part: &Part) -> Bytes {
        let mut frame = Frame {
            next: part.next,
            ..Frame::default()
        };
        let mut lines = Vec::new();
        for job in &part.jobs {
            let Some(rendered) = part.renderer.render(job) else {
                frame.missing += 1;
                if frame.missing_lines.len() < MISSING_NAMED {
                    frame.missing_lines.push(job.line_number);
                }
                continue;
            };
            match self.errors {
                Errors::Omit if rendered.failed => continue,
                Errors::Only if !rendered.failed => continue,
                _ => {}
            }
            if rendered.failed {
                frame.failed.push(frame.lines);
            }
            frame.lines += 1;
            lines.extend_from_slice(rendered.line.as_bytes());
            lines.push(b'\n');
        }
        frame.bytes = lines.len();
        if !self.framed {
            return lines.into();
        }
        let mut bytes = head(&frame);
        bytes.append(&mut lines);
        bytes.into()
    }

    /// The last frame; nothing in a plain stream.
    fn end(&self) -> Bytes {
        if !self.framed {
            return Bytes::new();
        }
        head(&Frame {
            end: true,
            ..Frame::default()
        })
        .into()
    }
}

fn head(frame: &Frame) -> Vec<u8> {
    let json = serde_json::to_string(frame).expect("a frame of numbers is always JSON");
    format!("#{json}\n").into_bytes()
}
